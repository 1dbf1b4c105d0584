"""Whether it is still the same person: dlib's face descriptor, a network that nothing here was trained with.

Needs `pip install --no-deps dlib-bin face-recognition-models`; 0.6 counts as the same person by its authors.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from torch import Tensor

from ..inputs.face_geometry import LEFT_BROW, OVAL, RIGHT_BROW

BOXES = [(x, y, size) for size in (0.93, 1.07) for x in (-0.05, 0, 0.05) for y in (-0.05, 0, 0.05)]
"""Shifts and sizes, in sides of the detector's box, in which the landmarks are looked for."""
NEEDS = "needs dlib: pip install --no-deps dlib-bin face-recognition-models"


class Likeness:
    """Raises ModuleNotFoundError that says what to install."""

    def __init__(self):
        if find_spec("dlib") is None or find_spec("face_recognition_models") is None:
            raise ModuleNotFoundError(NEEDS)
        import dlib

        folder = Path(find_spec("face_recognition_models").origin).parent / "models"
        self._rectangle, self._point, self._found = dlib.rectangle, dlib.point, dlib.full_object_detection
        self._points = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
        self._network = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))

    def describe(self, picture: np.ndarray, mesh: Tensor) -> np.ndarray:
        """picture (H, W, 3) uint8 and mesh (468, 3) in its pixels -> (128,).

        The five landmarks by which dlib lays the face straight are the medians of those that it finds in `BOXES`: in a
        turned or painted face they lie elsewhere in each, and the portrait would be up to 0.3 from itself.
        """
        picture = np.ascontiguousarray(picture)
        left, top, right, bottom = detector_box(mesh)
        middle, side, found = np.array([left + right, top + bottom]) / 2, right - left, []
        for x, y, size in BOXES:
            corner = middle + side * (np.array([x, y]) - size / 2)
            box = self._rectangle(*np.rint([*corner, *(corner + side * size)]).astype(int).tolist())
            found.append([(point.x, point.y) for point in self._points(picture, box).parts()])
        landmarks = [self._point(*place) for place in np.rint(np.median(found, axis=0)).astype(int).tolist()]
        return np.array(self._network.compute_face_descriptor(picture, self._found(box, landmarks)))

    def distances(self, frames: np.ndarray, meshes: Tensor, still: np.ndarray, mesh: Tensor) -> list[float]:
        """Of frames (F, H, W, 3) from the portrait."""
        own = self.describe(still, mesh)
        return [
            float(np.linalg.norm(self.describe(frame, place) - own))
            for frame, place in zip(frames, meshes, strict=True)
        ]


def detector_box(mesh: Tensor) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the square that dlib's own detector would see: from above the brows to the chin."""
    oval, brows = mesh[list(OVAL), :2], mesh[[*LEFT_BROW, *RIGHT_BROW], :2]
    top, bottom = brows[:, 1].amin().item(), oval[:, 1].amax().item()
    side = 1.05 * (bottom - top)
    x, y = ((oval[:, 0].amin() + oval[:, 0].amax()) / 2).item(), (top + bottom) / 2
    return x - side / 2, y - side / 2, x + side / 2, y + side / 2

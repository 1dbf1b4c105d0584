"""Whether it is still the same person: dlib's face descriptor, a network that nothing here was trained with.

Needs `pip install --no-deps dlib-bin face-recognition-models`; 0.6 counts as the same person by its authors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ..inputs.face_geometry import LEFT_BROW, OVAL, RIGHT_BROW

BOXES = [(x, y, size) for size in (0.93, 1.07) for x in (-0.05, 0, 0.05) for y in (-0.05, 0, 0.05)]
"""Shifts and sizes, in sides of the detector's box, in which the landmarks are looked for."""
ONE_VIEW = ((0.0, 0.0, 1.0, 0.0, False),)
TEN_VIEWS = tuple(
    (0.02 * x, 0.02 * y, 1 + 0.04 * (x + y), 0.05 * (x * x - y * y), mirrored)
    for x, y in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
    for mirrored in (False, True)
)
"""How the square lies around a face: moved right and down, in sides of the box; size; turn, radians; mirrored."""
MIRRORED = [2, 3, 0, 1, 4]  # the landmarks' numbers in a mirrored face
FINE, AROUND = 400, 1.1  # pixels of the box's side in what is described, and its reach, in sides, from the middle
NEEDS = "needs dlib: pip install --no-deps dlib-bin face-recognition-models"


class Likeness:
    """views: those that descriptions are the mean of; ten take nine times as long. Raises ModuleNotFoundError that says
    what to install."""

    def __init__(self, views: Sequence[tuple[float, float, float, float, bool]] = ONE_VIEW):
        if find_spec("dlib") is None or find_spec("face_recognition_models") is None:
            raise ModuleNotFoundError(NEEDS)
        import dlib

        folder = Path(find_spec("face_recognition_models").origin).parent / "models"
        self.views = views
        self._rectangle, self._point, self._found = dlib.rectangle, dlib.point, dlib.full_object_detection
        self._points = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
        self._network = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))

    def describe(self, picture: np.ndarray, mesh: Tensor) -> np.ndarray:
        """picture (H, W, 3) uint8 and mesh (468, 3) in its pixels -> (128,).

        The five landmarks by which dlib lays the face straight are the medians of those that it finds in `BOXES`: in a
        turned or painted face they lie elsewhere in each, and the portrait would be up to 0.3 from itself. The mean of
        several views, which dlib's authors advise, keeps the length of its parts, so that other people stay as far
        away (docs/evaluation.md).
        """
        picture = np.ascontiguousarray(picture)
        left, top, right, bottom = detector_box(mesh)
        middle, side, found = np.array([left + right, top + bottom]) / 2, right - left, []
        for x, y, size in BOXES:
            corner = middle + side * (np.array([x, y]) - size / 2)
            box = self._rectangle(*np.rint([*corner, *(corner + side * size)]).astype(int).tolist())
            found.append([(point.x, point.y) for point in self._points(picture, box).parts()])
        landmarks = np.median(found, axis=0)
        fine, landmarks = _resized(picture, landmarks, middle, AROUND * side, FINE / max(side, 1))
        described = [self._described(fine, landmarks, *view) for view in self.views]
        mean = np.mean(described, axis=0)
        return mean * (np.mean(np.linalg.norm(described, axis=1)) / np.linalg.norm(mean))

    def _described(
        self, picture: np.ndarray, landmarks: np.ndarray, x: float, y: float, size: float, turn: float, mirrored: bool
    ) -> np.ndarray:
        centre, (along, across) = landmarks.mean(0), size * np.array([math.cos(turn), math.sin(turn)])
        places = centre + (landmarks - centre) @ [[along, across], [-across, along]] + FINE * np.array([x, y])
        if mirrored:
            picture = np.ascontiguousarray(picture[:, ::-1])
            places = np.array([picture.shape[1] - 1, 0]) + places[MIRRORED] * [-1, 1]
        points = [self._point(*place) for place in np.rint(places).astype(int).tolist()]
        whole = self._rectangle(0, 0, picture.shape[1], picture.shape[0])
        return np.array(self._network.compute_face_descriptor(picture, self._found(whole, points)))

    def distances(self, frames: np.ndarray, meshes: Tensor, still: np.ndarray, mesh: Tensor) -> list[float]:
        """Of frames (F, H, W, 3) from the portrait."""
        own = self.describe(still, mesh)
        return [
            float(np.linalg.norm(self.describe(frame, place) - own))
            for frame, place in zip(frames, meshes, strict=True)
        ]


def _resized(
    picture: np.ndarray, points: np.ndarray, middle: np.ndarray, half: float, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """What of picture (H, W, 3) uint8 lies within `half` pixels of middle (x, y), and points (N, 2) in it; dlib's
    landmarks are whole pixels, so small faces are enlarged."""
    size = np.array(picture.shape[1::-1])
    low, high = np.clip(middle - half, 0, size - 1), np.clip(middle + half, 1, size)
    pixels = np.maximum(np.rint((high - low) * scale).astype(int), 1)
    square = Image.fromarray(picture).resize(pixels.tolist(), Image.Resampling.BICUBIC, box=(*low, *high))
    return np.array(square), (points + 0.5 - low) * (pixels / (high - low)) - 0.5


def detector_box(mesh: Tensor) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the square that dlib's own detector would see: from above the brows to the chin."""
    oval, brows = mesh[list(OVAL), :2], mesh[[*LEFT_BROW, *RIGHT_BROW], :2]
    top, bottom = brows[:, 1].amin().item(), oval[:, 1].amax().item()
    side = 1.05 * (bottom - top)
    x, y = ((oval[:, 0].amin() + oval[:, 0].amax()) / 2).item(), (top + bottom) / 2
    return x - side / 2, y - side / 2, x + side / 2, y + side / 2

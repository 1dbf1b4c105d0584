"""One face through a whole video: its mesh in every frame, kept on the disk, with scene cuts and gaps.

Reading a mesh takes tens of milliseconds, and good smoothing needs the frames to come; so a video is read once for its
meshes, and once more to be drawn.
"""

from __future__ import annotations

import math
import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import face_geometry as geometry
from .faces import Face, FaceFinder, NoFaceError
from .motion_latents import mouth_opening, mouth_width
from .portrait import find_face

LEAST_PRESENCE = 0.5  # of a face that is followed
SEARCH_EVERY = 4  # frames without a face are searched for one
CUT = 0.14  # mean change of a small picture between two frames, 0..1, from which a new scene begins
THUMBNAIL = 32  # pixels a side
ROOM = 0.6  # of the face's longer side that is read around it
SIDEWAYS = (0.6, 0.8)  # radians of yaw from which the mouth is left as it is, little by little, and wholly
POSE_SPREAD, SHAPE_SPREAD = 0.8, 1.0  # frames: standard deviations of the smoothing of the head's motion and its shape
HALO = 4  # frames on both sides that smoothing reads
_BYTES = geometry.POINTS * 3 * 4


class FaceTracker:
    """Follows one face; face: as in `portrait.find_face`, chosen anew in every scene."""

    def __init__(self, finder: FaceFinder, face: str | int | Sequence[float] | None = None):
        self.finder, self.choice = finder, face
        self.face: Face | None = None
        self.small: Tensor | None = None
        self.searched = 0

    def read(self, frame: np.ndarray) -> tuple[Tensor | None, bool]:
        """frame (H, W, 3) uint8 -> its mesh (468, 3) in pixels, or None, and whether a new scene begins with it."""
        small = F.interpolate(
            torch.from_numpy(frame[:: max(1, frame.shape[0] // 128), :: max(1, frame.shape[1] // 128)])
            .permute(2, 0, 1)[None]
            .float()
            .div(255),
            size=(THUMBNAIL, THUMBNAIL),
            mode="area",
        )
        is_cut = self.small is None or float((small - self.small).abs().mean()) > CUT
        self.small = small
        if is_cut:
            self.face, self.searched = None, 0
        if self.face is not None:
            self.face = self._follow(frame, self.face)
        if self.face is None:
            self.face = self._search(frame) if self.searched % SEARCH_EVERY == 0 else None
            self.searched = 0 if self.face is not None else self.searched + 1
        return (None if self.face is None else self.face.mesh), is_cut

    def _search(self, frame: np.ndarray) -> Face | None:
        try:
            face = find_face(self.finder, _bytes(frame), self.choice)[0]
        except (NoFaceError, ValueError):  # none, or not so many: the frame stays as it is
            return None
        return (
            self._follow(frame, face) if face.is_sure or not isinstance(self.choice, (str, int, type(None))) else None
        )

    def _follow(self, frame: np.ndarray, face: Face) -> Face | None:
        height, width = frame.shape[:2]
        left, top, right, bottom = face.box
        room = ROOM * max(right - left, bottom - top)
        x0, y0 = max(0, math.floor(left - room)), max(0, math.floor(top - room))
        x1, y1 = min(width, math.ceil(right + room)), min(height, math.ceil(bottom + room))
        if x1 - x0 < 8 or y1 - y0 < 8:
            return None
        shift = face.mesh.new_tensor([x0, y0, 0.0])
        pixels = _bytes(frame[y0:y1, x0:x1]).float() / 127.5 - 1
        found = self.finder.follow(pixels, replace(face, mesh=face.mesh - shift))[0]
        if found.presence < LEAST_PRESENCE:
            return None
        mesh = found.mesh + shift
        flat = mesh[:, :2]
        return replace(found, mesh=mesh, box=(*flat.amin(0).tolist(), *flat.amax(0).tolist()))


def yaw_of(mesh: Tensor) -> float:
    """mesh (468, 3) -> radians, how far the head is turned sideways; 0: it looks at the camera."""
    return math.asin(max(-1.0, min(1.0, geometry.head_frame(mesh).axes[0, 2].item())))


class FaceTracks:
    """Meshes of all frames, in a temporary file, and numbers for each frame in memory.

    shots: the scene's number of each frame; is_seen: whether the face was read; openings, widths: of the mouth, in
    distances of the eyes; yaws: radians.
    """

    def __init__(self):
        self.file = tempfile.TemporaryFile()
        self.shots, self.is_seen = array("l"), array("b")
        self.openings, self.widths, self.yaws = array("f"), array("f"), array("f")

    def __len__(self) -> int:
        return len(self.shots)

    def close(self) -> None:
        self.file.close()

    def append(self, mesh: Tensor | None, *, is_cut: bool) -> None:
        self.shots.append((self.shots[-1] if self.shots else 0) + bool(is_cut and self.shots))
        self.is_seen.append(mesh is not None)
        seen = torch.zeros(geometry.POINTS, 3) if mesh is None else mesh.float()
        self.openings.append(0.0 if mesh is None else mouth_opening(mesh).item())
        self.widths.append(0.0 if mesh is None else mouth_width(mesh).item())
        self.yaws.append(0.0 if mesh is None else yaw_of(mesh))
        self.file.seek(0, 2)
        self.file.write(seen.numpy().tobytes())

    def meshes(self, first: int, last: int) -> Tensor:
        """(last - first, 468, 3) as they were read."""
        self.file.seek(first * _BYTES)
        data = self.file.read((last - first) * _BYTES)
        return torch.from_numpy(np.frombuffer(data, np.float32).reshape(-1, geometry.POINTS, 3).copy())

    def runs(self) -> list[tuple[int, int]]:
        """First and last + 1 of stretches of frames of one scene in which the face is seen."""
        found, start = [], None
        for number in range(len(self)):
            if start is not None and (not self.is_seen[number] or self.shots[number] != self.shots[number - 1]):
                found.append((start, number))
                start = None
            if start is None and self.is_seen[number]:
                start = number
        return found if start is None else [*found, (start, len(self))]

    def smoothed(self, first: int, last: int, run: tuple[int, int]) -> Tensor:
        """Meshes (last - first, 468, 3) of frames inside `run`, smoothed over time: the head's motion, and its shape in
        the head's own frame."""
        begin, end = max(run[0], first - HALO), min(run[1], last + HALO)
        meshes, steady = self.meshes(begin, end).double(), list(geometry.STEADY)
        still = meshes[len(meshes) // 2]
        moves = [geometry.similarity(still[steady], mesh[steady]) for mesh in meshes]
        shape = torch.stack(
            [(mesh - shift) @ turn / scale for mesh, (turn, scale, shift) in zip(meshes, moves, strict=True)]
        )
        part = slice(first - begin, last - begin)
        shape = gaussian(shape, SHAPE_SPREAD)[part]
        places = gaussian(meshes[:, steady], POSE_SPREAD)[part]
        again = [geometry.similarity(still[steady], place) for place in places]
        return torch.stack(
            [scale * one @ turn.T + shift for one, (turn, scale, shift) in zip(shape, again, strict=True)]
        ).float()


def gaussian(values: Tensor, spread: float) -> Tensor:
    """values (F, ...) smoothed over frames, `HALO` to both sides at most; the ends repeat."""
    steps = torch.arange(-HALO, HALO + 1)
    kernel = torch.exp(-0.5 * (steps / spread) ** 2).to(values)
    kernel = kernel / kernel.sum()
    rest = [1] * (values.ndim - 1)
    padded = torch.cat([values[:1].repeat(HALO, *rest), values, values[-1:].repeat(HALO, *rest)])
    return sum(weight * padded[at : at + len(values)] for at, weight in enumerate(kernel))


def _bytes(frame: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None]

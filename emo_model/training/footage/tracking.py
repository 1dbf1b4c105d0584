"""Shots of a video and the one face in them, frame by frame: where its mesh is, or why the frame is left out."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...inputs.face_geometry import OVAL, POINTS, head_frame
from ...inputs.faces import Face, FaceFinder, NoFaceError, Regions, read_squares
from ...inputs.picture_files import to_float
from ...inputs.video_frames import TimedFrame
from .settings import Limits

AT_ONCE = 8  # frames in which a face is followed from the last one before
LOOK_EVERY = 24  # frames after which all faces are searched again
LEAST_PRESENCE = 0.5
SAME_FACE = 0.3  # intersection over union of the boxes
JUMP = 0.15  # mean step of the mesh between two frames, in face heights, from which it is a cut within a scene
THUMBNAIL = (36, 20)  # pixels in which shots are told apart
CUT, CUT_OVER_MOTION = 0.10, 3.5  # mean absolute difference (0..1), and how often that of the frames before
SHARPNESS_SIDE = 128


@dataclass(frozen=True)
class FrameFact:
    """number: of the frame; shot: rises at cuts; reason: "" for a good frame; row: of its mesh in `Meshes`, or -1."""

    number: int
    shot: int
    reason: str
    row: int


class Meshes:
    """Meshes (N, 468, 3) in a temporary file, so that memory does not grow with the video; use with `with`."""

    def __init__(self):
        self._file, self._size, self.count = tempfile.TemporaryFile(), 4 * POINTS * 3, 0

    def __enter__(self) -> Meshes:
        return self

    def __exit__(self, *error) -> None:
        self._file.close()

    def append(self, mesh: Tensor) -> int:
        self._file.seek(self.count * self._size)
        self._file.write(mesh.float().contiguous().numpy().tobytes())
        self.count += 1
        return self.count - 1

    def read(self, first: int, count: int) -> Tensor:
        self._file.seek(first * self._size)
        values = np.frombuffer(self._file.read(count * self._size), np.float32)
        return torch.from_numpy(values.reshape(-1, POINTS, 3).copy())


class CutFinder:
    """Tells for frame after frame whether a new shot begins: it differs from the one before far more than those did.

    Cross-fades are not found; there the face is lost or jumps.
    """

    def __init__(self):
        self._last: np.ndarray | None = None
        self._motion = 0.0

    def is_cut(self, frame: TimedFrame) -> bool:
        pixels = torch.from_numpy(frame.pixels).permute(2, 0, 1)[None]
        step = max(1, min(pixels.shape[2] // 40, pixels.shape[3] // 72))
        small = F.adaptive_avg_pool2d(pixels[..., ::step, ::step].float(), THUMBNAIL[::-1])[0].numpy() / 255
        last, self._last = self._last, small
        if last is None or frame.is_cut:
            self._motion = 0.0
            return True
        change = float(np.abs(small - last).mean())
        if change > CUT and change > CUT_OVER_MOTION * self._motion:
            self._motion = 0.0
            return True
        self._motion = max(0.7 * self._motion, change)
        return False


def track(
    frames: Iterable[TimedFrame],
    finder: FaceFinder,
    limits: Limits,
    meshes: Meshes,
    on_reason=lambda reason, frame: None,
) -> Iterator[FrameFact]:
    """The facts of every frame; good and bad faces have their meshes in `meshes`, in pixels of the frames.

    on_reason(reason, frame): called for frames that are left out.
    """
    tracker = _Tracker(finder, limits, meshes)
    for batch in _batches(frames):
        for fact, frame in zip(tracker.follow(batch), batch, strict=True):
            if fact.reason:
                on_reason(fact.reason, frame)
            yield fact


def _batches(frames: Iterable[TimedFrame]) -> Iterator[list[TimedFrame]]:
    """Up to `AT_ONCE` frames of one shot; the first of a shot has is_cut set."""
    cuts, batch = CutFinder(), []
    for frame in frames:
        is_cut = cuts.is_cut(frame)
        if batch and (is_cut or len(batch) == AT_ONCE):
            yield batch
            batch = []
        batch.append(replace(frame, is_cut=is_cut))
    if batch:
        yield batch


class _Tracker:
    def __init__(self, finder: FaceFinder, limits: Limits, meshes: Meshes):
        self.finder, self.limits, self.meshes = finder, limits, meshes
        self.face: Face | None = None
        self.shot, self.since, self.is_crowded = -1, LOOK_EVERY, False

    def follow(self, batch: list[TimedFrame]) -> list[FrameFact]:
        if batch[0].is_cut:
            self.shot, self.face, self.since = self.shot + 1, None, LOOK_EVERY
        pixels = to_float(torch.from_numpy(np.stack([frame.pixels for frame in batch])).permute(0, 3, 1, 2))
        if self.since >= LOOK_EVERY:  # while there is none, too: a search takes as long as following for a second
            self._look(pixels[:1])
        self.since += len(batch)
        if self.face is None:
            return [FrameFact(frame.number, self.shot, "no face", -1) for frame in batch]
        found = self.finder.follow(pixels, self.face)
        meshes = torch.stack([face.mesh for face in found])
        sharp = sharpness(pixels, meshes).tolist()
        facts, is_lost = [], False
        for frame, face, one in zip(batch, found, sharp, strict=True):
            is_lost = is_lost or face.presence < LEAST_PRESENCE
            if is_lost:
                facts.append(FrameFact(frame.number, self.shot, "no face", -1))
                continue
            if facts and (face.mesh - self.face.mesh)[:, :2].norm(dim=1).mean() > JUMP * self.face.height:
                self.shot += 1
            self.face = face
            row = self.meshes.append(face.mesh)
            facts.append(FrameFact(frame.number, self.shot, self._reason(face, one, frame), row))
        if is_lost:
            self.face, self.since = None, LOOK_EVERY
        return facts

    def _look(self, pixels: Tensor) -> None:
        try:
            sure = [face for face in self.finder.find(pixels) if face.is_sure]
        except NoFaceError:
            sure = []
        self.since = 0
        if not sure:
            self.face = None
            return
        main = max(sure, key=lambda face: face.height)
        if self.face is not None:
            main = max(sure, key=lambda face: overlap(face.box, self.face.box))
            if overlap(main.box, self.face.box) < SAME_FACE:  # somebody else
                main = max(sure, key=lambda face: face.height)
                self.shot += 1
        self.is_crowded = any(face is not main and face.height >= self.limits.other_face * main.height for face in sure)
        self.face = main

    def _reason(self, face: Face, sharp: float, frame: TimedFrame) -> str:
        limits, (height, width) = self.limits, frame.pixels.shape[:2]
        yaw, pitch = angles(face.mesh)
        oval = face.mesh[list(OVAL), :2]
        if self.is_crowded:
            return "several faces"
        if face.height < limits.face_height:
            return "small face"
        if abs(yaw) > limits.yaw or abs(pitch) > limits.pitch:
            return "turned head"
        if oval.amin() < 0 or oval[:, 0].amax() > width or oval[:, 1].amax() > height:
            return "cut off face"
        return "blurred face" if sharp < limits.sharpness else ""


def angles(mesh: Tensor) -> tuple[float, float]:
    """mesh (468, 3) -> yaw and pitch in degrees; 0: towards the camera."""
    back = head_frame(mesh).axes[2]
    return math.degrees(math.atan2(float(back[0]), float(back[2]))), math.degrees(
        math.asin(max(-1, min(1, float(back[1]))))
    )


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of boxes left, top, right, bottom."""
    wide = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    tall = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return wide * tall / max(areas - wide * tall, 1e-9)


def sharpness(pixels: Tensor, meshes: Tensor) -> Tensor:
    """pixels (F, 3, H, W) in [-1, 1], meshes (F, 468, 3) -> (F,): mean absolute Laplacian over the spread of luminance,
    in the upright square around the face at 128 pixels; about 0.2 to 0.4 in sharp videos."""
    squares = read_squares(pixels, Regions.of_meshes(meshes), SHARPNESS_SIDE)
    grey = (squares * squares.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    grey = grey[..., 16:-16, 16:-16]  # the face without what lies behind it
    edges = 4 * grey[..., 1:-1, 1:-1]
    edges = edges - grey[..., :-2, 1:-1] - grey[..., 2:, 1:-1] - grey[..., 1:-1, :-2] - grey[..., 1:-1, 2:]
    return edges.abs().mean((1, 2, 3)) / grey.flatten(1).std(1).clamp(min=0.02)

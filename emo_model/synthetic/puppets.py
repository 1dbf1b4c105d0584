"""Puppets: a picture of a face becomes a portrait that moves, with exact flow.

The picture's mesh and rings around it (face_geometry.py) are moved by the tracks of FaceMotion and drawn as triangles; what an
open mouth shows is painted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..inputs import face_geometry as geometry
from ..inputs.face_geometry import FACE
from . import mouth_painter
from .motion import FaceMotion
from .puppet_motion import EYES, LOWER_INNER, LOWER_OUTER, UPPER_INNER, UPPER_OUTER, Skin, as_arrays, gentle_depth, rotation
from .rasteriser import kernels

PIVOT = np.array([0.0, 0.45, 0.65])  # the joint of the neck in the head's own frame, eye distances
STEEPEST = 1.35  # of the head's surface: turns up to 0.5 rad do not fold it


@dataclass(frozen=True, eq=False)
class PuppetFrame:
    """picture: (S, S, 3) uint8; flow: (2, S, S) float32, where in the portrait the frame's content comes from minus where it is,
    pixels; mouth: (S, S) float32, share of each pixel that is painted; points: (664, 3) float32 pixels."""

    picture: np.ndarray
    flow: np.ndarray
    mouth: np.ndarray
    points: np.ndarray


@dataclass(frozen=True, eq=False)
class _Pose:
    points: np.ndarray  # (F, 664, 3) pixels
    eyes: np.ndarray  # (F, 2, 64), see _eye_numbers
    turn: np.ndarray  # (F, 3, 3) in the picture's axes, scale included
    shift: np.ndarray  # (F, 3) of the pivot
    jaw: np.ndarray  # (F,)
    painted: np.ndarray  # (F,) 0..1


class Puppet:
    """picture (S, S, 3) uint8: a head square; mesh (468, 3) in its pixels; seed: teeth, tongue, how far the jaw falls.

    A neutral motion leaves every pixel as it is. Tracks move the face from where the picture has it: 0 is the picture's own
    state, of mouths that are a little open as well.
    """

    def __init__(self, picture: np.ndarray, mesh: np.ndarray | Tensor, seed: int):
        if picture.ndim != 3 or picture.shape[0] != picture.shape[1] or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ValueError(f"A puppet needs a square picture (S, S, 3) of uint8, got {picture.shape} of {picture.dtype}")
        self.picture, self.size = np.ascontiguousarray(picture), len(picture)
        mesh = torch.as_tensor(np.asarray(mesh)).double()
        points, rigidity = geometry.extend(mesh, self.size)
        frame = geometry.head_frame(mesh)
        self.rest, self.rigidity = points.numpy(), rigidity.numpy()
        self.axes, self.centre, self.eyes = frame.axes.numpy(), frame.centre.numpy(), frame.eyes
        dice = np.random.default_rng(seed)
        q = (self.rest[:FACE] - self.centre) @ self.axes.T / self.eyes
        wide = abs(q[291, 0] - q[61, 0])
        self.skin = Skin(q, drop=dice.uniform(0.14, 0.26) * float(np.clip(wide / 0.56, 0.75, 1.1)))
        moving = len(self.rest) - len(geometry.OVAL)
        self.depth = self.rest.copy()
        self.depth[:moving, 2] = gentle_depth(self.rest[:moving], steepest=STEEPEST)
        self.pivot = self.centre + PIVOT @ self.axes * self.eyes
        corners, parts = geometry.triangles()
        self._corners, self._parts = corners.numpy().astype(np.int32), parts.numpy().astype(np.uint8)
        self.look = mouth_painter.sample_look(seed, half_width=self.skin.inner_half, skin=self._colour((50, 280, 205, 425, 4, 195)),
                                              lips=self._colour((*LOWER_OUTER[3:8], *UPPER_OUTER[3:8]), (*LOWER_INNER[6:15:2], *UPPER_INNER[6:15:2])))

    def pose(self, motion: FaceMotion) -> np.ndarray:
        """Motion (F,) or () -> points (F, 664, 3) in pixels."""
        return self._pose(motion).points

    def render(self, motion: FaceMotion, size: int | None = None) -> PuppetFrame:
        """One frame; motion: one moment (). size: of the frame, by default the picture's own, the only one that has a picture."""
        if size not in (None, self.size):
            raise ValueError(f"The picture has {self.size} pixels a side, a frame of {size} was asked for; scale it first")
        return next(iter(self.frames(motion)))

    def frames(self, motion: FaceMotion):
        """Yield a PuppetFrame for each moment of motion (F,) or ()."""
        draw, look, sample = kernels()
        paint, size, pose = mouth_painter.kernel(), self.size, self._pose(motion)
        part, depth = np.empty((size, size), np.uint8), np.empty((size, size))
        for index, points in enumerate(pose.points):
            flow, mouth = np.empty((2, size, size), np.float32), np.zeros((size, size), np.float32)
            draw(points, (self.rest - points)[:, :2].copy(), self._corners, self._parts, flow, part, depth)
            look(part, flow, pose.eyes[index])
            picture = np.empty_like(self.picture)
            sample(self.picture, flow, picture)
            if pose.painted[index] > 0:
                contour = np.stack([points[UPPER_INNER, :2], points[LOWER_INNER, :2]])
                who = self.look
                numbers = np.array([who.upper_line, who.lower_line, who.arch, who.tongue_height, who.gap_dark, self.eyes])
                paint(picture, mouth, contour, contour.shape[1], self._to_skull(pose.turn[index], pose.shift[index]),
                      pose.jaw[index], who.upper, who.lower, np.stack([who.enamel, who.gum, who.tongue, who.throat]), numbers,
                      pose.painted[index])
            yield PuppetFrame(picture, flow, mouth, points.astype(np.float32))

    def flows(self, motion: FaceMotion, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
        """Motion (F,) -> flow (F, 2, size, size) float32 in pixels of `size`, and points (F, 664, 3) float32 in the picture's."""
        draw, look, _ = kernels()
        pose, scale = self._pose(motion), size / self.size
        flows = np.empty((len(pose.points), 2, size, size), np.float32)
        part, depth = np.empty((size, size), np.uint8), np.empty((size, size))
        eyes = pose.eyes.copy()
        eyes[..., [2, 5, 6, 7, 10]] *= scale
        small, rest = pose.points * scale, self.rest * scale
        for index, points in enumerate(small):
            draw(points, (rest - points)[:, :2].copy(), self._corners, self._parts, flows[index], part, depth)
            look(part, flows[index], eyes[index])
        return flows, pose.points.astype(np.float32)

    def _pose(self, motion: FaceMotion) -> _Pose:
        tracks = as_arrays(motion)
        local = self.skin.move(tracks)  # (F, 520, 3)
        shaped = np.repeat(self.depth[None], len(local), axis=0)
        moved = local @ self.axes * self.eyes
        shaped[:, :FACE] += moved
        axes = self.axes
        turn = axes.T @ rotation(tracks["yaw"], tracks["pitch"], tracks["roll"]) @ axes * tracks["scale"][:, None, None]
        still = (tracks["yaw"] == 0) & (tracks["pitch"] == 0) & (tracks["roll"] == 0) & (tracks["scale"] == 1)
        turn[still] = np.eye(3)
        half = self.size / 2
        shift = np.stack([tracks["x"] * half, tracks["y"] * half, 0 * half * tracks["x"]], -1)
        change = turn - np.eye(3)
        away = (shaped - self.pivot) @ change.transpose(0, 2, 1) + shift[:, None]  # how the head's motion displaces each point
        points = np.repeat(self.rest[None], len(local), axis=0)
        points += self.rigidity[:, None] * away
        points[:, :FACE] += moved
        oval = list(geometry.OVAL)
        jaw = moved[:, oval] @ turn.transpose(0, 2, 1)
        for ring, share in enumerate(geometry.CHIN):
            first = FACE + ring * len(oval)
            points[:, first:first + len(oval)] += share * jaw
        opened = local[:, 14, 1] - local[:, 13, 1]
        painted = np.clip((opened - 0.004) / (0.014 + 0.8 * self.skin.gap), 0, 1)
        return _Pose(points, self._eye_numbers(tracks, change, shift), turn, shift, self.skin.jaw(tracks), painted * painted * (3 - 2 * painted))

    def _eye_numbers(self, tracks: dict[str, np.ndarray], change: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """For each frame and eye what the compiled `look` reads (F, 2, 64).

        0-5: from a place in the frame to the portrait's minus it, affine; 6, 7: centre; 8, 9: direction; 10: half length, pixels;
        11, 12: how far the iris has moved, half lengths; 13: whether it has; 16-32, 33-49: upper and lower lid at 17 places.
        """
        numbers = np.zeros((len(change), 2, 64))
        gaze_x, gaze_y = self.skin.gaze(tracks)
        for side, (upper, lower) in enumerate(EYES):
            contour = np.concatenate([upper, lower[1:-1]])
            shift = ((self.depth[contour] - self.pivot) @ change.transpose(0, 2, 1) + moved[:, None])[..., :2]
            place = self.rest[contour, :2] + shift  # where the eyeball's points are now, whatever the lids do
            origin = place.mean(1, keepdims=True)
            known = np.concatenate([place - origin, np.ones_like(place[..., :1])], -1)  # (F, 32, 3)
            normal = known.transpose(0, 2, 1) @ known
            affine = np.linalg.solve(normal, known.transpose(0, 2, 1) @ -shift).transpose(0, 2, 1)  # (F, 2, 3)
            affine[..., 2] -= (affine[..., :2] @ origin.transpose(0, 2, 1))[..., 0]
            numbers[:, side, 0:6] = affine.reshape(-1, 6)
            left, right = self.rest[upper[0], :2], self.rest[upper[-1], :2]
            half = np.linalg.norm(right - left) / 2
            along = (right - left) / (2 * half)
            middle = (left + right) / 2
            numbers[:, side, 6:8], numbers[:, side, 8:10], numbers[:, side, 10] = middle, along, half
            numbers[:, side, 11], numbers[:, side, 12] = gaze_x, gaze_y
            numbers[:, side, 13] = np.clip(np.hypot(gaze_x, gaze_y) / 0.03, 0, 1)
            knots = np.linspace(-1, 1, 17)
            across = np.array([-along[1], along[0]])
            for row, first in ((upper, 16), (lower, 33)):
                from_middle = (self.rest[row, :2] - middle) / half
                numbers[:, side, first:first + 17] = np.interp(knots, from_middle @ along, from_middle @ across)
        return numbers

    def _to_skull(self, turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """(2, 3): from pixels of a frame to the plane of the teeth in eye distances, origin in the middle of the shut lips."""
        origin = (self.depth[13] + self.depth[14]) / 2
        origin = self.pivot + turn @ (origin + 0.06 * self.eyes * self.axes[2] - self.pivot) + shift
        across = (turn @ self.axes[:2].T)[:2] * self.eyes  # (2, 2) columns: right and down
        inverse = np.linalg.inv(across)
        return np.concatenate([inverse, -(inverse @ origin[:2])[:, None]], axis=1)

    def _colour(self, points: tuple[int, ...], towards: tuple[int, ...] | None = None) -> np.ndarray:
        """Median colour (3,) around these points, or half way to others."""
        places = self.rest[list(points), :2]
        if towards is not None:
            places = (places + self.rest[list(towards), :2]) / 2
        places = np.clip(places.astype(int), 1, self.size - 2)
        patches = [self.picture[y - 1:y + 2, x - 1:x + 2].reshape(-1, 3) for x, y in places]
        return np.median(np.concatenate(patches).astype(np.float64), axis=0)

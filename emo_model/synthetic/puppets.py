"""Puppets: a picture of a face becomes a portrait that moves, with exact flow.

The picture's mesh and rings around it (face_geometry.py) are moved by the tracks of FaceMotion and drawn as triangles;
what an open mouth shows is painted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..inputs import face_geometry as geometry
from ..inputs.face_geometry import FACE
from ..inputs.face_skin import (
    EYES,
    LOWER_INNER,
    LOWER_OUTER,
    UPPER_INNER,
    UPPER_OUTER,
    Skin,
    as_arrays,
    gentle_depth,
    rotation,
)
from ..inputs.lids import fit_lids
from . import mouth_painter
from .motion import FaceMotion
from .rasteriser import kernels

PIVOT = np.array([0.0, 0.45, 0.65])  # the joint of the neck in the head's own frame, eye distances
TEETH_BEHIND = 0.06  # the lips, eye distances
OPEN_FROM = 0.10  # a mouth whose lips are this share of their width apart shows its own teeth
OWN_RIM = 0.018  # height over the lower lip from which an open mouth is painted: the mesh's edge lies on the lip
SOFT_EDGE = 0.013  # of lids and teeth, eye distances: about a pixel at 256
STEEPEST = 1.35  # of the head's surface: turns up to 0.5 rad do not fold it


@dataclass(frozen=True, eq=False)
class PuppetFrame:
    """picture: (S, S, 3) uint8; flow: (2, S, S) float32, where in the portrait the frame's content comes from minus
    where it is, pixels; mouth: (S, S) float32, share of each pixel that is painted; points: (664, 3) float32 pixels."""

    picture: np.ndarray
    flow: np.ndarray
    mouth: np.ndarray
    points: np.ndarray


@dataclass(frozen=True, eq=False)
class _Pose:
    points: np.ndarray  # (F, 664, 3) pixels
    openings: np.ndarray  # (F, 3, 96), see _opening_numbers
    turn: np.ndarray  # (F, 3, 3) in the picture's axes, scale included
    shift: np.ndarray  # (F, 3) of the pivot
    jaw: np.ndarray  # (F,)
    own: np.ndarray  # (F, 21, 2) pixels: lower edge of what the picture itself shows of its mouth's inside
    painted: np.ndarray  # (F,) 0..1


class Puppet:
    """picture (S, S, 3) uint8: a head square; mesh (468, 3) in its pixels; seed: teeth, tongue, how far the jaw falls.

    A neutral motion leaves every pixel as it is. Tracks move the face from where the picture has it: 0 is the picture's
    own state, of mouths that are a little open as well.
    """

    def __init__(self, picture: np.ndarray, mesh: np.ndarray | Tensor, seed: int):
        if (
            picture.ndim != 3
            or picture.shape[0] != picture.shape[1]
            or picture.shape[2] != 3
            or picture.dtype != np.uint8
        ):
            raise ValueError(
                f"A puppet needs a square picture (S, S, 3) of uint8, got {picture.shape} of {picture.dtype}"
            )
        self.picture, self.size = np.ascontiguousarray(picture), len(picture)
        mesh = torch.from_numpy(fit_lids(self.picture, torch.as_tensor(mesh).double().numpy().copy()))
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
        gap = np.linalg.norm(self.rest[14] - self.rest[13])
        self.is_open = bool(gap > OPEN_FROM * wide * self.eyes)
        self.skin.is_open = self.is_open
        between = (LOWER_OUTER[3:8], LOWER_INNER[6:15:2]), (UPPER_OUTER[3:8], UPPER_INNER[6:15:2])
        lips = np.concatenate([(self.rest[a] + self.rest[b]) / 2 for a, b in between])
        teeth = (self.rest[UPPER_INNER[4:17:2]] + self.rest[LOWER_INNER[4:17:2]]) / 2
        self.look = mouth_painter.sample_look(
            seed,
            half_width=self.skin.inner_half,
            skin=self._colours(self.rest[[50, 280, 205, 425, 4, 195]]),
            lips=self._colours(lips),
            face=self._colours(self.rest[: geometry.POINTS], share=0.97),
            teeth=self._colours(teeth, share=0.6) if self.is_open else None,
        )

        sides = [
            self._colours(self.rest[list(points)]) @ [0.299, 0.587, 0.114]
            for points in ((205, 207, 57, 61, 91, 181, 216), (425, 427, 287, 291, 321, 405, 436))
        ]
        # light from the left or right
        self.sides = [float(np.clip(side / max(sum(sides) / 2, 1), 0.4, 1.5)) for side in sides]

    def pose(self, motion: FaceMotion) -> np.ndarray:
        """Motion (F,) or () -> points (F, 664, 3) in pixels."""
        return self._pose(motion).points

    def render(self, motion: FaceMotion, size: int | None = None) -> PuppetFrame:
        """One frame; motion: one moment (). size: of the frame, by default the picture's own, the only one that has a
        picture."""
        if size not in (None, self.size):
            raise ValueError(
                f"The picture has {self.size} pixels a side, a frame of {size} was asked for; scale it first"
            )
        return next(iter(self.frames(motion)))

    def frames(self, motion: FaceMotion):
        """Yield a PuppetFrame for each moment of motion (F,) or ()."""
        draw, look, sample = kernels()
        paint, size, pose = mouth_painter.kernel(), self.size, self._pose(motion)
        part, depth = np.empty((size, size), np.uint8), np.empty((size, size))
        for index, points in enumerate(pose.points):
            flow, mouth = np.empty((2, size, size), np.float32), np.zeros((size, size), np.float32)
            draw(points, (self.rest - points)[:, :2].copy(), self._corners, self._parts, flow, part, depth)
            look(part, flow, pose.openings[index])
            picture = np.empty_like(self.picture)
            sample(self.picture, flow, picture)
            if pose.painted[index] > 0:
                contour = np.stack([points[UPPER_INNER, :2], points[LOWER_INNER, :2], pose.own[index]])
                who = self.look
                numbers = np.array(
                    [who.upper_line, who.lower_line, who.arch, who.tongue_height, who.gap_dark, self.eyes, *self.sides]
                )
                colours = np.stack([who.enamel, who.gum, who.tongue, who.throat])
                paint(
                    picture,
                    mouth,
                    contour,
                    contour.shape[1],
                    self._to_skull(pose.turn[index], pose.shift[index]),
                    pose.jaw[index],
                    self.is_open,
                    who.upper,
                    who.lower,
                    colours,
                    numbers,
                    pose.painted[index],
                )
            yield PuppetFrame(picture, flow, mouth, points.astype(np.float32))

    def flows(self, motion: FaceMotion, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
        """Motion (F,) -> flow (F, 2, size, size) float32 in pixels of `size`, and points (F, 664, 3) float32 in the
        picture's."""
        draw, look, _ = kernels()
        pose, scale = self._pose(motion), size / self.size
        flows = np.empty((len(pose.points), 2, size, size), np.float32)
        part, depth = np.empty((size, size), np.uint8), np.empty((size, size))
        openings = pose.openings.copy()
        openings[..., [2, 5, 6, 7, 10]] *= scale
        small, rest = pose.points * scale, self.rest * scale
        for index, points in enumerate(small):
            draw(points, (rest - points)[:, :2].copy(), self._corners, self._parts, flows[index], part, depth)
            look(part, flows[index], openings[index])
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
        # how the head's motion displaces each point
        away = (shaped - self.pivot) @ change.transpose(0, 2, 1) + shift[:, None]
        points = np.repeat(self.rest[None], len(local), axis=0)
        points += self.rigidity[:, None] * away
        points[:, :FACE] += moved
        oval = list(geometry.OVAL)
        jaw = moved[:, oval] @ turn.transpose(0, 2, 1)
        for ring, share in enumerate(geometry.CHIN):
            first = FACE + ring * len(oval)
            points[:, first : first + len(oval)] += share * jaw
        points = geometry.hold_inside(torch.from_numpy(self.rest), torch.from_numpy(points)).numpy()
        opened = local[:, 14, 1] - local[:, 13, 1]
        painted = np.clip((opened - 0.004) / 0.014, 0, 1)
        painted = painted * painted * (3 - 2 * painted)
        own = self._rigid(LOWER_INNER, change, shift, behind=TEETH_BEHIND)[0] - OWN_RIM * self.eyes * self.axes[1, :2]
        openings = self._opening_numbers(tracks, points, change, shift)
        return _Pose(points, openings, turn, shift, self.skin.jaw(tracks), own, painted)

    def _opening_numbers(
        self, tracks: dict[str, np.ndarray], points: np.ndarray, change: np.ndarray, moved: np.ndarray
    ) -> np.ndarray:
        """For each frame and opening (mouth, eyes) what the compiled `look` reads (F, 3, 96).

        0-5: from a place in the frame to the portrait's minus it, affine; 6, 7: centre; 8, 9: direction; 10: half
        length, pixels; 11, 12: how far the iris has moved, half lengths; 13: how strictly only what lay inside is
        shown; 14: whether it is used; 15: width of the soft edge, half lengths; 16-32, 33-49: upper and lower edge at
        17 places, in the portrait; 50-66, 67-83: in the frame, seen from the eyeball or skull.
        """
        numbers = np.zeros((len(change), 3, 96))
        gaze_x, gaze_y = self.skin.gaze(tracks)
        for part, (upper, lower) in enumerate(((UPPER_INNER, LOWER_INNER), *EYES)):
            contour = np.concatenate([upper, lower[1:-1]])
            place, shift = self._rigid(contour, change, moved, behind=TEETH_BEHIND if part == 0 else 0.0)
            origin = place.mean(1, keepdims=True)
            known = np.concatenate([place - origin, np.ones_like(place[..., :1])], -1)
            normal = known.transpose(0, 2, 1) @ known
            normal[:, [0, 1], [0, 1]] += 1e-3 * self.eyes
            affine = np.linalg.solve(normal, known.transpose(0, 2, 1) @ -shift).transpose(0, 2, 1)  # (F, 2, 3)
            affine[..., 2] -= (affine[..., :2] @ origin.transpose(0, 2, 1))[..., 0]
            numbers[:, part, 0:6] = affine.reshape(-1, 6)
            left, right = self.rest[upper[0], :2], self.rest[upper[-1], :2]
            half = max(np.linalg.norm(right - left) / 2, 1e-3)
            along = (right - left) / (2 * half)
            middle = (left + right) / 2
            numbers[:, part, 6:8], numbers[:, part, 8:10], numbers[:, part, 10] = middle, along, half
            if part > 0:
                numbers[:, part, 11], numbers[:, part, 12] = gaze_x, gaze_y
                numbers[:, part, 13] = np.clip(np.hypot(gaze_x, gaze_y) / 0.03, 0, 1)
                numbers[:, part, 14] = 1
            elif self.is_open:
                stirred = np.abs(tracks["smile"]) + np.abs(tracks["width"]) + tracks["opening"]
                numbers[:, part, 13] = np.clip(stirred / 0.1, 0, 1)
                numbers[:, part, 14] = 1
            knots = np.linspace(-1, 1, 17)
            across = np.array([-along[1], along[0]])
            for row, first in ((upper, 16), (lower, 33)):
                from_middle = (self.rest[row, :2] - middle) / half
                numbers[:, part, first : first + 17] = np.interp(knots, from_middle @ along, from_middle @ across)
                now = points[:, row, :2]
                now = (now + now @ affine[..., :2].transpose(0, 2, 1) + affine[:, None, :, 2] - middle) / half
                for index, (u, v) in enumerate(zip(now @ along, now @ across, strict=True)):
                    numbers[index, part, first + 34 : first + 51] = np.interp(knots, u, v)
            numbers[:, part, 15] = SOFT_EDGE * self.eyes / half
        return numbers

    def _rigid(
        self, points: np.ndarray, change: np.ndarray, moved: np.ndarray, *, behind: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where points of the portrait would be if they moved with the skull alone: places (F, N, 2) and shifts (F, N,
        2).

        behind: how far they lie behind the mesh, eye distances."""
        depth = self.depth[points] + behind * self.eyes * self.axes[2]
        shift = ((depth - self.pivot) @ change.transpose(0, 2, 1) + moved[:, None])[..., :2]
        return self.rest[points, :2] + shift, shift

    def _to_skull(self, turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """(2, 3): from pixels of a frame to the plane of the teeth in eye distances, origin in the middle of the shut
        lips."""
        origin = (self.depth[13] + self.depth[14]) / 2
        origin = self.pivot + turn @ (origin + 0.06 * self.eyes * self.axes[2] - self.pivot) + shift
        across = (turn @ self.axes[:2].T)[:2] * self.eyes  # (2, 2) columns: right and down
        inverse = np.linalg.inv(across)
        return np.concatenate([inverse, -(inverse @ origin[:2])[:, None]], axis=1)

    def _colours(self, places: np.ndarray, share: float = 0.5) -> np.ndarray:
        """The colour (3,) around these places than which `share` of the pixels are darker."""
        places = np.clip(places[:, :2].astype(int), 1, self.size - 2)
        pixels = np.concatenate([self.picture[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3) for x, y in places]).astype(
            np.float64
        )
        bright = pixels.sum(1)
        near = np.abs(bright - np.quantile(bright, share))
        return np.median(pixels[near <= np.quantile(near, 0.15)], axis=0)

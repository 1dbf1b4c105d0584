"""Lids that close: the skin above an eye is drawn down over it, at the resolution of the picture.

Differs from EMO: its pixels are painted by a network. Here the eyes' outlines are known from the face mesh, so a blink
needs no network, and it has a sharp edge where the decoder's flow, a number every few pixels, has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..inputs import face_geometry as geometry
from .lid_skin import TOP, WIDE, LidSkin, smoothstep

UPPER_SHARE, LOWER_SHARE = 0.84, 0.10  # of the gap: how much of it each lid closes; the lashes cover the rest
LASHES, SHADE = 0.07, 0.4  # height of the lashes, half widths of the eye; how dark shut lids meet
EDGE = 0.2  # half widths of the eye at the lid's edge, lashes and their line, that move down without being stretched
# of shut lashes: half their height, how far below the lid's edge they are, how much of their colour they have
BAND, BAND_BELOW, BAND_STRENGTH = 0.12, 0.03, 0.8
DIM, DIM_HIGH = 0.15, 0.3  # how much darker a shut lid is at its edge, and how high above it
SKIN = 0.7  # of the way from the upper lid to the brow, the skin that takes part
CHEEK = 0.5  # half widths of the eye below it that follow the lower lid
LEAST_SKIN = 0.45  # half widths of the eye
GLANCE = (0.34, 0.3)  # of half the eye's width, and of its height: how far an iris moves
RIM = 0.08  # half widths of the eye below its lower lid in the mesh that still move with the gaze
IRIS = 0.4  # of half the eye's width: from so far beside the middle on, the white gives way
BEGINS, LASTS = 0.15, 0.6  # closures: from which on a lid is all skin; up to which the eye below it stays as it is
SEAM = 0.12  # half widths over which the lashes, drawn down as they are, give way to the lid's skin
ROOM = 1.3  # of the window that is drawn, against the eye and its skin
ROWS = (
    (geometry.LEFT_EYE_UPPER, geometry.LEFT_EYE_LOWER, geometry.LEFT_BROW),
    (geometry.RIGHT_EYE_UPPER, geometry.RIGHT_EYE_LOWER, geometry.RIGHT_BROW),
)


@dataclass(frozen=True, eq=False)
class Eyelid:
    """An eye of the portrait. middle: (x, y) between its corners and `half` their half distance in pixels of the
    picture;
    along: the unit vector to the right corner; upper, lower: bows (a, b, c), the lid is (1 - u^2) (a + b u + c u^2)
    half widths below the line of the corners where u runs from -1 to 1 between them; skin: half widths above the lid
    that follow it; lashes: half widths below the upper lid's line that move with it; edge: how much at the end of what
    moves is not stretched; upper_share: of the gap, how much of it the upper lid closes; field: what the skin between
    the lashes and the brow is like; None: what is drawn down is taken as it is."""

    middle: tuple[float, float]
    half: float
    along: tuple[float, float]
    upper: tuple[float, float, float]
    lower: tuple[float, float, float]
    skin: float
    lashes: float = LASHES
    edge: float = EDGE
    upper_share: float = UPPER_SHARE
    field: LidSkin | None = None

    @classmethod
    def of(cls, mesh: np.ndarray, upper: tuple[int, ...], lower: tuple[int, ...], brow: tuple[int, ...]) -> Eyelid:
        """mesh: (468, 3) in pixels of the picture; rows of points from corner to corner."""
        left, right = mesh[upper[0], :2], mesh[upper[-1], :2]
        half = max(float(np.linalg.norm(right - left)) / 2, 1e-3)
        along = (right - left) / (2 * half)
        down, middle = np.array([-along[1], along[0]]), (left + right) / 2

        def bow(row: tuple[int, ...]) -> tuple[float, float, float]:
            u, v = (
                (mesh[list(row[1:-1]), :2] - middle) @ along / half,
                (mesh[list(row[1:-1]), :2] - middle) @ down / half,
            )
            basis = (1 - u**2)[:, None] * np.stack([np.ones_like(u), u, u**2], 1)
            return tuple(np.linalg.solve(basis.T @ basis + np.diag([1e-3, 0.05, 0.3]), basis.T @ v).tolist())

        above = bow(upper)
        to_brow = above[0] - float(np.max((mesh[list(brow), :2] - middle) @ down / half))
        return cls(
            tuple(middle.tolist()), half, tuple(along.tolist()), above, bow(lower), max(LEAST_SKIN, SKIN * to_brow)
        )

    def moved(self, scale: float, shift: tuple[float, float]) -> Eyelid:
        """The same in another picture, whose pixels are places times scale plus shift."""
        x, y = (place * scale + away for place, away in zip(self.middle, shift, strict=True))
        return replace(self, middle=(x, y), half=self.half * scale)

    @property
    def reach(self) -> tuple[float, float]:
        """Pixels from the middle: across, and up and down, to what a blink moves."""
        tall = max(max(self.skin, TOP) - self.upper[0], CHEEK + self.lower[0], 0.4)
        return self.half * ROOM, self.half * ROOM * tall

    def close(
        self, place: Tensor, closure: float, read: Callable[[Tensor], Tensor], gaze: tuple[float, float] = (0.0, 0.0)
    ) -> Tensor:
        """place: (h, w, 2) where in the portrait each pixel of the window comes from while the eye is open, in its
        pixels;
        closure: 0..1; read: places (h, w, 2) -> colours (C, h, w); gaze: right and down, 1 near the corner. Returns the
        colours with the lids so far closed."""
        along = place.new_tensor(self.along)
        down = torch.stack([-along[1], along[0]])
        away = (place - place.new_tensor(self.middle)) / self.half
        u, v = away @ along, away @ down
        inside = u.abs() < 1
        ramp = 1 - u.clamp(-1, 1) ** 2
        upper, lower = (ramp * (a + b * u + c * u**2) for a, b, c in (self.upper, self.lower))
        gap = (lower - upper).clamp(min=0)
        margin = torch.minimum(gap, self.lashes * ramp)
        line, rim = upper + margin + self.upper_share * closure * (gap - margin), lower - LOWER_SHARE * closure * gap
        top, bottom = upper - self.skin, lower + CHEEK
        drop, edge = line - upper - margin, self.edge * ramp
        lid = torch.where(v > line - edge, v - drop, _stretched(v - top, self.skin + margin - edge, drop) + top)
        cheek = bottom - _stretched(bottom - v, CHEEK, lower - rim)
        pixel = 1 / self.half
        over = ((line - v) / pixel + 0.5).clamp(0, 1) * inside
        under = ((v - rim) / pixel + 0.5).clamp(0, 1) * inside * (1 - over)
        colours = read(place)
        if any(gaze):
            x, y = self._looked_at(u, v, gaze)
            moved = self.half * ((x - u)[..., None] * along + (y - v)[..., None] * down)
            edge = torch.minimum(v - upper, lower + RIM * ramp - v) * self.half
            colours = torch.lerp(colours, read(place + moved), (edge + 0.5).clamp(0, 1) * inside)
        lid, cheek = (
            read(place + (torch.where(inside, target - v, 0) * self.half)[..., None] * down) for target in (lid, cheek)
        )
        if self.field is None or closure <= 0:
            colours = torch.lerp(torch.lerp(colours, lid, over), cheek, under)
            shade = SHADE * closure * torch.exp(-(((v - line) / LASHES) ** 2)) * ramp * inside
            colours = colours * (1 - shade)
        else:
            skin, covers, odd = self.field.at(u, v, upper, lower)
            own = torch.lerp(colours, self.field.held(lid, skin), covers)
            above_lashes = smoothstep((line - margin - v) / SEAM + 0.5) * min(1.0, closure / BEGINS)
            over = ((line - v) / pixel + 0.5).clamp(0, 1) * (u.abs() < WIDE)
            colours = torch.lerp(torch.lerp(colours, torch.lerp(lid, own, above_lashes), over), cheek, under)
            left = torch.where(inside, smoothstep(3 * (v - line) / SEAM), 1) * max(0.0, (closure - LASTS) / (1 - LASTS))
            colours = torch.lerp(colours, self.field.held(colours, skin), left * odd)
            colours = self._with_lashes(colours, u, v - line, ramp, closure)
        return colours

    def _with_lashes(self, colours: Tensor, u: Tensor, below: Tensor, ramp: Tensor, closure: float) -> Tensor:
        """Colours (3, h, w) with the lashes of a lid whose edge each place lies `below`, in half widths: a soft dark
        band as people's shut eyes have it, in the colour of the open eye's."""
        colours = colours * (1 - DIM * closure * torch.exp(-((below / DIM_HIGH) ** 2)) * ramp)
        height = BAND * (0.5 + 0.5 * ramp)
        band = torch.exp(-(((below - BAND_BELOW) / height) ** 2)) * smoothstep((1.2 - u.abs()) / 0.3)
        lashes = torch.lerp(colours, self.field.lashes[:, None, None], BAND_STRENGTH * closure * band)
        return torch.minimum(colours, lashes)

    def _looked_at(self, u: Tensor, v: Tensor, gaze: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """Where in the eye, in half widths, lies what is seen at (u, v) when it looks elsewhere: the iris keeps its
        shape, the white beside it stretches or shrinks; nothing is read from outside of the lids."""
        right, down = (
            most * math.tanh(1.2 * amount) / math.tanh(1.2) for most, amount in zip(GLANCE, gaze, strict=True)
        )
        flat = ((1 - u.abs()) / (1 - IRIS)).clamp(0, 1)
        x = u - right * flat * flat * (3 - 2 * flat)
        upper, lower = self._opening(u)
        share = ((v - upper) / (lower - upper).clamp(min=1e-3)).clamp(0, 1)
        falls = 1 - (share**3 if down < 0 else (1 - share) ** 3)
        share = share - down * falls
        above, below = self._opening(x)
        return x, above + share.clamp(0, 1) * (below - above)

    def _opening(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Upper and lower edge of what moves with the gaze, half widths below the line of the corners."""
        ramp = 1 - u.clamp(-1, 1) ** 2
        above, below = (ramp * (a + b * u + c * u**2) for a, b, c in (self.upper, self.lower))
        return above, below + RIM * ramp


def eyelids(mesh: Tensor) -> tuple[Eyelid, Eyelid]:
    """mesh (468, 3) in pixels of the picture, its lids fitted to it (`inputs.lids`): the left and the right eye."""
    return tuple(Eyelid.of(mesh.double().numpy(), *rows) for rows in ROWS)


def _stretched(distance: Tensor, length: float, more: Tensor) -> Tensor:
    """Where on a strip of `length` lies what lies `distance` from its fixed end once it is stretched by `more`; near
    the fixed end nothing moves, and the strip never folds."""
    long = length + more
    share = (distance / long).clamp(0, 1)
    power = (1 + 0.4 * length / more.clamp(min=1e-4)).clamp(max=1.4)
    return torch.where((distance > 0) & (distance < long), share * long - more * share**power, distance)


def window(
    eyelid: Eyelid, flow: Tensor, *, cell: float, corner: tuple[float, float]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Pixels ((first, last) row, (first, last) column) of a frame in which an eye lies; flow: (2, n, n) backward, in
    cells of `cell` pixels from the square's corner (left, top) on."""
    size = flow.shape[-1]
    point = (torch.tensor(eyelid.middle) - torch.tensor(corner)).to(flow) / cell
    place = point
    for _ in range(3):
        place = (
            point
            - F.grid_sample(
                flow[None], (place * (2 / size) - 1)[None, None, None], padding_mode="border", align_corners=False
            )[0, :, 0, 0]
        )
    x, y = (corner[0] + cell * float(place[0]), corner[1] + cell * float(place[1]))
    across, tall = eyelid.reach
    return (math.floor(y - tall), math.ceil(y + tall)), (math.floor(x - across), math.ceil(x + across))

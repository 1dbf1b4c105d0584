"""The skin of shut lids: a smooth field of colours from the clean skin around each eye.

The skin above an eye is drawn down over it. Where a brow, lashes or the eye's outline lie close above, they
would be drawn down as well, so what is drawn is held near this field. Brows, lashes, hair and glasses are told from
skin by their distance from a plane fitted to the colours below the eye; a membrane (Laplace's equation) fills what they
leave out. It is made once per portrait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from .eyelids import Eyelid

# lengths are half widths of the eye; heights are from the line of its corners, or from a lid
ACROSS, ABOVE, BELOW = 1.76, 1.6, 1.76  # what the field covers: to both sides, above and below
STEP = 0.08  # between its samples
LASHES_ABOVE, LASHES_BELOW, BESIDE = 0.14, 0.24, 1.15  # around the lids and to the side: no skin is sought nearer
ORBIT = 0.5  # above the lid: least height of what may be skin there
UNDER = (0.25, 0.95)  # below the lower lid: the skin that is surest
SIDES = (0.3, 0.4)  # height of the temple and the bridge of the nose, and how much they count
DARK, LIGHT, HUE = 0.25, 0.35, 0.15  # distances from the plane, of logarithms, at which 1 / e of the trust is left
HAIRS = 0.65  # quantile-like: above one half, what is darker counts less than what is lighter
STIFF, TRUST = 3.0, 2e-4  # of the membrane, and the least trust
HOLDS = 0.3  # how much the shading above the eye counts where there is no trust in its colour
DEEPEST, LIGHTEST, BEYOND = -0.25, 0.1, 0.2  # that shading, and what is left of a deeper one
WARMER = 1.2  # how much stronger colours are in the shade
CLEAN = (0.1, 0.3)  # root mean square distance of the skin above the eye from the field: clean up to, soiled from
KEEPS = (0.2, 0.015)  # of a colour: how far from the field a lid made of clean and of soiled skin may be
CREASE = 0.24  # how dark the crease above a lid made of soiled skin is
ROUND, UNDERSIDE = 0.35, 0.4  # how dark, as a logarithm, its upper rim and its corners are; of that, its lower rim
ODD, PALE = (
    (0.3, 0.55),
    (-0.1, 0.1),
)  # distance from the field of what belongs to the eye; beside it, only what is light
LASH_STRIP = (0.08, 0.12)  # above and below the upper lid: there the darkest colours are those of the lashes
TOP, FEATHER, BOTTOM, CORNER = 0.45, 0.45, 0.2, 0.2  # what a lid covers beyond the eye, and how softly it ends
WIDE = 1.08  # half widths from the middle to where it ends
THIN = 0.05  # half widths that it covers at the corners


@dataclass(frozen=True, eq=False)
class LidSkin:
    """field: (4, n, m) red, green and blue in 0..255 and how much of what is there belongs to the eye, over half widths
    -`ACROSS`..`ACROSS` along the line of the corners and -`ABOVE`..`BELOW` across it; keeps: how far from it the lid
    may be, as a share of the colour; lashes: (3,) their colour, 0..255."""

    field: Tensor
    keeps: float
    lashes: Tensor

    def at(self, u: Tensor, v: Tensor, upper: Tensor, lower: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Places (h, w) in half widths, and both lids there -> colours (3, h, w), how much of it a lid covers, and how
        much of the picture there belongs to the eye, (h, w) each."""
        grid = torch.stack([u / ACROSS, (v + ABOVE) * (2 / (ABOVE + BELOW)) - 1], -1)
        field = F.grid_sample(self.field[None], grid[None], padding_mode="border", align_corners=False)[0]
        arch = (1 - (u / WIDE).clamp(-1, 1) ** 2).sqrt()
        above = (v - upper + TOP * arch + THIN) / (FEATHER * arch + THIN)
        below = (lower + BOTTOM * arch + THIN - v) / (BOTTOM * arch + THIN)
        covers = smoothstep((WIDE - u.abs()) / CORNER) * smoothstep(torch.minimum(above, below))
        return field[:3], covers, field[3]

    def held(self, colours: Tensor, skin: Tensor) -> Tensor:
        """Colours (3, h, w), no further from the field's than `keeps` allows."""
        most = self.keeps * skin + 1
        return skin + most * torch.tanh((colours - skin) / most)


def with_skin(lids: Sequence[Eyelid], picture: np.ndarray, *, device: torch.device | str = "cpu") -> tuple[Eyelid, ...]:
    """Lids in pixels of picture (H, W, 3) uint8 -> the same with their skin."""
    found = [_skin(lid, picture.astype(np.float64)) for lid in lids]
    return tuple(
        replace(lid, field=replace(skin, field=skin.field.to(device), lashes=skin.lashes.to(device)))
        for lid, skin in zip(lids, found, strict=True)
    )


def _skin(lid: Eyelid, picture: np.ndarray) -> LidSkin:
    u, v = _middles(-ACROSS, ACROSS), _middles(-ABOVE, BELOW)
    ramp = (1 - u**2).clip(0)
    upper, lower = (ramp * (a + b * u + c * u**2) for a, b, c in (lid.upper, lid.lower))
    u, v = np.meshgrid(u, v)
    colours = np.log(_smoothed(lid, picture, u, v) + 8)
    eye = (v > upper - LASHES_ABOVE) & (v < lower + LASHES_BELOW) & (np.abs(u) < BESIDE)
    above = (v < upper - LASHES_ABOVE) & (v > upper - max(lid.skin, ORBIT)) & (np.abs(u) < 1.1)
    below = (v > lower + UNDER[0]) & (v < lower + UNDER[1]) & (np.abs(u) < 1.2)
    beside = (np.abs(u) > BESIDE) & (np.abs(v) < SIDES[0])
    counts = sum(
        part * (share / max(part.sum(), 1)) for part, share in ((above, 1.0), (below, 1.0), (beside, SIDES[1]))
    )
    plane, trust = _plane(colours, u, v, counts, first=counts * below)
    known = np.where(eye, 0, _least(trust) + TRUST)
    field = _shaded(_membrane(colours, known, plane), colours, known, ~eye & (v < upper + 0.1))

    away = (colours - field).mean(-1)
    drawn = (v < upper - (lid.edge - lid.lashes + THIN)) & (v > upper - max(lid.skin, 0.3)) & (np.abs(u) < 0.8)
    soiled = float(np.sqrt((away[drawn] ** 2).mean())) if drawn.any() else 0.0
    soiled = _step((soiled - CLEAN[0]) / (CLEAN[1] - CLEAN[0]))
    arch = np.sqrt(ramp)
    crease = 1 - _step((v - upper + (TOP + THIN) * arch) / (0.75 * arch + THIN))
    height = ((v - upper + TOP * arch) / np.maximum(lower - upper + TOP * arch, 0.05)).clip(0, 1)
    corners = np.minimum(u**4, _step((1.3 - np.abs(u)) / 0.3))
    rim = ((1 - height) ** 2 + UNDERSIDE * height**4 + corners).clip(0, 1)
    rgb = (np.exp(_lit(field, soiled * (np.log1p(-CREASE * crease) - ROUND * rim)[..., None])) - 8).clip(0, 255)
    near = _step((1.3 - np.abs(u)) / 0.15) * _step((lower + 0.45 - v) / 0.15) * _step((v - upper + 0.35) / 0.15)
    hue = np.linalg.norm(colours - field - away[..., None], axis=-1)
    odd = _step((np.hypot(away, 1.5 * hue) - ODD[0]) / (ODD[1] - ODD[0])) * near
    odd = _grown(np.where(np.abs(u) < 1, odd, odd * _step((away - PALE[0]) / (PALE[1] - PALE[0]))))
    packed = np.concatenate([rgb, odd[..., None]], -1).transpose(2, 0, 1)
    return LidSkin(
        torch.from_numpy(packed.astype(np.float32)),
        float(KEEPS[0] + soiled * (KEEPS[1] - KEEPS[0])),
        torch.from_numpy(_lashes(colours, u, v - upper).astype(np.float32)),
    )


def _lashes(colours: np.ndarray, u: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Logarithms of colours (n, m, 3) at places in half widths, `below` the upper lid -> colour (3,) of the lashes."""
    light = np.where((below > -LASH_STRIP[0]) & (below < LASH_STRIP[1]), colours.mean(-1), np.inf)
    columns = np.flatnonzero(np.abs(u[0]) < 0.85)
    return (np.exp(colours[light.argmin(0)[columns], columns].mean(0)) - 8).clip(0, 255)


def _middles(first: float, last: float) -> np.ndarray:
    count = round((last - first) / STEP)
    return first + (np.arange(count) + 0.5) * (last - first) / count


def _smoothed(lid: Eyelid, picture: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Colours (n, m, 3) at places in half widths, each the mean of four around."""
    along = np.array(lid.along)
    down = np.array([-along[1], along[0]])
    return (
        sum(
            colours_at(
                picture, lid.middle + lid.half * ((u + x * STEP)[..., None] * along + (v + y * STEP)[..., None] * down)
            )
            for x in (-0.25, 0.25)
            for y in (-0.25, 0.25)
        )
        / 4
    )


def _plane(
    colours: np.ndarray, u: np.ndarray, v: np.ndarray, counts: np.ndarray, *, first: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of colours (n, m, 3) and weights (n, m) -> the plane that fits most of the skin (n, m, 3), and how
    well each place fits it (n, m), 0 to 1; first: weights of the first fit."""
    basis, weight = np.stack([np.ones_like(u), u, v], -1), first
    for _ in range(12):
        flat, each = basis.reshape(-1, 3), weight.reshape(-1, 1)
        normal = (flat * each).T @ flat + np.diag([1e-6, 0.05, 0.05]) * max(each.sum(), 1e-6)
        plane = basis @ np.linalg.solve(normal, (flat * each).T @ colours.reshape(-1, 3))
        away = colours - plane
        light = away.mean(-1)
        hue = np.linalg.norm(away - light[..., None], axis=-1)
        trust = np.exp(-((light / np.where(light < 0, DARK, LIGHT)) ** 2) - (hue / HUE) ** 2)
        weight = counts * np.where(light > 0, HAIRS, 1 - HAIRS) * trust
    return plane, trust


def _shaded(field: np.ndarray, colours: np.ndarray, known: np.ndarray, around: np.ndarray) -> np.ndarray:
    """The field with the light of what lies above the eye, brow or skin, within limits: lids lie in their shade."""
    light = (colours - field).mean(-1, keepdims=True)
    light = np.where(light < DEEPEST, DEEPEST + BEYOND * (light - DEEPEST), np.minimum(light, LIGHTEST))
    return _membrane(_lit(field, light), np.maximum(known, HOLDS * around), field)


def _lit(field: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Logarithms of colours (n, m, 3), lighter by (n, m, 1): colours are stronger in the shade."""
    return field + light - WARMER * light * (field - field.mean(-1, keepdims=True))


def _membrane(target: np.ndarray, known: np.ndarray, start: np.ndarray, *, rounds: int = 80) -> np.ndarray:
    """Minimises the sum of known (x - target)^2 + `STIFF` |gradient of x|^2 over (n, m, 3), by conjugate gradients."""
    known = known[..., None]

    def applied(x: np.ndarray) -> np.ndarray:
        result = known * x
        for axis in (0, 1):
            slope = STIFF * np.diff(x, axis=axis)
            result = result - np.diff(np.pad(slope, [(int(n == axis),) * 2 for n in range(3)]), axis=axis)
        return result

    scale, x = known + 4 * STIFF, start.copy()
    rest = known * target - applied(x)
    step = rest / scale
    size = (rest * step).sum((0, 1))
    for _ in range(rounds):
        change = applied(step)
        length = size / np.maximum((step * change).sum((0, 1)), 1e-12)
        x += length * step
        rest = rest - length * change
        before, size = size, (rest * rest / scale).sum((0, 1))
        step = rest / scale + size / np.maximum(before, 1e-12) * step
    return x


def _least(values: np.ndarray) -> np.ndarray:
    """The least of each place and its eight neighbours."""
    for axis in (0, 1):
        values = np.minimum.reduce(_neighbours(values, axis))
    return values


def _grown(values: np.ndarray) -> np.ndarray:
    """Smoothed over neighbours, nowhere less than before."""
    for axis in (0, 1):
        before, here, after = _neighbours(values, axis)
        values = np.maximum(here, (before + 2 * here + after) / 4)
    return values


def _neighbours(values: np.ndarray, axis: int) -> list[np.ndarray]:
    padded = np.pad(values, [(int(n == axis),) * 2 for n in range(2)], mode="edge")
    return [padded.take(range(first, first + values.shape[axis]), axis) for first in range(3)]


def smoothstep(share: Tensor) -> Tensor:
    share = share.clamp(0, 1)
    return share * share * (3 - 2 * share)


def _step(share: np.ndarray | float) -> np.ndarray | float:
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)


def colours_at(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Bilinear, of picture (H, W, 3) at places (..., 2) in pixels -> (..., 3)."""
    at = np.clip(places - 0.5, 0, np.array(picture.shape[1::-1]) - 1.001)
    corner = at.astype(int)
    x, y = np.moveaxis(at - corner, -1, 0)[..., None]
    i, j = corner[..., 0], corner[..., 1]
    return (picture[j, i] * (1 - x) + picture[j, i + 1] * x) * (1 - y) + (
        picture[j + 1, i] * (1 - x) + picture[j + 1, i + 1] * x
    ) * y

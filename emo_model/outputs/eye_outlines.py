"""Outlines of large drawn eyes: they are larger than the face mesh, which knows people's eyes, has them.

Where a picture is so clean that an eye stands out from the skin around it, its outline is read from the pixels: that
of drawings with thick lashes, whose lids would otherwise close inside of the eye and drag the lashes apart.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .eyelids import Eyelid
from .lid_skin import colours_at

STEP = 0.05  # between samples, half widths of the eye, as all lengths here
ACROSS, ABOVE, BELOW = 1.9, 2.0, 1.6  # what is looked at: to both sides, above and below the line of the corners
SKIN_BELOW = (0.45, 1.0)  # below the lower lid: there the skin's colour is taken
STANDS_OUT, CLEAN = 0.3, 0.2  # distances from the skin's colour, of the eye's own: what is eye; what skin may have
GAP, JUMP = 2, 4  # samples of skin colour within an eye; between neighbours along its outline
WIDTHS = (0.75, 1.7)  # of half an eye, in those of the mesh
HIGHEST = 0.5  # of the outline over the upper lid of the mesh: beyond it is a brow
BESIDE = (0.45, 0.8)  # from the middle, where white follows below the lashes
LASHES = (0.05, 0.3)  # least and most height of the lashes
RISE = 0.04  # over the lashes
UPPER_SHARE = 0.9  # of the gap that the upper lid closes
EDGE, LEAST_SKIN, SKIN_SHARE = 0.02, 0.1, 0.8


def fitted(lids: tuple[Eyelid, Eyelid], picture: np.ndarray) -> tuple[Eyelid, Eyelid]:
    """Lids in pixels of picture (H, W, 3) uint8 -> those of the eyes that are seen there, if both stand out."""
    found = [_fitted(lid, picture.astype(np.float64)) for lid in lids]
    return lids if None in found else tuple(found)


def _fitted(lid: Eyelid, picture: np.ndarray) -> Eyelid | None:
    u, v = np.arange(-ACROSS, ACROSS + STEP / 2, STEP), np.arange(-ABOVE, BELOW, STEP)
    along = np.array(lid.along)
    down = np.array([-along[1], along[0]])
    middle = np.array(lid.middle)
    colours = colours_at(picture, middle + lid.half * (u[None, :, None] * along + v[:, None, None] * down))
    upper, lower = ((1 - u**2).clip(0) * (a + b * u + c * u**2) for a, b, c in (lid.upper, lid.lower))
    rows = v[:, None]
    below = (rows > lower + SKIN_BELOW[0]) & (rows < lower + SKIN_BELOW[1]) & (np.abs(u) < 1)
    inside = (rows > upper) & (rows < lower) & (np.abs(u) < 0.85)
    if not inside.any() or not below.any():
        return None
    skin = np.median(colours[below], axis=0)
    away = np.sqrt(((colours - skin) ** 2).mean(-1))
    contrast = max(float(np.quantile(away[inside], 0.8)), 1e-6)
    if np.quantile(away[below], 0.9) > CLEAN * contrast:
        return None
    is_eye = away > STANDS_OUT * contrast
    outline = _outline(is_eye, u, _row(upper, v), _row(lower, v))
    if outline is None:
        return None
    first, top, bottom = outline
    columns = slice(first, first + len(top))
    left, right = u[columns][[0, -1]]
    high = (upper[columns] - v[top])[np.abs(u[columns]) < WIDTHS[0]].max()
    if not (WIDTHS[0] < -left < WIDTHS[1] and WIDTHS[0] < right < WIDTHS[1] and high < HIGHEST):
        return None
    ends = [(v[top[end]] + v[bottom[end]]) / 2 for end in (0, -1)]
    corners = [middle + lid.half * (x * along + y * down) for x, y in zip((left, right), ends, strict=True)]
    half = np.linalg.norm(corners[1] - corners[0]) / 2
    scale = lid.half / half
    place = (2 * u[columns] - left - right) / (right - left)
    line = ends[0] + (ends[1] - ends[0]) * (place + 1) / 2
    bows = [_bow(place, (v[edge] - line) * scale) for edge in (top, bottom)]
    ramp = 1 - place**2
    is_open = ramp > 0.3
    under = (_at(bows[0], place) - (v[top] - line) * scale)[is_open] / ramp[is_open]
    rise = (
        max(0.0, float(np.quantile(under, 0.95))) + RISE
    )  # no lash is left above the line, in the skin that stretches
    bows[0] = (bows[0][0] - rise, *bows[0][1:])
    light = colours.mean(-1)
    dark = light < (skin.mean() + light[is_eye].min()) / 2
    beside = [
        _run(dark[start:, first + number])
        for number, start in enumerate(top)
        if BESIDE[0] < abs(place[number]) < BESIDE[1]
    ]
    clear = [
        _run(~is_eye[:start, first + number][::-1])
        for number, start in enumerate(top)
        if abs(place[number]) < BESIDE[0]
    ]
    lashes = rise + float(np.clip(scale * STEP * np.median(beside), *LASHES))
    return replace(
        lid,
        middle=tuple(((corners[0] + corners[1]) / 2).tolist()),
        half=float(half),
        along=tuple(((corners[1] - corners[0]) / (2 * half)).tolist()),
        upper=bows[0],
        lower=bows[1],
        skin=max(LEAST_SKIN, SKIN_SHARE * (scale * STEP * float(np.min(clear)) - rise)),
        lashes=lashes,
        edge=lashes + EDGE,
        upper_share=UPPER_SHARE,
    )


def _outline(
    is_eye: np.ndarray, u: np.ndarray, upper: np.ndarray, lower: np.ndarray
) -> tuple[int, np.ndarray, np.ndarray] | None:
    """is_eye (v, u); rows of the mesh's lids (u,) -> the first column of the eye, and its first and last rows in each
    column; None if its outline jumps."""
    middle = len(u) // 2
    start = _column(is_eye[:, middle], upper[middle], lower[middle])
    if start is None:
        return None
    found = {middle: start}
    for step in (-1, 1):
        number, (top, bottom) = middle, start
        while 0 <= number + step < len(u):
            number += step
            span = _column(is_eye[:, number], max(0, top - GAP), min(len(is_eye) - 1, bottom + GAP))
            if span is None or span[1] - span[0] < 2:
                break
            if span[0] < top - JUMP or span[1] > bottom + JUMP:
                if abs(u[number]) < 1:
                    return None
                break
            found[number] = top, bottom = span
    if any(top == 0 or bottom == len(is_eye) - 1 for top, bottom in found.values()):
        return None
    edges = np.array([found[number] for number in sorted(found)])
    return min(found), edges[:, 0], edges[:, 1]


def _column(is_eye: np.ndarray, first: int, last: int) -> tuple[int, int] | None:
    """First and last row of what is connected, over `GAP` others at most, with the eye between two rows."""
    hit = np.flatnonzero(is_eye[first : last + 1])
    if not len(hit):
        return None
    ends = [hit[0] + first, hit[-1] + first]
    for which, step in ((0, -1), (1, 1)):
        row, missed = ends[which], 0
        while 0 < row < len(is_eye) - 1 and missed < GAP:
            row += step
            missed = 0 if is_eye[row] else missed + 1
            if not missed:
                ends[which] = row
    return int(ends[0]), int(ends[1])


def _bow(place: np.ndarray, height: np.ndarray) -> tuple[float, float, float]:
    ramp = 1 - place**2
    basis = ramp[:, None] * np.stack([np.ones_like(place), place, place**2], 1)
    return tuple(np.linalg.solve(basis.T @ basis + np.diag([1e-3, 0.05, 0.3]), basis.T @ height).tolist())


def _at(bow: tuple[float, float, float], place: np.ndarray) -> np.ndarray:
    return (1 - place**2) * (bow[0] + bow[1] * place + bow[2] * place**2)


def _run(values: np.ndarray) -> int:
    """How many are true from the first on."""
    return len(values) if values.all() else int(values.argmin())


def _row(height: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.clip(np.round((height - v[0]) / STEP), 0, len(v) - 1).astype(int)

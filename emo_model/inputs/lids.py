"""Fits the lids of a mesh to the picture: it is a few pixels off, and a lid that moves from the wrong place drags the
iris."""

from __future__ import annotations

import numpy as np

from . import face_geometry as geometry

FURTHEST = {
    "upper": (-0.025, 0.070),
    "lower": (0.0, 0.060),
}  # how far a lid may be moved, > 0 away from the eye, eye distances
CENTRE = {
    "upper": 2,
    "lower": 5,
}  # how much only the lid's middle counts: beside the iris a lower lid has no clear edge
CAUTION = 0.12  # share of the picture's contrast that a move of 0.05 has to earn
RIM = {"upper": -0.006, "lower": 0.013}  # lashes belong to the upper lid, the lower one's wet rim to the eye
AGREEMENT = 0.4  # and that a difference of 0.05 between both eyes' upper lids has to earn
ALIKE = 0.02  # differences below which edges at the end of the search are taken for lids


def fit_lids(picture: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """picture (S, S, 3) uint8, mesh (468, 3) -> the mesh with each lid moved to where the picture turns from skin to
    eye.

    One number a lid: its height, falling to nothing at the corners; both eyes' upper lids are found together. A picture
    without contrast there leaves the mesh as it is.
    """
    mesh, grey = mesh.copy(), picture.astype(np.float64) @ [0.299, 0.587, 0.114]
    eyes = np.linalg.norm(mesh[263] - mesh[33])
    both = {
        "upper": (geometry.LEFT_EYE_UPPER, geometry.RIGHT_EYE_UPPER),
        "lower": (geometry.LEFT_EYE_LOWER, geometry.RIGHT_EYE_LOWER),
    }
    for name, rows in both.items():
        lids = [_lid(mesh, row, -1 if name == "upper" else 1) for row in rows]
        gains = [_gains(grey, mesh[list(row), :2], *lid, eyes, name) for row, lid in zip(rows, lids, strict=True)]
        for side, (row, (bow, outward), move) in enumerate(zip(rows, lids, _best_moves(*gains, name), strict=True)):
            move += RIM[name]
            mesh[list(row), :2] += move * eyes * bow[:, None] * outward
            if name == "upper" and move > 0:
                mesh[list(geometry.LID_CREASES[side]), :2] += 0.6 * move * eyes * bow[1:-1, None] * outward
    return mesh


def _lid(mesh: np.ndarray, row: tuple[int, ...], away: int) -> tuple[np.ndarray, np.ndarray]:
    """How much each point of a lid moves with its middle, 0..1 (9,), and the unit vector (2,) away from the eye."""
    left, right = mesh[row[0], :2], mesh[row[-1], :2]
    along = (right - left) / max(np.linalg.norm(right - left), 1e-6)
    u = (mesh[list(row), :2] - (left + right) / 2) @ along / (np.linalg.norm(right - left) / 2)
    return np.clip(1 - u**2, 0, 1), away * np.array([-along[1], along[0]])


def _best_moves(left: np.ndarray, right: np.ndarray, lid: str) -> tuple[float, float]:
    """Gains (M,) of both eyes -> how far outward each lid moves, in eye distances.

    A brow close above an eye, or an iris, looks like the edge of an upper lid: those of both eyes agree, and a gain
    that still rises where the search ends is none unless both eyes have it. An eye without any follows the other.
    """
    moves = np.linspace(*FURTHEST[lid], len(left))
    if lid == "lower":
        return float(moves[np.argmax(left)]), float(moves[np.argmax(right)])
    apart = moves[:, None] - moves
    peaks, ends = ([found(gains, moves) for gains in (left, right)] for found in (_peaks, _ends))
    both, alike = (one[:, None] + other for one, other in (peaks, map(np.maximum, peaks, ends)))
    both = np.where(abs(apart) < ALIKE, alike, both) - AGREEMENT * (apart / 0.05) ** 2
    best = np.unravel_index(np.argmax(both), both.shape)
    return float(moves[best[0]]), float(moves[best[1]])


def _peaks(gains: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """The gains at local maxima, minus infinity elsewhere; without any, the mesh's own place is a little better."""
    inner = gains[1:-1]
    is_peak = np.pad((inner >= gains[:-2]) & (inner >= gains[2:]), 1)
    return np.where(is_peak, gains, -np.inf) if is_peak.any() else -CAUTION * (moves / 0.05) ** 2


def _ends(gains: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """The gain at the furthest place if an edge is there, minus infinity elsewhere."""
    return np.where((moves == moves[-1]) & (gains > 0), gains, -np.inf)


def _gains(
    grey: np.ndarray, row: np.ndarray, bow: np.ndarray, outward: np.ndarray, eyes: float, lid: str
) -> np.ndarray:
    """(M,) for moves from least to furthest: the step from dark (inside) to light along the whole lid, over its
    contrast."""
    moves = np.linspace(*FURTHEST[lid], 49)
    weight = bow ** CENTRE[lid]
    places = row[None] + (moves[:, None] * eyes * bow)[..., None] * outward  # (M, 9, 2)
    reach = 0.020 * eyes * outward
    outside = sum(_read(grey, places + part * reach) for part in (0.5, 1.0, 1.5))
    inside = sum(_read(grey, places - part * reach) for part in (0.5, 1.0, 1.5))
    step = ((outside - inside) / 3 * weight).sum(1) / weight.sum()
    contrast = max(float(np.ptp(step)), 6.0)
    return step / contrast - CAUTION * (moves / 0.05) ** 2


def _read(grey: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Bilinear, at places (..., 2) in pixels."""
    size = len(grey)
    at = np.clip(places - 0.5, 0, size - 1.001)
    corner = at.astype(int)
    x, y = np.moveaxis(at - corner, -1, 0)
    i, j = corner[..., 0], corner[..., 1]
    return (grey[j, i] * (1 - x) + grey[j, i + 1] * x) * (1 - y) + (
        grey[j + 1, i] * (1 - x) + grey[j + 1, i + 1] * x
    ) * y

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


def fit_lids(picture: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """picture (S, S, 3) uint8, mesh (468, 3) -> the mesh with each lid moved to where the picture turns from skin to
    eye.

    One number a lid: its height, falling to nothing at the corners. A picture without contrast there leaves the mesh as
    it is.
    """
    mesh, grey = mesh.copy(), picture.astype(np.float64) @ [0.299, 0.587, 0.114]
    eyes = np.linalg.norm(mesh[263] - mesh[33])
    rows = ((geometry.LEFT_EYE_UPPER, geometry.LEFT_EYE_LOWER), (geometry.RIGHT_EYE_UPPER, geometry.RIGHT_EYE_LOWER))
    for side, (upper, lower) in enumerate(rows):
        left, right = mesh[upper[0], :2], mesh[upper[-1], :2]
        along = (right - left) / max(np.linalg.norm(right - left), 1e-6)
        down = np.array([-along[1], along[0]])
        for name, row, away in (("upper", upper, -1), ("lower", lower, 1)):
            row = list(row)
            u = (mesh[row, :2] - (left + right) / 2) @ along / (np.linalg.norm(right - left) / 2)
            bow = np.clip(1 - u**2, 0, 1)
            move = _best_move(grey, mesh[row, :2], bow, down * away, eyes, name)
            move += (
                -0.006 if name == "upper" else 0.013
            )  # lashes belong to the upper lid; the lower one's wet rim to the eye
            mesh[row, :2] += move * eyes * bow[:, None] * down * away
            if name == "upper" and move > 0:
                mesh[list(geometry.LID_CREASES[side]), :2] += 0.6 * move * eyes * bow[1:-1, None] * down * away
    return mesh


def _best_move(grey: np.ndarray, row: np.ndarray, bow: np.ndarray, outward: np.ndarray, eyes: float, lid: str) -> float:
    """How far outward, in eye distances, the step from dark (inside) to light is greatest along the whole lid."""
    moves = np.linspace(*FURTHEST[lid], 49)
    weight = bow ** CENTRE[lid]
    places = row[None] + (moves[:, None] * eyes * bow)[..., None] * outward  # (M, 9, 2)
    reach = 0.020 * eyes * outward
    outside = sum(_read(grey, places + part * reach) for part in (0.5, 1.0, 1.5))
    inside = sum(_read(grey, places - part * reach) for part in (0.5, 1.0, 1.5))
    step = ((outside - inside) / 3 * weight).sum(1) / weight.sum()
    contrast = max(float(np.ptp(step)), 6.0)
    return float(moves[np.argmax(step - CAUTION * contrast * (moves / 0.05) ** 2)])


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

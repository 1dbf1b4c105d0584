"""Lids of a mesh, fitted to the eyes of a picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from emo_model.inputs import face_geometry as geometry
from emo_model.inputs.lids import fit_lids

SIZE = 512
UPPER = geometry.LEFT_EYE_UPPER, geometry.RIGHT_EYE_UPPER
LOWER = geometry.LEFT_EYE_LOWER, geometry.RIGHT_EYE_LOWER


@pytest.fixture
def mesh() -> np.ndarray:
    return geometry.mean_face().double().numpy() * 180 + [256, 220, 0]


def moved(mesh: np.ndarray, row: tuple[int, ...], share: float) -> list[tuple[float, float]]:
    """The lid's outline, its middle `share` of the eyes' distance higher."""
    left, right = mesh[row[0], 0], mesh[row[-1], 0]
    points = mesh[list(row), :2].copy()
    bow = 1 - ((2 * points[:, 0] - left - right) / (right - left)) ** 2
    points[:, 1] -= share * np.linalg.norm(mesh[263] - mesh[33]) * bow
    return [tuple(point) for point in points]


def picture(mesh: np.ndarray, heights: tuple[float, float], *, brow: int | None = None) -> np.ndarray:
    """Dark eyes, so much higher than the mesh has them, and a brow above one of them."""
    drawn = Image.new("RGB", (SIZE, SIZE), (205, 160, 140))
    draw = ImageDraw.Draw(drawn)
    for upper, lower, height in zip(UPPER, LOWER, heights, strict=True):
        draw.polygon([*moved(mesh, upper, height), *moved(mesh, lower, 0)[::-1]], fill=(50, 45, 45))
    if brow is not None:
        row = UPPER[brow]
        draw.polygon([*moved(mesh, row, 0.085), *moved(mesh, row, 0.03)[::-1]], fill=(5, 5, 5))
    return np.asarray(drawn)


def found(mesh: np.ndarray, pixels: np.ndarray) -> list[float]:
    """How far the middle of each upper lid was moved up, in distances of the eyes."""
    eyes = np.linalg.norm(mesh[263] - mesh[33])
    return [(mesh[row[4], 1] - fit_lids(pixels, mesh)[row[4], 1]) / eyes for row in UPPER]


@pytest.mark.parametrize("height", [0.0, 0.02, 0.04])
def test_upper_lids_move_to_where_the_eyes_end(mesh, height):
    assert found(mesh, picture(mesh, (height, height))) == pytest.approx([height, height], abs=0.015)


@pytest.mark.parametrize("side", [0, 1])
def test_a_brow_close_above_one_eye_is_not_its_lid(mesh, side):
    assert found(mesh, picture(mesh, (0.01, 0.01), brow=side)) == pytest.approx([0, 0], abs=0.02)


def test_a_picture_without_eyes_leaves_the_lids_where_they_are(mesh):
    assert found(mesh, np.full((SIZE, SIZE, 3), 120, np.uint8)) == pytest.approx([0, 0], abs=0.012)

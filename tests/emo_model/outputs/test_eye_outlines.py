"""Outlines of drawn eyes: read from the picture where they stand out, the mesh's elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emo_model.inputs.face_geometry import mean_face
from emo_model.outputs.eye_outlines import fitted
from emo_model.outputs.eyelids import eyelids

SIZE, SKIN = 256, (230, 180, 140)


@pytest.fixture(scope="module")
def lids():
    return eyelids(mean_face() * 110 + torch.tensor([128.0, 120.0, 0.0]))


@pytest.fixture(scope="module")
def drawing(lids) -> np.ndarray:
    """Both eyes 1.4 times as wide and twice as high as the mesh has them, with thick lashes."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    picture = np.full((SIZE, SIZE, 3), SKIN, np.uint8)
    for lid in lids:
        u, v = (x - lid.middle[0]) / lid.half / 1.4, (y - lid.middle[1]) / lid.half
        picture[(np.abs(u) < 1) & (np.abs(v) < 0.75 * (1 - u**2))] = (20, 15, 15)
        picture[(np.abs(u) < 0.95) & (v < 0.7 * (1 - u**2)) & (v > -0.55 * (1 - u**2))] = (250, 250, 250)
        picture[u**2 + v**2 < 0.12] = (60, 90, 160)
    return picture


def shut(lid, picture: np.ndarray) -> torch.Tensor:
    """(S, S, 3)"""
    pixels = torch.from_numpy(picture).permute(2, 0, 1).float()
    y, x = torch.meshgrid(*[torch.arange(SIZE) + 0.5] * 2, indexing="ij")

    def read(place):
        grid = (2 * place / SIZE - 1)[None]
        return torch.nn.functional.grid_sample(pixels[None], grid, align_corners=False)[0]

    return lid.close(torch.stack([x, y], -1), 1.0, read).permute(1, 2, 0)


def test_the_outline_of_a_drawn_eye_is_the_drawings(lids, drawing):
    for lid, mesh in zip(fitted(lids, drawing), lids, strict=True):
        assert lid.half == pytest.approx(1.4 * mesh.half, rel=0.1)
        assert lid.upper[0] < -0.7 / 1.4 and lid.lower[0] > 0.6 / 1.4  # half widths


def test_the_lids_of_a_drawn_eye_cover_it_and_the_lashes_stay_a_line(lids, drawing):
    for lid, mesh in zip(fitted(lids, drawing), lids, strict=True):
        column = round(mesh.middle[0])
        rows = slice(round(mesh.middle[1] - mesh.half), round(mesh.middle[1] + mesh.half))
        middle, by_mesh = (shut(one, drawing)[rows, column] for one in (lid, mesh))
        away = (middle - torch.tensor(SKIN).float()).abs().amax(1) > 60
        assert 1 <= away.sum() < 0.35 * mesh.half
        assert away.sum() < ((by_mesh - torch.tensor(SKIN).float()).abs().amax(1) > 60).sum()


def test_in_a_picture_that_is_not_clean_the_outline_stays_the_meshs(lids, drawing):
    noise = np.random.default_rng(0).integers(-90, 90, drawing.shape)
    assert fitted(lids, np.clip(drawing + noise, 0, 255).astype(np.uint8)) is lids
    assert fitted(lids, np.full_like(drawing, 128)) is lids

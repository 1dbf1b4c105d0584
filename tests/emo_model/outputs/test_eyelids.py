"""Lids: shut they cover the eye with the skin above it, half shut they cover half, and nothing else moves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from emo_model.inputs.face_geometry import LEFT_EYE_LOWER, LEFT_EYE_UPPER, mean_face
from emo_model.outputs import eyelids as module
from emo_model.outputs.eyelids import eyelids, window

SIZE = 256


@pytest.fixture
def mesh():
    return mean_face() * 90 + torch.tensor([128.0, 110.0, 0.0])


@pytest.fixture
def lid(mesh):
    return eyelids(mesh)[0]


def closed(lid, picture, closure):
    """picture (C, S, S) with the lid so far closed."""
    y, x = torch.meshgrid(*[torch.arange(picture.shape[-1]) + 0.5] * 2, indexing="ij")

    def read(place):
        return F.grid_sample(picture[None], (2 * place / picture.shape[-1] - 1)[None], align_corners=False)[0]

    return lid.close(torch.stack([x, y], -1), closure, read)


def eye(lid):
    """(S, S): between the lids."""
    y, x = torch.meshgrid(*[torch.arange(SIZE) + 0.5] * 2, indexing="ij")
    away = (torch.stack([x, y], -1) - torch.tensor(lid.middle)) / lid.half
    u, v = away @ torch.tensor(lid.along), away @ torch.tensor([-lid.along[1], lid.along[0]])
    upper, lower = ((1 - u**2) * (a + b * u + c * u**2) for a, b, c in (lid.upper, lid.lower))
    return (u.abs() < 0.9) & (v > upper + 0.06) & (v < lower - 0.06)


def test_the_bows_follow_the_lids_of_the_mesh(mesh, lid):
    for row, (a, b, c) in ((LEFT_EYE_UPPER, lid.upper), (LEFT_EYE_LOWER, lid.lower)):
        away = (mesh[list(row), :2] - torch.tensor(lid.middle)) / lid.half
        u, v = away @ torch.tensor(lid.along), away @ torch.tensor([-lid.along[1], lid.along[0]])
        assert ((1 - u**2) * (a + b * u + c * u**2) - v).abs().max() < 0.08


def test_open_lids_leave_the_picture_as_it_is(lid, seeded):
    picture = seeded(3, SIZE, SIZE)
    torch.testing.assert_close(closed(lid, picture, 0.0), picture, atol=1e-4, rtol=1e-4)


def test_shut_lids_cover_the_eye_with_skin(lid, monkeypatch):
    monkeypatch.setattr(module, "SHADE", 0.0)
    lid = replace(lid, lashes=0.0)  # they would be dark
    inside = eye(lid)
    picture = 1 - inside.float()[None]  # a dark eye in light skin
    assert inside.sum() > 100
    for closure, least, most in ((1.0, 0.9, 1.0), (0.5, 0.3, 0.7)):
        covered = closed(lid, picture, closure)[0][inside].mean().item()
        assert least < covered <= most


def test_only_the_eye_and_the_skin_around_it_move(lid, seeded):
    picture = seeded(3, SIZE, SIZE)
    changed = (closed(lid, picture, 1.0) - picture).abs().amax(0) > 1e-3
    across, tall = lid.reach
    y, x = torch.meshgrid(*[torch.arange(SIZE) + 0.5] * 2, indexing="ij")
    near = ((x - lid.middle[0]).abs() < across) & ((y - lid.middle[1]).abs() < tall)
    assert changed.any() and not (changed & ~near).any()


def test_where_shut_lids_meet_it_is_dark(lid):
    meeting = closed(lid, torch.ones(1, SIZE, SIZE), 1.0)[0]
    column = meeting[:, round(lid.middle[0])]
    assert 0.5 < column.min() < 0.75 and (column < 0.9).sum() < 0.3 * lid.half
    assert closed(lid, torch.ones(1, SIZE, SIZE), 0.0).min() > 0.999


def test_the_skin_is_stretched_without_folding(lid, monkeypatch):
    monkeypatch.setattr(module, "SHADE", 0.0)
    rows = torch.linspace(0, 1, SIZE)[None, :, None].expand(1, SIZE, SIZE)  # the height a pixel comes from
    moved = closed(lid, rows, 1.0)[0]
    x = round(lid.middle[0])
    column = moved[round(lid.middle[1] - lid.reach[1]) : round(lid.middle[1] + lid.lower[0] * 0.8 * lid.half), x]
    assert (column.diff() > -1e-4).all()


def test_the_window_goes_where_the_head_goes(lid):
    flow = torch.zeros(2, 64, 64)
    flow[0] = -5.0  # content comes from 5 cells to the left: the head has moved to the right
    (top, bottom), (left, right) = window(lid, flow, cell=4.0, corner=(0.0, 0.0))
    assert (left + right) / 2 == pytest.approx(lid.middle[0] + 20, abs=1.5)
    assert (top + bottom) / 2 == pytest.approx(lid.middle[1], abs=1.5)

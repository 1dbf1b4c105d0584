"""The skin of shut lids: brows and lashes are not drawn over the eye, clean skin stays what it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from emo_model.inputs.face_geometry import mean_face
from emo_model.outputs.eyelids import eyelids
from emo_model.outputs.lid_skin import KEEPS, with_skin

SIZE = 256
SKIN = torch.tensor([210.0, 150.0, 120.0])


@pytest.fixture
def lid():
    return eyelids(mean_face() * 90 + torch.tensor([128.0, 110.0, 0.0]))[0]


def own_axes(lid):
    """u, v (S, S) of the pixels, in half widths of the eye."""
    y, x = torch.meshgrid(*[torch.arange(SIZE) + 0.5] * 2, indexing="ij")
    away = (torch.stack([x, y], -1) - torch.tensor(lid.middle)) / lid.half
    return away @ torch.tensor(lid.along), away @ torch.tensor([-lid.along[1], lid.along[0]])


def lids_of(lid, u):
    return ((1 - u**2).clamp(min=0) * (a + b * u + c * u**2) for a, b, c in (lid.upper, lid.lower))


def portrait(lid, *, brow: bool) -> torch.Tensor:
    """(3, S, S): light from the left, a white eye with a dark iris, and a brow just above it if asked for."""
    u, v = own_axes(lid)
    upper, lower = lids_of(lid, u)
    picture = SKIN[:, None, None] * (1 - 0.05 * u).clamp(0.8, 1.1)
    eye = (u.abs() < 1) & (v > upper) & (v < lower)
    picture = torch.where(eye, torch.where(u.abs() < 0.4, 30.0, 235.0), picture)
    if brow:
        picture = torch.where((v < upper - 0.08) & (v > upper - 0.6) & (u.abs() < 1.3), 25.0, picture)
    return picture


def with_its_skin(lid, picture):
    return with_skin([lid], picture.permute(1, 2, 0).round().to(torch.uint8).numpy())[0]


def closed(lid, picture, closure):
    y, x = torch.meshgrid(*[torch.arange(SIZE) + 0.5] * 2, indexing="ij")

    def read(place):
        return F.grid_sample(picture[None], (2 * place / SIZE - 1)[None], align_corners=False)[0]

    return lid.close(torch.stack([x, y], -1), closure, read)


def lid_middle(lid):
    """(S, S): the middle of the shut lid, above its lashes."""
    u, v = own_axes(lid)
    upper, lower = lids_of(lid, u)
    return (u.abs() < 0.6) & (v > upper + 0.05) & (v < upper + 0.5 * (lower - upper))


def test_a_brow_close_above_the_eye_is_not_drawn_over_it(lid):
    picture, where = portrait(lid, brow=True), lid_middle(lid)
    assert where.sum() > 50
    smeared = closed(lid, picture, 1.0)[:, where].mean(1)
    shown = closed(with_its_skin(lid, picture), picture, 1.0)[:, where].mean(1)
    assert (smeared < 0.3 * SKIN).all()
    assert (shown > 0.55 * SKIN).all() and (shown < 1.05 * SKIN).all()
    assert shown[0] > shown[1] > shown[2]  # as the skin: neither the brow's grey nor the eye's white


def test_the_skin_of_a_lid_under_a_brow_is_darker_towards_its_upper_rim_and_the_corners(lid):
    field = with_its_skin(lid, portrait(lid, brow=True)).field

    def light(u, height):
        place = torch.tensor([[u]])
        upper, lower = lids_of(lid, place)
        return field.at(place, upper + height * (lower - upper), upper, lower)[0].mean().item()

    middle = light(0.0, 0.3)
    assert light(0.0, -0.6) < 0.65 * middle
    assert max(light(-0.9, 0.3), light(0.9, 0.3)) < 0.92 * middle


def test_a_lid_of_clean_skin_keeps_its_own_colours(lid):
    picture, where = portrait(lid, brow=False), lid_middle(lid)
    lid = with_its_skin(lid, picture)
    assert lid.field.keeps == pytest.approx(KEEPS[0])
    assert (closed(lid, picture, 1.0)[:, where] / SKIN[:, None] - 1).abs().max() < 0.15


def lashes_of(lid, picture, closure=1.0):
    """How bright the darkest row of each column of the shut eye is, against the skin."""
    u, v = own_axes(lid)
    upper, lower = lids_of(lid, u)
    where = (u.abs() < 0.5) & (v > upper) & (v < lower + 0.1)
    light = torch.where(where, closed(lid, picture, closure).mean(0), torch.inf)
    return (light.amin(0)[where.any(0)] / SKIN.mean()).mean()


def test_shut_lids_have_the_lashes_of_the_open_eye(lid):
    u, v = own_axes(lid)
    upper, _ = lids_of(lid, u)
    bare = portrait(lid, brow=False)
    bare = torch.where((v > upper) & (v < upper + 0.2) & (u.abs() < 1), SKIN[:, None, None], bare)
    dark = torch.where(((v - upper).abs() < 0.1) & (u.abs() < 1), 20.0, bare)
    assert lashes_of(with_its_skin(lid, dark), dark) < 0.45
    assert lashes_of(with_its_skin(lid, bare), bare) > 0.6


def test_open_eyes_stay_as_they_are(lid):
    picture = portrait(lid, brow=True)
    torch.testing.assert_close(closed(with_its_skin(lid, picture), picture, 0.0), picture, atol=1e-2, rtol=0)


@pytest.mark.parametrize("brow", [False, True])
def test_a_lid_closes_without_a_jump(lid, brow):
    picture = portrait(lid, brow=brow)
    lid = with_its_skin(lid, picture)
    frames = [closed(lid, picture, closure) for closure in np.linspace(0, 1, 21)]
    changes = [(after - before).abs().mean().item() for before, after in zip(frames, frames[1:], strict=False)]
    assert max(changes) < 4 * sum(changes) / len(changes)


def test_only_what_a_blink_reaches_changes(lid):
    picture = portrait(lid, brow=True)
    lid = with_its_skin(lid, picture)
    changed = (closed(lid, picture, 1.0) - picture).abs().amax(0) > 0.5
    across, tall = lid.reach
    y, x = torch.meshgrid(*[torch.arange(SIZE) + 0.5] * 2, indexing="ij")
    near = ((x - lid.middle[0]).abs() < across) & ((y - lid.middle[1]).abs() < tall)
    assert changed.any() and not (changed & ~near).any()


def test_similar_pictures_have_similar_lids(lid):
    picture, where = portrait(lid, brow=True), lid_middle(lid)
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    first, second = (
        closed(with_its_skin(lid, each), picture, 1.0)[:, where]
        for each in (picture, (picture + 2 * noise).clamp(0, 255))
    )
    assert (first - second).abs().max() < 8


@pytest.mark.parametrize("colour", [0.0, 255.0])
def test_a_picture_without_any_skin_gives_finite_lids(lid, colour):
    picture = torch.full((3, SIZE, SIZE), colour)
    lid = with_its_skin(lid, picture)
    assert torch.isfinite(lid.field.field).all()
    assert closed(lid, picture, 1.0).isfinite().all()

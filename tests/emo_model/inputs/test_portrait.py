"""The picture that the built-in model reads: which face, at which size, and where the square around the head lies."""

from __future__ import annotations

import pytest
import torch

from emo_model.config import PRESETS
from emo_model.inputs.faces import NoFaceError
from emo_model.inputs.portrait import cut_square, face_mask, find_mesh, fit_to_video, read_portrait
from emo_model.inputs.vae import to_raw


def test_the_face_is_found_by_itself_or_taken_from_a_box(photograph):
    low, high = photograph.mesh[:, :2].amin(0) / 473, photograph.mesh[:, :2].amax(0) / 473
    parts = (*low.tolist(), *high.tolist())
    for box in (parts, [473 * edge for edge in parts]):
        found = find_mesh(photograph.finder, photograph.picture, box)
        assert (found - photograph.mesh)[:, :2].norm(dim=1).mean() < 6  # of 347 pixels


def test_a_wall_has_no_face(photograph):
    with pytest.raises(NoFaceError, match=r"No face found in the picture \(120x90\)"):
        find_mesh(photograph.finder, torch.linspace(-1, 1, 120).expand(1, 3, 90, 120))


@pytest.mark.parametrize(
    ("size", "long_side", "expected"),
    [
        ((480, 640), 1920, (480, 640)),
        ((481, 641), 1920, (482, 642)),
        ((1080, 3840), 1920, (540, 1920)),
        ((4000, 3000), 1920, (1920, 1440)),
        ((1000, 100), 300, (300, 30)),
        ((300, 200), 4000, (300, 200)),
    ],
)
def test_pictures_keep_their_size_up_to_the_long_side_and_sides_are_even(size, long_side, expected):
    mesh = torch.tensor([[0.0, 0.0, 0.0], [size[1], size[0], 10.0]])
    picture, moved = fit_to_video(torch.zeros(1, 3, *size), mesh, long_side=long_side)
    assert tuple(picture.shape[-2:]) == expected
    scale = min(1, long_side / max(size))
    torch.testing.assert_close(moved[1, :2], torch.tensor([size[1] * scale, size[0] * scale]).float(), atol=1.0, rtol=0)


def test_an_odd_last_row_is_repeated_and_all_others_stay(seeded):
    picture = seeded(1, 3, 5, 7)
    fitted, _ = fit_to_video(picture, torch.zeros(468, 3))
    assert torch.equal(fitted[:, :, :5, :7], picture) and torch.equal(fitted[:, :, 5, :7], picture[:, :, 4])


def test_the_head_has_the_same_place_in_the_square_of_any_picture(photograph):
    config = PRESETS["builtin"]
    portraits = []
    for left, scale in ((0, 1.0), (130, 0.5)):
        picture, mesh = fit_to_video(photograph.picture, photograph.mesh, long_side=round(473 * scale))
        around = torch.zeros(1, 3, 500, 700)
        around[:, :, : picture.shape[-2], left : left + picture.shape[-1]] = picture
        portraits.append(read_portrait(around, mesh + torch.tensor([left, 0.0, 0.0]), config))
    one, other = portraits
    assert one.pixels.shape == (1, 3, 256, 256) and other.fit.side == pytest.approx(one.fit.side / 2, abs=2)
    assert (one.mesh - other.mesh).abs().max() < 2
    tall = (one.mesh[10] - one.mesh[152]).norm()
    assert 256 / tall == pytest.approx(1.8, abs=0.02)
    assert (one.latents - other.latents).abs().max() < 0.05


def test_a_portrait_at_rest_flows_nowhere(photograph):
    portrait = read_portrait(photograph.picture, photograph.mesh, PRESETS["builtin"])
    raw = to_raw(portrait.latents, PRESETS["builtin"])
    assert raw.shape == (1, 8, 16, 16) and not raw[:, :2].any() and raw[:, 5].max() > 0.5  # its lids are open


def test_the_face_mask_is_the_box_of_the_face(photograph):
    portrait = read_portrait(photograph.picture, photograph.mesh, PRESETS["builtin"])
    mask = face_mask(portrait).mask
    flat = portrait.mesh[:, :2]
    assert mask.shape == (1, 1, 256, 256)
    assert mask.sum().sqrt().item() == pytest.approx((flat.amax(0) - flat.amin(0)).prod().sqrt().item(), rel=0.15)
    assert mask[0, 0, int(flat[1, 1]), int(flat[1, 0])] == 1 and mask[0, 0, 0, 0] == 0


def test_the_square_alone_is_the_square_of_the_portrait(photograph):
    square, mesh = cut_square(photograph.picture, photograph.mesh)
    portrait, whole = (
        read_portrait(*given, PRESETS["builtin"]) for given in ((square, mesh), (photograph.picture, photograph.mesh))
    )
    assert square.shape[-1] == whole.fit.side
    assert (portrait.fit.left, portrait.fit.top, portrait.fit.side) == (0, 0, whole.fit.side)
    torch.testing.assert_close(portrait.pixels, whole.pixels)
    torch.testing.assert_close(portrait.mesh, whole.mesh)

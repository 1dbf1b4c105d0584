"""The motion decoder: its sizes, what it does before it is trained, and what must stay zero."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emo_model.auxiliary.motion_decoder import (
    LOOK,
    PATCH,
    MotionDecoder,
    moved_point,
    sample,
    usual_mouth,
    warp,
    window,
)
from emo_model.auxiliary.teeth import draw_teeth

SKULL = torch.tensor([[[0.1, 0.0, -0.8], [0.0, 0.1, -1.1]]])  # of the test preset's 16 cells: origin at (8, 11)


def features(decoder, config, seeded, *, head: float = 1.0):
    cells, size = config.image_size // 4, config.image_size
    maps = seeded(1, 5, cells, cells, seed=1)
    maps[:, 0], maps[:, 1:3], maps[:, 4] = head, 0, 1
    return decoder.read_portrait(
        seeded(1, 3, 2 * size, 2 * size, seed=2).clamp(-1, 1),
        maps,
        seeded(1, 8, 4, 4, seed=3),
        torch.tensor([[8.0, 11.0]]),
        SKULL,
    )


@pytest.fixture
def decoder(config, awake):
    return awake(MotionDecoder(config))


def test_flow_has_a_quarter_and_the_mouth_twice_the_working_size(decoder, config, seeded):
    decoded = decoder(seeded(3, 8, 4, 4), features(decoder, config, seeded))
    window_pixels = 8 * config.motion_decoder.mouth_cells
    assert decoded.flow.shape == (3, 2, 16, 16) and [flow.shape[-1] for flow in decoded.coarse_flows] == [4, 8]
    assert decoded.mouth_rgb.shape == decoded.mouth_warped.shape == (3, 3, window_pixels, window_pixels)
    assert decoded.mouth_mask.shape == (3, 1, window_pixels, window_pixels) and decoded.mouth.shape == (3, 2)
    assert decoded.mouth_rgb.abs().max() <= 1 and 0 <= decoded.mouth_mask.min() and decoded.mouth_mask.max() <= 1


def test_a_fresh_decoder_follows_the_flow_of_the_latents_and_paints_little(config, seeded):
    torch.manual_seed(0)
    decoder = MotionDecoder(config).eval()
    latents = torch.zeros(1, 8, 4, 4)
    latents[:, 0] = 0.5  # cells of 16 pixels to the right
    decoded = decoder(latents, features(decoder, config, seeded))
    torch.testing.assert_close(decoded.flow[:, 0], torch.full((1, 16, 16), 2.0), atol=1e-5, rtol=0)  # cells of 4 pixels
    assert not decoded.flow[:, 1].any() and decoded.mouth_mask.mean() < 0.2
    # its content comes from two cells to the right
    torch.testing.assert_close(decoded.mouth, torch.tensor([[6.0, 11.0]]))


def test_outside_the_head_the_flow_is_zero_whatever_the_latents_say(decoder, config, seeded):
    assert not decoder(5 * seeded(2, 8, 4, 4), features(decoder, config, seeded, head=0.0)).flow.any()


def test_frames_do_not_see_each_other(decoder, config, seeded):
    latents, portrait = seeded(3, 8, 4, 4), features(decoder, config, seeded)
    together, alone = decoder(latents, portrait), decoder(latents[1:2], portrait)
    for name in ("flow", "mouth_rgb", "mouth_mask"):
        torch.testing.assert_close(getattr(together, name)[1:2], getattr(alone, name), atol=2e-3, rtol=0)


def test_every_channel_of_the_latents_and_the_look_of_the_mouth_matter(decoder, config, seeded):
    latents, portrait = seeded(1, 8, 4, 4), features(decoder, config, seeded)
    said = decoder(latents, portrait)
    for channel in range(8):
        changed = latents.clone()
        changed[:, channel] += 1
        assert (decoder(changed, portrait).mouth_rgb - said.mouth_rgb).abs().max() > 1e-4
    look = torch.zeros(1, len(LOOK))
    assert torch.equal(decoder(latents, portrait, look).mouth_rgb, said.mouth_rgb)
    assert (decoder(latents, portrait, look + 1).mouth_rgb - said.mouth_rgb).abs().max() > 1e-4


def test_warping_by_whole_pixels_moves_pixels(seeded):
    picture = seeded(1, 3, 8, 8)
    moved = warp(picture, torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8))
    torch.testing.assert_close(moved[:, :, 1:, :6], picture[:, :, :7, 2:], atol=1e-5, rtol=0)


def test_a_window_is_read_around_its_centre(seeded):
    picture = seeded(1, 3, 8, 8)
    torch.testing.assert_close(
        sample(picture, window(torch.tensor([[5.0, 3.0]]), cells=4, points=4, size=8)),
        picture[:, :, 1:5, 3:7],
        atol=1e-5,
        rtol=0,
    )


def test_a_point_goes_against_the_backward_flow():
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 0] = 1.5
    torch.testing.assert_close(moved_point(torch.tensor([[8.0, 8.0]]), flow), torch.tensor([[6.5, 8.0]]))


def test_cells_of_another_size_are_refused(config):
    with pytest.raises(ValueError, match="the motion decoder needs cells of 16 pixels, got vae_factor 8"):
        MotionDecoder(replace(config, vae_factor=8))


def test_pixel_shuffle_leaves_no_pattern_in_the_painted_mouth(config, seeded):
    torch.manual_seed(0)
    decoder = MotionDecoder(config).eval()
    with torch.no_grad():
        decoder.mouth_out.weight.zero_()
        decoder.mouth_out.bias.copy_(seeded(4 * PATCH**2))  # another colour for each place of a patch
        decoder.mouth_teeth.bias[3:] = -100.0  # no teeth
    colours = decoder(torch.zeros(1, 8, 4, 4), features(decoder, config, seeded)).mouth_rgb
    inner = colours[..., 4:-4, 4:-4]
    torch.testing.assert_close(inner, inner[..., :1, :1].expand_as(inner), atol=1e-5, rtol=0)


def test_a_wide_mouth_has_a_wide_row_of_teeth_that_shows():
    y, x = torch.meshgrid(torch.linspace(0, 0.3, 300), torch.linspace(-0.3, 0.3, 300), indexing="ij")
    plane = torch.stack([x, y])[None]
    lit = []
    for half in (0.15, 0.25):
        look, teeth = usual_mouth(half)
        shown, tone = draw_teeth(teeth.table(), plane, torch.zeros(1))[0, :2]
        assert look.shape == (1, len(LOOK)) and 0.04 < shown[:, 165].sum() * 0.001 < 0.06
        lit.append(((shown * tone) > 0.6).any(0).float().mean() * 0.6)
    assert lit[1] > 1.3 * lit[0]

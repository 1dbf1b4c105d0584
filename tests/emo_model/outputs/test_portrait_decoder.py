"""Frames of the whole picture from motion latents: what moves, what stays to the bit, and how sharp it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from emo_model.auxiliary.motion_decoder import DecodedMotion, MotionDecoder, window
from emo_model.config import PRESETS
from emo_model.inputs.face import apply_fit
from emo_model.inputs.face_geometry import LOWER_LIP_OUTER, UPPER_LIP_OUTER
from emo_model.inputs.media import to_uint8
from emo_model.inputs.portrait import fit_to_video, read_portrait
from emo_model.outputs.portrait_decoder import PortraitDecoder


@pytest.fixture(scope="module")
def picture(photograph) -> tuple[torch.Tensor, torch.Tensor]:
    """The photograph at 200 pixels in a wider picture of noise, 201x300, and its mesh there."""
    small, mesh = fit_to_video(photograph.picture, photograph.mesh, long_side=200)
    around = torch.rand(1, 3, 201, 300, generator=torch.Generator().manual_seed(1)) * 2 - 1
    around[:, :, :200, 60:260] = small
    return around, mesh + torch.tensor([60.0, 0.0, 0.0])


@pytest.fixture(scope="module")
def decoder(picture, config, awake) -> PortraitDecoder:
    return decoder_of(picture, config, awake)


def decoder_of(picture, config, awake, seed: int = 4) -> PortraitDecoder:
    return PortraitDecoder(awake(MotionDecoder(config), seed=seed), config, picture[0], read_portrait(*picture, config))


def moved_by(decoder: PortraitDecoder, flow, *, mask: float = 0.0) -> np.ndarray:
    """A frame for a given flow: flow(x, y) -> (2, n, n) in cells, and the mouth painted white by so much."""
    cells = decoder.config.image_size // 4
    x, y = torch.meshgrid(*[(torch.arange(cells) + 0.5) / cells] * 2, indexing="xy")
    points = 8 * decoder.decoder.mouth_cells
    motion = DecodedMotion(
        flow(x, y)[None].float(),
        (),
        torch.ones(1, 3, points, points),
        torch.full((1, 1, points, points), mask),
        torch.zeros(0),
        torch.tensor([[cells / 2, cells / 2]]),
    )
    decoder.flow = lambda latents: motion
    try:
        return decoder.decode(decoder.latents)[0]  # the portrait's own: open eyes
    finally:
        del decoder.flow


@pytest.mark.parametrize("moved", [0.0, 1.0])
def test_nothing_is_painted_beside_the_lips(decoder, monkeypatch, moved):
    cells, points, size = decoder.decoder.mouth_cells, 8 * decoder.decoder.mouth_cells, decoder.config.image_size // 4
    lips = decoder.mesh[[*UPPER_LIP_OUTER, *LOWER_LIP_OUTER], :2]
    mouth = (lips.mean(0) / 4 - moved)[None]
    everywhere = DecodedMotion(
        torch.full((1, 2, size, size), moved), (), None, torch.ones(1, 1, points, points), None, mouth
    )
    monkeypatch.setattr(decoder.decoder, "forward", lambda *_: everywhere)
    mask = decoder.flow(decoder.latents).mouth_mask
    source = (window(mouth, cells=cells, points=points, size=size) + 1) * (2 * size) + 4 * moved  # working pixels
    beyond = torch.maximum(lips.amin(0) - source, source - lips.amax(0)).amax(-1)[:, None]
    within = (source - lips.mean(0)).norm(dim=-1)[:, None] < 1
    assert (beyond > 5).sum() > 100 and mask[beyond > 5].max() < 0.02 and within.any() and mask[within].min() > 0.5


def still(x, y):
    return torch.zeros(2, *x.shape)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_latents_pixels_outside_the_square_are_the_pictures_bit_for_bit(decoder, picture, seeded, seed):
    frames = decoder.decode(3 * seeded(3, 8, 4, 4, seed=seed))
    fit, original = decoder.fit, to_uint8(picture[0])[0]
    outside = np.ones(original.shape[:2], dtype=bool)
    outside[max(0, fit.top) : fit.top + fit.side, max(0, fit.left) : fit.left + fit.side] = False
    assert frames.shape == (3, 201, 300, 3) and frames.dtype == np.uint8 and outside.sum() > 5_000
    assert all(np.array_equal(frame[outside], original[outside]) for frame in frames)
    assert (frames[0] != frames[1]).any()


def test_without_flow_and_paint_the_frame_is_the_picture_bit_for_bit(decoder, picture):
    assert np.array_equal(moved_by(decoder, still), to_uint8(picture[0])[0])


def test_the_outermost_cells_rest_so_that_the_square_has_no_seam(decoder, picture):
    moved = moved_by(decoder, lambda x, y: torch.ones(2, *x.shape))
    fit, original = decoder.fit, to_uint8(picture[0])[0]
    cell = fit.side / (decoder.config.image_size // 4)
    inside = (
        slice(max(0, round(fit.top + 1.5 * cell)), 150),
        slice(round(fit.left + 1.5 * cell), round(fit.left + fit.side - 1.5 * cell)),
    )
    edge = original[:, int(fit.left) : int(fit.left + cell / 2 - 1)]
    assert np.array_equal(moved[:, int(fit.left) : int(fit.left + cell / 2 - 1)], edge)
    assert (moved[inside] != original[inside]).any(-1).mean() > 0.8


def test_a_flow_of_whole_pixels_moves_pixels_unchanged(decoder, picture):
    """Where the flow is the same all around, a pixel of the frame is one of the picture."""
    cell = decoder.fit.side / (decoder.config.image_size // 4)
    frame = moved_by(decoder, lambda x, y: torch.stack([torch.full_like(x, 3 / cell), torch.full_like(x, -2 / cell)]))
    original = to_uint8(picture[0])[0]
    assert np.abs(frame[80:140, 120:200].astype(int) - original[78:138, 123:203]).max() <= 1


def test_beyond_the_pictures_edge_lies_its_mirror_image(decoder, picture):
    """Repeated pixels were streaks above the hair."""
    fit, cells = decoder.fit, decoder.config.image_size // 4
    assert fit.top + 1.5 * fit.side / cells < 0
    frame = moved_by(
        decoder, lambda x, y: torch.stack([torch.zeros_like(x), torch.full_like(x, -3 * cells / fit.side)])
    )
    original = to_uint8(picture[0])[0].astype(int)
    expected = original[[2, 1, 0, 0, 1, 2]]
    assert np.abs(frame[:6, 120:200] - expected[:, 120:200]).max() <= 1


def test_a_flow_of_half_a_pixel_keeps_fine_texture(decoder, picture):
    """Reading between pixels linearly would take 29 % of the contrast of neighbouring pixels."""
    noisy = torch.rand(1, 3, 201, 300, generator=torch.Generator().manual_seed(2)) - 0.5
    # no texture beyond what half a pixel can carry
    noisy = torch.nn.functional.avg_pool2d(noisy, 2, 1, 1)[:, :, :201, :300]
    sharp = PortraitDecoder(decoder.decoder, decoder.config, noisy, read_portrait(noisy, picture[1], decoder.config))
    cell = sharp.fit.side / (sharp.config.image_size // 4)
    frame = moved_by(sharp, lambda x, y: torch.stack([torch.full_like(x, 0.5 / cell), torch.zeros_like(x)])).astype(
        float
    )
    original = to_uint8(noisy)[0].astype(float)
    slope = [np.abs(np.diff(part[80:140, 120:200], axis=1)).mean() for part in (frame, original)]
    assert 0.9 < slope[0] / slope[1] < 1.1


def test_the_painted_mouth_covers_its_window_and_nothing_else(decoder, picture):
    frame, original = moved_by(decoder, still, mask=1.0), to_uint8(picture[0])[0]
    changed = (frame != original).any(-1)
    rows, columns = changed.any(1).nonzero()[0], changed.any(0).nonzero()[0]
    side = decoder.fit.side * decoder.decoder.mouth_cells * 4 / decoder.config.image_size
    for found, centre in (
        (rows, decoder.fit.top + decoder.fit.side / 2),
        (columns, decoder.fit.left + decoder.fit.side / 2),
    ):
        assert abs((found[0] + found[-1] + 1) / 2 - centre) < 2 and side - 4 < len(found) < side + 6
    assert (frame[rows[5] : rows[-5], columns[5] : columns[-5]] == 255).all()  # its border is soft


def test_a_grey_picture_gets_a_grey_mouth(picture, config, awake, seeded):
    pixels, mesh = picture
    latents = seeded(2, 8, config.latent_size, config.latent_size)
    for grey in (False, True):
        shown = pixels.mean(1, keepdim=True).expand_as(pixels) if grey else pixels
        painted, *_ = decoder_of((shown, mesh), config, awake).mouths(latents)
        assert ((painted[:, :3].amax(1) - painted[:, :3].amin(1)).max() < 0.01) == grey


def test_blocks_are_the_frames_of_decode_eight_at_a_time(decoder, seeded):
    latents = seeded(19, 8, 4, 4)
    blocks = list(decoder.blocks(latents))
    assert [len(block) for block in blocks] == [8, 8, 3]
    assert np.array_equal(np.concatenate(blocks), decoder.decode(latents))


def test_the_network_sees_the_square_at_twice_the_working_size(decoder):
    seen = decoder._read_portrait().pixels
    expected = apply_fit(
        torch.from_numpy(decoder.still).permute(2, 0, 1)[None] / 127.5 - 1, replace(decoder.fit, size=128)
    )
    torch.testing.assert_close(seen, expected.clamp(-1, 1))


def test_no_gradients_are_kept(decoder, seeded):
    assert not decoder.flow(seeded(1, 8, 4, 4)).flow.requires_grad


def test_a_picture_of_another_size_and_a_portrait_without_a_mesh_are_refused(decoder, picture):
    portrait = read_portrait(*picture, decoder.config)
    with pytest.raises(ValueError, match="the square was cut from one of 300x201"):
        PortraitDecoder(decoder.decoder, decoder.config, picture[0][:, :, :200], portrait)
    with pytest.raises(ValueError, match="the portrait has no face mesh"):
        PortraitDecoder(decoder.decoder, decoder.config, picture[0], replace(portrait, mesh=None))


def test_the_built_in_size_fits(photograph, awake, seeded):
    """Preset 'builtin' with random weights: the flow at a quarter of 256, the mouth in a window of 24 cells."""
    config = PRESETS["builtin"]
    picture = fit_to_video(photograph.picture, photograph.mesh, long_side=120)
    frames = decoder_of(picture, config, awake).decode(0.1 * seeded(2, 8, 16, 16))
    assert frames.shape == (2, 120, 120, 3)

from dataclasses import replace

import pytest
import torch

from emo_model.config import PRESETS
from emo_model.sampling.noise import FASTEST, SLOWEST, USUAL_SPEED, draw_noise, head_pace, noise_shapes, noise_spreads

SHAPE = (256, 2, 12, 8, 8)  # (B, C, F, h, w)


@pytest.fixture(scope="module")
def slow():
    return replace(
        PRESETS["test"],
        latent_channels=2,
        noise_shapes=3,
        noise_frames=(2.0, 0.0),
        noise_white=0.2,
        noise_scale=1.0,
        motion_smoothness=(),
        latent_scale=1.0,
    )


@pytest.fixture(scope="module")
def motion():
    """Frames (N, C, h, w) in which the first channel moves as one piece and the second only in one corner."""
    amounts = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))
    corner = torch.zeros(8, 8)
    corner[:3, :3] = 5.0
    return torch.stack([amounts[:, 0, None, None] * torch.ones(8, 8), amounts[:, 1, None, None] * corner], 1)


@pytest.fixture(scope="module")
def drawn(slow, motion):
    shapes = noise_shapes(motion, slow)
    return torch.cat([draw_noise(slow, SHAPE, torch.Generator().manual_seed(seed), shapes=shapes) for seed in range(8)])


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


def test_without_shapes_noise_is_white_and_the_generators_own():
    ours = draw_noise(PRESETS["test"], SHAPE, torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours, torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)), rtol=0, atol=0)


def test_noise_has_mean_0_and_on_average_variance_1_in_every_channel_and_frame(drawn):
    assert drawn.mean(0).abs().max() < 0.35  # the corner's own deviation is 2.4, and 2048 are averaged
    torch.testing.assert_close(drawn.var(0).mean((2, 3)), torch.ones(SHAPE[1:3]), rtol=0, atol=0.1)


def test_noise_moves_as_the_motion_does(drawn):
    assert correlation(drawn[:, 0, 0, 0, 0], drawn[:, 0, 0, 7, 7]) == pytest.approx(
        0.8, abs=0.05
    )  # one piece, and a fifth white
    inside, outside = drawn[:, 1, 0, :3, :3].var().item(), drawn[:, 1, 0, 3:, 3:].var().item()
    assert outside == pytest.approx(0.2, abs=0.03) and inside == pytest.approx(0.2 + 0.8 * 64 / 9, rel=0.1)
    assert correlation(drawn[:, 1, 0, 0, 0], drawn[:, 1, 0, 2, 2]) > 0.95


def test_neighbouring_frames_are_correlated_as_the_gaussian_says(drawn):
    assert correlation(drawn[:, 0, 5, 2, 2], drawn[:, 0, 6, 2, 2]) == pytest.approx(
        0.94, abs=0.03
    )  # exp(-1 / (4 * 2^2))
    assert abs(correlation(drawn[:, 1, 5, 2, 2], drawn[:, 1, 6, 2, 2])) < 0.08


def test_the_spread_of_smoothed_noise_is_found_again(slow, drawn):
    clips = drawn.transpose(1, 2)  # (I, F, C, h, w)
    first, second = noise_spreads(clips)
    assert first == pytest.approx(2.0, abs=0.25) and second < 0.4


def test_the_same_seed_draws_the_same_noise(slow, motion):
    shapes = noise_shapes(motion, slow)
    one, again, other = (
        draw_noise(slow, (1, 2, 4, 8, 8), torch.Generator().manual_seed(seed), shapes=shapes) for seed in (3, 3, 4)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_a_faster_head_begins_with_more_noise_in_its_pose_and_nowhere_else(slow):
    config = replace(slow, latent_channels=3, noise_frames=(2.0, 2.0, 0.0))
    motion = torch.randn(500, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    shapes, shape = noise_shapes(motion, config), (64, 3, 12, 8, 8)
    calm, usual, fast = (
        draw_noise(config, shape, torch.Generator().manual_seed(0), shapes=shapes, is_start=True, pace=head_pace(speed))
        for speed in (2.5, USUAL_SPEED, 40.0)
    )
    spread = [noise[:, :2].square().mean().item() for noise in (calm, usual, fast)]
    assert spread[0] < 0.7 * spread[1] and spread[2] > 1.5 * spread[1]
    assert torch.equal(calm[:, 2], fast[:, 2])
    assert head_pace(0.0) == SLOWEST and head_pace(1e4) == FASTEST and head_pace(USUAL_SPEED) == 1

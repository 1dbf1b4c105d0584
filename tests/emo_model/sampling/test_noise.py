from dataclasses import replace

import pytest
import torch

from emo_model.config import PRESETS
from emo_model.sampling.noise import draw_noise

SHAPE = (256, 2, 12, 8, 8)  # (B, C, F, h, w)


@pytest.fixture
def slow():
    return replace(PRESETS["test"], latent_channels=2, noise_cells=(2, 1), noise_frames=(2.0, 0.0), noise_coarse=0.8)


def drawn(config, seed=0):
    return draw_noise(config, SHAPE, torch.Generator().manual_seed(seed))


def test_without_settings_noise_is_white_and_the_generators_own():
    torch.testing.assert_close(drawn(PRESETS["test"]), torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)), rtol=0, atol=0)


def test_every_cell_of_every_frame_has_mean_0_and_variance_1(slow):
    noise = torch.cat([drawn(slow, seed) for seed in range(8)])
    assert noise.mean(0).abs().max() < 0.1
    torch.testing.assert_close(noise.var(0), torch.ones(SHAPE[1:]), rtol=0, atol=0.15)


def test_cells_far_apart_share_the_coarse_part_and_the_fine_part_is_their_own(slow):
    noise = torch.cat([drawn(slow, seed) for seed in range(8)])
    left, right = noise[:, 1, 0, 4, 0], noise[:, 1, 0, 4, 7]  # one coarse cell for the whole picture
    assert torch.corrcoef(torch.stack([left, right]))[0, 1].item() == pytest.approx(0.8, abs=0.05)
    corners = noise[:, 0, 0, 0, 0], noise[:, 0, 0, 7, 7]  # different coarse cells
    assert abs(torch.corrcoef(torch.stack(corners))[0, 1].item()) < 0.08


def test_neighbouring_frames_are_correlated_as_the_gaussian_says(slow):
    noise = torch.cat([drawn(slow, seed) for seed in range(8)])
    smooth = torch.corrcoef(noise[:, 0, 5:7, 2, 2].T)[0, 1].item()
    assert smooth == pytest.approx(0.94, abs=0.03)  # exp(-1 / (4 * 2^2))
    assert abs(torch.corrcoef(noise[:, 1, 5:7, 2, 2].T)[0, 1].item()) < 0.08


def test_the_same_seed_draws_the_same_noise(slow):
    assert torch.equal(drawn(slow, 3), drawn(slow, 3))
    assert not torch.equal(drawn(slow, 3), drawn(slow, 4))

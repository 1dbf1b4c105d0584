"""The noise schedule against diffusers' DDIMScheduler, and its own arithmetic."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emo_model.config import PRESETS
from emo_model.sampling.schedule import NoiseSchedule

VELOCITY = PRESETS["test"]
NOISE = replace(VELOCITY, prediction="epsilon", zero_terminal_snr=False)


def theirs(config):
    return pytest.importorskip("diffusers").DDIMScheduler(
        num_train_timesteps=config.train_timesteps,
        beta_start=config.beta_start,
        beta_end=config.beta_end,
        beta_schedule=config.beta_schedule,
        rescale_betas_zero_snr=config.zero_terminal_snr,
        timestep_spacing="trailing",
        prediction_type=config.prediction,
        clip_sample=False,
    )


@pytest.mark.parametrize(
    "config", [VELOCITY, NOISE, replace(VELOCITY, beta_schedule="linear")], ids=["zero terminal snr", "sd15", "linear"]
)
def test_the_table_equals_diffusers(config):
    torch.testing.assert_close(NoiseSchedule(config).alphas_cumprod, theirs(config).alphas_cumprod, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 4, 8, 10, 40, 1000])
def test_timesteps_equal_diffusers_trailing_ones(steps):
    scheduler = theirs(VELOCITY)
    scheduler.set_timesteps(steps)
    assert NoiseSchedule(VELOCITY).timesteps(steps) == scheduler.timesteps.tolist()


def test_zero_terminal_snr_ends_in_pure_noise_and_sd15_does_not():
    clean, noise, last = torch.ones(1, 4), torch.full((1, 4), 3.0), torch.tensor([999])
    assert torch.equal(NoiseSchedule(VELOCITY).add_noise(clean, noise, last), noise)
    assert (NoiseSchedule(NOISE).add_noise(clean, noise, last) - noise).abs().min() > 0.01


def test_below_timestep_zero_all_is_clean():
    alpha, sigma = NoiseSchedule(VELOCITY).scales(-1)
    assert (alpha.item(), sigma.item()) == (1.0, 0.0)


def test_added_noise_and_velocity_equal_diffusers(seeded):
    clean, noise, timestep = seeded(3, 4, 2, 5, 5), seeded(3, 4, 2, 5, 5, seed=1), torch.tensor([0, 400, 998])
    ours, other = NoiseSchedule(VELOCITY), theirs(VELOCITY)
    both = (clean, noise, timestep)
    torch.testing.assert_close(ours.add_noise(*both), other.add_noise(*both), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.target(*both), other.get_velocity(*both), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", [VELOCITY, NOISE], ids=["v_prediction", "epsilon"])
def test_the_training_target_stands_for_the_clean_latents_and_the_noise(config, seeded):
    schedule, clean, noise = NoiseSchedule(config), seeded(1, 4, 3, 3), seeded(1, 4, 3, 3, seed=1)
    for timestep in (0, 300, 900):
        t = torch.tensor([timestep])
        found = schedule.clean_and_noise(
            schedule.add_noise(clean, noise, t), schedule.target(clean, noise, t), timestep
        )
        torch.testing.assert_close(found[0], clean, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found[1], noise, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_numbers_of_steps_are_refused(steps):
    with pytest.raises(ValueError, match=f"steps must be 1 to 1000, got {steps}"):
        NoiseSchedule(VELOCITY).timesteps(steps)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="beta_schedule must be 'scaled_linear' or 'linear', got 'cosine'"):
        NoiseSchedule(replace(VELOCITY, beta_schedule="cosine"))

"""Samplers against diffusers', against oracles, and on an equation whose solution is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from emo_model.config import PRESETS
from emo_model.sampling.samplers import OLD_SAMPLERS, SAMPLERS, sample
from emo_model.sampling.schedule import NoiseSchedule

VELOCITY = PRESETS["test"]
NOISE = replace(VELOCITY, prediction="epsilon", zero_terminal_snr=False)
SHAPE = (2, 4, 3, 4, 4)  # (B, C, F, h, w)


def linear(seeded):
    """A predictor that is some linear map of the latents, another one at each timestep."""
    matrix = 0.5 * seeded(4, 4, seed=21) / 2

    def predict(x, timestep):
        return torch.einsum("oc,bcfhw->bofhw", matrix, x) * math.cos(timestep / 200) + 0.3 * x.flip(2)

    return predict


def theirs(name: str, config, **options):
    return getattr(pytest.importorskip("diffusers"), name)(
        beta_start=config.beta_start,
        beta_end=config.beta_end,
        beta_schedule=config.beta_schedule,
        rescale_betas_zero_snr=config.zero_terminal_snr,
        timestep_spacing="trailing",
        prediction_type=config.prediction,
        **options,
    )


def run(scheduler, predict, noise, steps: int):
    scheduler.set_timesteps(steps)
    x = noise
    for timestep in scheduler.timesteps:
        x = scheduler.step(predict(x, int(timestep)), timestep, x).prev_sample
    return x


@pytest.mark.parametrize("steps", [4, 8, 10, 40])
@pytest.mark.parametrize("config", [VELOCITY, NOISE], ids=["v_prediction", "epsilon"])
def test_ddim_equals_diffusers_on_a_linear_predictor(config, steps, seeded):
    predict, noise = linear(seeded), seeded(*SHAPE)
    ours = sample(predict, noise, NoiseSchedule(config), sampler="ddim", steps=steps)
    other = run(theirs("DDIMScheduler", config, clip_sample=False, set_alpha_to_one=True), predict, noise, steps)
    torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-4)
    assert (ours - noise).abs().mean() > 0.1


@pytest.mark.parametrize("steps", [4, 10, 20])
@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_dpmpp_2m_equals_diffusers_on_a_linear_predictor(prediction, steps, seeded):
    config = replace(NOISE, prediction=prediction)  # diffusers only approximates zero terminal SNR here
    predict, noise = linear(seeded), seeded(*SHAPE)
    ours = sample(predict, noise, NoiseSchedule(config), sampler="dpmpp_2m", steps=steps)
    solver = theirs(
        "DPMSolverMultistepScheduler",
        config,
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
    )
    other = run(solver, predict, noise, steps)
    torch.testing.assert_close(ours, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_from_pure_noise_three_steps_of_dpmpp_2m_are_ddim(steps, seeded):
    predict, noise, schedule = linear(seeded), seeded(*SHAPE), NoiseSchedule(VELOCITY)
    made = [sample(predict, noise, schedule, sampler=name, steps=steps) for name in ("ddim", "dpmpp_2m")]
    torch.testing.assert_close(*made, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("config", [VELOCITY, NOISE], ids=["v_prediction", "epsilon"])
def test_guided_by_an_oracle_a_sampler_ends_at_the_clean_latents(config, sampler, seeded):
    schedule, clean = NoiseSchedule(config), seeded(*SHAPE, seed=1)

    def oracle(x, timestep):
        alpha, sigma = schedule.scales(timestep)
        noise = (x - alpha * clean) / sigma  # what lies between x and `clean`
        return noise if config.prediction == "epsilon" else alpha * noise - sigma * clean

    found = sample(oracle, seeded(*SHAPE), schedule, sampler=sampler, steps=5)
    torch.testing.assert_close(found, clean, rtol=1e-3, atol=1e-3)


def gaussian_error(sampler: str, steps: int, noise, *, mean: float = 0.7, spread: float = 1.0) -> float:
    """How far a sampler ends from the exact solution where the clean latents are normal(mean, spread)."""
    schedule = NoiseSchedule(VELOCITY)

    def predict(x, timestep):  # the velocity of the best guess there is
        alpha, sigma = schedule.scales(timestep)
        clean = mean + alpha * spread**2 / (alpha**2 * spread**2 + sigma**2) * (x - alpha * mean)
        noise = (x - alpha * clean) / sigma
        return alpha * noise - sigma * clean

    found = sample(predict, noise, schedule, sampler=sampler, steps=steps)
    return (found - (mean + spread * noise)).square().mean().sqrt().item()


@pytest.mark.parametrize("sampler", ["dpmpp_2m"])
def test_second_order_comes_nearer_the_solution_than_ddim(sampler, seeded):
    noise = seeded(*SHAPE)
    for steps in (10, 20, 40):
        assert gaussian_error(sampler, steps, noise) < 0.6 * gaussian_error("ddim", steps, noise)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_step_is_one_evaluation_and_is_reported_with_the_clean_estimate(sampler, seeded):
    asked, told = [], []

    def predict(x, timestep):
        asked.append(timestep)
        return torch.zeros_like(x)

    noise = seeded(*SHAPE)
    sample(
        predict,
        noise,
        NoiseSchedule(VELOCITY),
        sampler=sampler,
        steps=4,
        on_step=lambda done, clean: told.append((done, clean.shape)),
    )
    assert asked == [999, 749, 499, 249] and told == [(done, noise.shape) for done in (1, 2, 3, 4)]


def test_an_unknown_sampler_is_refused_with_the_known_ones(seeded):
    with pytest.raises(ValueError, match="there is no sampler 'heun'; choose one of: ddim, dpmpp_2m"):
        sample(lambda x, timestep: x, seeded(*SHAPE), NoiseSchedule(VELOCITY), sampler="heun", steps=4)


def test_names_that_saved_workflows_may_hold_lead_to_a_sampler():
    assert OLD_SAMPLERS.keys() == {"euler", "unipc", "lcm"} and not OLD_SAMPLERS.keys() & set(SAMPLERS)
    assert set(OLD_SAMPLERS.values()) <= set(SAMPLERS) and OLD_SAMPLERS["euler"] == "ddim"

"""DDIM and the other samplers behind one call. The model is any callable, so an oracle can stand in for it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .schedule import NoiseSchedule

Predict = Callable[[Tensor, int], Tensor]  # (noisy, timestep) -> what the model says
OnStep = Callable[[int, Tensor], None]  # (steps done, clean estimate)


def sample_ddim(predict: Predict, noise: Tensor, schedule: NoiseSchedule, timesteps: list[int], on_step: OnStep) -> Tensor:
    """Deterministic DDIM (arXiv 2010.02502, eta 0), the paper's sampler."""
    x = noise
    for done, (now, after) in enumerate(zip(timesteps, [*timesteps[1:], -1]), start=1):
        clean, eps = schedule.clean_and_noise(x, predict(x, now), now)
        alpha, sigma = (scale.to(x.device) for scale in schedule.scales(after))
        x = alpha * clean + sigma * eps
        on_step(done, clean)
    return x


def sample_dpmpp_2m(predict: Predict, noise: Tensor, schedule: NoiseSchedule, timesteps: list[int], on_step: OnStep) -> Tensor:
    """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2); first order where the log-SNR is infinite: at pure noise and at the end."""
    x, before = noise, None  # before: (clean estimate, log-SNR) of the step before
    for done, (now, after) in enumerate(zip(timesteps, [*timesteps[1:], -1]), start=1):
        clean, _ = schedule.clean_and_noise(x, predict(x, now), now)
        here, there = (_log_snr(schedule, timestep) for timestep in (now, after))
        direction = clean
        if before is not None and math.isfinite(before[1]) and math.isfinite(there):
            ratio = (here - before[1]) / (there - here)
            direction = clean + (clean - before[0]) / (2 * ratio)
        before = clean, here
        _, sigma_now = schedule.scales(now)
        alpha, sigma = (scale.to(x.device) for scale in schedule.scales(after))
        x = (sigma / sigma_now.to(x.device)) * x - alpha * math.expm1(here - there) * direction
        on_step(done, clean)
    return x


def _log_snr(schedule: NoiseSchedule, timestep: int) -> float:
    alpha, sigma = schedule.scales(timestep)
    return (alpha.log() - sigma.log()).item()


_SAMPLERS = {"ddim": sample_ddim, "dpmpp_2m": sample_dpmpp_2m}
SAMPLERS = tuple(_SAMPLERS)


def sample(predict: Predict, noise: Tensor, schedule: NoiseSchedule, *, sampler: str = "ddim", steps: int,
           on_step: OnStep = lambda done, clean: None) -> Tensor:
    """noise (B, C, F, h, w), unit variance -> clean latents, in `steps` evaluations of `predict`.

    Raises ValueError for a sampler that is none of SAMPLERS, and whatever `on_step` raises: that is how a run is cancelled.
    """
    if sampler not in _SAMPLERS:
        raise ValueError(f"there is no sampler '{sampler}'; choose one of: {', '.join(SAMPLERS)}")
    with torch.no_grad():
        return _SAMPLERS[sampler](predict, noise, schedule, schedule.timesteps(steps), on_step)

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
    """Deterministic DDIM (arXiv 2010.02502, eta 0), the paper's sampler.

    It is Euler's method on the probability flow written in sigma / alpha (arXiv 2206.00364, section 4), so 'euler' is this, too.
    """
    x = noise
    for done, (now, after) in enumerate(_steps(timesteps), start=1):
        clean, eps = schedule.clean_and_noise(x, predict(x, now), now)
        alpha, sigma = schedule.numbers(after)
        x = alpha * clean + sigma * eps
        on_step(done, clean)
    return x


def sample_dpmpp_2m(predict: Predict, noise: Tensor, schedule: NoiseSchedule, timesteps: list[int], on_step: OnStep) -> Tensor:
    """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2); first order where the log-SNR is infinite: at pure noise and at the end.

    Three steps or fewer from pure noise are all of first order, and that is DDIM.
    """
    x, before = noise, None  # before: (clean estimate, log-SNR) of the step before
    for done, (now, after) in enumerate(_steps(timesteps), start=1):
        clean, _ = schedule.clean_and_noise(x, predict(x, now), now)
        here, there = (schedule.log_snr(timestep) for timestep in (now, after))
        direction = clean
        if before is not None and math.isfinite(before[1]) and math.isfinite(there):
            ratio = (here - before[1]) / (there - here)
            direction = clean + (clean - before[0]) / (2 * ratio)
        before = clean, here
        x = _towards(direction, x, schedule, now, after)
        on_step(done, clean)
    return x


def sample_unipc(predict: Predict, noise: Tensor, schedule: NoiseSchedule, timesteps: list[int], on_step: OnStep) -> Tensor:
    """UniPC of second order on the clean estimate, B2(h) (arXiv 2302.04867, algorithms 5 to 8).

    Each evaluation first corrects the step that led to it, then predicts the next. First order where the log-SNR is infinite.
    """
    x, started, history = noise, None, []  # history: (clean estimate, log-SNR) of the steps before, the last one last
    order = 1
    for done, (now, after) in enumerate(_steps(timesteps), start=1):
        clean, _ = schedule.clean_and_noise(x, predict(x, now), now)
        here, there = (schedule.log_snr(timestep) for timestep in (now, after))
        if history and math.isfinite(history[-1][1]):
            x = _corrected(clean, *started, history, order, schedule, now)
        started = x, now
        history = [*history[-1:], (clean, here)]
        order = 2 if len(history) == 2 and all(map(math.isfinite, (history[0][1], here, there))) else 1
        direction = clean
        if order == 2:
            direction = clean + (clean - history[0][0]) * (there - here) / (here - history[0][1]) / 2
        x = _towards(direction, x, schedule, now, after)
        on_step(done, clean)
    return x


def _corrected(clean: Tensor, started: Tensor, then: int, history: list[tuple[Tensor, float]], order: int,
               schedule: NoiseSchedule, now: int) -> Tensor:
    """UniPC's corrector: the step from `started` at `then` once more, knowing the clean estimate where it led to."""
    (*earlier, (base, from_snr)), to_snr = history, schedule.log_snr(now)
    h = -(to_snr - from_snr)
    b = math.expm1(h)
    phi = b / h - 1
    if order == 1:
        return _towards(base + (clean - base) / 2, started, schedule, then, now)
    first, ratio = phi / b, (earlier[0][1] - from_snr) / -h
    second = 2 * (phi / h - 0.5) / b
    # weights of both differences: they sum to `first`, and times their places, ratio and 1, to `second`
    old = (first - second) / (1 - ratio)
    direction = base + old * (earlier[0][0] - base) / ratio + (first - old) * (clean - base)
    return _towards(direction, started, schedule, then, now)


def sample_lcm(predict: Predict, noise: Tensor, schedule: NoiseSchedule, timesteps: list[int], on_step: OnStep, *,
               generator: torch.Generator | None = None) -> Tensor:
    """Consistency sampling (arXiv 2310.04378, algorithm 3): to the clean estimate, and back to the next level with new noise.

    For models distilled for it. All noise is drawn before the first step, on the CPU.
    """
    drawn = [torch.randn(noise.shape, generator=generator).to(noise) for _ in timesteps[1:]]
    x = noise
    for done, (now, after) in enumerate(_steps(timesteps), start=1):
        clean, _ = schedule.clean_and_noise(x, predict(x, now), now)
        place = now * 10  # the boundary condition: at timestep 0 the answer is x itself
        clean = clean * (place / math.hypot(place, 0.5)) + x * (0.25 / (place**2 + 0.25))
        alpha, sigma = schedule.numbers(after)
        x = clean if done == len(timesteps) else alpha * clean + sigma * drawn[done - 1]
        on_step(done, clean)
    return x


def _steps(timesteps: list[int]) -> list[tuple[int, int]]:
    """(now, after) of each step; the last leads to -1, the clean end."""
    return list(zip(timesteps, [*timesteps[1:], -1], strict=True))


def _towards(direction: Tensor, x: Tensor, schedule: NoiseSchedule, now: int, after: int) -> Tensor:
    """The exact step from x at `now` to `after` if the clean estimate were `direction` all the way."""
    _, sigma_now = schedule.numbers(now)
    alpha, sigma = schedule.numbers(after)
    return (sigma / sigma_now) * x - alpha * math.expm1(schedule.log_snr(now) - schedule.log_snr(after)) * direction


_SAMPLERS = {"ddim": sample_ddim, "dpmpp_2m": sample_dpmpp_2m, "unipc": sample_unipc, "euler": sample_ddim, "lcm": sample_lcm}
SAMPLERS = tuple(_SAMPLERS)


def sample(predict: Predict, noise: Tensor, schedule: NoiseSchedule, *, sampler: str = "ddim", steps: int,
           generator: torch.Generator | None = None, on_step: OnStep = lambda done, clean: None) -> Tensor:
    """noise (B, C, F, h, w), unit variance -> clean latents, in `steps` evaluations of `predict`.

    generator: of the CPU, for samplers that draw noise on the way ('lcm'). Nothing waits for the device between the steps.
    Raises ValueError for a sampler that is none of SAMPLERS, and whatever `on_step` raises: that is how a run is cancelled.
    """
    if sampler not in _SAMPLERS:
        raise ValueError(f"there is no sampler '{sampler}'; choose one of: {', '.join(SAMPLERS)}")
    draws = {"generator": generator} if sampler == "lcm" else {}
    with torch.no_grad():
        return _SAMPLERS[sampler](predict, noise, schedule, schedule.timesteps(steps), on_step, **draws)

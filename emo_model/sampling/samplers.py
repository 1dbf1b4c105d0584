"""From noise to clean latents: classifier-free guidance and the samplers, which take any callable as the model.

Audio and portrait have a guidance scale each (arXiv 2207.12598; two scales: arXiv 2211.09800, eq. 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from ..config import SamplingConfig
from ..models.context import CachedContext, Context
from ..models.emo import Emo
from .mixed_identity import mix_identity
from .schedule import NoiseSchedule

Predict = Callable[[Tensor, int], Tensor]  # (noisy, timestep) -> prediction
PredictCached = Callable[[Tensor, Tensor, CachedContext], Tensor]  # `Emo.predict`, or one that computes the same faster
Evaluate = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]  # `map`, or one that works in parallel
OnStep = Callable[[int, Tensor], None]  # (steps done, clean estimate)


def guided(
    emo: Emo,
    context: Context,
    sampling: SamplingConfig,
    timesteps: Sequence[int] = (),
    *,
    times: Tensor | None = None,
    batch_branches: bool = True,
    predict: PredictCached | None = None,
    evaluate: Evaluate = map,
) -> Predict:
    """A callable (noisy, timestep) -> guided prediction; scale 1 is the model as trained and needs no further branch.

    With e(portrait, audio):  e(0, 0) + reference * (e(p, 0) - e(0, 0)) + audio * (e(p, a) - e(p, 0)). Two equal scales
    guide portrait and audio together, as Hallo does: e(p, 0) cancels. sampling.mixed_identity: see `mix_identity`.
    timesteps: of all steps, from which intervals of guidance are counted; empty: the scales hold at any timestep.
    times: their embeddings (S, T) from `Emo.embed_timesteps`, if known. batch_branches: evaluate the branches as one
    batch, which takes more memory and uses a GPU better. predict: replaces `emo.predict`. evaluate: makes the
    evaluations of a step, one by one or side by side.
    """
    if sampling.reference_guidance != 1 and sampling.mixed_identity:
        context = mix_identity(context)
    predict, steps = predict or emo.predict, {timestep: step for step, timestep in enumerate(timesteps)}
    no_audio = context.without_audio()
    branches = {"conditional": context, "no audio": no_audio, "unconditional": no_audio.without_reference()}
    cached: dict[tuple[str, ...], list[tuple[int, CachedContext]]] = {}

    def cache(names: tuple[str, ...]) -> list[tuple[int, CachedContext]]:
        """(number of branches, their cached context) of each evaluation that a step takes."""
        batches = [names] if batch_branches else [(name,) for name in names]
        return [(len(some), emo.cache(Context.batch([branches[name] for name in some]))) for some in batches]

    def predict_guided(noisy: Tensor, timestep: int) -> Tensor:
        step = steps.get(timestep, 0)
        audio, reference = sampling.guidance_at(step)
        names = branches_of(audio, reference)
        if names not in cached:
            cached[names] = cache(names)
        x = noisy.to(context.face.dtype)  # the model may run in half precision, the sampler never does

        @torch.no_grad()  # a setting of each thread
        def predict_batch(batch: tuple[int, CachedContext]) -> tuple[Tensor, ...]:
            count, cached_context = batch
            at = torch.full((count * len(x),), timestep, device=x.device) if times is None else times[step : step + 1]
            return predict(x.repeat(count, 1, 1, 1, 1), at, cached_context).float().split(len(x))

        predictions = list(chain.from_iterable(evaluate(predict_batch, cached[names])))
        if len(predictions) == 1:
            return predictions[0]
        conditional, *middle, unconditional = predictions
        if not middle:
            return unconditional + audio * (conditional - unconditional)
        return middle[0] + audio * (conditional - middle[0]) + (reference - 1) * (middle[0] - unconditional)

    return predict_guided


def branches_of(audio: float, reference: float) -> tuple[str, ...]:
    """The branches that these guidance scales need, the conditional first."""
    if audio == reference == 1:
        return ("conditional",)
    if audio == reference:
        return ("conditional", "unconditional")
    return ("conditional", "no audio") if reference == 1 else ("conditional", "no audio", "unconditional")


def evaluations(sampling: SamplingConfig) -> int:
    """The largest number of branches in a step."""
    return max(len(branches_of(*sampling.guidance_at(step))) for step in range(sampling.steps))


def sample_ddim(
    predict: Predict, noise: Tensor, schedule: NoiseSchedule, timesteps: list[int], on_step: OnStep
) -> Tensor:
    """Deterministic DDIM (arXiv 2010.02502, eta 0), the paper's sampler; equal to Euler's method on the flow ODE."""
    x = noise
    for done, (now, after) in enumerate(_steps(timesteps), start=1):
        clean, eps = schedule.clean_and_noise(x, predict(x, now), now)
        alpha, sigma = schedule.numbers(after)
        x = alpha * clean + sigma * eps
        on_step(done, clean)
    return x


def sample_dpmpp_2m(
    predict: Predict, noise: Tensor, schedule: NoiseSchedule, timesteps: list[int], on_step: OnStep
) -> Tensor:
    """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2).

    Of first order where the log-SNR is infinite, at pure noise and at the end: three steps or fewer equal DDIM.
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


def _steps(timesteps: list[int]) -> list[tuple[int, int]]:
    """(now, after) of each step; the last leads to -1, the clean end."""
    return list(zip(timesteps, [*timesteps[1:], -1], strict=True))


def _towards(direction: Tensor, x: Tensor, schedule: NoiseSchedule, now: int, after: int) -> Tensor:
    """The exact step from x at `now` to `after` if the clean estimate were `direction` all the way."""
    _, sigma_now = schedule.numbers(now)
    alpha, sigma = schedule.numbers(after)
    return (sigma / sigma_now) * x - alpha * math.expm1(schedule.log_snr(now) - schedule.log_snr(after)) * direction


_SAMPLERS = {"ddim": sample_ddim, "dpmpp_2m": sample_dpmpp_2m}
SAMPLERS = tuple(_SAMPLERS)
OLD_SAMPLERS = {"euler": "ddim", "unipc": "dpmpp_2m", "lcm": "ddim"}
"""Samplers of old workflows -> what replaces them: 'euler' was 'ddim'; no measurement supported the others."""


def sample(
    predict: Predict,
    noise: Tensor,
    schedule: NoiseSchedule,
    *,
    sampler: str = "ddim",
    steps: int,
    on_step: OnStep = lambda done, clean: None,
) -> Tensor:
    """noise (B, C, F, h, w), unit variance -> clean latents, in `steps` evaluations of `predict`.

    Nothing waits for the device between the steps. Raises ValueError for a sampler that is none of SAMPLERS, and
    whatever `on_step` raises: that is how a run is cancelled.
    """
    if sampler not in _SAMPLERS:
        raise ValueError(f"there is no sampler '{sampler}'; choose one of: {', '.join(SAMPLERS)}")
    with torch.no_grad():
        return _SAMPLERS[sampler](predict, noise, schedule, schedule.timesteps(steps), on_step)

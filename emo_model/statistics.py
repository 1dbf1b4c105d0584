"""Correlation, lag and intervals, on plain tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def correlation(values: Tensor, truth: Tensor) -> float:
    """Pearson's r of two tracks (T,); 0 where the reading never changes, nan where the truth does not."""
    values, truth = values.double() - values.double().mean(), truth.double() - truth.double().mean()
    if truth.square().mean() < 1e-12:
        return math.nan
    if values.square().mean() < 1e-12:
        return 0.0
    return ((values * truth).sum() / (values.square().sum() * truth.square().sum()).sqrt()).item()


def lag_frames(values: Tensor, truth: Tensor, *, reach: int = 6) -> float:
    """How many frames the reading comes after the truth: where their correlation peaks, a parabola between whole
    frames.

    Only the stretch that exists at every shift is compared. nan where the truth never changes.
    """
    if len(truth) < 2 * reach + 8:
        raise ValueError(f"a lag of up to {reach} frames needs at least {2 * reach + 8} frames, got {len(truth)}")
    middle = truth[reach : len(truth) - reach]
    at = [
        correlation(values[reach + shift : len(values) - reach + shift], middle) for shift in range(-reach, reach + 1)
    ]
    if any(math.isnan(value) for value in at):
        return math.nan
    best = max(range(len(at)), key=at.__getitem__)
    if best in (0, len(at) - 1):
        return float(best - reach)
    before, peak, after = at[best - 1 : best + 2]
    bend = before - 2 * peak + after
    return best - reach + (0.5 * (before - after) / bend if bend < 0 else 0.0)


@dataclass(frozen=True)
class Estimate:
    """A number over `count` clips with its 95 % interval; nan where there was nothing to count."""

    value: float
    low: float
    high: float
    count: int


def bootstrap(clips: Sequence, statistic: Callable[[Sequence], float], *, draws: int = 1000, seed: int = 0) -> Estimate:
    """`statistic` of the clips, and its 2.5th and 97.5th percentile over clips drawn with replacement, the same every
    time."""
    clips = list(clips)
    if not clips:
        return Estimate(math.nan, math.nan, math.nan, 0)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(clips), (draws, len(clips)), generator=generator).tolist()
    found = torch.tensor([statistic([clips[index] for index in row]) for row in chosen], dtype=torch.float64)
    found = found[~found.isnan()]
    if not len(found):
        return Estimate(statistic(clips), math.nan, math.nan, len(clips))
    low, high = torch.quantile(found, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(statistic(clips), low, high, len(clips))


def mean(values: Sequence[float]) -> float:
    """Of what is not nan; nan of nothing."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def slope(
    runs: Sequence[Sequence[tuple[float, float]]], *, block: int = 3, draws: int = 1000, seed: int = 0
) -> Estimate:
    """How fast a value rises: the one slope of straight lines through all runs, each with a height of its own.

    runs: (time, value) by run, in order of time. The interval is over blocks of neighbouring points drawn with
    replacement within their runs, since neighbours resemble one another; count is that of the points. nan where times
    do not differ.
    """
    generator = torch.Generator().manual_seed(seed)
    along, across = torch.zeros(2, 1 + draws, dtype=torch.float64)  # the first is of all points as they are
    for run in runs:
        times, values = torch.tensor(run, dtype=torch.float64).T
        starts = torch.arange(0, len(run), block)
        chosen = starts[torch.randint(len(starts), (draws, len(starts)), generator=generator)]
        points = (torch.cat([starts[None], chosen])[:, :, None] + torch.arange(block)).flatten(1)  # (1 + draws, points)
        there = (points < len(run)).double()  # the last block may be short
        points = points.clamp(max=len(run) - 1)
        apart = (times[points] - (times[points] * there).sum(1, keepdim=True) / there.sum(1, keepdim=True)) * there
        along += (apart * values[points]).sum(1)
        across += apart.square().sum(1)
    found = (along / across)[across > 1e-12] if len(runs) else along[:0]
    if not len(found) or across[0] <= 1e-12:
        return Estimate(math.nan, math.nan, math.nan, sum(map(len, runs)))
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = torch.quantile(found[1:], ends).tolist() if len(found) > 1 else (math.nan, math.nan)
    return Estimate(found[0].item(), low, high, sum(map(len, runs)))


def bootstrap_mean(values: Sequence[float], *, seed: int = 0) -> Estimate:
    """Mean over clips, those without a number left out."""
    return bootstrap([value for value in values if not math.isnan(value)], mean, seed=seed)


def crossed_mean(values: Tensor, *, draws: int = 2000, seed: int = 0) -> Estimate:
    """Mean of values (S, V), of S trained models on the same V videos; the interval is over models and over videos,
    both drawn with replacement. nan where there are none, or where one is nan."""
    if not values.numel():
        return Estimate(math.nan, math.nan, math.nan, 0)
    values, generator = values.double(), torch.Generator().manual_seed(seed)
    models, videos = (torch.randint(count, (draws, count), generator=generator) for count in values.shape)
    found = values[models[:, :, None], videos[:, None, :]].mean((1, 2))
    low, high = torch.quantile(found, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(values.mean().item(), low, high, values.numel())

"""Correlation, lag and intervals, on plain tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def correlation(said: Tensor, true: Tensor) -> float:
    """Pearson's r of two tracks (T,); 0 where the reading never changes, nan where the truth does not."""
    said, true = said.double() - said.double().mean(), true.double() - true.double().mean()
    if true.square().mean() < 1e-12:
        return math.nan
    if said.square().mean() < 1e-12:
        return 0.0
    return ((said * true).sum() / (said.square().sum() * true.square().sum()).sqrt()).item()


def gain(said: Tensor, true: Tensor) -> float:
    """How much a track moves against the truth: ratio of standard deviations; nan where the truth does not move."""
    spread = true.double().std().item()
    return math.nan if spread < 1e-6 else said.double().std().item() / spread


def lag_frames(said: Tensor, true: Tensor, *, reach: int = 6) -> float:
    """How many frames the reading comes after the truth: where their correlation peaks, a parabola between whole frames.

    Only the stretch that exists at every shift is compared. nan where the truth never changes.
    """
    if len(true) < 2 * reach + 8:
        raise ValueError(f"a lag of up to {reach} frames needs at least {2 * reach + 8} frames, got {len(true)}")
    middle = true[reach:len(true) - reach]
    at = [correlation(said[reach + shift:len(said) - reach + shift], middle) for shift in range(-reach, reach + 1)]
    if any(math.isnan(value) for value in at):
        return math.nan
    best = max(range(len(at)), key=at.__getitem__)
    if best in (0, len(at) - 1):
        return float(best - reach)
    before, peak, after = at[best - 1:best + 2]
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
    """`statistic` of the clips, and its 2.5th and 97.5th percentile over clips drawn with replacement, the same every time."""
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


def bootstrap_mean(values: Sequence[float], *, seed: int = 0) -> Estimate:
    """Mean over clips, those without a number left out."""
    return bootstrap([value for value in values if not math.isnan(value)], mean, seed=seed)

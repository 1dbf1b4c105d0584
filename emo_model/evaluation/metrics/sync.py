"""Whether a mouth follows a voice: correlation, delay, and the same with the voice shifted, which must be nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...statistics import correlation, lag_frames

REACH_SECONDS = 0.5  # how far the delay is searched to either side
APART_SECONDS = 1.0  # the least shift of the control: beyond what neighbouring sounds have in common
LEAST_SECONDS = 2.0  # below this a shifted voice still overlaps with itself, and a delay means little
FOLLOWS = 0.4  # below this correlation at its best delay, a delay is that of noise


@dataclass(frozen=True)
class Sync:
    """r: correlation as it is; delay: seconds that the mouth comes after the voice, nan where no delay makes it follow
    the voice better than every shifted one, and r_best: correlation there;
    control: mean correlation over all shifts of the voice by a second and more; chance: share of these shifts that do
    as well as no shift. nan where it cannot be told."""

    r: float
    delay: float
    r_best: float
    control: float
    chance: float


def sync(opening: Tensor, voice: Tensor, *, fps: float) -> Sync:
    """Tracks (F,) of a mouth's opening and of what the voice asks for, both at `fps`."""
    count = min(len(opening), len(voice))
    opening, voice = opening[:count].double(), voice[:count].double()
    r = correlation(opening, voice)
    if math.isnan(r) or count < LEAST_SECONDS * fps:
        return Sync(r, math.nan, math.nan, math.nan, math.nan)
    reach = round(REACH_SECONDS * fps)
    late = lag_frames(opening, voice, reach=reach)
    best = r if math.isnan(late) else _shifted(opening, voice, round(late))
    least = round(APART_SECONDS * fps)
    shifted = [correlation(opening, voice.roll(shift)) for shift in range(least, count - least + 1)]
    chance = (1 + sum(value >= r for value in shifted)) / (1 + len(shifted))
    follows = not math.isnan(late) and best >= max(FOLLOWS, *shifted)  # else it is the best of many by chance
    return Sync(r, late / fps if follows else math.nan, best, sum(shifted) / len(shifted), chance)


def _shifted(opening: Tensor, voice: Tensor, late: int) -> float:
    """Correlation after the mouth has been moved `late` frames earlier."""
    if late < 0:
        opening, voice, late = voice, opening, -late
    return correlation(opening[late:], voice[: len(voice) - late])


def loudness(waveform: Tensor, count: int, *, fps: float, rate: int = 16000) -> Tensor:
    """waveform (T,) -> (count,) root mean square of each video frame's own time; 0 after the sound's end."""
    edges = (torch.arange(count + 1, dtype=torch.float64) * rate / fps).round().long().clamp(max=len(waveform))
    power = torch.cat([torch.zeros(1, dtype=torch.float64), waveform.double().square().cumsum(0)])[edges]
    return (power.diff().clamp(min=0) / (rate / fps)).sqrt().float()


def silent(loud: Tensor, *, fps: float, decibels: float = 30.0, least: float = 0.4, edge: float = 0.12) -> Tensor:
    """Loudness (F,) -> (F,) bool: well inside stretches of `least` seconds and more that lie `decibels` below speech.

    edge: seconds that are left out at either end, where lips still close or open already. Speech is the 95th percentile
    of the loudness. All of it where there is no sound at all.
    """
    level = loud.quantile(0.95).item()
    quiet = torch.nn.functional.pad((loud <= level * 10 ** (-decibels / 20)).int(), (1, 1)).diff()
    starts, ends = (quiet == 1).nonzero().flatten().tolist(), (quiet == -1).nonzero().flatten().tolist()
    found, room = torch.zeros(len(loud), dtype=torch.bool), round(edge * fps)
    for start, end in zip(starts, ends, strict=True):
        if end - start >= least * fps:
            found[start + room * (start > 0) : end - room * (end < len(loud))] = True
    return found

"""What happens to a clip of motion latents once it is sampled: it is smoothed over time, and the eyes blink.

Differs from EMO: few denoising steps leave a tremble that heads do not have, and seldom a blink.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from ..config import ModelConfig, SamplingConfig

MOTION_WEIGHT = 20.0  # of motion frames, which are smooth already, against sampled ones: clips join without a jump
SLOW = 6.0  # smoothness from which a channel is moved where its motion frames lead
BLINK_SECONDS = 4.0  # between blinks, on average; as in `synthetic.motion`
CLOSING, HELD, OPENING = 0.10, 0.05, 0.20  # seconds


def finish_clip(
    latents: Tensor, motion: Tensor | None, model: ModelConfig, config: SamplingConfig, *, first_frame: int, fps: float
) -> Tensor:
    """latents (1, C, F, h, w) scaled, as sampled after motion frames (1, C, n, h, w) -> the clip, smooth and with its
    blinks.

    first_frame: the number of its first frame in the video. Models without `motion_smoothness` keep what was sampled.
    """
    if not model.motion_smoothness:
        return latents
    smooth = _smoothed(latents, motion, model.motion_smoothness)
    lids = 1 - blinks(first_frame, latents.shape[2], fps, seed=config.seed, rate=config.blinks)
    smooth[:, model.lid_channel] *= lids.to(smooth)[:, None, None]
    return smooth


def blinks(first_frame: int, frames: int, fps: float, *, seed: int, rate: float = 1.0) -> Tensor:
    """(F,) 0 open .. 1 shut: one blink in each `BLINK_SECONDS` / rate, at a moment that seed and number of the blink
    decide, so a clip needs no other clip to know its own. rate 0: none."""
    lids = torch.zeros(frames)
    if rate <= 0:
        return lids
    seconds = (first_frame + torch.arange(frames)) / fps
    for start, _ in blink_starts(float(seconds[0]), float(seconds[-1]), seed=seed, rate=rate):
        lids = torch.maximum(lids, closed(seconds, start))
    return lids


def blink_starts(first: float, last: float, *, seed: int, rate: float) -> Iterator[tuple[float, float]]:
    """The scheduled blinks that are seen between two seconds: when each begins, and a number in 0..1 of its own."""
    every, length = BLINK_SECONDS / rate, CLOSING + HELD + OPENING
    for number in range(max(0, math.floor((first - length) / every)), math.floor(last / every) + 1):
        draw = torch.Generator().manual_seed((seed * 0x9E37_79B9 + number * 0x85EB_CA6B + 1) % 2**63)
        yield (
            (number + 0.08 + 0.75 * torch.rand((), generator=draw).item()) * every,
            torch.rand((), generator=draw).item(),
        )


def closed(seconds: Tensor, start: float) -> Tensor:
    """seconds (F,) -> (F,): how far a blink that begins at `start` has shut the lids."""
    down = ((seconds - start) / CLOSING).clamp(0, 1)
    up = ((seconds - start - CLOSING - HELD) / OPENING).clamp(0, 1)
    return down**2 * (3 - 2 * down) * (1 - up) ** 1.6


def _smoothed(latents: Tensor, motion: Tensor | None, smoothness: tuple[float, ...]) -> Tensor:
    if motion is not None:
        latents = _joined(latents, motion.to(latents), smoothness)
    before = 0 if motion is None else motion.shape[2]
    frames = latents.float() if motion is None else torch.cat([motion.to(latents).float(), latents.float()], 2)
    smoothers = [_smoother(before, latents.shape[2], weight) for weight in smoothness]
    smoothers = torch.stack(smoothers).to(frames)  # (C, F, n + F)
    return torch.einsum("bcthw,cft->bcfhw", frames, smoothers).to(latents)


def _joined(latents: Tensor, motion: Tensor, smoothness: tuple[float, ...]) -> Tensor:
    """The clip, so moved that its slow channels begin where the motion frames lead; the move fades over the clip."""
    frames = latents.shape[2]
    slow = latents.new_tensor([float(weight >= SLOW) for weight in smoothness]).view(-1, 1, 1)
    pace = (motion[:, :, -1] - motion[:, :, -3]) / 2 if motion.shape[2] > 2 else torch.zeros_like(motion[:, :, -1])
    missing = slow * (motion[:, :, -1] + pace - latents[:, :, 0])
    fade = torch.cos(torch.pi / 2 * torch.arange(frames) / frames) ** 2
    return latents + missing[:, :, None] * fade.to(latents)[:, None, None]


@lru_cache(maxsize=64)
def _smoother(before: int, frames: int, smoothness: float) -> Tensor:
    """(F, n + F): from n motion frames and F sampled ones to the F smooth ones that minimise the weighted squared
    change plus `smoothness` times the squared second differences (Whittaker 1923)."""
    count = before + frames
    weights = torch.ones(count, dtype=torch.float64)
    weights[:before] = MOTION_WEIGHT
    second = torch.zeros(max(0, count - 2), count, dtype=torch.float64)
    for row in range(count - 2):
        second[row, row : row + 3] = torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64)
    solved = torch.linalg.solve(torch.diag(weights) + smoothness * second.T @ second, torch.diag(weights))
    return solved[before:].float()

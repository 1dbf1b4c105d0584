"""The noise that clips start from and that training adds: white, or of the same kind as the motion where a model has
its shapes.

Differs from EMO: motion latents are smooth and have few degrees of freedom, a head moves as one piece. White noise in
their cells averages out: pose and mouth could be read from latents that are nearly all noise, and what is left of it
trembles between frames. Noise with the covariance of the motion itself (arXiv 2305.10474 correlates frames in this way)
hides every degree of freedom at the same rate, so that the audio must tell the mouth, and it changes from frame to
frame as slowly as motion does.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..config import ModelConfig

FLOW, POSE_SHAPES = (0, 1), 2  # channels of the flow; its largest shapes, the last ones, are the head's pose
USUAL_SPEED = 12.5  # degrees per second
PACE_POWER, SLOWEST, FASTEST = 0.6, 0.2, 2.7


def draw_noise(
    config: ModelConfig,
    shape: tuple[int, ...],
    generator: torch.Generator,
    *,
    shapes: Tensor | None = None,
    is_start: bool = False,
    pace: float = 1.0,
) -> Tensor:
    """shape (B, C, F, h, w) -> Gaussian noise on the CPU; its numbers have mean 0, and variance 1 on average over the
    cells.

    shapes: (C, K, h, w), the spatial shapes of `noise_shapes`, for models that have them; None: white noise. is_start:
    what clips begin with, scaled as the model's `noise_scale` and `noise_pose` say; pace: `head_pace`, multiplies the
    noise of the pose.
    """
    scales = noise_factors(config) if is_start else torch.ones(1)
    scales = scales.expand(shape[1])
    if shapes is None or shapes.is_meta:  # on 'meta' there are no numbers to be had
        return scales.view(-1, 1, 1, 1) * torch.randn(shape, generator=generator)
    batch, _, frames, height, width = shape
    channels = []
    for number, (shape_of, spread) in enumerate(zip(shapes.detach().float().cpu(), config.noise_frames, strict=True)):
        white_share, shape_of = scales[number] * config.noise_white**0.5, shape_of * scales[number]
        if is_start and number in FLOW:
            shape_of[-POSE_SHAPES:] *= pace * config.noise_pose / scales[number]
        length = frames + 2 * _reach(spread)
        amounts = _over_time(torch.randn(batch, length, len(shape_of), generator=generator), spread)  # (B, F, K)
        white = _over_time(torch.randn(batch, length, height, width, generator=generator), spread)
        channels.append(torch.einsum("bfk,khw->bfhw", amounts, shape_of) + white_share * white)
    return torch.stack(channels, dim=1)


def head_pace(degrees_per_second: float) -> float:
    """By how much more noise in the head's pose a clip of this head speed begins with; 1 at the usual speed.

    Differs from EMO: there the speed layers alone set the head's speed. In few steps most of a head's motion comes from
    noise.
    """
    return min(max((max(degrees_per_second, 0.0) / USUAL_SPEED) ** PACE_POWER, SLOWEST), FASTEST)


def noise_factors(config: ModelConfig) -> Tensor:
    """(C,) or (1,): by which clips of this model begin with more or less noise than it was trained on."""
    return torch.tensor(config.noise_scale if isinstance(config.noise_scale, tuple) else (config.noise_scale,))


def noise_shapes(motion: Tensor, config: ModelConfig) -> Tensor:
    """motion (N, C, h, w): scaled latents of frames minus those of their portraits -> (C, K, h, w), the K principal
    shapes of each channel, whose variances add up to 1 - noise_white on average over the cells."""
    flat = motion.float().flatten(2)  # (N, C, h w)
    second_moment = torch.einsum("nci,ncj->cij", flat, flat) / len(flat)
    values, vectors = torch.linalg.eigh(second_moment)
    values, vectors = values[:, -config.noise_shapes :].clamp(min=0), vectors[:, :, -config.noise_shapes :]
    shapes = (vectors * values.sqrt()[:, None]).transpose(1, 2)  # (C, K, h w)
    variance = shapes.square().sum(1).mean(1)
    shapes = shapes * ((1 - config.noise_white) / variance.clamp(min=1e-12)).sqrt()[:, None, None]
    return shapes.unflatten(2, motion.shape[2:])


def noise_spreads(motion: Tensor, *, most: float = 5.0) -> tuple[float, ...]:
    """motion (I, F, C, h, w) of clips -> by channel, the standard deviation in frames of the Gaussian that gives noise
    the correlation of neighbouring frames that the motion has (at most `most` frames)."""
    earlier, later = motion[:, :-1].float(), motion[:, 1:].float()
    axes = (0, 1, 3, 4)
    together = (earlier * later).sum(axes) / (earlier.square().sum(axes) * later.square().sum(axes)).sqrt()
    return tuple(
        round(min(most, math.sqrt(-0.25 / math.log(min(max(value, 0.02), 0.9999)))), 2) for value in together.tolist()
    )


def _reach(spread: float) -> int:
    """Frames on either side that the Gaussian of this standard deviation reaches."""
    return math.ceil(3 * spread)


def _over_time(noise: Tensor, spread: float) -> Tensor:
    """noise (B, F + 2 reach, ...), white -> (B, F, ...) smoothed along F, of the same variance."""
    reach = _reach(spread)
    if not reach:
        return noise
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / spread) ** 2)
    kernel = kernel / kernel.norm()
    frames = noise.shape[1] - 2 * reach
    return sum(weight * noise[:, index : index + frames] for index, weight in enumerate(kernel.tolist()))

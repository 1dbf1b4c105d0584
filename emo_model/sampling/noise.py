"""The noise that clips start from and that training adds: white, or slow over the picture and over time where a model says so.

Differs from EMO: motion latents are smooth, a head moves as one piece. White noise in their cells would average out: the pose and
the opening of the mouth could be read from latents that are nearly all noise, and what noise remains between frames trembles.
Noise of the same kind as the motion (arXiv 2305.10474 correlates frames in this way) hides them, so that the audio must tell the
mouth, and changes from frame to frame as slowly as motion does.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import ModelConfig


def draw_noise(config: ModelConfig, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """shape (B, C, F, h, w) -> Gaussian noise on the CPU; each number has mean 0 and variance 1."""
    if not config.noise_cells:
        return torch.randn(shape, generator=generator)
    batch, _, frames, height, width = shape
    channels = []
    for cells, spread in zip(config.noise_cells, config.noise_frames, strict=True):
        coarse = _over_time(torch.randn(batch, frames + 2 * _reach(spread), cells, cells, generator=generator), spread)
        fine = _over_time(torch.randn(batch, frames + 2 * _reach(spread), height, width, generator=generator), spread)
        share = config.noise_coarse
        channels.append(share**0.5 * _over_picture(coarse, height, width) + (1 - share) ** 0.5 * fine)
    return torch.stack(channels, dim=1)


def _reach(spread: float) -> int:
    """Frames on either side that the Gaussian of this standard deviation reaches."""
    return math.ceil(3 * spread)


def _over_time(noise: Tensor, spread: float) -> Tensor:
    """noise (B, F + 2 reach, h, w), white -> (B, F, h, w) smoothed along F, of the same variance."""
    reach = _reach(spread)
    if not reach:
        return noise
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / spread) ** 2)
    kernel = kernel / kernel.norm()
    frames = noise.shape[1] - 2 * reach
    return sum(weight * noise[:, index:index + frames] for index, weight in enumerate(kernel.tolist()))


def _over_picture(coarse: Tensor, height: int, width: int) -> Tensor:
    """coarse (B, F, g, g), white -> (B, F, h, w) interpolated between, of the same variance everywhere."""
    cells = coarse.shape[-1]
    unit = torch.eye(cells * cells).view(-1, 1, cells, cells)
    share = F.interpolate(unit, size=(height, width), mode="bilinear", align_corners=True)[:, 0]  # (g g, h, w)
    return torch.einsum("bfn,nhw->bfhw", coarse.flatten(2), share / share.norm(dim=0))

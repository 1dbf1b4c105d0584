"""VAE encoding and decoding with latent scaling; the only place that applies the scale factor."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..config import ModelConfig


class Vae(Protocol):
    """SD 1.5's VAE, or anything like it."""

    def encode(self, pixels: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor) -> Tensor: ...


def to_scaled(raw: Tensor, config: ModelConfig) -> Tensor:
    """Raw latents (a VAE's, ComfyUI's LATENT) -> scaled latents (the model's)."""
    return raw * _scale(config, raw)


def to_raw(scaled: Tensor, config: ModelConfig) -> Tensor:
    return scaled / _scale(config, scaled)


def _scale(config: ModelConfig, like: Tensor) -> float | Tensor:
    """The scale factor, or one per channel of `like` (B, C, ...)."""
    if isinstance(config.latent_scale, tuple):
        dials = like.shape[1] - len(config.latent_scale)  # channels of `sampling.expression`, which have no scale
        return torch.tensor((*config.latent_scale, *dials * (1.0,))).to(like).view(-1, *[1] * (like.ndim - 2))
    return config.latent_scale


@torch.no_grad()
def encode(vae: Vae, pixels: Tensor, config: ModelConfig) -> Tensor:
    """pixels (B, 3, H, W) in [-1, 1] -> scaled latents (B, C, h, w)."""
    return to_scaled(vae.encode(pixels), config)


@torch.no_grad()
def decode(vae: Vae, latents: Tensor, config: ModelConfig) -> Tensor:
    """scaled latents (B, C, h, w) -> pixels (B, 3, H, W) in [-1, 1], clamped."""
    return vae.decode(to_raw(latents, config)).clamp(-1, 1)

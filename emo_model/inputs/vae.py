"""Pixels to scaled latents and back: the only place that knows the factor between raw and scaled latents."""

from __future__ import annotations

from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor

from ..config import ModelConfig


class Vae(Protocol):
    """SD 1.5's VAE, or anything like it."""

    def encode(self, pixels: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor) -> Tensor: ...


def to_scaled(raw: Tensor, config: ModelConfig) -> Tensor:
    """Raw latents, as a VAE and ComfyUI's LATENT have them -> scaled latents, as the model has them."""
    return raw * _scale(config, raw)


def to_raw(scaled: Tensor, config: ModelConfig) -> Tensor:
    return scaled / _scale(config, scaled)


def _scale(config: ModelConfig, like: Tensor) -> float | Tensor:
    """The factor of all channels, or of each channel of `like` (B, C, ...)."""
    if isinstance(config.latent_scale, tuple):
        return torch.tensor(config.latent_scale).to(like).view(-1, *[1] * (like.ndim - 2))
    return config.latent_scale


@torch.no_grad()
def encode(vae: Vae, pixels: Tensor, config: ModelConfig) -> Tensor:
    """pixels (B, 3, H, W) in [-1, 1] -> scaled latents (B, C, h, w)."""
    return to_scaled(vae.encode(pixels), config)


@torch.no_grad()
def decode(vae: Vae, latents: Tensor, config: ModelConfig) -> Tensor:
    """scaled latents (B, C, h, w) -> pixels (B, 3, H, W) in [-1, 1], clamped."""
    return vae.decode(to_raw(latents, config)).clamp(-1, 1)


def through_pixels(vae: Vae, latents: Tensor, config: ModelConfig) -> Tensor:
    """scaled latents (B, C, F, h, w) of frames -> what the VAE makes of their pictures: Hallo's motion frames go this way."""
    pixels = decode(vae, rearrange(latents, "b c f h w -> (b f) c h w"), config)
    return rearrange(encode(vae, pixels, config), "(b f) c h w -> b c f h w", f=latents.shape[2])

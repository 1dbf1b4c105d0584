"""Pixels to scaled latents and back: the only place that knows the factor between raw and scaled latents."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor

from ..config import ModelConfig


class Vae(Protocol):
    """The built-in Autoencoder, or anything like it."""

    def encode(self, pixels: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor) -> Tensor: ...


def to_scaled(raw: Tensor, config: ModelConfig) -> Tensor:
    """Raw latents, as a VAE and ComfyUI's LATENT have them -> scaled latents, as the model has them."""
    return raw * config.latent_scale


def to_raw(scaled: Tensor, config: ModelConfig) -> Tensor:
    return scaled / config.latent_scale


@torch.no_grad()
def encode(vae: Vae, pixels: Tensor, config: ModelConfig) -> Tensor:
    """pixels (B, 3, H, W) in [-1, 1] -> scaled latents (B, C, h, w)."""
    return to_scaled(vae.encode(pixels), config)


@torch.no_grad()
def decode(vae: Vae, latents: Tensor, config: ModelConfig) -> Tensor:
    """scaled latents (B, C, h, w) -> pixels (B, 3, H, W) in [-1, 1], clamped."""
    return vae.decode(to_raw(latents, config)).clamp(-1, 1)


def encode_again(encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor], frames: Tensor, *,
                 rounds: int = 4) -> Tensor:
    """Latents whose pictures are `frames`, which a VAE had decoded: to continue a video of which only the pictures are left.

    A VAE's way back is not quite the inverse of its way out, and what it misses would be a jump. So each round decodes what was
    found, encodes that, and adds the difference, as long as it shrinks. encode and decode: the VAE's, in any convention.
    """
    wanted = found = best = encode(frames)
    least = math.inf
    for _ in range(rounds):
        missed = wanted - encode(decode(found))
        if missed.norm() >= least:
            return best
        least, best, found = missed.norm(), found, found + missed
    return found


def through_pixels(vae: Vae, latents: Tensor, config: ModelConfig) -> Tensor:
    """scaled latents (B, C, F, h, w) of frames -> what the VAE makes of their pictures: Hallo's motion frames go this way."""
    pixels = decode(vae, rearrange(latents, "b c f h w -> (b f) c h w"), config)
    return rearrange(encode(vae, pixels, config), "(b f) c h w -> b c f h w", f=latents.shape[2])

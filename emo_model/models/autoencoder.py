"""The built-in autoencoder: light enough for a CPU, because no convolution runs at the picture's full resolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import ModelConfig


class ResidualBlock(nn.Module):
    def __init__(self, channels: int, *, groups: int = 8):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(self.norm(x)))))


class Autoencoder(nn.Module):
    """Deterministic: pixels are folded by `patch`, then halved until a cell is `vae_factor` pixels wide, and back."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        parts = config.autoencoder
        if parts is None:
            raise ValueError(f"model '{config.name}' has no autoencoder of its own; it needs the VAE of Stable Diffusion 1.5")
        halvings = len(parts.encoder_channels) - 1
        if parts.patch * 2**halvings != config.vae_factor or len(parts.decoder_channels) != halvings + 1:
            raise ValueError(f"patch {parts.patch} and {halvings} halvings do not make vae_factor {config.vae_factor}")
        self.patch = parts.patch
        folded = 3 * parts.patch**2

        def blocks(channels: int) -> list[nn.Module]:
            return [ResidualBlock(channels) for _ in range(parts.blocks)]

        encoder = [nn.Conv2d(folded, parts.encoder_channels[0], 3, padding=1), *blocks(parts.encoder_channels[0])]
        for wide, wider in zip(parts.encoder_channels, parts.encoder_channels[1:]):
            encoder += [nn.Conv2d(wide, wider, 2, stride=2), *blocks(wider)]
        self.encoder = nn.Sequential(*encoder, nn.GroupNorm(8, parts.encoder_channels[-1]), nn.SiLU(),
                                     nn.Conv2d(parts.encoder_channels[-1], config.latent_channels, 3, padding=1))
        decoder = [nn.Conv2d(config.latent_channels, parts.decoder_channels[0], 3, padding=1), *blocks(parts.decoder_channels[0])]
        for wider, wide in zip(parts.decoder_channels, parts.decoder_channels[1:]):
            decoder += [nn.Conv2d(wider, wide * 4, 3, padding=1), nn.PixelShuffle(2), *blocks(wide)]
        self.decoder = nn.Sequential(*decoder, nn.GroupNorm(8, parts.decoder_channels[-1]), nn.SiLU(),
                                     nn.Conv2d(parts.decoder_channels[-1], folded, 3, padding=1))

    def encode(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, H, W) in [-1, 1] -> raw latents (B, C, h, w)."""
        folded = F.pixel_unshuffle(pixels, self.patch).contiguous(memory_format=torch.channels_last)
        return self.encoder(folded)

    def decode(self, latents: Tensor) -> Tensor:
        """raw latents (B, C, h, w) -> pixels (B, 3, H, W), about [-1, 1], not clamped."""
        return F.pixel_shuffle(self.decoder(latents.contiguous(memory_format=torch.channels_last)), self.patch).contiguous()

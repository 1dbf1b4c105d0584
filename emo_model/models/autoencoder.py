"""The built-in autoencoder: light enough for a CPU, because no convolution runs at the picture's full resolution.

Differs from EMO: the paper uses the VAE of Stable Diffusion 1.5.
"""

from __future__ import annotations

import math

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


_COEFFICIENTS = ((0, 0, 0), (1, 0, 0), (2, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 0, 2), (0, 2, 0), (1, 0, 1), (1, 1, 0),
                 (2, 0, 1), (2, 1, 0), (0, 1, 2), (0, 2, 1), (0, 0, 3), (0, 3, 0))
"""(brightness 0 or colour differences 1 and 2, waves down, waves across), the most telling first."""


def cosine_table(channels: int, side: int) -> tuple[Tensor, Tensor]:
    """The first waves of JPEG's transform over side x side pixels: (channels, 3 side^2) to unit variance, and the way back."""
    wave = torch.arange(side, dtype=torch.float64)[:, None]
    place = torch.arange(side, dtype=torch.float64)[None, :] + 0.5
    basis = torch.cos(math.pi / side * wave * place) * math.sqrt(2 / side)
    basis[0] /= math.sqrt(2)  # (waves, side), orthonormal rows
    colour = torch.tensor([[1, 1, 1], [1, 0, -1], [-1, 2, -1]], dtype=torch.float64)
    colour = colour / colour.norm(dim=1, keepdim=True)
    forth, back = torch.zeros(2, channels, 3 * side**2, dtype=torch.float64)
    for channel, (part, down, across) in enumerate(_COEFFICIENTS[:channels]):
        row = torch.einsum("c,y,x->cyx", colour[part], basis[down], basis[across]).flatten()
        spread = 0.8 * side / (1 + 2.5 * (down + across)) / (1 if part == 0 else 4)  # about the standard deviation in pictures
        forth[channel], back[channel] = row / spread, row * spread
    return forth.float(), back.T.float()


class Autoencoder(nn.Module):
    """Deterministic: pixels are folded by `patch`, then halved until a cell is `vae_factor` pixels wide, and back.

    Beside the nets a linear map goes each way, at first JPEG's lowest waves: training starts from a blurred picture, not from
    none.
    """

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

        self.factor = config.vae_factor
        cell = 3 * config.vae_factor**2
        forth, back = cosine_table(config.latent_channels, config.vae_factor)
        self.linear_in = nn.Conv2d(cell, config.latent_channels, 1)
        self.linear_out = nn.Conv2d(config.latent_channels, cell, 1)
        for linear, table in ((self.linear_in, forth), (self.linear_out, back)):
            linear.weight = nn.Parameter(table[:, :, None, None].to(linear.weight.device))
            nn.init.zeros_(linear.bias)

        def blocks(channels: int) -> list[nn.Module]:
            return [ResidualBlock(channels) for _ in range(parts.blocks)]

        encoder = [nn.Conv2d(folded, parts.encoder_channels[0], 3, padding=1), *blocks(parts.encoder_channels[0])]
        for wide, wider in zip(parts.encoder_channels, parts.encoder_channels[1:], strict=False):
            encoder += [nn.Conv2d(wide, wider, 2, stride=2), *blocks(wider)]
        self.encoder = nn.Sequential(*encoder, nn.GroupNorm(8, parts.encoder_channels[-1]), nn.SiLU(),
                                     _silent(nn.Conv2d(parts.encoder_channels[-1], config.latent_channels, 3, padding=1)))
        decoder = [nn.Conv2d(config.latent_channels, parts.decoder_channels[0], 3, padding=1), *blocks(parts.decoder_channels[0])]
        for wider, wide in zip(parts.decoder_channels, parts.decoder_channels[1:], strict=False):
            decoder += [nn.Conv2d(wider, wide * 4, 3, padding=1), nn.PixelShuffle(2), *blocks(wide)]
        self.decoder = nn.Sequential(*decoder, nn.GroupNorm(8, parts.decoder_channels[-1]), nn.SiLU(),
                                     _silent(nn.Conv2d(parts.decoder_channels[-1], folded, 3, padding=1)))

    def encode(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, H, W) in [-1, 1] -> raw latents (B, C, h, w)."""
        folded, cells = (F.pixel_unshuffle(pixels, side).contiguous(memory_format=torch.channels_last)
                         for side in (self.patch, self.factor))
        return self.linear_in(cells) + self.encoder(folded)

    def decode(self, latents: Tensor) -> Tensor:
        """raw latents (B, C, h, w) -> pixels (B, 3, H, W), about [-1, 1], not clamped."""
        latents = latents.contiguous(memory_format=torch.channels_last)
        pixels = F.pixel_shuffle(self.linear_out(latents), self.factor) + F.pixel_shuffle(self.decoder(latents), self.patch)
        return pixels.contiguous()


def _silent(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer

"""Training of the built-in autoencoder on drawn heads, the eyes and the mouth weighing most."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import ModelConfig
from ..models.autoencoder import Autoencoder
from .drawn import draw_stills


@dataclass(frozen=True, eq=False)
class StillBatch:
    """pixels: (B, 3, H, W) in [-1, 1]; weight: (B, 1, H, W) of each pixel in the loss; noise: added to the latents, like them."""

    pixels: Tensor
    weight: Tensor
    noise: Tensor


class AutoencoderTask(nn.Module):
    """Absolute error of pixels and of their differences to the neighbours; latents are kept small and noise-proof.

    Pictures come from a pool of freshly drawn heads that is drawn anew every `pool_steps` steps. Each latent gets noise of a
    standard deviation up to `latent_noise`. With `only_decoder` the latents stay what they are: the decoder alone learns to paint
    clean pictures from latents as noisy as a sampler leaves them.
    """

    def __init__(self, autoencoder: Autoencoder, config: ModelConfig, *, batch: int, seed: int, pool_steps: int = 60,
                 pool_pictures: int = 640, latent_noise: float = 0.1, only_decoder: bool = False,
                 device: torch.device | str = "cpu"):
        super().__init__()
        self.autoencoder = autoencoder
        self.image_size, self.batch_size, self.seed = config.image_size, batch, seed
        self.latent_shape = (config.latent_channels, config.latent_size, config.latent_size)
        self.pool_steps, self.pool_pictures, self.latent_noise, self.device = pool_steps, pool_pictures, latent_noise, device
        for name, parameter in autoencoder.named_parameters():
            parameter.requires_grad_(not only_decoder or name.startswith(("decoder.", "linear_out.")))
        self._pool: tuple[int, Tensor, Tensor] | None = None

    def batch(self, step: int, rank: int = 0) -> StillBatch:
        number = step // self.pool_steps
        if self._pool is None or self._pool[0] != number:
            first = 10_000_000 + (self.seed * 1_000 + number * 8 + rank) * self.pool_pictures  # far from the identities of clips
            drawn = draw_stills(range(first, first + self.pool_pictures), size=self.image_size, device=self.device)
            self._pool = (number, *drawn)
        _, pixels, weight = self._pool
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed} autoencoder {step} {rank}".encode()))
        chosen = torch.randint(len(pixels), (self.batch_size,), generator=generator).to(pixels.device)
        flip = (torch.rand(self.batch_size, generator=generator) < 0.5).to(pixels.device).view(-1, 1, 1, 1)
        pixels, weight = (torch.where(flip, part[chosen].flip(-1), part[chosen]).float() for part in (pixels, weight))
        noise = torch.randn((self.batch_size, *self.latent_shape), generator=generator)
        amount = self.latent_noise * torch.rand(self.batch_size, 1, 1, 1, generator=generator)
        return StillBatch(pixels, weight, (amount * noise).to(pixels.device))

    def forward(self, batch: StillBatch) -> tuple[Tensor, dict[str, Tensor]]:
        latents = self.autoencoder.encode(batch.pixels)
        decoded = self.autoencoder.decode(latents + batch.noise).float()
        weight = batch.weight / batch.weight.mean()
        error = ((decoded - batch.pixels).abs() * weight).mean()
        edges = sum(((decoded - batch.pixels).diff(dim=axis).abs() * weight.narrow(axis, 0, weight.shape[axis] - 1)).mean()
                    for axis in (2, 3))
        spread = (latents.float().square().mean() - 1).square() + latents.float().mean((0, 2, 3)).square().mean()
        loss = error + 0.5 * edges + 0.01 * spread
        psnr = -10 * ((decoded.clamp(-1, 1) - batch.pixels) / 2).square().mean().log10()
        return loss, {"psnr": psnr.detach(), "latent_std": latents.detach().float().std()}


def latent_statistics(autoencoder: Autoencoder, pixels: Tensor) -> tuple[float, tuple[tuple[float, float, float], ...]]:
    """What the config of a trained autoencoder needs: the factor to unit variance, and the linear map from raw latents to RGB.

    The map has a row per channel and one for the offset, for colours in 0..1; fitted by least squares, for previews.
    """
    with torch.no_grad():
        latents = autoencoder.encode(pixels).double()  # in float32 the same pictures give another fifth digit now and then
    factor = 1 / latents.std().item()
    small = F.interpolate(pixels, size=latents.shape[-2:], mode="area").double() / 2 + 0.5
    rows = latents.permute(0, 2, 3, 1).flatten(0, 2)
    rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
    table = torch.linalg.lstsq(rows, small.permute(0, 2, 3, 1).flatten(0, 2)).solution
    return round(factor, 5), tuple(tuple(round(value, 5) for value in row) for row in table.tolist())

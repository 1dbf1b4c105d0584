"""The noise schedule: one table for noise in training and timesteps in sampling (DDPM, DDIM; zero terminal SNR)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import ModelConfig


class NoiseSchedule:
    """alphas_cumprod (T,) float32 on the CPU, and the arithmetic of noise and velocity prediction.

    Zero terminal SNR: "Common Diffusion Noise Schedules and Sample Steps Are Flawed" (arXiv 2305.08891), algorithm 1;
    steps are 'trailing' (its table 2), so that the first step starts at pure noise.
    """

    def __init__(self, config: ModelConfig):
        steps = config.train_timesteps
        if config.beta_schedule == "scaled_linear":
            betas = torch.linspace(config.beta_start**0.5, config.beta_end**0.5, steps, dtype=torch.float64) ** 2
        elif config.beta_schedule == "linear":
            betas = torch.linspace(config.beta_start, config.beta_end, steps, dtype=torch.float64)
        else:
            raise ValueError(f"beta_schedule must be 'scaled_linear' or 'linear', got '{config.beta_schedule}'")
        alphas_cumprod = (1 - betas).cumprod(0)
        if config.zero_terminal_snr:
            roots = alphas_cumprod.sqrt()
            alphas_cumprod = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
        self.alphas_cumprod = alphas_cumprod.float()
        self.prediction = config.prediction

    def timesteps(self, steps: int) -> list[int]:
        """`steps` falling timesteps, the first the noisiest: 999, 874, ..., 124 for 8 of 1000."""
        total = len(self.alphas_cumprod)
        if not 1 <= steps <= total:
            raise ValueError(f"steps must be 1 to {total}, got {steps}")
        return [round(total - index * total / steps) - 1 for index in range(steps)]

    def scales(self, timestep: Tensor | int) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) with noisy = alpha * clean + sigma * noise; a timestep below 0 is the clean end (1, 0)."""
        timestep = torch.as_tensor(timestep)
        squared = torch.where(timestep < 0, 1.0, self.alphas_cumprod[timestep.cpu().clamp(min=0)])
        return squared.sqrt(), (1 - squared).sqrt()

    def numbers(self, timestep: int) -> tuple[float, float]:
        """`scales` of one timestep as Python numbers, so that nothing waits for a device."""
        alpha, sigma = self.scales(timestep)
        return alpha.item(), sigma.item()

    def log_snr(self, timestep: int) -> float:
        """log(alpha / sigma): minus infinity for pure noise, infinity for clean latents."""
        alpha, sigma = self.scales(timestep)
        return (alpha.log() - sigma.log()).item()

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """clean and noise (B, ...), timestep (B,) -> noisy (B, ...)."""
        alpha, sigma = self._spread(timestep, clean)
        return alpha * clean + sigma * noise

    def target(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """What the model learns to predict: noise, or velocity alpha * noise - sigma * clean (arXiv 2202.00512)."""
        if self.prediction == "epsilon":
            return noise
        alpha, sigma = self._spread(timestep, clean)
        return alpha * noise - sigma * clean

    def clean_and_noise(self, noisy: Tensor, prediction: Tensor, timestep: int) -> tuple[Tensor, Tensor]:
        """The clean latents and the noise that follow from the model's prediction."""
        alpha, sigma = self.numbers(timestep)
        if self.prediction == "epsilon":
            return (noisy - sigma * prediction) / alpha, prediction
        return alpha * noisy - sigma * prediction, sigma * noisy + alpha * prediction

    def _spread(self, timestep: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        return tuple(scale.to(like).view(-1, *[1] * (like.ndim - 1)) for scale in self.scales(timestep))

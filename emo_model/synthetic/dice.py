"""Numbers that follow from a seed and a name."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Dice:
    """Numbers of a seed and a name: adding a throw changes no other. Each throw is (B,) float64."""

    def __init__(self, seeds: Sequence[int] | Tensor):
        self.seeds = torch.as_tensor(seeds, dtype=torch.int64).cpu().reshape(-1)

    def unit(self, name: str) -> Tensor:
        """Even in 0..1 (open): splitmix64 of seed and name."""
        with np.errstate(over="ignore"):
            z = self.seeds.numpy().astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            z = z + np.uint64(zlib.crc32(name.encode())) * np.uint64(0xD1B54A32D192ED03)
            for shift, factor in (
                (30, 0xBF58476D1CE4E5B9),
                (27, 0x94D049BB133111EB),
                (31, 0x9E3779B97F4A7C15),
                (29, 0xBF58476D1CE4E5B9),
            ):
                z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
            z = z ^ (z >> np.uint64(32))
        return torch.from_numpy(((z >> np.uint64(12)).astype(np.float64) + 0.5) / 2.0**52)

    def between(self, name: str, low, high) -> Tensor:
        return low + (high - low) * self.unit(name)

    def normal(self, name: str, mean=0.0, sd=1.0) -> Tensor:
        """Cut at 2.2 sd."""
        return mean + sd * (torch.erfinv(2 * self.unit(name) - 1) * 2**0.5).clamp(-2.2, 2.2)

    def chance(self, name: str, share) -> Tensor:
        return (self.unit(name) < share).double()

    def choose(self, name: str, weights: Tensor) -> Tensor:
        """weights: (n,) or (B, n) -> (B,) int64."""
        steps = (weights / weights.sum(-1, keepdim=True)).cumsum(-1).expand(len(self.seeds), -1)
        return (self.unit(name)[:, None] > steps).sum(-1).clamp(max=weights.shape[-1] - 1)

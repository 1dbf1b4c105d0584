"""Speed layers: head rotation speed as a soft choice of buckets, for the temporal modules (EMO, 'Speed Layers')."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import ModelConfig


class SpeedLayers(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.centres, self.radii = config.speed_centres, config.speed_radii
        self.linear_1 = nn.Linear(config.audio_window * len(self.centres), config.speed_width)
        self.linear_2 = nn.Linear(config.speed_width, config.speed_width)

    def buckets(self, speed: Tensor) -> Tensor:
        """speed (...,) degrees per second -> S (..., d) with s_d = tanh(3 (w - c_d) / r_d), each in -1..1."""
        centres = torch.tensor(self.centres, device=speed.device, dtype=torch.float32)
        radii = torch.tensor(self.radii, device=speed.device, dtype=torch.float32)
        return torch.tanh(3 * (speed.float()[..., None] - centres) / radii)

    def forward(self, speed: Tensor, *, dtype: torch.dtype) -> Tensor:
        """speed (B, F, K), the window of degrees per second around each frame -> speed features (B, F, D)."""
        return self.linear_2(F.silu(self.linear_1(self.buckets(speed).flatten(2).to(dtype))))

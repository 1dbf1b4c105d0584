"""Audio windows to audio tokens (EMO, 'Audio Layers'), and Hallo's projection."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import ModelConfig


class AudioProjection(nn.Module):
    """One token for each step of the window: the encoder's layers concatenated and projected, plus a position.

    EMO leaves open: how the features of a window become tokens.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        width = config.audio_context_width
        self.linear_1 = nn.Linear(config.audio_layers * config.audio_width, width)
        self.linear_2 = nn.Linear(width, width)
        self.places = nn.Embedding(config.audio_window, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, windows: Tensor) -> Tensor:
        """windows (B, F, K, L, D) -> (B, F, K, width)."""
        if windows.shape[2] != self.places.num_embeddings:
            steps, expected = windows.shape[2], self.places.num_embeddings
            raise ValueError(f"audio windows have {steps} steps, this model was built for {expected}")
        hidden = self.linear_2(F.silu(self.linear_1(windows.flatten(3))))
        return self.norm(hidden + self.places(torch.arange(windows.shape[2], device=windows.device)).to(hidden.dtype))


class WindowProjection(nn.Module):
    """Hallo: three linear layers turn the features of the whole window into `audio_tokens` tokens."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.window = (config.audio_window, config.audio_layers, config.audio_width)
        self.tokens, inner = config.hallo.audio_tokens, config.hallo.audio_projection_width
        self.proj1 = nn.Linear(math.prod(self.window), inner)
        self.proj2 = nn.Linear(inner, inner)
        self.proj3 = nn.Linear(inner, self.tokens * config.audio_context_width)
        self.norm = nn.LayerNorm(config.audio_context_width)

    def forward(self, windows: Tensor) -> Tensor:
        """windows (B, F, K, L, D) -> (B, F, M, width)."""
        if tuple(windows.shape[2:]) != self.window:
            raise ValueError(
                f"audio windows are {tuple(windows.shape[2:])} (steps, layers, width), this model was built for "
                f"{self.window}; use the audio encoder that the model was trained with"
            )
        hidden = F.relu(self.proj2(F.relu(self.proj1(windows.flatten(2)))))
        return self.norm(rearrange(self.proj3(hidden), "b f (m d) -> b f m d", m=self.tokens))

"""Audio windows to the tokens that audio-attention reads (EMO, 'Audio Layers')."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import ModelConfig


class AudioProjection(nn.Module):
    """One token for each step of the window: the encoder's layers concatenated, projected, and told their place.

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
            raise ValueError(f"audio windows have {windows.shape[2]} steps, this model was built for {self.places.num_embeddings}")
        hidden = self.linear_2(nn.functional.silu(self.linear_1(windows.flatten(3))))
        return self.norm(hidden + self.places(torch.arange(windows.shape[2], device=windows.device)).to(hidden.dtype))

"""Identity tokens: a face embedding as tokens for cross-attention (Hallo, after IP-Adapter, arXiv 2308.06721)."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from ..config import ModelConfig


class IdentityProjection(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        sizes = config.hallo
        self.tokens = sizes.identity_tokens
        self.proj = nn.Linear(sizes.identity_width, sizes.identity_tokens * sizes.identity_context_width)
        self.norm = nn.LayerNorm(sizes.identity_context_width)

    def forward(self, embedding: Tensor) -> Tensor:
        """embedding (B, D) of a face from the recogniser, zeros for no face -> (B, M, width)."""
        return self.norm(rearrange(self.proj(embedding), "b (m d) -> b m d", m=self.tokens))

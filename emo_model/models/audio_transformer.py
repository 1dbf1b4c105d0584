"""Audio transformer: hears the voice for pose, face and lips, each where its mask lets it (Hallo, arXiv 2406.08801)."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from ..config import ModelConfig
from .attention import Attention, FeedForward

REGIONS = ("full", "face", "lip")  # pose is what the whole picture does


class AudioTransformerBlock(nn.Module):
    """Self-attention of a frame, the three audio attentions side by side, feed-forward."""

    def __init__(self, config: ModelConfig, channels: int):
        super().__init__()
        heads = config.attention_heads
        for region in REGIONS:
            zero = nn.Conv2d(channels, channels, 1)
            nn.init.zeros_(zero.weight)
            nn.init.zeros_(zero.bias)
            self.add_module(f"zero_conv_{region}", zero)
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, heads=heads)
        self.norm2 = nn.LayerNorm(channels)
        for index in range(len(REGIONS)):
            self.add_module(f"attn2_{index}", Attention(channels, config.audio_context_width, heads=heads))
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, multiplier=config.feed_forward_multiplier)

    def forward(self, x: Tensor, audio: Tensor, regions: Tensor, weights: Tensor) -> Tensor:
        """x (B F, N, C), audio (B F, M, D), regions (B, 3, N) in 0..1, weights (3,) -> (B F, N, C)."""
        x = x + self.attn1(self.norm1(x))
        query = self.norm2(x)
        masks = regions.to(x.dtype).repeat_interleave(len(x) // len(regions), dim=0)[..., None]  # (B F, 3, N, 1)
        for index, region in enumerate(REGIONS):
            heard = getattr(self, f"attn2_{index}")(query, audio) * masks[:, index]
            heard = getattr(self, f"zero_conv_{region}")(rearrange(heard, "b n c -> b c n 1"))
            x = x + weights[index].to(x) * rearrange(heard, "b c n 1 -> b n c")
        return x + self.ff(self.norm3(x))


class AudioTransformer(nn.Module):
    """The block between two 1x1 convolutions; `width` inside need not be the `channels` outside."""

    def __init__(self, config: ModelConfig, channels: int, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(config.norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, width, 1)
        self.transformer_blocks = nn.ModuleList([AudioTransformerBlock(config, width)])
        self.proj_out = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor, audio: Tensor, regions: Tensor, weights: Tensor) -> Tensor:
        """x (B F, C, H, W), the rest as in `AudioTransformerBlock` -> (B F, C, H, W)."""
        tokens = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c")
        tokens = self.transformer_blocks[0](tokens, audio, regions, weights)
        return x + self.proj_out(rearrange(tokens, "b (h w) c -> b c h w", h=x.shape[-2]))

"""Audio transformer: audio attention for pose, face and lips, each within its mask (Hallo, arXiv 2406.08801)."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from ..config import ModelConfig
from .attention import Attention, FeedForward, KeysValues
from .blocks import per_frame

REGIONS = ("full", "face", "lip")  # 'full', the whole picture, is for the pose


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

    def project(self, audio: Tensor) -> tuple[KeysValues, ...]:
        """Keys and values of audio (B F, M, D) for the attention of each region."""
        return tuple(getattr(self, f"attn2_{index}").project(audio) for index in range(len(REGIONS)))

    def forward(self, x: Tensor, audio: tuple[KeysValues, ...], regions: Tensor, weights: Tensor) -> Tensor:
        """x (B F, N, C), audio as `project` returns it, regions (B, 3, N) in 0..1, weights (3,) -> (B F, N, C)."""
        x = x + self.attn1(self.norm1(x))
        queries = self.norm2(x)
        for index, region in enumerate(REGIONS):
            attended = getattr(self, f"attn2_{index}")(queries, audio[index])
            masked = attended * per_frame(regions[:, index, :, None].to(x.dtype), len(x))
            moved = getattr(self, f"zero_conv_{region}")(rearrange(masked, "b n c -> b c n 1"))
            x = x + weights[index].to(x) * rearrange(moved, "b c n 1 -> b n c")
        return x + self.ff(self.norm3(x))


class AudioTransformer(nn.Module):
    """The block between two 1x1 convolutions; `width` inside need not be the `channels` outside."""

    def __init__(self, config: ModelConfig, channels: int, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(config.norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, width, 1)
        self.transformer_blocks = nn.ModuleList([AudioTransformerBlock(config, width)])
        self.proj_out = nn.Conv2d(width, channels, 1)

    def project_audio(self, audio: Tensor) -> tuple[KeysValues, ...]:
        """See `AudioTransformerBlock.project`."""
        return self.transformer_blocks[0].project(audio)

    def forward(self, x: Tensor, audio: tuple[KeysValues, ...], regions: Tensor, weights: Tensor) -> Tensor:
        """x (B F, C, H, W), the rest as in `AudioTransformerBlock` -> (B F, C, H, W)."""
        tokens = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c")
        tokens = self.transformer_blocks[0](tokens, audio, regions, weights)
        return x + self.proj_out(rearrange(tokens, "b (h w) c -> b c h w", h=x.shape[-2]))

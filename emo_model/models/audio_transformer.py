"""Audio transformer: hears the voice for pose, face and lips, each where its mask lets it (Hallo, arXiv 2406.08801)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from ..config import ModelConfig
from .attention import Attention, FeedForward
from .group_norm import GroupNorm
from .seen import Answer, Groups, KeysValues, Zeros, for_groups, into, look, must_copy, per_frame

REGIONS = ("full", "face", "lip")  # pose is what the whole picture does
Voice = tuple[KeysValues, ...]
"""What each region's attention reads of the voice."""


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

    def project(self, audio: Tensor | Zeros, regions: Tensor, weights: Tensor) -> Voice | Answer:
        """The voice (B F, M, D) as the three attentions read it, or what they say of `ZEROS` (B, N, C), all three together."""
        attentions = [getattr(self, f"attn2_{index}") for index in range(len(REGIONS))]
        if not isinstance(audio, Zeros):
            return tuple(attention.project(audio) for attention in attentions)
        said = (attention.project(audio, like=regions).answer for attention in attentions)
        return Answer(sum(weights[index].to(answer) * self._moved(index, answer, regions) for index, answer in enumerate(said)))

    def forward(self, x: Tensor, audio: Tensor | Voice | Answer | Groups, regions: Tensor, weights: Tensor) -> Tensor:
        """x (B F, N, C), audio (B F, M, D), projected or not, regions (B, 3, N) in 0..1, weights (3,) -> (B F, N, C)."""
        def add(heard: Tensor | Voice | Answer, x: Tensor) -> Tensor:
            if isinstance(heard, Answer):
                return into(x, per_frame(heard.answer, len(x)))
            query = self.norm2(x)
            for index, voice in enumerate([heard] * len(REGIONS) if isinstance(heard, Tensor) else heard):
                moved = self._moved(index, getattr(self, f"attn2_{index}")(query, voice), regions)
                x = torch.addcmul(x, moved, weights[index].to(x), out=None if must_copy() else x)
            return x

        x = look(x + self.attn1(self.norm1(x)), audio, add)
        return into(x, self.ff(self.norm3(x)))

    def _moved(self, index: int, heard: Tensor, regions: Tensor) -> Tensor:
        """What the voice says to one region, (B F, N, C), where its mask lets it."""
        heard = heard * per_frame(regions[:, index, :, None].to(heard.dtype), len(heard))
        return rearrange(getattr(self, f"zero_conv_{REGIONS[index]}")(rearrange(heard, "b n c -> b c n 1")), "b c n 1 -> b n c")


class AudioTransformer(nn.Module):
    """The block between two 1x1 convolutions; `width` inside need not be the `channels` outside."""

    def __init__(self, config: ModelConfig, channels: int, width: int):
        super().__init__()
        self.norm = GroupNorm(config.norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, width, 1)
        self.transformer_blocks = nn.ModuleList([AudioTransformerBlock(config, width)])
        self.proj_out = nn.Conv2d(width, channels, 1)

    def project(self, audio: Tensor | Zeros, regions: Tensor, weights: Tensor) -> Voice | Answer:
        """See `AudioTransformerBlock.project`."""
        return self.transformer_blocks[0].project(audio, regions, weights)

    def forward(self, x: Tensor, audio: Tensor | Voice | Answer | Groups, regions: Tensor, weights: Tensor) -> Tensor:
        """x (B F, C, H, W), which is written into, the rest as in `AudioTransformerBlock` -> (B F, C, H, W)."""
        tokens = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c")
        tokens = self.transformer_blocks[0](tokens, audio, regions, weights)
        return into(for_groups(x, len(tokens)), self.proj_out(rearrange(tokens, "b (h w) c -> b c h w", h=x.shape[-2])))

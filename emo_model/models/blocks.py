"""Building blocks of the SD 1.5 skeleton, named as in diffusers: resnet block, resampling, and the spatial transformer."""

from __future__ import annotations

import math

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import ModelConfig
from .attention import Attention, FeedForward, grid_codes
from .group_norm import GroupNorm
from .seen import Answer, Groups, KeysValues, Zeros, for_groups, into, look, per_frame


class ResnetBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, time_channels: int, *, groups: int):
        super().__init__()
        self.norm1 = GroupNorm(groups, in_channels, eps=1e-5)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_channels, out_channels)
        self.norm2 = GroupNorm(groups, out_channels, eps=1e-5)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor, moment: Tensor) -> Tensor:
        """x (B F, C, H, W), moment (B, C'): what `time_emb_proj` makes of the time -> (B F, C', H, W)."""
        hidden = into(self.conv1(F.silu(self.norm1(x))), per_frame(moment, len(x))[:, :, None, None])
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        return into(hidden, x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """x (B, C, h, w) -> (B, C, *size), by default (2 h, 2 w)."""
        return self.conv(F.interpolate(x, size=size or (2 * x.shape[-2], 2 * x.shape[-1]), mode="nearest"))


Look = Tensor | KeysValues | Answer | Groups | None
"""What an attention looks at: tokens or their keys and values, the answer if known, by groups if they differ, or nothing."""


def add_attention(attention: Attention, norm: nn.Module, x: Tensor, seen: Look, *, codes: Tensor | None = None) -> Tensor:
    """x (B F, N, C), which is written into, and what `attention` says of `seen`, which is not Groups.

    Keys of both kinds have the `codes` of queries.
    """
    if seen is None:
        return x
    return into(x, seen.answer if isinstance(seen, Answer) else attention(norm(x), seen, codes=codes, context_codes=codes))


class TransformerBlock(nn.Module):
    """Self-attention, then (backbone only) reference-attention and audio-attention, then the feed-forward.

    EMO puts reference-attention where SD 1.5 has text cross-attention, so it takes the names norm2 and attn2.
    """

    def __init__(self, config: ModelConfig, channels: int, *, is_backbone: bool):
        super().__init__()
        heads = config.attention_heads
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, heads=heads)
        if is_backbone:
            self.norm2 = nn.LayerNorm(channels)
            self.attn2 = Attention(channels, heads=heads)
            self.norm_audio = nn.LayerNorm(channels)
            self.attn_audio = Attention(channels, config.audio_context_width, heads=heads)
            nn.init.zeros_(self.attn_audio.to_out[0].weight)
            nn.init.zeros_(self.attn_audio.to_out[0].bias)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, multiplier=config.feed_forward_multiplier)

    def forward(self, x: Tensor, *, codes: Tensor | None, reference: Look = None, audio: Look = None) -> tuple[Tensor, Tensor]:
        """x (B F, N, C) -> (x, feature): what self-attention reads, (B F, N, C), is the reference net's feature.

        reference (B, N, C) is shared by the frames of a video; audio (B F, M, D) belongs to each frame.
        """
        feature = self.norm1(x)
        x = x + self.attn1(feature, codes=codes)
        if reference is not None:
            x = look(x, reference, lambda seen, x: add_attention(self.attn2, self.norm2, x, seen, codes=codes))
        if audio is not None:
            x = look(x, audio, lambda heard, x: add_attention(self.attn_audio, self.norm_audio, x, heard))
        return into(x, self.ff(self.norm3(x))), feature


class JoinedTransformerBlock(nn.Module):
    """Hallo's: self-attention looks at the portrait's tokens as well, cross-attention at identity tokens; then the feed-forward.

    The same in reference net and backbone; the parameters are those of SD 1.5, text attention included.
    """

    def __init__(self, config: ModelConfig, channels: int):
        super().__init__()
        heads = config.attention_heads
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, heads=heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, config.hallo.identity_context_width, heads=heads)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, multiplier=config.feed_forward_multiplier)

    def forward(self, x: Tensor, identity: Look, *, reference: Look = None) -> tuple[Tensor, Tensor]:
        """x (B F, N, C), identity (B, M, D), reference (B, N, C) or (B, T, N, C), of T portraits that frames look at by turns.

        Returns (x, feature), as `TransformerBlock`.
        """
        feature = self.norm1(x)
        x = x + self.attn1(feature, joined=reference)
        x = look(x, identity, lambda seen, x: add_attention(self.attn2, self.norm2, x, seen))
        return into(x, self.ff(self.norm3(x))), feature


class FeatureEnd(nn.Module):
    """The reference net's last transformer block: nothing behind its feature is ever read, so only the norm remains."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)


class SpatialTransformer(nn.Module):
    """diffusers' Transformer2DModel with one block: the tokens of a frame look at each other, the portrait and the voice."""

    def __init__(self, config: ModelConfig, channels: int, *, is_backbone: bool, is_last_feature: bool = False):
        super().__init__()
        self.has_positions = config.reference_positions
        self.norm = GroupNorm(config.norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.is_last_feature = is_last_feature
        if is_last_feature:
            self.transformer_blocks = nn.ModuleList([FeatureEnd(channels)])
            return
        self.transformer_blocks = nn.ModuleList([JoinedTransformerBlock(config, channels) if config.hallo else
                                                 TransformerBlock(config, channels, is_backbone=is_backbone)])
        self.proj_out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def project(self, reference: Tensor | Zeros, *, like: Tensor | None = None) -> KeysValues | Answer:
        """The portrait's tokens (..., N, C), those of a square, as the block's attention reads them; EMO's may be `ZEROS`."""
        block = self.transformer_blocks[0]
        if isinstance(reference, Zeros):
            return block.attn2.project(reference, like=like)
        if isinstance(block, JoinedTransformerBlock):
            return block.attn1.project(reference)
        side = math.isqrt(reference.shape[-2])
        return block.attn2.project(reference, codes=self.codes(side, side, like=reference))

    def project_identity(self, identity: Tensor) -> KeysValues:
        """Identity tokens (B, M, D), as Hallo's blocks read them."""
        return self.transformer_blocks[0].attn2.project(identity)

    def project_audio(self, audio: Tensor | Zeros, *, like: Tensor) -> KeysValues | Answer:
        """The voice (B F, M, D), as EMO's blocks read it; if it is `ZEROS`, the answer is as `like` is."""
        return self.transformer_blocks[0].attn_audio.project(audio, like=like)

    def codes(self, height: int, width: int, *, like: Tensor) -> Tensor | None:
        """(N, C): where each token lies, for models that are told; in the device and dtype of `like`."""
        return grid_codes(height, width, self.norm.num_channels, like=like) if self.has_positions else None

    def forward(self, x: Tensor, *, reference: Look = None, audio: Look = None, identity: Look = None,
                codes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B F, C, H, W), which is written into -> (x, feature (B F, N, C)).

        identity (B, M, D) is for Hallo's blocks, audio for EMO's; codes: what `codes` says of (H, W), to spare it.
        """
        height, width = x.shape[-2:]
        tokens = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c")
        if self.is_last_feature:
            return x, self.transformer_blocks[0].norm1(tokens)
        if identity is None:
            codes = self.codes(height, width, like=tokens) if codes is None else codes
            tokens, feature = self.transformer_blocks[0](tokens, codes=codes, reference=reference, audio=audio)
        else:
            tokens, feature = self.transformer_blocks[0](tokens, identity, reference=reference)
        return into(for_groups(x, len(tokens)), self.proj_out(rearrange(tokens, "b (h w) c -> b c h w", h=height))), feature

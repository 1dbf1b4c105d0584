"""Building blocks of the SD 1.5 skeleton, named as in diffusers: resnet block, resampling, spatial transformer."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import ModelConfig
from .attention import Attention, FeedForward, KeysValues, grid_codes


def per_frame(x: Tensor, rows: int) -> Tensor:
    """x (B, ...) of B videos, repeated for their `rows` frames in all; unchanged where it can be broadcast."""
    return x if 1 in (len(x), rows) else x.repeat_interleave(rows // len(x), dim=0)


class ResnetBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, time_channels: int, *, groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=1e-5)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_channels, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps=1e-5)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B F, C, H, W), time (B, C'), the output of `time_emb_proj` -> (B F, C', H, W)."""
        hidden = self.conv1(F.silu(self.norm1(x))) + per_frame(time, len(x))[:, :, None, None]
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        return hidden + (x if self.conv_shortcut is None else self.conv_shortcut(x))


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


class TransformerBlock(nn.Module):
    """Self-attention, then (backbone only) reference attention and audio attention, then the feed-forward.

    EMO puts reference attention where SD 1.5 has text cross-attention, hence the names norm2 and attn2.
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

    def forward(
        self,
        x: Tensor,
        *,
        codes: Tensor | None = None,
        reference: Tensor | KeysValues | None = None,
        audio: Tensor | KeysValues | None = None,
    ) -> tuple[Tensor, Tensor]:
        """x (B F, N, C) -> (x, feature (B F, N, C)); the input of self-attention is the reference net's feature.

        reference (B, N, C) is shared by the frames of a video, audio (B F, M, D) is per frame; codes (N, C): positions.
        """
        feature = self.norm1(x)
        x = x + self.attn1(feature, codes=codes)
        if reference is not None:
            x = x + self.attn2(self.norm2(x), reference, codes=codes)
        if audio is not None:
            x = x + self.attn_audio(self.norm_audio(x), audio)
        return x + self.ff(self.norm3(x)), feature


class JoinedTransformerBlock(nn.Module):
    """Hallo's: self-attention over the frame's and the portrait's tokens, attention to identity tokens, feed-forward.

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

    def forward(self, x: Tensor, identity: KeysValues, *, reference: KeysValues | None = None) -> tuple[Tensor, Tensor]:
        """x (B F, N, C), identity (B, M, C), reference (R, T, N', C), of the first R <= B videos -> (x, feature)."""
        feature = self.norm1(x)
        x = x + self._attend_to_both(feature, reference, frames=len(x) // len(identity.keys))
        x = x + self.attn2(self.norm2(x), identity)
        return x + self.ff(self.norm3(x)), feature

    def _attend_to_both(self, feature: Tensor, reference: KeysValues | None, *, frames: int) -> Tensor:
        """Self-attention; frame f also attends to portrait f % T of its video. Videos beyond R have no portrait."""
        own = self.attn1.project(feature)
        if reference is None:
            return self.attn1(feature, own)
        turns = torch.arange(frames, device=feature.device) % reference.keys.shape[1]
        portrait = KeysValues(*(x[:, turns].flatten(0, 1) for x in reference))  # (R F, N', C)
        rows = len(portrait.keys)
        attended = self.attn1(feature[:rows], own.rows(slice(rows)).followed_by(portrait))
        if rows == len(feature):
            return attended
        return torch.cat([attended, self.attn1(feature[rows:], own.rows(slice(rows, None)))])


class FeatureEnd(nn.Module):
    """The reference net's last transformer block: only its feature is used, so it ends at the first norm."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)


class SpatialTransformer(nn.Module):
    """diffusers' Transformer2DModel with one block: a frame's cells attend to each other, the portrait, the audio."""

    def __init__(self, config: ModelConfig, channels: int, *, is_backbone: bool, is_last_feature: bool = False):
        super().__init__()
        self.has_positions = config.reference_positions
        self.norm = nn.GroupNorm(config.norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.is_last_feature, self.is_joined = is_last_feature, config.hallo is not None
        if is_last_feature:
            self.transformer_blocks = nn.ModuleList([FeatureEnd(channels)])
            return
        if self.is_joined:
            block = JoinedTransformerBlock(config, channels)
        else:
            block = TransformerBlock(config, channels, is_backbone=is_backbone)
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def project_reference(self, feature: Tensor) -> KeysValues:
        """Keys and values of the portrait's feature (B, N, C), of a square; for Hallo (B, T, N, C), of T portraits."""
        block = self.transformer_blocks[0]
        if self.is_joined:
            return block.attn1.project(feature if feature.ndim == 4 else feature[:, None])
        return block.attn2.project(feature, codes=self.codes(feature))

    def project_identity(self, identity: Tensor) -> KeysValues:
        """Keys and values of identity tokens (B, M, D), for Hallo's blocks."""
        return self.transformer_blocks[0].attn2.project(identity)

    def project_audio(self, audio: Tensor) -> KeysValues:
        """Keys and values of audio tokens (B F, M, D), for EMO's blocks."""
        return self.transformer_blocks[0].attn_audio.project(audio)

    def codes(self, tokens: Tensor, *, height: int | None = None) -> Tensor | None:
        """(N, C): positions of the cells of tokens (B, N, C), of a square by default; None for models without."""
        cells, channels = tokens.shape[-2:]
        height = height or math.isqrt(cells)
        return grid_codes(height, cells // height, channels, like=tokens) if self.has_positions else None

    def forward(
        self,
        x: Tensor,
        *,
        reference: KeysValues | None = None,
        audio: KeysValues | None = None,
        identity: KeysValues | None = None,
        codes: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """x (B F, C, H, W) -> (x, feature (B F, N, C)).

        identity is for Hallo's blocks, audio for EMO's; codes: the output of `codes` for (H, W), if known.
        """
        height = x.shape[-2]
        tokens = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c")
        block = self.transformer_blocks[0]
        if self.is_last_feature:
            return x, block.norm1(tokens)
        if self.is_joined:
            tokens, feature = block(tokens, identity, reference=reference)
        else:
            codes = self.codes(tokens, height=height) if codes is None else codes
            tokens, feature = block(tokens, codes=codes, reference=reference, audio=audio)
        return x + self.proj_out(rearrange(tokens, "b (h w) c -> b c h w", h=height)), feature

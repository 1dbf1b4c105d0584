"""Building blocks of the SD 1.5 skeleton, named as in diffusers: resnet block, resampling, and the spatial transformer."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import ModelConfig
from .attention import Attention, FeedForward, grid_codes


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
        """x (B, C, H, W), time (B, T) -> (B, C', H, W)."""
        hidden = self.conv1(F.silu(self.norm1(x))) + self.time_emb_proj(F.silu(time))[:, :, None, None]
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

    def forward(self, x: Tensor, *, codes: Tensor | None, reference: Tensor | None = None,
                audio: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B F, N, C) -> (x, feature): what self-attention reads, (B F, N, C), is the reference net's feature.

        reference (B, N, C) is shared by the frames of a video; audio (B F, M, D) belongs to each frame.
        """
        feature = self.norm1(x)
        x = x + self.attn1(feature, codes=codes)
        if reference is not None:
            frames = len(x) // len(reference)
            query = rearrange(self.norm2(x), "(b f) n c -> b (f n) c", f=frames)
            query_codes = None if codes is None else codes.repeat(frames, 1)
            seen = self.attn2(query, reference, codes=query_codes, context_codes=codes)
            x = x + rearrange(seen, "b (f n) c -> (b f) n c", f=frames)
        if audio is not None:
            x = x + self.attn_audio(self.norm_audio(x), audio)
        return x + self.ff(self.norm3(x)), feature


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
        self.attn2 = Attention(channels, config.identity_context_width, heads=heads)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, multiplier=config.feed_forward_multiplier)

    def forward(self, x: Tensor, identity: Tensor, *, reference: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B F, N, C), identity (B, M, D), reference (B, N, C) or (B, G, N, C), of G portraits that frames look at by turns.

        Returns (x, feature), as `TransformerBlock`.
        """
        feature = self.norm1(x)
        x = x + self.attn1(feature, joined=reference[:, None] if reference is not None and reference.ndim == 3 else reference)
        x = x + self.attn2(self.norm2(x), identity.repeat_interleave(len(x) // len(identity), dim=0))
        return x + self.ff(self.norm3(x)), feature


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
        self.norm = nn.GroupNorm(config.norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.is_last_feature = is_last_feature
        if is_last_feature:
            self.transformer_blocks = nn.ModuleList([FeatureEnd(channels)])
            return
        is_joined = config.reference_attention == "joined"
        self.transformer_blocks = nn.ModuleList([JoinedTransformerBlock(config, channels) if is_joined else
                                                 TransformerBlock(config, channels, is_backbone=is_backbone)])
        self.proj_out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor, *, reference: Tensor | None = None, audio: Tensor | None = None,
                identity: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B F, C, H, W) -> (x, feature (B F, N, C)); identity (B, M, D) for Hallo's blocks, audio for EMO's."""
        height, width = x.shape[-2:]
        tokens = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c")
        if self.is_last_feature:
            return x, self.transformer_blocks[0].norm1(tokens)
        if identity is None:
            codes = grid_codes(height, width, tokens.shape[-1], like=tokens) if self.has_positions else None
            tokens, feature = self.transformer_blocks[0](tokens, codes=codes, reference=reference, audio=audio)
        else:
            tokens, feature = self.transformer_blocks[0](tokens, identity, reference=reference)
        return x + self.proj_out(rearrange(tokens, "b (h w) c -> b c h w", h=height)), feature

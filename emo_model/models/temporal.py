"""Temporal module: attention over motion frames and frames, and to the head speed (EMO, 'Temporal Modules')."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, is_grad_enabled, nn

from ..config import ModelConfig
from .attention import Attention, FeedForward, KeysValues, frame_codes


class MotionContext(NamedTuple):
    """The motion frames of a temporal module, computed once per clip: (B N, n, C) each.

    keys_values: for the first self-attention; tokens, and normed, its input: only where there is a second one.
    """

    keys_values: KeysValues
    tokens: Tensor | None
    normed: Tensor | None


class TemporalBlock(nn.Module):
    """Self-attention over frames (one or two, as in AnimateDiff), speed attention, feed-forward.

    EMO leaves open: where in a temporal layer the speed is read.
    """

    def __init__(self, config: ModelConfig, channels: int):
        super().__init__()
        heads = config.temporal_heads or config.attention_heads
        self.has_second = config.temporal_attentions == 2
        for index in range(1, config.temporal_attentions + 1):  # norm1, attn1, norm2, attn2: diffusers' names
            self.add_module(f"norm{index}", nn.LayerNorm(channels))
            self.add_module(f"attn{index}", Attention(channels, heads=heads, is_small=True))
        if config.speed_centres:
            self.norm_speed = nn.LayerNorm(channels)
            self.attn_speed = Attention(channels, config.speed_width, heads=heads)
            nn.init.zeros_(self.attn_speed.to_out[0].weight)
            nn.init.zeros_(self.attn_speed.to_out[0].bias)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, multiplier=config.feed_forward_multiplier)

    def project(self, tokens: Tensor) -> MotionContext:
        """tokens (B N, n, C) of the motion frames -> their keys and values."""
        # as in AnimateDiff, values have codes
        normed = self.norm1(tokens) + frame_codes(*tokens.shape[1:], like=tokens)
        return MotionContext(self.attn1.project(normed), *((tokens, normed) if self.has_second else (None, None)))

    def forward(self, x: Tensor, motion: MotionContext, speed: Tensor | KeysValues | None) -> Tensor:
        """x (B N, F, C), speed (B, F, D) or its keys and values -> (B N, F, C), without the motion frames."""
        n = motion.keys_values.keys.shape[1]
        codes = frame_codes(n + x.shape[1], x.shape[2], like=x)
        normed = self.norm1(x) + codes[n:]
        keys_values = motion.keys_values.followed_by(self.attn1.project(normed))
        if self.has_second:
            x = torch.cat([motion.tokens, x], dim=1)
            x = x + self.attn1(torch.cat([motion.normed, normed], dim=1), keys_values)
            normed = self.norm2(x) + codes
            x = x[:, n:] + self.attn2(normed[:, n:], normed)
        else:
            x = x + self.attn1(normed, keys_values)
        if speed is not None:
            x = x + self.attn_speed(self.norm_speed(x), speed)
        return x + self.ff(self.norm3(x))


class TemporalModule(nn.Module):
    """Each cell attends along time, over the motion frames and its own frames; zero output before training."""

    def __init__(self, config: ModelConfig, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(config.norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(config, channels)])
        self.proj_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def project(self, motion: Tensor) -> MotionContext:
        """Prepare motion (B, n, N, C), the features of the motion frames (zeros for the first clip), for `forward`."""
        if is_grad_enabled() and not motion.requires_grad:
            # torch's CPU group norm crashes where only its weight requires a gradient
            motion = motion.detach().requires_grad_()
        normed = self.norm(rearrange(motion, "b m n c -> (b m) c 1 n"))  # over a frame, whatever its shape
        tokens = rearrange(normed, "(b m) c 1 n -> (b n) m c", b=len(motion)).contiguous()
        return self.transformer_blocks[0].project(self.proj_in(tokens))

    def project_speed(self, speed: Tensor) -> KeysValues:
        return self.transformer_blocks[0].attn_speed.project(speed)

    def forward(self, x: Tensor, motion: Tensor | MotionContext, speed: Tensor | KeysValues | None) -> Tensor:
        """x (B F, C, H, W), motion (B, n, N, C) and speed (B, F, D), projected or not -> (B F, C, H, W)."""
        motion = motion if isinstance(motion, MotionContext) else self.project(motion)
        height, width = x.shape[-2:]
        batch = len(motion.keys_values.keys) // (height * width)
        tokens = self.proj_in(rearrange(self.norm(x), "(b f) c h w -> (b h w) f c", b=batch))
        tokens = self.proj_out(self.transformer_blocks[0](tokens, motion, speed))
        tokens = rearrange(tokens, "(b h w) f c -> b f c h w", b=batch, h=height)  # a view
        return (rearrange(x, "(b f) c h w -> b f c h w", b=batch) + tokens).flatten(0, 1)

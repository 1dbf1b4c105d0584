"""Temporal module with motion frames and speed attention (EMO, arXiv 2402.17485, 'Temporal Modules' and 'Speed Layers')."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, cat, nn

from ..config import ModelConfig
from .attention import Attention, FeedForward, frame_codes


class TemporalBlock(nn.Module):
    """Self-attention over frames (one or two, as in AnimateDiff), speed attention, feed-forward.

    EMO leaves open: where in a temporal layer the speed is read.
    """

    def __init__(self, config: ModelConfig, channels: int):
        super().__init__()
        heads = config.attention_heads
        self.self_attentions = config.temporal_attentions
        for index in range(1, config.temporal_attentions + 1):  # norm1, attn1, norm2, attn2: diffusers' names
            self.add_module(f"norm{index}", nn.LayerNorm(channels))
            self.add_module(f"attn{index}", Attention(channels, heads=heads))
        if config.speed_centres:
            self.norm_speed = nn.LayerNorm(channels)
            self.attn_speed = Attention(channels, config.speed_width, heads=heads)
            nn.init.zeros_(self.attn_speed.to_out[0].weight)
            nn.init.zeros_(self.attn_speed.to_out[0].bias)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, multiplier=config.feed_forward_multiplier)

    def forward(self, x: Tensor, *, motion_frames: int, speed: Tensor | None) -> Tensor:
        """x (B N, n + F, C), speed (B, F, D) or None -> (B N, F, C): motion frames are heard and then dropped."""
        codes = frame_codes(x.shape[1], x.shape[2], like=x)
        for index in range(1, self.self_attentions + 1):
            norm, attention = getattr(self, f"norm{index}"), getattr(self, f"attn{index}")
            normed = norm(x) + codes  # AnimateDiff adds the codes for values as well
            if index == self.self_attentions:  # nobody reads the motion frames' own answers from here on
                x = x[:, motion_frames:] + attention(normed[:, motion_frames:], normed)
            else:
                x = x + attention(normed)
        if speed is not None:
            cells, frames = len(x) // len(speed), x.shape[1]
            query = rearrange(self.norm_speed(x), "(b n) f c -> b (n f) c", n=cells)
            x = x + rearrange(self.attn_speed(query, speed), "b (n f) c -> (b n) f c", f=frames)
        return x + self.ff(self.norm3(x))


class TemporalModule(nn.Module):
    """Every cell of the picture looks along time, at the motion frames first; starts as the identity (zero output)."""

    def __init__(self, config: ModelConfig, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(config.norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(config, channels)])
        self.proj_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor, motion: Tensor, speed: Tensor | None) -> Tensor:
        """x (B F, C, H, W), motion (B, n, N, C): features of the motion frames, zeros for the first clip -> (B F, C, H, W)."""
        batch, motion_frames = motion.shape[:2]
        height, width = x.shape[-2:]
        earlier = rearrange(motion, "b m (h w) c -> (b m) c h w", h=height)
        both = self.norm(cat([x, earlier.to(x.dtype)]))  # the norm is per frame, so the two may share a batch
        frames = rearrange(both[:len(x)], "(b f) c h w -> (b h w) f c", b=batch)
        earlier = rearrange(both[len(x):], "(b m) c h w -> (b h w) m c", b=batch)
        tokens = self.proj_in(cat([earlier, frames], dim=1))  # (B N, n + F, C)
        tokens = self.proj_out(self.transformer_blocks[0](tokens, motion_frames=motion_frames, speed=speed))
        return x + rearrange(tokens, "(b h w) f c -> (b f) c h w", b=batch, h=height)

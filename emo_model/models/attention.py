"""The one attention, the feed-forward, and sinusoidal codes; parameters are named as in diffusers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention; self-, reference-, audio-, temporal and speed attention differ only in `context`."""

    def __init__(self, channels: int, context_channels: int | None = None, *, heads: int):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_channels or channels, channels, bias=False)
        self.to_v = nn.Linear(context_channels or channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor, context: Tensor | None = None, *, codes: Tensor | None = None,
                context_codes: Tensor | None = None, joined: Tensor | None = None) -> Tensor:
        """x (B, N, C) looks at context (B, M, D), or at itself if None; returns (B, N, C).

        codes (N, C) and context_codes (M, D) tell queries and keys their places; values do not see them.
        joined (B / F, G, M', D): further tokens for F frames to look at, projected once; if G > 1, frames take them by turns.
        """
        if context is None:
            context, context_codes = x, codes
        q = self.to_q(x if codes is None else x + codes)
        k = self.to_k(context if context_codes is None else context + context_codes)
        v = self.to_v(context)
        if joined is not None:
            turns = torch.arange(len(x) // len(joined), device=x.device) % joined.shape[1]
            k, v = (torch.cat([own, project(joined)[:, turns].flatten(0, 1)], dim=1)
                    for own, project in ((k, self.to_k), (v, self.to_v)))
        q, k, v = (rearrange(part, "b n (h d) -> b h n d", h=self.heads) for part in (q, k, v))
        return self.to_out[0](rearrange(_attend(q, k, v), "b h n d -> b n (h d)"))


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:  # backwards, torch's CPU kernel is four times slower in bfloat16
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v)


class GEGLU(nn.Module):
    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(channels, inner * 2)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU feed-forward; `net` has the places of diffusers' (0 the gate, 1 a dropout, 2 the way back)."""

    def __init__(self, channels: int, *, multiplier: int):
        super().__init__()
        self.net = nn.ModuleList([GEGLU(channels, channels * multiplier), nn.Identity(), nn.Linear(channels * multiplier, channels)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


def sinusoidal(places: Tensor, channels: int, *, max_period: float = 10_000.0) -> Tensor:
    """places (..., ) -> codes (..., channels), cosines before sines, float32 (SD 1.5's timestep embedding)."""
    half = channels // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, device=places.device, dtype=torch.float32) / half)
    angles = places.float()[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def frame_codes(frames: int, channels: int, *, like: Tensor) -> Tensor:
    """(F, C): AnimateDiff's codes, sines and cosines interleaved, in the device and dtype of `like`."""
    frequencies = torch.exp(torch.arange(0, channels, 2, device=like.device) * (-math.log(10_000.0) / channels))
    angles = torch.arange(frames, device=like.device)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(like.dtype)


def grid_codes(height: int, width: int, channels: int, *, like: Tensor) -> Tensor:
    """(N, C): where a cell lies in the picture; half of the channels for its row, half for its column."""
    rows, columns = torch.meshgrid(torch.arange(height, device=like.device), torch.arange(width, device=like.device), indexing="ij")
    places = torch.stack([rows / height, columns / width], dim=-1).reshape(-1, 2) * 8 * math.pi  # several turns across the picture
    return sinusoidal(places, channels // 2, max_period=64.0).flatten(1).to(like.dtype)

"""The one attention, the feed-forward, and sinusoidal codes; parameters are named as in diffusers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Attend = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(queries (B, N, C), keys (B, M, C), values (B, M, C), heads) -> (B, N, C)"""

MOST_SEQUENCES = 2**15  # at once: kernels number them in a dimension of CUDA's grid that ends at 65535


def dot_product(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Softmax attention by torch's own kernels, an `Attend`; heads are views, so no input is copied."""
    if q.device.type == "cuda" and len(q) > MOST_SEQUENCES:
        parts = zip(*(x.split(MOST_SEQUENCES) for x in (q, k, v)), strict=True)
        return torch.cat([dot_product(*part, heads) for part in parts])
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:  # the backward kernel is four times slower in bfloat16
        with torch.autocast("cpu", enabled=False):
            attended = F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(q.dtype)
    else:
        attended = F.scaled_dot_product_attention(q, k, v)
    return attended.transpose(1, 2).flatten(2)


class KeysValues(NamedTuple):
    """Projected context tokens, (B, M, C) each; computed once per clip where they do not depend on the noise."""

    keys: Tensor
    values: Tensor

    def followed_by(self, other: KeysValues) -> KeysValues:
        """(B, M + M', C): the tokens of both, row by row."""
        return KeysValues(torch.cat([self.keys, other.keys], dim=1), torch.cat([self.values, other.values], dim=1))

    def rows(self, some: slice) -> KeysValues:
        return KeysValues(self.keys[some], self.values[some])


class Attention(nn.Module):
    """Multi-head attention; self-, reference-, audio-, temporal and speed attention differ only in `context`.

    attend: the kernel, which may be replaced in each attention; is_small: few tokens in very many sequences, for which
    another kernel may be faster.
    """

    def __init__(self, channels: int, context_channels: int | None = None, *, heads: int, is_small: bool = False):
        super().__init__()
        self.heads, self.is_small = heads, is_small
        self.attend: Attend = dot_product
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_channels or channels, channels, bias=False)
        self.to_v = nn.Linear(context_channels or channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def project(self, context: Tensor, *, codes: Tensor | None = None) -> KeysValues:
        """Keys and values of context (..., M, D); codes (M, D) are added for the keys only."""
        return KeysValues(self.to_k(context if codes is None else context + codes), self.to_v(context))

    def forward(self, x: Tensor, context: Tensor | KeysValues | None = None, *, codes: Tensor | None = None) -> Tensor:
        """x (B, N, C) attends to context (B / F, M, D), shared by F consecutive rows, or its keys and values.

        context None: x itself. codes (N, C): positions, added to x for the queries (and the keys of self-attention).
        Returns (B, N, C).
        """
        q = self.to_q(x if codes is None else x + codes)
        if not isinstance(context, KeysValues):
            context = self.project(x, codes=codes) if context is None else self.project(context)
        rows = q.reshape(len(context.keys), -1, q.shape[-1])  # rows that share a context are one long row
        return self.to_out[0](self.attend(rows, *context, self.heads).reshape(q.shape))


class GEGLU(nn.Module):
    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(channels, inner * 2)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU feed-forward; `net` is numbered as in diffusers (0 gate, 1 dropout, 2 output)."""

    def __init__(self, channels: int, *, multiplier: int):
        super().__init__()
        inner = channels * multiplier
        self.net = nn.ModuleList([GEGLU(channels, inner), nn.Identity(), nn.Linear(inner, channels)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


def sinusoidal(positions: Tensor, channels: int, *, max_period: float = 10_000.0) -> Tensor:
    """positions (...) -> codes (..., channels), cosines before sines, float32 (SD 1.5's timestep embedding)."""
    half = channels // 2
    steps = torch.arange(half, device=positions.device, dtype=torch.float32)
    frequencies = torch.exp(-math.log(max_period) * steps / half)
    angles = positions.float()[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def frame_codes(frames: int, channels: int, *, like: Tensor) -> Tensor:
    """(F, C): AnimateDiff's codes, sines and cosines interleaved, in the device and dtype of `like`."""
    frequencies = torch.exp(torch.arange(0, channels, 2, device=like.device) * (-math.log(10_000.0) / channels))
    angles = torch.arange(frames, device=like.device)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(like.dtype)


def grid_codes(height: int, width: int, channels: int, *, like: Tensor) -> Tensor:
    """(N, C): the position of each cell in the picture; half of the channels for its row, half for its column."""
    places = (torch.arange(count, device=like.device) for count in (height, width))
    rows, columns = torch.meshgrid(*places, indexing="ij")
    positions = torch.stack([rows / height, columns / width], dim=-1).reshape(-1, 2) * 8 * math.pi  # several periods
    return sinusoidal(positions, channels // 2, max_period=64.0).flatten(1).to(like.dtype)

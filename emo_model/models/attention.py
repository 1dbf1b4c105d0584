"""The one attention, the feed-forward, and sinusoidal codes; parameters are named as in diffusers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .seen import Answer, Groups, KeysValues, Zeros, must_copy

Attend = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(queries (B, N, C), keys (B, M, C), values (B, M, C), heads) -> answers (B, N, C)"""

MOST_SEQUENCES = 2**15  # at once: kernels number them in a dimension of CUDA's grid that ends at 65535


def dot_product(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Softmax attention by torch's own kernels, an `Attend`; heads are views, so nothing is copied on the way in."""
    if q.device.type == "cuda" and len(q) > MOST_SEQUENCES:
        parts = zip(*(x.split(MOST_SEQUENCES) for x in (q, k, v)), strict=True)
        return torch.cat([dot_product(*part, heads) for part in parts])
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:  # backwards, torch's CPU kernel is four times slower in bfloat16
        with torch.autocast("cpu", enabled=False):
            answers = F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(q.dtype)
    else:
        answers = F.scaled_dot_product_attention(q, k, v)
    return answers.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Multi-head attention; self-, reference-, audio-, temporal and speed attention differ only in `context`.

    attend: the kernel, which may be replaced in each attention; is_small: few tokens in very many sequences, for which another
    kernel may be the faster.
    """

    def __init__(self, channels: int, context_channels: int | None = None, *, heads: int, is_small: bool = False):
        super().__init__()
        self.heads, self.is_small = heads, is_small
        self.attend: Attend = dot_product
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_channels or channels, channels, bias=False)
        self.to_v = nn.Linear(context_channels or channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def project(self, context: Tensor | Zeros, *, codes: Tensor | None = None,
                like: Tensor | None = None) -> KeysValues | Answer:
        """What is looked at (..., M, D) as keys and values, for any number of calls; of `ZEROS` the answer itself, as `like` is.

        codes (M, D) tell the keys their places; values do not see them.
        """
        if isinstance(context, Zeros):  # values of zeros are zeros, whatever the keys
            return Answer(self.to_out[0](like.new_zeros(1, 1, self.to_out[0].in_features)))
        return KeysValues(self.to_k(context if codes is None else context + codes), self.to_v(context))

    def forward(self, x: Tensor, context: Tensor | KeysValues | None = None, *, codes: Tensor | None = None,
                context_codes: Tensor | None = None, joined: Tensor | KeysValues | Groups | None = None) -> Tensor:
        """x (B, N, C) looks at context (B / F, M, D), which F rows share, projected or not, or at itself if None -> (B, N, C).

        codes (N, C) tell queries their places, context_codes (M, D) keys that are yet to be projected.
        joined (B / F, M', D) or (B / F, T, M', D): further tokens for F rows to look at; of T, rows take them by turns.
        """
        if context is None:
            context, context_codes = x, codes
        q = self.to_q(x if codes is None else x + codes)
        seen = context if isinstance(context, KeysValues) else self.project(context, codes=context_codes)
        return self.answer(q, seen, joined=joined)

    def answer(self, queries: Tensor, seen: KeysValues, *, joined: Tensor | KeysValues | Groups | None = None) -> Tensor:
        """`forward` of what is projected already."""
        if isinstance(joined, Groups):
            answers = joined.each(self._joined, queries, seen.keys, seen.values)
        else:
            answers = self._joined(joined, queries, seen.keys, seen.values)
        return self.to_out[0](answers)

    def _joined(self, joined: Tensor | KeysValues | None, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if joined is not None:
            joined = joined if isinstance(joined, KeysValues) else self.project(joined)
            k, v = _beside(k, joined.keys), _beside(v, joined.values)
        if len(k) == len(q):
            return self.attend(q, k, v, self.heads)
        together = q.unflatten(0, (len(k), -1))  # rows that look at the same are one long row
        return self.attend(together.flatten(1, 2), k, v, self.heads).view(q.shape)


def _beside(own: Tensor, other: Tensor) -> Tensor:
    """own (B F, N, C), other (B, M, C) or (B, T, M, C), of which frames take turns -> (B F, N + M, C), each copied once."""
    videos, turns = len(other), 1 if other.ndim == 3 else other.shape[1]
    other = other.view(videos, 1, turns, *other.shape[-2:])
    frames = len(own) // videos
    if frames % turns:
        others = other[:, 0, torch.arange(frames, device=own.device) % turns].flatten(0, 1)
        return torch.cat([own, others], dim=1)
    own = own.unflatten(0, (videos, -1, turns))
    return torch.cat([own, other.expand(-1, own.shape[1], -1, -1, -1)], dim=3).flatten(0, 2)


class GEGLU(nn.Module):
    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(channels, inner * 2)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        gate = F.gelu(gate)
        return x * gate if must_copy() else gate.mul_(x)


class FeedForward(nn.Module):
    """GEGLU feed-forward; `net` has the places of diffusers' (0 the gate, 1 a dropout, 2 the way back)."""

    def __init__(self, channels: int, *, multiplier: int):
        super().__init__()
        self.net = nn.ModuleList([GEGLU(channels, channels * multiplier), nn.Identity(),
                                  nn.Linear(channels * multiplier, channels)])

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
    rows, columns = torch.meshgrid(torch.arange(height, device=like.device), torch.arange(width, device=like.device),
                                   indexing="ij")
    places = torch.stack([rows / height, columns / width], dim=-1).reshape(-1, 2) * 8 * math.pi  # several turns across a picture
    return sinusoidal(places, channels // 2, max_period=64.0).flatten(1).to(like.dtype)

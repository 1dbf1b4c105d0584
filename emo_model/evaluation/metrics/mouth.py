"""Closed lips where the voice closes them: at p, b and m, and in pauses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CLOSED = 0.5  # of the closure track, from where on lips are meant to be shut
ROOM = 0.01  # distances of the outer eye corners; about the noise of the reading


def limit(opening: Tensor, where: Tensor) -> float:
    """The reading up to which lips count as shut: what the puppet's own frames, opening (F,), stay below in nine of ten
    frames `where` (F,) bool its lips are shut, or as shut as the portrait has them; nan without such frames."""
    return opening[where].quantile(0.9).item() + ROOM if where.any() else math.nan


def closures(opening: Tensor, closure: Tensor, *, limit: float, reach: int = 1) -> list[bool]:
    """For each stretch of frames whose closure track (F,) is above one half: whether the lips, opening (F,) as read,
    come as near as `limit` in it or `reach` frames beside it."""
    meant = torch.nn.functional.pad((closure > CLOSED).int(), (1, 1)).diff()
    starts, ends = (meant == 1).nonzero().flatten().tolist(), (meant == -1).nonzero().flatten().tolist()
    return [
        bool((opening[max(0, start - reach) : end + reach] <= limit).any())
        for start, end in zip(starts, ends, strict=True)
    ]

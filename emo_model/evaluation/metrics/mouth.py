"""Closed lips where the voice closes them: at p, b and m, and in pauses."""

from __future__ import annotations

import torch
from torch import Tensor

CLOSED = 0.5  # of the closure track, from where on lips are meant to be shut
SHUT_ROOM = 0.02  # distances of the outer eye corners that lips read as shut may be further apart than the portrait's own


def shut_below(rest: float, opening: Tensor) -> float:
    """The reading below which lips count as shut: a little above what is read in the portrait (`rest`), whose lips are nearly
    always shut, or in the most shut tenth of the truth's frames (opening (F,), read) where the portrait's are not."""
    return min(rest, opening.quantile(0.1).item() + SHUT_ROOM) + SHUT_ROOM


def closures(opening: Tensor, closure: Tensor, *, limit: float, reach: int = 1) -> list[bool]:
    """For each stretch of frames whose closure track (F,) is above one half: whether the lips, opening (F,) as read, come as near
    as `limit` in it or `reach` frames beside it."""
    meant = torch.nn.functional.pad((closure > CLOSED).int(), (1, 1)).diff()
    starts, ends = (meant == 1).nonzero().flatten().tolist(), (meant == -1).nonzero().flatten().tolist()
    return [bool((opening[max(0, start - reach) : end + reach] <= limit).any()) for start, end in zip(starts, ends, strict=True)]

"""Which part of a picture a head moves, where others are near."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..types import Fit

EDGE = 0.15  # difference of distances, in sides of the squares, from which a head moves freely


def neighbours(own: Fit, others: Sequence[Fit]) -> list[Fit]:
    """Those of the other heads whose squares overlap `own`."""
    return [
        other
        for other in others
        if abs(2 * (own.left - other.left) + own.side - other.side) < own.side + other.side
        and abs(2 * (own.top - other.top) + own.side - other.side) < own.side + other.side
    ]


def share_of(own: Fit, others: Sequence[Fit], y: Tensor, x: Tensor) -> Tensor:
    """How freely the head of `own` moves at places y (h,), x (w,) in pixels of the picture: (h, w), 1 near its middle.

    A head's distance from a place is measured in sides of its square, so that large heads reach further. The share is
    smooth, and 0 where another head is as near or nearer: no two heads move the same pixel.
    """
    nearest = torch.stack([_distance(other, y, x) for other in others]).amin(0)
    free = ((nearest - _distance(own, y, x)) / EDGE).clamp(0, 1)
    return free * free * (3 - 2 * free)


def _distance(fit: Fit, y: Tensor, x: Tensor) -> Tensor:
    middle_y, middle_x = fit.top + fit.side / 2, fit.left + fit.side / 2
    return torch.hypot((y[:, None] - middle_y) / fit.side, (x - middle_x) / fit.side)

"""What keeps the flow from folding over, where a piece of the portrait would be seen twice, once mirrored."""

from __future__ import annotations

import torch
from torch import Tensor

NEAREST = 0.5  # of the distance from the resting cells: at 1 the flow would be flat, beyond it folds; above 0.5 the
# bicubic steps between cells fold where this limit begins to hold


def hold_inside(flow: Tensor) -> Tensor:
    """Backward flow (F, 2, n, n) in cells -> no place comes from further towards a border than `NEAREST` of its own
    distance from the outermost cells, which rest: so the flow falls to 0 there without a fold."""
    size = flow.shape[-1]
    room = NEAREST * torch.arange(size, device=flow.device, dtype=flow.dtype)
    before, beyond = -room, room.flip(0)
    x, y = flow.unbind(1)
    return torch.stack([x.clamp(before, beyond), y.clamp(before[:, None], beyond[:, None])], 1)

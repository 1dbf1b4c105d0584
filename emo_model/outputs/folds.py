"""What keeps the flow from folding over, where a piece of the portrait would be seen twice, once mirrored."""

from __future__ import annotations

import torch
from torch import Tensor

NEAREST = 0.5  # of the distance from the resting cells: at 1 the flow would be flat, beyond it folds; above 0.5 the
# bicubic steps between cells fold where this limit begins to hold
LEAST_STEP = 0.3  # cells of the portrait from one cell to the next: below, the bicubic steps between cells fold


def hold_inside(flow: Tensor) -> Tensor:
    """Backward flow (F, 2, n, n) in cells -> no place comes from further towards a border than `NEAREST` of its own
    distance from the outermost cells, which rest: so the flow falls to 0 there without a fold."""
    size = flow.shape[-1]
    room = NEAREST * torch.arange(size, device=flow.device, dtype=flow.dtype)
    before, beyond = -room, room.flip(0)
    x, y = flow.unbind(1)
    return torch.stack([x.clamp(before, beyond), y.clamp(before[:, None], beyond[:, None])], 1)


def in_order(flow: Tensor) -> Tensor:
    """Backward flow (F, 2, n, n) in cells -> along every row and column each place comes from beyond the one before, by
    `LEAST_STEP` at least; half way between what moves the earlier and what moves the later places. What is in order
    already is not changed."""
    moves = []
    for axis in (0, 1):
        dim = 2 - axis  # x along the rows, y along the columns, of (F, n, n)
        steps = (1 - LEAST_STEP) * torch.arange(flow.shape[-1], device=flow.device, dtype=flow.dtype)
        places = flow[:, axis] + (steps if axis == 0 else steps[:, None])
        later = _running_maximum(places, dim)
        earlier = -_running_maximum(-places.flip(dim), dim).flip(dim)
        moves.append((later + earlier) / 2 - places)
    return flow + torch.stack(moves, 1)


def _running_maximum(x: Tensor, dim: int) -> Tensor:
    """As `cummax`, of plain maxima: not every device has that."""
    reach = 1
    while reach < x.shape[dim]:
        rest = x.shape[dim] - reach
        x = torch.cat([x.narrow(dim, 0, reach), torch.maximum(x.narrow(dim, reach, rest), x.narrow(dim, 0, rest))], dim)
        reach *= 2
    return x

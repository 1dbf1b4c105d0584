"""Folds and tears of the flow that moves the portrait, at the working resolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TORN = 3.0  # times that skin may be stretched; lids that shut and the corners of an open mouth come near
UP = 4  # pixels of the working size in a cell of the flow


def determinants(flow: Tensor) -> Tensor:
    """Backward flow (F, 2, n, n) in pixels of its map -> (F, n - 1, n - 1): of the Jacobian of where each pixel comes
    from."""
    along, down = _slopes(flow)
    return along[:, 0] * down[:, 1] - along[:, 1] * down[:, 0]


def stretch(flow: Tensor) -> Tensor:
    """The same flow -> (F, n - 1, n - 1): how many times the portrait's pixels are stretched in the direction of most
    stretch."""
    along, down = _slopes(flow)
    square = along.square().sum(1) + down.square().sum(1)
    determinant = along[:, 0] * down[:, 1] - along[:, 1] * down[:, 0]
    smallest = (square - (square.square() - 4 * determinant.square()).clamp(min=0).sqrt()) / 2
    return smallest.clamp(min=1e-6).rsqrt()


def _slopes(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Change of the source place (x, y) by one pixel to the right, and by one down: (F, 2, n - 1, n - 1) each."""
    along = flow[..., :-1, 1:] - flow[..., :-1, :-1]
    down = flow[..., 1:, :-1] - flow[..., :-1, :-1]
    unit = flow.new_tensor([1.0, 0.0])
    return along + unit[:, None, None], down + unit.flip(0)[:, None, None]


def at_working_size(flow: Tensor) -> Tensor:
    """Flow (F, 2, n, n) in cells -> (F, 2, 4 n, 4 n) in pixels, interpolated as the decoder does."""
    return UP * F.interpolate(flow.float(), scale_factor=UP, mode="bicubic", align_corners=False)


def hidden(mask: Tensor, centre: Tensor, *, mouth_cells: int, cells: int) -> Tensor:
    """Painted share (F, 1, P, P) of the window of `mouth_cells` cells around centre (F, 2) in cells -> (F, 4 n, 4 n)
    bool: what of the working picture is painted over, and a pixel around it."""
    places = (torch.arange(UP * cells) + 0.5) / UP
    x, y = (2 * (places[None] - centre[:, axis, None].float().cpu()) / mouth_cells for axis in (0, 1))
    size = len(places)
    grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], -1)
    painted = F.grid_sample(mask.float().cpu(), grid, padding_mode="zeros", align_corners=False)
    return F.max_pool2d(painted, 3, 1, 1)[:, 0] > 0.5


def measure(flow: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Flow (F, 2, n, n) in pixels, and (F, n, n) bool, what is not looked at -> (F,) the smallest determinant, below 0
    where it folds, and (F,) the share of pixels that are stretched more than threefold."""
    seen = torch.ones_like(flow[:, 0, 1:, 1:], dtype=torch.bool) if hidden is None else ~hidden[:, :-1, :-1]
    folded = determinants(flow).masked_fill(~seen, 1.0).flatten(1).amin(1)
    return folded, ((stretch(flow) > TORN) & seen).flatten(1).float().mean(1)

"""Teeth drawn from numbers: where on the plane of the teeth enamel shows, and how bright it is.

A network trained on many mouths paints the mean of all teeth, a blur. So their edges are drawn, and the network
predicts only their colour and light, and where they show. Differs from EMO: its pixels are painted by a network alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

REACH, STEPS = 0.6, 1201  # tables over -REACH..REACH, in distances of the outer eye corners
EDGE = 0.006  # over which an edge softens
LOWER_BEHIND = 0.94  # brightness of the lower row, which stands further back


@dataclass(frozen=True, eq=False)
class Teeth:
    """Rows of teeth of B mouths; lengths in distances of the outer eye corners, on the plane of the teeth.

    upper, lower: (B, T, 5) of each tooth: left, right, length beyond the row's line, tilt, brightness; lines: (B, 4)
    how far the upper teeth reach below the shut lips, where the lower ones begin on the jaw, half the width of the
    arch, how dark gaps are.
    """

    upper: Tensor
    lower: Tensor
    lines: Tensor

    def table(self) -> Tensor:
        """(B, 9, 1, STEPS) over the place across: for each row its line, root, brightness, and 1 where a tooth is;
        brightness counts from the light, 0..1. The last channel is the highlight of the upper row."""
        across = torch.linspace(-REACH, REACH, STEPS, device=self.upper.device)
        upper_line, lower_line, arch, gap = (self.lines[:, n, None] for n in range(4))
        bend = (across.abs() / arch).clamp(max=1) ** 2
        side = 1 - 0.52 * bend
        place, length, tilt, tone, is_tooth = _row(self.upper, across)
        line = upper_line + length + tilt * place * 0.04 - 0.016 * place.abs() ** 5 + 0.014 * bend
        root = line - 0.115 - 0.02 * (1 - place**2)
        dark = 1 - gap * place.abs() ** 8
        shine = 0.05 * torch.exp(-(((place + 0.25) / 0.3) ** 2)) * side
        upper = [line, root, tone * side * dark, is_tooth]
        place, length, tilt, tone, is_tooth = _row(self.lower, across)
        line = lower_line + 0.030 - length + tilt * place * 0.03 + 0.012 * place**6 + 0.02 * bend
        lower = [line, line + 0.075, LOWER_BEHIND * tone * side * (1 - gap * place.abs() ** 8), is_tooth]
        return torch.stack([*upper, *lower, shine], 1)[:, :, None]


def average_teeth(*, upper_line: float = 0.031, arch: float = 0.2, device: torch.device | str = "cpu") -> Teeth:
    """One mouth with even teeth; upper_line, arch: see `Teeth`."""
    rows = (
        ((0.098, 0.075, 0.078, 0.062, 0.055), (0.0, -0.013, -0.004, -0.014, -0.02)),
        ((0.058, 0.062, 0.066, 0.06, 0.055), (0.0, 0.0, 0.004, -0.004, -0.01)),
    )
    upper, lower = (torch.tensor([_even_row(*row)], device=device) for row in rows)
    return Teeth(upper, lower, torch.tensor([[upper_line, -0.0275, arch, 0.28]], device=device))


def draw_teeth(table: Tensor, skull: Tensor, jaw: Tensor) -> Tensor:
    """(B, 4, h, w): how much enamel of the upper row shows, its brightness, and both of the lower row.

    table: (B, 9, 1, STEPS); skull: (B, 2, h, w) right and down on the plane of the teeth; jaw: (B,), how far it has
    dropped.
    """
    across, down = skull[:, 0], skull[:, 1]
    read = F.grid_sample(
        table.expand(len(skull), -1, -1, -1),
        torch.stack([across / REACH, torch.zeros_like(across)], -1),
        padding_mode="border",
        align_corners=True,
    )
    line, root, tone, is_upper, low_line, low_root, low_tone, is_lower, shine = read.unbind(1)
    upper = _soft(line - down) * _soft(down - root, 2 * EDGE) * is_upper
    tone = tone * (0.90 + 0.10 * ((line - down) / 0.04).clamp(0, 1)) + shine
    drop = down - jaw[:, None, None]
    lower = _soft(drop - low_line) * _soft(low_root - drop, 2 * EDGE) * is_lower
    low_tone = low_tone * (0.9 + 0.1 * ((drop - low_line) / 0.05).clamp(0, 1))
    return torch.stack([upper, tone, lower, low_tone], 1)


def _row(teeth: Tensor, across: Tensor) -> tuple[Tensor, ...]:
    """teeth (B, T, 5), across (S,) -> (B, S) each: place across the tooth in -1..1, its length, tilt and brightness,
    and 1 where there is one."""
    left, right, length, tilt, tone = (value[..., None] for value in teeth.unbind(-1))  # (B, T, 1)
    inside = ((across >= left) & (across < right)).to(teeth)
    place = ((across - (left + right) / 2) / ((right - left) / 2).clamp(min=1e-4)).clamp(-1, 1)
    return tuple((inside * value).sum(1) for value in (place, length, tilt, tone, torch.ones_like(tone)))


def _even_row(widths: tuple[float, ...], lengths: tuple[float, ...]) -> list[list[float]]:
    right, edge = [], 0.0
    for width, length in zip(widths, lengths, strict=True):
        right.append([edge, edge + width, length, 0.0, 1.0])
        edge += width
    return [[-end, -start, *rest] for start, end, *rest in reversed(right)] + right


def _soft(distance: Tensor, over: float = EDGE) -> Tensor:
    return (distance / over).clamp(0, 1)

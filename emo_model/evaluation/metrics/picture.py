"""Sharpness, flicker and shimmer of pictures (T, 3, H, W) in [-1, 1], and how close two sets of them are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..instruments import Readings, cut

EYE_SIDE, MOUTH_SIDE = 0.14, 0.24
"""Of the picture's width: the squares around eyes and mouth."""


def measure(pictures: Tensor, said: Readings, *, clip_frames: int) -> dict[str, float]:
    """sharpness, sharpness_eyes: mean slope of brightness; flicker: mean change of the upper corners from frame to frame;
    shimmer: mean second difference over frames; change_joins, change_inside: mean change of the whole picture between the last
    frame of a clip and the first of the next, and elsewhere. All in grey levels of 255."""
    change = changes(pictures)
    at_join = (torch.arange(1, len(pictures)) % clip_frames) == 0
    return {"sharpness": sharpness(pictures).mean().item(), "sharpness_eyes": sharpness(eyes(pictures, said.marks)).mean().item(),
            "flicker": flicker(pictures), "shimmer": shimmer(pictures), "change_joins": change[at_join].mean().item(),
            "change_inside": change[~at_join].mean().item()}


def sharpness(pictures: Tensor) -> Tensor:
    """(T,): mean slope between neighbouring pixels, right and down."""
    grey = pictures.mean(1) * 127.5
    return grey.diff(dim=1).abs().mean((1, 2)) + grey.diff(dim=2).abs().mean((1, 2))


def eyes(pictures: Tensor, marks: Tensor) -> Tensor:
    """Squares around both eyes (2 T, 3, s, s), from marks (T, 3, 2) as in `Readings`; a pixel stays a pixel."""
    return torch.cat([around(pictures, marks[:, side], EYE_SIDE) for side in (1, 2)])


def around(pictures: Tensor, marks: Tensor, side: float) -> Tensor:
    """Squares of `side` of the picture's width around marks (T, 2), moved to whole pixels so that nothing is softened."""
    width = pictures.shape[-1]
    size = round(side * width)
    corner = (marks.to(pictures) * width - size / 2).round()
    return cut(pictures, (corner + size / 2) / width, torch.full((len(pictures),), size / width, device=pictures.device), size)


def flicker(pictures: Tensor) -> float:
    """Of 255; the upper corners, an eighth of the width: background in a portrait."""
    return background_changes(pictures).mean().item() if len(pictures) > 1 else math.nan


def background_changes(pictures: Tensor) -> Tensor:
    """(T - 1,) of 255: mean change of the upper corners from each frame to the next."""
    side = pictures.shape[-1] // 8
    corners = torch.cat([pictures[..., :side, :side], pictures[..., :side, -side:]], -1)
    return corners.diff(dim=0).abs().mean((1, 2, 3)) * 127.5


def changes(pictures: Tensor) -> Tensor:
    """(T - 1,) of 255: mean change from each frame to the next."""
    return pictures.diff(dim=0).abs().mean((1, 2, 3)) * 127.5


def shimmer(pictures: Tensor) -> float:
    """Of 255; how much a pixel's change changes."""
    return pictures.diff(n=2, dim=0).abs().mean().item() * 127.5 if len(pictures) > 2 else math.nan


def squared_errors(said: Tensor, true: Tensor, marks: Tensor) -> dict[str, Tensor]:
    """Mean squared error of each picture (T,), whole, around the mouth, and around the eyes; marks (T, 3, 2) of the truth."""
    off = (said - true).square()
    both = torch.stack([around(off, marks[:, side], EYE_SIDE).mean((1, 2, 3)) for side in (1, 2)])
    return {"whole": off.mean((1, 2, 3)), "mouth": around(off, marks[:, 0], MOUTH_SIDE).mean((1, 2, 3)), "eyes": both.mean(0)}


def decibels(squared_error: float) -> float:
    """Peak signal-to-noise ratio of pictures in [-1, 1]."""
    return math.inf if squared_error <= 0 else 10 * math.log10(4 / squared_error)

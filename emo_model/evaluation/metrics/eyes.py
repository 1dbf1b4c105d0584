"""Lids: how often they shut, and whether both do, from how much the eyes' pictures change (`reading.eye_changes`)."""

from __future__ import annotations

import torch
from torch import Tensor

CHANGE = 0.15  # above the clip's median, from where on an eye counts as shut
SURE = 0.5  # of that: below it an eye counts as open


def rises(eyes: Tensor) -> Tensor:
    """eyes (F, 2) -> (F, 2): how far each is above its median."""
    return eyes - eyes.median(0).values


def shut_share(eyes: Tensor) -> float:
    """Share of frames in which the eyes, on average, look shut."""
    return (rises(eyes).mean(1) > CHANGE).float().mean().item()


def agreement(eyes: Tensor) -> float:
    """Share of frames in which not one eye is shut while the other is surely open."""
    high, low = rises(eyes).amax(1), rises(eyes).amin(1)
    return 1 - ((high > CHANGE) & (low < SURE * CHANGE)).float().mean().item()


def blinks(eyes: Tensor) -> int:
    """How many times the eyes, on average, shut."""
    shut = (rises(eyes).mean(1) > CHANGE).int()
    return int((torch.nn.functional.pad(shut, (1, 0)).diff() == 1).sum())

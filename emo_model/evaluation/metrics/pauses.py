"""What the face does while nobody speaks: the mouth should close, the head should stay alive."""

from __future__ import annotations

from torch import Tensor

from ..instruments import Readings
from ..statistics import mean
from .head import speed

SHUT = 0.1
"""Lips that are open less than this look shut."""


def measure(said: Readings, *, silent: Tensor, fps: float) -> dict[str, float]:
    """silent (T,) bool: frames well inside a pause; all others are speech.

    opening_pause, opening_speech: mean opening; shut_pause, shut_speech: share of frames whose lips look shut; speed_pause,
    speed_speech: mean rotation of the smoothed head in degrees per second.
    """
    turning = speed(said, fps, smooth=True)  # (T - 3,): between frames 1 and 2, and so on
    found = {}
    for name, frames in (("pause", silent), ("speech", ~silent)):
        opening, moves = said.opening[frames], turning[frames[1:-2] & frames[2:-1]]
        found |= {f"opening_{name}": mean(opening.tolist()), f"shut_{name}": mean((opening < SHUT).float().tolist()),
                  f"speed_{name}": mean(moves.tolist())}
    return found


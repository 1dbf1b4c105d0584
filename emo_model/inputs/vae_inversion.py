"""Latents of pictures that a VAE had decoded, nearer than its encoder gives them: to continue a video from its pictures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def encode_again(encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor], frames: Tensor, *,
                 rounds: int = 6) -> Tensor:
    """Latents whose pictures are `frames`, which a VAE had decoded: to continue a video of which only the pictures are left.

    A VAE's way back is not quite the inverse of its way out, and what it misses would be a jump. So each round decodes what was
    found, encodes that, and adds the difference, for each frame as long as this brings its picture nearer by a twentieth: later
    rounds find more of what a codec did to the video than of the latents. encode and decode: any VAE's, in any convention.
    """
    wanted = best = encode(frames)
    shown = decode(best)
    least, is_moving = _distance(shown, frames), torch.ones(len(frames), dtype=torch.bool)
    for _ in range(rounds):
        found = best + (wanted - encode(shown))
        seen = decode(found)
        distance = _distance(seen, frames)
        is_moving &= distance < 0.95 * least
        if not is_moving.any():
            break
        best, shown, least = (_chosen(is_moving, *pair) for pair in ((found, best), (seen, shown), (distance, least)))
    return best


def _distance(shown: Tensor, frames: Tensor) -> Tensor:
    """(B,) on the CPU: mean square of what is between pictures."""
    return (shown - frames.to(shown)).square().flatten(1).mean(1).float().cpu()


def _chosen(which: Tensor, some: Tensor, others: Tensor) -> Tensor:
    """Some frames of these, the rest of others."""
    return torch.where(_like(which, some), some, others)


def _like(by_frame: Tensor, frames: Tensor) -> Tensor:
    """(B,) -> to go with (B, ...)."""
    return by_frame.to(frames.device).view(-1, *[1] * (frames.ndim - 1))

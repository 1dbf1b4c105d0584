"""Inverts a VAE's decoder by fixed-point iteration, to continue a video from its frames."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def invert_decoder(
    encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor], frames: Tensor, *, rounds: int = 6
) -> Tensor:
    """Latents that decode to `frames`, which a VAE decoded earlier; closer than its encoder alone.

    An encoder is only approximately the inverse of the decoder, and the error would be a visible seam. Each round
    decodes the current latents, encodes the result and adds the difference to the target, per frame as long as the mean
    squared error of its picture falls by at least 5 %; further rounds would fit codec artifacts. encode and decode: any
    VAE's, in any convention.
    """
    target = best = encode(frames)
    decoded = decode(best)
    lowest, improves = _mse(decoded, frames), torch.ones(len(frames), dtype=torch.bool)
    for _ in range(rounds):
        candidate = best + (target - encode(decoded))
        redecoded = decode(candidate)
        error = _mse(redecoded, frames)
        improves &= error < 0.95 * lowest
        if not improves.any():
            break
        best, decoded, lowest = (
            _where(improves, *pair) for pair in ((candidate, best), (redecoded, decoded), (error, lowest))
        )
    return best


def _mse(decoded: Tensor, frames: Tensor) -> Tensor:
    """Mean squared error of each frame, (B,) on the CPU."""
    return (decoded - frames.to(decoded)).square().flatten(1).mean(1).float().cpu()


def _where(mask: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """torch.where with mask (B,) over the first axis of a and b (B, ...)."""
    return torch.where(mask.to(a.device).view(-1, *[1] * (a.ndim - 1)), a, b)

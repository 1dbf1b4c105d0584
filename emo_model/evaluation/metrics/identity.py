"""Whether it is still the same person, from what can be read of a person: colours, proportions, beard, glasses, style."""

from __future__ import annotations

import torch
from torch import Tensor

from ..instruments import Readings


def measure(said: Readings, true: Readings, *, trusted: Tensor, gallery: Tensor) -> dict[str, float]:
    """error: mean distance of trusted traits from the truth, in standard deviations between people; found: share of frames whose
    nearest person of the gallery is the right one.

    trusted: (K,) 1 for traits that the instrument reads well; gallery: (P, K) traits of other people.
    """
    return {"error": errors(said, true, trusted).mean().item(),
            "found": found(said, true, trusted, gallery).float().mean().item()}


def errors(said: Readings, true: Readings, trusted: Tensor) -> Tensor:
    """(T,)."""
    return ((said.traits - true.traits).abs() * trusted).sum(1) / trusted.sum().clamp(min=1)


def found(said: Readings, true: Readings, trusted: Tensor, gallery: Tensor) -> Tensor:
    """(T,) whether no one of the gallery is nearer to what was read than the person it should be."""
    own = ((said.traits - true.traits).square() * trusted).sum(1)
    others = ((said.traits[:, None] - gallery[None]).square() * trusted).sum(2).amin(1)
    return own <= others


def consistency(said: Readings, trusted: Tensor) -> Tensor:
    """(T,) how far each frame's person is from the mean person of the clip: flicker of the likeness."""
    return ((said.traits - said.traits.mean(0)).abs() * trusted).sum(1) / torch.clamp(trusted.sum(), min=1)

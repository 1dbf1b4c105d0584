"""What a run reports after each step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class StepReport:
    """`step` of `steps` in clip `clip` of `clips`, counted from 1; denoised: the clean estimate (B, C, F, h, w).

    is_cached: the clip comes from a cache; reported once, with its last step.
    """

    clip: int
    clips: int
    step: int
    steps: int
    denoised: Tensor
    is_cached: bool = False


def ignore(report: StepReport) -> None:
    """Default callback: does nothing."""


def unchanged(latents: Tensor) -> Tensor:
    """Default re-encoding of motion frames: none."""
    return latents

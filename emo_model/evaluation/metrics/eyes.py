"""Whether the two eyes belong together, and whether they blink as often as people do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..instruments import Readings
from ..statistics import correlation

BLINK_APART, GAZE_APART, SHUT = 0.35, 0.6, 0.5
"""Differences above which two eyes disagree (lids 0..1; gaze about 1 in the corner), and what counts as shut."""


def measure(said: Readings, true: Readings) -> dict[str, float]:
    """disagreeing: share of frames; blink_apart, gaze_apart: mean differences; blink_share: of frames; iris_error: of colours in
    0..1, where the eyes are open; iris_apart: between left and right."""
    open_ = lids(said) < SHUT
    return {"disagreeing": disagreeing(said).float().mean().item(),
            "blink_apart": (said.blink_left - said.blink_right).abs().mean().item(),
            "gaze_apart": _mean(gaze_apart(said)[open_]), "blink_share": (lids(said) > SHUT).float().mean().item(),
            "blink_share_true": (lids(true) > SHUT).float().mean().item(),
            "iris_error": _mean((said.iris - true.iris).abs().mean((1, 2))[open_]),
            "iris_apart": _mean((said.iris[:, 0] - said.iris[:, 1]).abs().mean(1)[open_])}


def lids(said: Readings) -> Tensor:
    return (said.blink_left + said.blink_right) / 2


def gaze_apart(said: Readings) -> Tensor:
    """(T,) distance between where the two eyes look."""
    return torch.hypot(said.gaze_x_left - said.gaze_x_right, said.gaze_y_left - said.gaze_y_right)


def disagreeing(said: Readings) -> Tensor:
    """(T,) frames in which one eye is more shut than the other, or, both open, looks elsewhere."""
    both_open = torch.maximum(said.blink_left, said.blink_right) < SHUT
    return ((said.blink_left - said.blink_right).abs() > BLINK_APART) | (both_open & (gaze_apart(said) > GAZE_APART))


def together(clips: Sequence[dict[str, list[float]]]) -> dict[str, float]:
    """Correlation of left and right over all frames of several clips: blink, and gaze (right and down in one) of open eyes.

    clips: tracks by name, as in `Readings`. A clip's own mean gaze is taken out, so that what counts is moving together.
    """
    blink = correlation(*(torch.cat([torch.tensor(clip[name]) for clip in clips]) for name in ("blink_left", "blink_right")))
    left, right = [], []
    for clip in clips:
        track = {name: torch.tensor(values) for name, values in clip.items() if name.startswith(("gaze", "blink"))}
        both_open = torch.maximum(track["blink_left"], track["blink_right"]) < 0.3
        if both_open.sum() < 2:
            continue
        for axis in "xy":
            for side, kept in (("left", left), ("right", right)):
                gaze = track[f"gaze_{axis}_{side}"][both_open]
                kept.append(gaze - gaze.mean())
    return {"blink_r": blink, "gaze_r": correlation(torch.cat(left), torch.cat(right)) if left else math.nan}


def _mean(values: Tensor) -> float:
    return values.mean().item() if len(values) else math.nan

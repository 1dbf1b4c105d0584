"""How well the mouth follows: correlation, size and delay of what was read against the truth."""

from __future__ import annotations

import torch
from torch import Tensor

from ..instruments import FaceBox, Readings, cut
from ..statistics import correlation, gain, lag_frames


def measure(said: Readings, true: Readings) -> dict[str, float]:
    """opening_r, width_r, closure_r: correlations; opening_gain: ratio of movement; lag: frames, > 0 where the video is late."""
    return {"opening_r": correlation(said.opening, true.opening), "width_r": correlation(said.width, true.width),
            "closure_r": correlation(said.closure, true.closure), "opening_gain": gain(said.opening, true.opening),
            "lag": lag_frames(said.opening, true.opening)}


def darkness(pictures: Tensor, box: FaceBox) -> Tensor:
    """(T,) how dark the darkest tenth of the pixels is where the reference has mouth and jaw.

    A look at open mouths that no network takes part in: blind to small openings and fooled by heads that move, but proof that
    what the instruments read is there.
    """
    mouth = torch.tensor([[box.x, box.y + 0.65 * box.distance]], device=pictures.device).expand(len(pictures), 2)
    side = torch.full((len(pictures),), 1.1 * box.distance, device=pictures.device)
    return -cut(pictures, mouth, side, 40).mean(1).flatten(1).quantile(0.1, dim=1).cpu()


def opening_by_part(said: Tensor, true: Tensor, frames: int) -> list[float]:
    """Correlation of the opening within each whole stretch of `frames` frames."""
    return [correlation(said[start:start + frames], true[start:start + frames])
            for start in range(0, len(true) - frames + 1, frames)]

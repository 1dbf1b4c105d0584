"""How well the mouth follows: correlation, size and delay of what was read against the truth."""

from __future__ import annotations

from torch import Tensor

from ..instruments import Readings
from ..statistics import correlation, gain, lag_frames


def measure(said: Readings, true: Readings) -> dict[str, float]:
    """opening_r, width_r, closure_r: correlations; opening_gain: ratio of movement; lag: frames, > 0 where the video is late."""
    return {"opening_r": correlation(said.opening, true.opening), "width_r": correlation(said.width, true.width),
            "closure_r": correlation(said.closure, true.closure), "opening_gain": gain(said.opening, true.opening),
            "lag": lag_frames(said.opening, true.opening)}


def opening_by_part(said: Tensor, true: Tensor, frames: int) -> list[float]:
    """Correlation of the opening within each whole stretch of `frames` frames."""
    return [correlation(said[start:start + frames], true[start:start + frames])
            for start in range(0, len(true) - frames + 1, frames)]

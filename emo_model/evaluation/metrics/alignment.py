"""Soft-DTW (Cuturi and Blondel, arXiv 1703.01541): which frame of a reference a frame is to be compared with."""

from __future__ import annotations

import numpy as np

_FAR = 1e12


def soft_alignment(one: np.ndarray, other: np.ndarray, *, band: int, gamma: float = 0.1) -> np.ndarray:
    """Tracks (F, K) and (G, K) -> (F,) numbers of frames of `other`, never falling.

    band: how many frames a match may lie beside the straight line between the corners; time and memory are F * band.
    The cost of a pair is the mean squared difference over K; gamma: how soft the minimum over paths is, in the same
    unit. The result is the most likely frame under soft-DTW's expected alignment.
    """
    rows, columns = len(one), len(other)
    line = np.arange(rows) * ((columns - 1) / max(1, rows - 1))
    band = max(band, int(np.ceil(columns / rows)) + 1)
    first = np.clip(np.floor(line).astype(int) - band, 0, columns - 1)
    last = np.clip(np.ceil(line).astype(int) + band, 0, columns - 1)
    width = int((last - first).max()) + 1
    places = first[:, None] + np.arange(width)
    cost = np.square(one[:, None] - other[np.minimum(places, columns - 1)]).mean(2) / gamma
    cost[places > last[:, None]] = _FAR
    forward = _costs_to_here(cost, first)
    # the same from the end: reversed rows, and columns counted from the last
    turned = np.where(places <= last[:, None], cost, _FAR)[::-1]
    starts = columns - 1 - last[::-1]
    flipped = np.full_like(turned, _FAR)
    for row, (begin, end) in enumerate(zip(first[::-1], last[::-1], strict=True)):
        flipped[row, : end - begin + 1] = turned[row, : end - begin + 1][::-1]
    back = _costs_to_here(flipped, starts)[::-1]
    through = np.full_like(forward, _FAR)
    for row, (begin, end) in enumerate(zip(first, last, strict=True)):
        count = end - begin + 1
        through[row, :count] = forward[row, :count] + back[row, :count][::-1] - cost[row, :count]
    return np.maximum.accumulate(first + through.argmin(1))


def _costs_to_here(cost: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Soft minimum, in units of gamma, over all paths from the first pair to each; row i begins at column first[i]."""
    rows, width = cost.shape
    found = np.full((rows, width), _FAR)
    for row in range(rows):
        shift = first[row] - first[row - 1] if row else 0
        for column in range(width):
            if cost[row, column] >= _FAR:
                continue
            before = [found[row, column - 1]] if column else []
            if row:
                above = column + shift
                before += [found[row - 1, place] for place in (above, above - 1) if 0 <= place < width]
            if row == 0 and column == 0 and first[0] == 0:
                found[row, column] = cost[row, column]
                continue
            least = min(before, default=_FAR)
            if least < _FAR:
                soft = least - np.log(sum(np.exp(least - value) for value in before))
                found[row, column] = cost[row, column] + soft
    return found

"""Pastes generated squares back into the whole picture."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..inputs.media import to_uint8
from ..types import Fit

SOFT_EDGE = 0.1  # width of the blend at the square's border, as a fraction of its side


class PasteBack:
    """Pastes frames of the square into the picture it was cropped from.

    picture: (1, 3, H, W) in [-1, 1], the one that `fit` was made for. The square's border is blended, except at the
    picture's own border. Raises ValueError for a picture of another size.
    """

    def __init__(self, picture: Tensor, fit: Fit):
        if tuple(picture.shape) != (1, 3, fit.height, fit.width):
            raise ValueError(
                f"the picture is {tuple(picture.shape)}, the square was cropped from one of {fit.width}x{fit.height}"
            )
        self.fit, self.still = fit, to_uint8(picture)[0]
        (across, place_x, soft_x), (down, place_y, soft_y) = (
            _along(first, fit.side, length) for first, length in ((fit.left, fit.width), (fit.top, fit.height))
        )
        self.cut, self.place = (..., down, across), (place_y, place_x)
        self.share = (soft_y[:, None] * soft_x)[..., None]

    def paste(self, frames: np.ndarray) -> Iterator[np.ndarray]:
        """frames (F, size, size, 3) uint8, of any size -> frames (1, H, W, 3) uint8 one by one, since they may be
        large.

        Raises ValueError for frames that are not square.
        """
        if frames.shape[1] != frames.shape[2]:
            raise ValueError(
                f"the frames are {frames.shape[2]}x{frames.shape[1]} pixels, but only a square can be "
                "pasted back into the portrait's picture; use the model's own frames, or disconnect "
                "'reference'"
            )
        still = torch.from_numpy(self.still[self.place]).float()
        for frame in frames:
            square = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
            if square.shape[-1] != self.fit.side:
                square = F.interpolate(
                    square, size=(self.fit.side,) * 2, mode="bicubic", align_corners=False, antialias=True
                )
            moving = square[self.cut][0].permute(1, 2, 0).clamp(0, 255)
            whole = self.still.copy()
            whole[self.place] = torch.lerp(still, moving, self.share).round().to(torch.uint8).numpy()
            yield whole[None]


def _along(first: int, side: int, length: int) -> tuple[slice, slice, Tensor]:
    """One axis: the part of the square inside the picture, its place there, and the blend weight of each pixel."""
    begin, end = max(first, 0), min(first + side, length)
    inside = torch.arange(begin - first, end - first) + 0.5
    share = torch.ones(len(inside))
    if first > 0:
        share = torch.minimum(share, inside / (SOFT_EDGE * side))
    if first + side < length:
        share = torch.minimum(share, (side - inside) / (SOFT_EDGE * side))
    share = share.clamp(0, 1)
    return slice(begin - first, end - first), slice(begin, end), share * share * (3 - 2 * share)

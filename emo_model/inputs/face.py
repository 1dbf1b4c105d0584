"""The picture and the face mask, fitted to the model: cut or padded to a square, scaled, never squashed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import FaceMask, Fit

FITS = ("crop", "pad")


def square_fit(width: int, height: int, size: int, mode: str = "crop") -> Fit:
    """The square of a picture that the model sees.

    crop: the largest square inside, in the middle of a wide picture and a third down a tall one, where faces are.
    pad: the smallest square around, the picture in its middle. Raises ValueError for an unknown mode or an empty picture.
    """
    if mode not in FITS:
        raise ValueError(f"fit must be one of {', '.join(FITS)}, got '{mode}'")
    if width < 1 or height < 1:
        raise ValueError(f"the portrait is empty ({width}x{height} pixels); choose another picture")
    if mode == "crop":
        side = min(width, height)
        return Fit(width, height, (width - side) // 2, (height - side) // 3, side, size)
    side = max(width, height)
    return Fit(width, height, -((side - width) // 2), -((side - height) // 2), side, size)


def apply_fit(picture: Tensor, fit: Fit, *, padding: str = "border") -> Tensor:
    """picture (B, C, height, width) -> (B, C, size, size); outside, edges are repeated ('border') or zero ('zeros').

    Raises ValueError if the picture is not of the size that `fit` was made for.
    """
    if tuple(picture.shape[-2:]) != (fit.height, fit.width):
        raise ValueError(f"the picture is {picture.shape[-1]}x{picture.shape[-2]} pixels, but the portrait was "
                         f"{fit.width}x{fit.height}; give both at the same size")
    right, bottom = fit.left + fit.side, fit.top + fit.side
    margins = (max(-fit.left, 0), max(right - fit.width, 0), max(-fit.top, 0), max(bottom - fit.height, 0))
    inside = picture[..., max(fit.top, 0):min(bottom, fit.height), max(fit.left, 0):min(right, fit.width)]
    if any(margins):
        inside = F.pad(inside, margins, mode="replicate") if padding == "border" else F.pad(inside, margins)
    if inside.shape[-1] == fit.size:
        return inside
    return F.interpolate(inside, size=(fit.size, fit.size), mode="bicubic", align_corners=False, antialias=True)


def fit_picture(pixels: Tensor, size: int, mode: str = "crop") -> tuple[Tensor, Fit]:
    """pixels (B, 3, H, W) in [-1, 1] of any size -> (B, 3, size, size) in [-1, 1], and how it was fitted."""
    fit = square_fit(pixels.shape[-1], pixels.shape[-2], size, mode)
    return apply_fit(pixels, fit).clamp(-1, 1), fit


def fit_mask(mask: Tensor, fit: Fit) -> FaceMask:
    """mask (B, 1, H, W) in 0..1 over the original picture -> the mask over the fitted one.

    Raises ValueError if nothing of the mask is left inside the fitted picture.
    """
    fitted = apply_fit(mask, fit, padding="zeros").clamp(0, 1)
    if fitted.max() < 0.5:
        raise ValueError("the face mask is empty inside the part of the portrait that the model sees "
                         f"({fit.side}x{fit.side} pixels at {fit.left}, {fit.top}); paint it over the face, or choose fit 'pad'")
    return FaceMask(fitted)


def box_mask(size: int, box: tuple[float, float, float, float]) -> FaceMask:
    """box x0, y0, x1, y1 in 0..1 of the fitted picture -> its mask. Raises ValueError for an empty or reversed box."""
    x0, y0, x1, y1 = (round(min(max(edge, 0.0), 1.0) * size) for edge in box)
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"the face box {tuple(round(edge, 3) for edge in box)} is empty; left must be smaller than right and "
                         "top smaller than bottom, as fractions of the picture")
    mask = torch.zeros(1, 1, size, size)
    mask[:, :, y0:y1, x0:x1] = 1
    return FaceMask(mask)


def whole_mask(size: int) -> FaceMask:
    """The face may be anywhere. Differs from EMO: the paper always has the box of the face."""
    return FaceMask(torch.ones(1, 1, size, size))

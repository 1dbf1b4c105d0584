"""Crops or pads pictures and face masks to the model's square, without distortion; Hallo's region masks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import FaceMask, Fit
from .picture_files import to_float

FITS = ("crop", "pad")
FACE_IN_SQUARE = (0.5, 0.5, 0.58)  # side of a face over that of the square, and its centre in it


def square_fit(
    width: int, height: int, size: int, mode: str = "crop", face: tuple[float, float, float, float] | None = None
) -> Fit:
    """The square of a picture that the model processes.

    crop: the largest square inside: centred in a wide picture, a third from the top in a tall one, where faces are.
    pad: the smallest square around the centred picture.
    face: left, top, right, bottom of a face in pixels: the square around it in which it has the size of training; with
    'crop' it stays inside the picture. Raises ValueError for an unknown mode, an empty picture or an empty box.
    """
    if mode not in FITS:
        raise ValueError(f"fit must be one of {', '.join(FITS)}, got '{mode}'")
    if width < 1 or height < 1:
        raise ValueError(f"the portrait is empty ({width}x{height} pixels); use another picture")
    if face is not None:
        return _around_face(width, height, size, face, stays_inside=mode == "crop")
    if mode == "crop":
        side = min(width, height)
        return Fit(width, height, (width - side) // 2, (height - side) // 3, side, size)
    side = max(width, height)
    return Fit(width, height, -((side - width) // 2), -((side - height) // 2), side, size)


def _around_face(
    width: int, height: int, size: int, face: tuple[float, float, float, float], *, stays_inside: bool
) -> Fit:
    x0, y0, x1, y1 = face
    if not (x0 < x1 and y0 < y1 and x0 < width and y0 < height and x1 > 0 and y1 > 0):
        raise ValueError(
            f"the face box ({', '.join(f'{edge:.0f}' for edge in face)}) is empty or outside the picture of "
            f"{width}x{height} pixels; use left, top, right, bottom"
        )
    share, middle_x, middle_y = FACE_IN_SQUARE
    side = max(1, round(max(x1 - x0, y1 - y0) / share))
    if stays_inside:
        side = min(side, width, height)
    left, top = round((x0 + x1) / 2 - middle_x * side), round((y0 + y1) / 2 - middle_y * side)
    if stays_inside:
        left, top = min(max(left, 0), width - side), min(max(top, 0), height - side)
    return Fit(width, height, left, top, side, size)


def box_of(mask: Tensor) -> tuple[int, int, int, int]:
    """Bounding box (left, top, right, bottom) of a mask (1, 1, H, W). Raises ValueError if it is empty."""
    white = mask[0, 0] > 0.5
    if not white.any():
        raise ValueError("the face mask is empty; paint it over the face")
    rows, columns = white.any(1).nonzero().flatten(), white.any(0).nonzero().flatten()
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def mirrored(first: int, last: int, length: int) -> Tensor:
    """Numbers of the pixels first .. last - 1 of an axis of `length`, which goes on beyond its ends as its mirror
    image: hair that ends at the edge goes on as hair, where a repeated pixel would be a streak."""
    at = torch.arange(first, last) % (2 * length)
    return torch.minimum(at, 2 * length - 1 - at)


def apply_fit(picture: Tensor, fit: Fit, *, padding: str = "border") -> Tensor:
    """Crop and scale a picture (B, C, height, width) -> (B, C, size, size); uint8 becomes [-1, 1].

    padding: 'border' repeats edges, or 'zeros'.
    Raises ValueError if the picture does not have the size that `fit` was made for.
    """
    if tuple(picture.shape[-2:]) != (fit.height, fit.width):
        raise ValueError(
            f"the picture is {picture.shape[-1]}x{picture.shape[-2]} pixels, but the portrait is "
            f"{fit.width}x{fit.height}; use both at the same size"
        )
    right, bottom = fit.left + fit.side, fit.top + fit.side
    margins = (max(-fit.left, 0), max(right - fit.width, 0), max(-fit.top, 0), max(bottom - fit.height, 0))
    inside = to_float(fit.inside(picture))
    if any(margins):
        inside = F.pad(inside, margins, mode="replicate") if padding == "border" else F.pad(inside, margins)
    if inside.shape[-1] == fit.size:
        return inside
    return F.interpolate(inside, size=(fit.size, fit.size), mode="bicubic", align_corners=False, antialias=True)


def fit_picture(
    pixels: Tensor, size: int, mode: str = "crop", face: tuple[float, float, float, float] | None = None
) -> tuple[Tensor, Fit]:
    """pixels (B, 3, H, W) in [-1, 1] of any size -> (B, 3, size, size) in [-1, 1], and the crop (see `square_fit`)."""
    fit = square_fit(pixels.shape[-1], pixels.shape[-2], size, mode, face)
    return apply_fit(pixels, fit).clamp(-1, 1), fit


def fit_mask(mask: Tensor, fit: Fit) -> FaceMask:
    """mask (B, 1, H, W) in 0..1 over the original picture -> the mask over the square.

    Raises ValueError if the mask is empty inside the square.
    """
    fitted = apply_fit(mask, fit, padding="zeros").clamp(0, 1)
    if fitted.max() < 0.5:
        raise ValueError(
            f"the face mask is empty inside the cropped square ({fit.side}x{fit.side} pixels at "
            f"{fit.left}, {fit.top}); paint it over the face, or set fit to 'pad'"
        )
    return FaceMask(fitted)


def box_mask(size: int, box: tuple[float, float, float, float]) -> FaceMask:
    """box x0, y0, x1, y1 as fractions of the square -> its mask. Raises ValueError for an empty or reversed box."""
    is_finite = all(map(math.isfinite, box))
    x0, y0, x1, y1 = (round(min(max(edge, 0.0), 1.0) * size) for edge in box) if is_finite else (0, 0, 0, 0)
    if x1 <= x0 or y1 <= y0:
        raise ValueError(
            f"the face box {tuple(round(edge, 3) for edge in box)} is empty; give left smaller than "
            "right and top smaller than bottom, as fractions of the picture"
        )
    mask = torch.zeros(1, 1, size, size)
    mask[:, :, y0:y1, x0:x1] = 1
    return FaceMask(mask)


def whole_mask(size: int) -> FaceMask:
    """A mask of the whole square. Differs from EMO: the paper always uses the face's box."""
    return FaceMask(torch.ones(1, 1, size, size))


LIPS_IN_FACE = (
    0.15,
    0.62,
    0.85,
    0.95,
)  # left, top, right, bottom of a lip box (twice the mouth) as fractions of the face's box
REGION_CELLS = 64  # along each side
FACE_BLUR, LIP_BLUR = 51, 31  # kernel sizes in cells


def voice_regions(face: FaceMask, lips: Tensor | None = None) -> FaceMask:
    """The mask with Hallo's region masks for pose, face and lips, which add up to at least 1 everywhere.

    lips (B, 1, H, W) in 0..1 over the square: a mask around the mouth, about twice its size; None: its typical place in
    a face that fills the mask. Hallo blurs both masks at 64x64 and sets pose = 1 - face, face = face - lips; here
    without its rounding to 1/255.
    """
    if lips is None:
        lips = _box_inside(face.mask, LIPS_IN_FACE)
    if lips.shape != face.mask.shape:
        raise ValueError(
            f"the lip mask is {tuple(lips.shape)}, the face mask {tuple(face.mask.shape)}: crop both with the same fit"
        )
    soft_face, soft_lips = _blur(face.mask, FACE_BLUR), _blur(lips, LIP_BLUR)
    return FaceMask(face.mask, torch.cat([1 - soft_face, (soft_face - soft_lips).clamp(min=0), soft_lips], dim=1))


def _box_inside(mask: Tensor, share: tuple[float, float, float, float]) -> Tensor:
    """A mask of the part `share` of the bounding box of `mask` (B, 1, H, W)."""
    result = torch.zeros_like(mask)
    for one, out in zip(mask, result[:, 0], strict=True):
        if not (one > 0.5).any():
            continue
        left, top, right, bottom = box_of(one[None])
        x0, y0, x1, y1 = (
            round(start + (end - start) * part)
            for start, end, part in zip((left, top, left, top), (right, bottom, right, bottom), share, strict=True)
        )
        out[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = 1
    return result


def _blur(mask: Tensor, kernel: int) -> Tensor:
    """mask (B, 1, H, W) -> (B, 1, 64, 64), blurred with a Gaussian of `kernel` cells, normalised to 0..1."""
    small = F.interpolate(mask.float(), size=(REGION_CELLS, REGION_CELLS), mode="bilinear", align_corners=False)
    sigma = 0.3 * ((kernel - 1) / 2 - 1) + 0.8  # OpenCV's default for this kernel size
    places = torch.arange(kernel, device=mask.device) - kernel // 2
    weights = torch.exp(-(places.float() ** 2) / (2 * sigma**2))
    weights = weights / weights.sum()
    half = kernel // 2
    soft = F.conv2d(F.pad(small, (half, half, half, half), mode="reflect"), weights.view(1, 1, 1, -1))
    soft = F.conv2d(soft, weights.view(1, 1, -1, 1))
    low, high = soft.amin((2, 3), keepdim=True), soft.amax((2, 3), keepdim=True)
    return torch.where(high - low > 1e-6, (soft - low) / (high - low).clamp(min=1e-6), small)

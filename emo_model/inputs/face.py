"""The picture and the face mask, fitted to the model: cut or padded to a square, scaled, never squashed; Hallo's regions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import FaceMask, Fit

FITS = ("crop", "pad")
FACE_IN_SQUARE = (0.5, 0.5, 0.58)  # how much of the square a face takes, and where its middle is: of the drawn heads, on average


def square_fit(width: int, height: int, size: int, mode: str = "crop",
               face: tuple[float, float, float, float] | None = None) -> Fit:
    """The square of a picture that the model sees.

    crop: the largest square inside, in the middle of a wide picture and a third down a tall one, where faces are.
    pad: the smallest square around, the picture in its middle.
    face: left, top, right, bottom of a face in pixels; the square is then cut around it, as much larger as the model is used to;
    with 'crop' it stays inside the picture. Raises ValueError for an unknown mode, an empty picture or an empty box.
    """
    if mode not in FITS:
        raise ValueError(f"fit must be one of {', '.join(FITS)}, got '{mode}'")
    if width < 1 or height < 1:
        raise ValueError(f"the portrait is empty ({width}x{height} pixels); choose another picture")
    if face is not None:
        return _around_face(width, height, size, face, stays_inside=mode == "crop")
    if mode == "crop":
        side = min(width, height)
        return Fit(width, height, (width - side) // 2, (height - side) // 3, side, size)
    side = max(width, height)
    return Fit(width, height, -((side - width) // 2), -((side - height) // 2), side, size)


def _around_face(width: int, height: int, size: int, face: tuple[float, float, float, float], *, stays_inside: bool) -> Fit:
    x0, y0, x1, y1 = face
    if not (x0 < x1 and y0 < y1 and x0 < width and y0 < height and x1 > 0 and y1 > 0):
        raise ValueError(f"the face box ({', '.join(f'{edge:.0f}' for edge in face)}) is empty or outside of the picture of "
                         f"{width}x{height} pixels; give left, top, right, bottom")
    share, middle_x, middle_y = FACE_IN_SQUARE
    side = max(1, round(max(x1 - x0, y1 - y0) / share))
    if stays_inside:
        side = min(side, width, height)
    left, top = round((x0 + x1) / 2 - middle_x * side), round((y0 + y1) / 2 - middle_y * side)
    if stays_inside:
        left, top = min(max(left, 0), width - side), min(max(top, 0), height - side)
    return Fit(width, height, left, top, side, size)


def box_of(mask: Tensor) -> tuple[int, int, int, int]:
    """The box left, top, right, bottom around what is white in a mask (1, 1, H, W). Raises ValueError if nothing is."""
    white = mask[0, 0] > 0.5
    if not white.any():
        raise ValueError("the face mask is empty; paint it over the face")
    rows, columns = white.any(1).nonzero().flatten(), white.any(0).nonzero().flatten()
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def apply_fit(picture: Tensor, fit: Fit, *, padding: str = "border") -> Tensor:
    """picture (B, C, height, width) -> (B, C, size, size); outside, edges are repeated ('border') or zero ('zeros').

    Raises ValueError if the picture is not of the size that `fit` was made for.
    """
    if tuple(picture.shape[-2:]) != (fit.height, fit.width):
        raise ValueError(f"the picture is {picture.shape[-1]}x{picture.shape[-2]} pixels, but the portrait was "
                         f"{fit.width}x{fit.height}; give both at the same size")
    right, bottom = fit.left + fit.side, fit.top + fit.side
    margins = (max(-fit.left, 0), max(right - fit.width, 0), max(-fit.top, 0), max(bottom - fit.height, 0))
    inside = fit.inside(picture)
    if any(margins):
        inside = F.pad(inside, margins, mode="replicate") if padding == "border" else F.pad(inside, margins)
    if inside.shape[-1] == fit.size:
        return inside
    return F.interpolate(inside, size=(fit.size, fit.size), mode="bicubic", align_corners=False, antialias=True)


def fit_picture(pixels: Tensor, size: int, mode: str = "crop",
                face: tuple[float, float, float, float] | None = None) -> tuple[Tensor, Fit]:
    """pixels (B, 3, H, W) in [-1, 1] of any size -> (B, 3, size, size) in [-1, 1], and how it was fitted (see `square_fit`)."""
    fit = square_fit(pixels.shape[-1], pixels.shape[-2], size, mode, face)
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


LIPS_IN_FACE = (0.15, 0.62, 0.85, 0.95)  # left, top, right, bottom: a lip box twice as large as the mouth, in the box of a face
REGION_CELLS = 64  # across the picture
FACE_BLUR, LIP_BLUR = 51, 31  # cells of the kernels


def voice_regions(face: FaceMask, lips: Tensor | None = None) -> FaceMask:
    """The mask with the regions in which Hallo's voice moves pose, face and lips; the three add up to 1 or more everywhere.

    lips (B, 1, H, W) in 0..1 over the fitted picture: white around the mouth, about twice its size; None: where it is in most
    faces that fill the mask, an approximation. Hallo blurs both masks at 64x64 and sets pose = 1 - face, face = face - lips; ours
    calculates with fractions where its code rounds to 1/255.
    """
    if lips is None:
        lips = _box_inside(face.mask, LIPS_IN_FACE)
    if lips.shape != face.mask.shape:
        raise ValueError(f"the lip mask is {tuple(lips.shape)}, the face mask {tuple(face.mask.shape)}: fit both to the same "
                         "picture")
    soft_face, soft_lips = _blur(face.mask, FACE_BLUR), _blur(lips, LIP_BLUR)
    return FaceMask(face.mask, torch.cat([1 - soft_face, (soft_face - soft_lips).clamp(min=0), soft_lips], dim=1))


def _box_inside(mask: Tensor, share: tuple[float, float, float, float]) -> Tensor:
    """A mask of the part `share` of the box around what is white in `mask` (B, 1, H, W)."""
    result = torch.zeros_like(mask)
    for one, out in zip(mask, result[:, 0], strict=True):
        if not (one > 0.5).any():
            continue
        left, top, right, bottom = box_of(one[None])
        x0, y0, x1, y1 = (round(start + (end - start) * part) for start, end, part in
                          zip((left, top, left, top), (right, bottom, right, bottom), share, strict=True))
        out[y0:max(y1, y0 + 1), x0:max(x1, x0 + 1)] = 1
    return result


def _blur(mask: Tensor, kernel: int) -> Tensor:
    """mask (B, 1, H, W) -> (B, 1, 64, 64) in 0..1, blurred with a Gaussian over `kernel` cells, stretched to the full range."""
    small = F.interpolate(mask.float(), size=(REGION_CELLS, REGION_CELLS), mode="bilinear", align_corners=False)
    sigma = 0.3 * ((kernel - 1) / 2 - 1) + 0.8  # OpenCV's for a kernel of this size
    places = torch.arange(kernel, device=mask.device) - kernel // 2
    weights = torch.exp(-places.float() ** 2 / (2 * sigma**2))
    weights = weights / weights.sum()
    half = kernel // 2
    soft = F.conv2d(F.pad(small, (half, half, half, half), mode="reflect"), weights.view(1, 1, 1, -1))
    soft = F.conv2d(soft, weights.view(1, 1, -1, 1))
    low, high = soft.amin((2, 3), keepdim=True), soft.amax((2, 3), keepdim=True)
    return torch.where(high - low > 1e-6, (soft - low) / (high - low).clamp(min=1e-6), small)

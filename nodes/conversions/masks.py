"""MASKs (B, H, W) and boxes over a picture or its head square."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor

from ...emo_model.inputs.face import box_of, fit_mask
from ...emo_model.types import FaceMask, FaceMasks, Fit, is_finite


def fitted_mask(mask: Tensor | None, fit: Fit, *, name: str = "mask") -> FaceMask:
    """MASK (1, H, W) of the original picture, at any scale, or of the cropped square -> FaceMask; name: its input."""
    if mask is None:
        raise ValueError("Mode 'mask' needs a mask. Connect one to 'mask', or set 'mode' to 'box' or 'whole picture'.")
    instead = "or set 'mode' to 'box' or 'whole picture'" if name == "mask" else f"or disconnect '{name}'"
    mask = _painted(mask, name, instead)
    if tuple(mask.shape[-2:]) == (fit.size, fit.size) != (fit.height, fit.width):
        return FaceMask(mask.clamp(0, 1))  # painted over 'picture' of EMO Reference Encoder
    return fit_mask(_over_picture(mask, fit.width, fit.height), fit)


def is_painted(mask: Tensor | None) -> bool:
    """Whether a MASK is not empty, as Load Image's is without painting or transparency."""
    return mask is not None and bool((mask > 0.5).any())


def box_of_face(mask: Tensor, picture: Tensor) -> tuple[int, int, int, int]:
    """MASK (1, H, W) at any scale over a picture (1, 3, H, W) -> its box: left, top, right, bottom in pixels."""
    painted = _painted(mask, "face", "or disconnect 'face'")
    return box_of(_over_picture(painted, picture.shape[-1], picture.shape[-2]))


def _painted(mask: Tensor, name: str, instead: str) -> Tensor:
    """MASK of input `name` -> (1, 1, H, W) float. Raises ValueError, with an alternative `instead`, if it is empty."""
    if mask.ndim < 2 or not mask.numel():
        raise ValueError(f"'{name}' has the shape {tuple(mask.shape)}, which is no mask. Connect a MASK, {instead}.")
    if not is_finite(mask):
        raise ValueError(f"'{name}' has NaN or infinite values. Connect another mask, {instead}.")
    mask = mask.float().cpu().reshape(-1, 1, *mask.shape[-2:])
    if len(mask) != 1:
        raise ValueError(f"'{name}' contains {len(mask)} masks, but a portrait has one. Select one of them first.")
    height, width = mask.shape[-2:]
    if not mask.any():
        is_default = width == height == 64
        no_alpha = " ('Load Image' outputs this mask for a picture without transparency)" if is_default else ""
        raise ValueError(
            f"The mask ({width}x{height}) at '{name}' is empty{no_alpha}. Paint the "
            f"{'mouth' if name == 'lips' else 'face'} with 'Open in MaskEditor' on 'Load Image', "
            f"{instead}."
        )
    return mask


def _over_picture(mask: Tensor, wide: int, high: int) -> Tensor:
    """A mask (1, 1, H, W) resized to its picture. Raises ValueError for another aspect ratio."""
    height, width = mask.shape[-2:]
    if abs(width * high - height * wide) > max(width, height, wide, high):  # beyond rounding
        raise ValueError(
            f"The mask is {width}x{height}, but the portrait is {wide}x{high}. Connect the mask of the "
            "same picture, before any cropping."
        )
    return mask if (width, height) == (wide, high) else F.interpolate(mask, size=(high, wide), mode="bilinear")


def box_of_original(box: dict | list, fit: Fit, shrink: float = 1.0) -> tuple[float, float, float, float]:
    """BOUNDING_BOX in pixels of the original picture, or lists of them -> (x0, y0, x1, y1) as fractions of the square.

    shrink: pixels of the original per pixel of the picture that `fit` is of.
    """
    found = list(boxes_in(box))
    if not found:
        raise ValueError(
            "'bounding_box' is empty: the detector found no face. Disconnect it and set the four edges, "
            "or set 'mode' to 'mask' or 'whole picture'."
        )
    best = max(found, key=lambda one: one["width"] * one["height"])
    x, y, width, height = (best[name] / shrink for name in ("x", "y", "width", "height"))
    corners = (x - fit.left, y - fit.top, x + width - fit.left, y + height - fit.top)
    x0, y0, x1, y1 = (min(max(corner / fit.side, 0.0), 1.0) for corner in corners)
    if x1 <= x0 or y1 <= y0:
        raise ValueError(
            f"The box of {width:.0f}x{height:.0f} pixels at ({x:.0f}, {y:.0f}) is outside the square "
            f"cropped from the {fit.width}x{fit.height} portrait ({fit.side} pixels at ({fit.left}, "
            f"{fit.top})). Set 'fit' of 'EMO Reference Encoder' to 'pad', or crop the portrait around the "
            "face first."
        )
    return x0, y0, x1, y1


def grown_box(
    box: tuple[float, float, float, float], size: int, *, times: float = 1.2
) -> tuple[float, float, float, float]:
    """box (left, top, right, bottom) in pixels of the square -> as fractions of it, scaled by `times` (Hallo: 1.2)."""
    left, top, right, bottom = (edge / size for edge in box)
    width, height = (right - left) * times / 2, (bottom - top) * times / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return x - width, y - height, x + width, y + height


def outline(mesh: Tensor, points: Sequence[int] = range(468)) -> tuple[float, float, float, float]:
    """Bounding box (left, top, right, bottom) of points of a face mesh (468, 3), in its pixels."""
    some = mesh[list(points), :2]
    return (*some.amin(0).tolist(), *some.amax(0).tolist())


def boxes_in(value: dict | list) -> Iterator[dict]:
    if isinstance(value, dict):
        yield value
    else:
        for item in value:
            yield from boxes_in(item)


def boxes_of_faces(masks: Tensor | None, boxes: dict | list | None, picture: Tensor) -> list[tuple] | None:
    """MASKs (faces, H, W) or BOUNDING_BOXes over a picture (1, 3, H, W) -> left, top, right, bottom of each face in
    pixels, in their order; None if neither says anything."""
    if is_painted(masks):
        return [tuple(map(float, box_of_face(mask[None], picture))) for mask in masks.reshape(-1, *masks.shape[-2:])]
    if boxes is not None:
        found = [tuple(float(one[key]) for key in ("x", "y", "width", "height")) for one in boxes_in(boxes)]
        if not found:
            raise ValueError(
                "Disconnect 'boxes', or connect other ones: the list is empty, the detector found no face."
            )
        height, width = picture.shape[-2:]
        return [(max(0.0, x), max(0.0, y), min(width, x + w), min(height, y + h)) for x, y, w, h in found]
    return None


def masks_over_time(before: FaceMask | FaceMasks | None, mask: FaceMask, from_second: float) -> FaceMask | FaceMasks:
    """The mask alone, or `before` until `from_second`, then the mask. Raises ValueError if it starts too early."""
    if before is None:
        return mask
    earlier = FaceMasks.of(before)
    if not earlier.seconds[-1] < from_second < math.inf:
        raise ValueError(
            f"'from_second' is {from_second:g}, but the mask at 'before' starts at "
            f"{earlier.seconds[-1]:g} s. Set 'from_second' to a later time, or disconnect 'before'."
        )
    return earlier.then(from_second, mask)

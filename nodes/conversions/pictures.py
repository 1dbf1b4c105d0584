"""IMAGEs (B, H, W, C) in 0..1 to pixels (B, 3, H, W) in [-1, 1], and back."""

from __future__ import annotations

import math

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ...emo_model.types import FaceMask

MOST_BEYOND = 8.0
"""Pictures with larger values are not in 0..1 but in 0..255 or beyond; HDR pictures and overshoots stay below."""


def one_picture(image: Tensor) -> Tensor:
    """IMAGE (1, H, W, C) -> pixels (1, 3, H, W) float32 in [-1, 1]. Grey becomes RGB, transparency white, as in the
    command."""
    if len(image) != 1:
        raise ValueError(
            f"'image' contains {len(image)} pictures, but one portrait is animated at a time. Select one "
            "with 'ImageFromBatch'."
        )
    return rearrange(three_channels(image, "image").float().clamp(0, 1) * 2 - 1, "b h w c -> b c h w")


def three_channels(image: Tensor, name: str = "images") -> Tensor:
    """Any IMAGE as three channels; whole numbers become 0..1, grey becomes RGB, transparency becomes white.

    Raises ValueError for NaN, infinity and numbers that are not in 0..1; a little beyond is clamped by the callers.
    """
    if image.ndim != 4:
        raise ValueError(
            f"'{name}' has {image.ndim} axes {tuple(image.shape)}, but pictures have four: batch, height, width and "
            "channels. Connect an IMAGE."
        )
    if not image.is_floating_point():
        image = image.float() / (255 if image.dtype == torch.uint8 else 1)
    if image.numel():
        low, high = (bound.item() for bound in image.aminmax())
        if not (math.isfinite(low) and math.isfinite(high)):
            broken = (~image.isfinite()).sum().item()
            raise ValueError(
                f"{broken} values of '{name}' are NaN or infinite. Connect other pictures, or run the node that made "
                "them again, without half precision (--fp32-vae)."
            )
        if low < -MOST_BEYOND or high > MOST_BEYOND:
            raise ValueError(
                f"'{name}' has values from {low:g} to {high:g}, but ComfyUI's pictures go from 0 to 1. Divide them by "
                "255 (or 65535), or connect the output of 'Load Image'."
            )
    if image.shape[-1] in (2, 4):  # the last is alpha
        alpha = image[..., -1:].clamp(0, 1)
        image = image[..., :-1] * alpha + (1 - alpha)
    return image[..., :3] if image.shape[-1] >= 3 else image[..., :1].expand(*image.shape[:-1], 3)


def images(pixels: Tensor) -> Tensor:
    """pixels (B, 3, H, W) in [-1, 1] -> IMAGE (B, H, W, 3)."""
    return rearrange(pixels.float().clamp(-1, 1) / 2 + 0.5, "b c h w -> b h w c").contiguous()


def frame_bytes(image: Tensor) -> np.ndarray:
    """IMAGE (F, H, W, C) -> (F, H, W, 3) uint8."""
    return (three_channels(image).float() * 255).round().clamp(0, 255).to(device="cpu", dtype=torch.uint8).numpy()


def dimmed_outside(pixels: Tensor, face_mask: FaceMask, lips: Tensor | None = None) -> Tensor:
    """The cropped square (1, 3, H, W) as IMAGE, darkened outside the face mask, reddish over the lips (1, 1, H, W)."""
    shown = images(pixels) * (0.3 + 0.7 * face_mask.mask[:, 0, :, :, None].to(pixels.device))
    if lips is not None:
        shown = torch.lerp(shown, torch.tensor((1.0, 0.2, 0.2)), 0.4 * lips[:, 0, :, :, None].to(pixels.device))
    return shown


def picture_of(frames: np.ndarray) -> Tensor:
    """(F, H, W, 3) uint8 -> IMAGE."""
    return torch.from_numpy(frames).float() / 255

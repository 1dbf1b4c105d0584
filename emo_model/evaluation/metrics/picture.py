"""How near frames come to others: the puppets' own, or those of a reference video; and how colours drift."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .sharpness import LIPS, area


def against(frames: np.ndarray, true: np.ndarray, meshes: Tensor) -> dict[str, float]:
    """frames and true (F, H, W, 3) uint8, meshes (F, 468, 3) of the truth -> decibels of the whole picture and of mouth
    and lips, and, for comparison, of a picture that rests (`still`, `still_mouth`: the truth's first frame)."""
    whole, mouth, still, still_mouth = [], [], [], []
    for frame, wanted, mesh in zip(frames, true, meshes, strict=True):
        lips = area(mesh, LIPS, frame.shape[:2], share=1.3)
        for given, everywhere, there in ((frame, whole, mouth), (true[0], still, still_mouth)):
            error = np.square(given.astype(np.float32) - wanted).mean(2)
            everywhere.append(float(error.mean()))
            there.append(float(error[lips].mean()) if lips.any() else math.nan)
    return {
        name: decibels(float(torch.tensor(errors).nanmean()))
        for name, errors in (
            ("psnr", whole),
            ("psnr_mouth", mouth),
            ("psnr_still", still),
            ("psnr_still_mouth", still_mouth),
        )
    }


def decibels(squared_error: float) -> float:
    """Peak signal-to-noise ratio of values in 0..255."""
    return math.inf if squared_error <= 0 else 10 * math.log10(255**2 / squared_error)


def ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Structural similarity of two pictures (H, W, 3) uint8, mean over channels and places (Wang et al. 2004: Gaussian
    window of 11 pixels, standard deviation 1.5). nan where a side has fewer than 11 pixels."""
    if min(one.shape[:2]) < _WINDOW:
        return math.nan
    x, y = (torch.from_numpy(picture).permute(2, 0, 1)[:, None].double() for picture in (one, other))

    def blurred(values: Tensor) -> Tensor:
        bell = torch.exp(-0.5 * ((torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2) / 1.5) ** 2)
        bell = bell / bell.sum()
        return F.conv2d(F.conv2d(values, bell[None, None, :, None]), bell[None, None, None])

    mean_x, mean_y = blurred(x), blurred(y)
    var_x, var_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    shared = blurred(x * y) - mean_x * mean_y
    light, contrast = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    alike = (2 * mean_x * mean_y + light) * (2 * shared + contrast)
    return (alike / ((mean_x**2 + mean_y**2 + light) * (var_x + var_y + contrast))).mean().item()


_WINDOW = 11


def lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) in 0..255 -> CIE L*a*b* (..., 3), white point D65; a distance of 2.3 is just noticeable."""
    linear = np.asarray(rgb, np.float64) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _TO_XYZ.sum(1)
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)

"""How near frames come to the puppets' own."""

from __future__ import annotations

import math

import numpy as np
import torch
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

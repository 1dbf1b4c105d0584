"""Pictures from files to tensors, and back to bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .picture_files import read_pixels, to_float


def read_picture(path: str | Path) -> Tensor:
    """Any picture that Pillow reads, as viewers show it -> (1, 3, H, W) float32 in [-1, 1]; transparency becomes white.

    See `picture_files.read_pixels`, which also says what is raised.
    """
    return to_float(read_pixels(path))


def to_uint8(pixels: Tensor) -> np.ndarray:
    """pixels (F, 3, H, W) in [-1, 1] -> (F, H, W, 3) uint8."""
    return ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

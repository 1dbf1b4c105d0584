"""Sharpness of the face against the portrait's, and of the mouth's inside."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from ...inputs.face_geometry import LOWER_LIP_INNER, LOWER_LIP_OUTER, OVAL, UPPER_LIP_INNER, UPPER_LIP_OUTER

LIPS = (*UPPER_LIP_OUTER, *LOWER_LIP_OUTER[-2:0:-1])
INSIDE = (*UPPER_LIP_INNER, *LOWER_LIP_INNER[-2:0:-1])
LEAST_PIXELS = 12


def area(mesh: Tensor, contour: Sequence[int], size: tuple[int, int], *, share: float = 1.0) -> np.ndarray:
    """(H, W) bool: inside a contour of the mesh (468, 3), drawn together to `share` of its size around its middle."""
    points = mesh[list(contour), :2].double().numpy()
    points = points.mean(0) + share * (points - points.mean(0))
    mask = Image.new("1", (size[1], size[0]))
    ImageDraw.Draw(mask).polygon([tuple(point) for point in points.tolist()], fill=1)
    return np.asarray(mask)


def slope(picture: np.ndarray, where: np.ndarray) -> float:
    """Mean change of grey from pixel to pixel, right and down, of 255; nan where there is next to nothing."""
    rows, columns = where.any(1).nonzero()[0], where.any(0).nonzero()[0]
    if where.sum() < LEAST_PIXELS:
        return math.nan
    part = (slice(rows[0], rows[-1] + 2), slice(columns[0], columns[-1] + 2))
    grey, where = picture[part].astype(np.float32).mean(2), where[part]
    right, down = np.abs(np.diff(grey, axis=1)), np.abs(np.diff(grey, axis=0))
    return float(right[where[:, : right.shape[1]]].mean() + down[where[: down.shape[0]]].mean())


def of_face(picture: np.ndarray, mesh: Tensor) -> float:
    """picture (H, W, 3) uint8 and mesh (468, 3) in its pixels: the face without the lips and without its rim."""
    size = picture.shape[:2]
    return slope(picture, area(mesh, OVAL, size, share=0.95) & ~area(mesh, LIPS, size, share=1.15))


def of_mouth(picture: np.ndarray, mesh: Tensor) -> float:
    """Between the lips."""
    return slope(picture, area(mesh, INSIDE, picture.shape[:2], share=1.0))

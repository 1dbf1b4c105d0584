"""The square crop around the head for the built-in model, from the face mesh."""

from __future__ import annotations

from torch import Tensor

from ..types import Fit

SIDE = 1.8  # side of the square in face heights (forehead to chin), with room for hair and neck
RISE = 0.05  # offset of the square's centre above the face's, in face heights: more hair than neck
TOP, CHIN, LEFT, RIGHT = 10, 152, 234, 454  # points of the mesh at the ends of the face oval


def head_square(mesh: Tensor, *, width: int, height: int, size: int) -> Fit:
    """mesh (468, 3) in pixels of a picture of width x height -> the square around the head, scaled to `size`.

    The face height is measured in 3D, so the face fills the same share of the square at any rotation. The square may
    extend beyond the picture, where edges are repeated.
    """
    tall = (mesh[TOP] - mesh[CHIN]).norm().item()
    centre = (mesh[[TOP, CHIN]].mean(0) + mesh[[LEFT, RIGHT]].mean(0)) / 2
    side = max(2, round(SIDE * tall))
    x, y = centre[0].item(), centre[1].item() - RISE * tall
    return Fit(width, height, round(x - side / 2), round(y - side / 2), side, size)

"""The square around a head that the built-in model works on, from the face mesh."""

from __future__ import annotations

from torch import Tensor

from ..types import Fit

SIDE = 1.8  # sides of the square in face heights (forehead to chin): hair and neck fit
RISE = 0.05  # face heights by which the square's centre lies above the face's: there is more hair than neck
TOP, CHIN, LEFT, RIGHT = 10, 152, 234, 454  # points of the mesh at the ends of the face oval


def head_square(mesh: Tensor, *, width: int, height: int, size: int) -> Fit:
    """mesh (468, 3) in pixels of a picture of width x height -> the square around the head, scaled to `size`.

    The face has the same share of the square in every picture, however far it is turned: its height is measured in space.
    The square may reach outside the picture, where edges are repeated.
    """
    tall = (mesh[TOP] - mesh[CHIN]).norm().item()
    centre = (mesh[[TOP, CHIN]].mean(0) + mesh[[LEFT, RIGHT]].mean(0)) / 2
    side = max(2, round(SIDE * tall))
    x, y = centre[0].item(), centre[1].item() - RISE * tall
    return Fit(width, height, round(x - side / 2), round(y - side / 2), side, size)

"""Maps that tell the motion decoder where in the face each place of the portrait lies."""

from __future__ import annotations

import torch
from torch import Tensor

from . import face_geometry


def portrait_maps(mesh: Tensor, *, size: int, cells: int) -> Tensor:
    """mesh (468, 3) in pixels of the square at `size` -> (5, cells, cells): the soft mask of what may move, x, y and depth in the
    head's own frame in distances of the eyes, and 1 where the face itself is."""
    points, _ = face_geometry.extend(mesh, size)
    axes, centre, scale = face_geometry.head_frame(mesh)
    own = (points - centre) @ axes.T / scale  # (P, 3)
    is_face = torch.zeros(len(points), 1)
    is_face[:len(mesh)] = 1
    values, covered = face_geometry.rasterise(points * (cells / size), torch.cat([own, is_face], 1), cells)
    mask = face_geometry.head_mask(points * (cells / size), cells)
    return torch.cat([mask[None], torch.where(covered, values, 0.0)])

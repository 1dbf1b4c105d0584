"""Maps of the portrait for the motion decoder: mask, position in the head's frame, rigidity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from . import face_geometry

TEETH_DEPTH = 0.06  # behind the lips, in eye distances
STEEP = 5.0  # the mask reaches 1 at a rigidity of 0.2: it only fades the flow to zero at the border


def portrait_maps(mesh: Tensor, *, size: int, cells: int) -> Tensor:
    """mesh (468, 3) in pixels of the square at `size` -> (5, cells, cells).

    Soft mask of the moving region, 0 at the border; x, y and depth in the head's frame, in eye distances; rigidity (1:
    moves with the skull).
    """
    points, rigidity = face_geometry.extend(mesh.float(), size)
    values = torch.cat([rigidity[:, None], face_geometry.head_frame(mesh).local(points)], 1)
    rigid, *own = _filled(*face_geometry.rasterise(points * (cells / size), values, cells))
    return torch.stack([(STEEP * rigid).clamp(0, 1), *own, rigid])


def skull_plane(mesh: Tensor) -> Tensor:
    """mesh (468, 3) of the portrait -> (2, 3): affine map from pixels to the plane of the teeth.

    In eye distances, right and down, origin between the closed lips.
    """
    frame = face_geometry.head_frame(mesh.float())
    origin = (mesh[13] + mesh[14]) / 2 + TEETH_DEPTH * frame.eyes * frame.axes[2]
    inverse = torch.linalg.inv(frame.axes[:2, :2].T * frame.eyes)
    return torch.cat([inverse, -(inverse @ origin[:2])[:, None]], 1)


def _filled(values: Tensor, covered: Tensor) -> Tensor:
    """Fill values (K, n, n) where no triangle covers (folds of a turned head) with means of covered neighbours."""
    known = covered[None, None].float()
    values = values[None] * known
    while not known.all():
        share = F.avg_pool2d(known, 3, 1, 1, count_include_pad=False)
        mean = F.avg_pool2d(values, 3, 1, 1, count_include_pad=False) / share.clamp(min=1e-6)
        is_new = (share > 0) & (known == 0)
        values, known = torch.where(is_new, mean, values), torch.where(share > 0, 1.0, 0.0)
    return values[0]

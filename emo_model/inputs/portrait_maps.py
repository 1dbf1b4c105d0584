"""Maps that tell the motion decoder where in the face each place of the portrait lies."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from . import face_geometry

TEETH_DEPTH = 0.06  # behind the lips, in distances of the outer eye corners
STEEP = 5.0  # the mask is 1 from a rigidity of a fifth on: it only brings the flow to zero at the border


def portrait_maps(mesh: Tensor, *, size: int, cells: int) -> Tensor:
    """mesh (468, 3) in pixels of the square at `size` -> (5, cells, cells): the soft mask of what may move, 0 at the border; x, y
    and depth in the head's own frame, in distances of the eyes; and how far each place follows the head (rigidity)."""
    points, rigidity = face_geometry.extend(mesh.float(), size)
    values = torch.cat([rigidity[:, None], face_geometry.head_frame(mesh).local(points)], 1)
    rigid, *own = _filled(*face_geometry.rasterise(points * (cells / size), values, cells))
    return torch.stack([(STEEP * rigid).clamp(0, 1), *own, rigid])


def skull_plane(mesh: Tensor) -> Tensor:
    """mesh (468, 3) of the portrait -> (2, 3): from its pixels to the plane of the teeth in distances of the outer eye corners,
    right and down, the origin between the shut lips."""
    frame = face_geometry.head_frame(mesh.float())
    origin = (mesh[13] + mesh[14]) / 2 + TEETH_DEPTH * frame.eyes * frame.axes[2]
    inverse = torch.linalg.inv(frame.axes[:2, :2].T * frame.eyes)
    return torch.cat([inverse, -(inverse @ origin[:2])[:, None]], 1)


def _filled(values: Tensor, covered: Tensor) -> Tensor:
    """values (K, n, n): what no triangle covers, in the folds of a turned head, becomes the mean of what is covered around it."""
    known = covered[None, None].float()
    values = values[None] * known
    while not known.all():
        share = F.avg_pool2d(known, 3, 1, 1, count_include_pad=False)
        mean = F.avg_pool2d(values, 3, 1, 1, count_include_pad=False) / share.clamp(min=1e-6)
        is_new = (share > 0) & (known == 0)
        values, known = torch.where(is_new, mean, values), torch.where(share > 0, 1.0, 0.0)
    return values[0]

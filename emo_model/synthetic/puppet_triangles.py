"""The table of the face's triangles: made once from the mean of many meshes, kept beside the weights."""

from __future__ import annotations

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ..inputs import face_geometry as geometry


def mean_of(meshes: Tensor) -> Tensor:
    """meshes (N, 468, 3) -> (468, 3): their mean in the head's own frame, made symmetric by nothing but numbers."""
    return torch.stack([geometry.head_frame(mesh).local(mesh) for mesh in meshes.double()]).mean(0).float()


def triangulate(mean: Tensor) -> Tensor:
    """mean (468, 3) -> (T, 3): Delaunay triangles of the refined mesh within the face oval, mouth and eyes left open."""
    from scipy.spatial import Delaunay

    parted = mean.clone().double()
    for rows, gap in (((geometry.UPPER_LIP_INNER, geometry.LOWER_LIP_INNER), 0.03),
                      ((geometry.UPPER_LIP_OUTER, geometry.LOWER_LIP_OUTER), 0.03)):
        for upper, lower in zip(*rows, strict=True):
            if upper != lower:
                parted[upper, 1] -= gap
                parted[lower, 1] += gap
    points = geometry.refine(parted)[:, :2].numpy()
    found = np.sort(Delaunay(points).simplices, axis=1)
    middle = points[found].mean(1)
    keep = _inside(middle, points[list(geometry.OVAL)])
    for contour in geometry._contours():
        fine = geometry.fine_row((*contour, contour[0]))[:-1]
        keep &= ~(np.isin(found, fine).all(1) & _inside(middle, points[list(fine)]))
    found = found[keep]
    return torch.from_numpy(found[np.lexsort(found.T[::-1])]).short()


def write_table(meshes: Tensor) -> None:
    """Make the table from meshes of nearly frontal faces with shut mouths."""
    mean = mean_of(meshes)
    save_file({"mean": mean, "triangles": triangulate(mean)}, geometry._TABLE)


def _inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Which points (N, 2) lie in the polygon (M, 2), by the even-odd rule."""
    start, end = polygon, np.roll(polygon, -1, axis=0)
    x, y = points[:, :1], points[:, 1:]
    crosses = (start[:, 1] > y) != (end[:, 1] > y)
    slope = (end[:, 0] - start[:, 0]) / np.where(end[:, 1] == start[:, 1], 1, end[:, 1] - start[:, 1])
    return (crosses & (x < start[:, 0] + (y - start[:, 1]) * slope)).sum(1) % 2 == 1

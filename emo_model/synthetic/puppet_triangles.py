"""The table of the face's triangles: made once from the mean of many meshes, kept beside the weights."""

from __future__ import annotations

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ..inputs import face_geometry as geometry

# Rows of the lips between outer and inner edge, as the mesh has them, from the left of the picture to the right.
UPPER_LIP_ROWS = (
    geometry.UPPER_LIP_OUTER,
    (76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306),
    (62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292),
    geometry.UPPER_LIP_INNER,
)
LOWER_LIP_ROWS = (
    geometry.LOWER_LIP_OUTER,
    (76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306),
    (62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292),
    geometry.LOWER_LIP_INNER,
)


def mean_of(meshes: Tensor) -> Tensor:
    """meshes (N, 468, 3) -> (468, 3): their mean in the head's own frame."""
    return torch.stack([geometry.head_frame(mesh).local(mesh) for mesh in meshes.double()]).mean(0).float()


def triangulate(mean: Tensor) -> Tensor:
    """mean (468, 3) -> (T, 3): triangles of the refined mesh, mouth and eyes left open: the lips row by row, the rest
    of the face by Delaunay."""
    from scipy.spatial import Delaunay

    spread = mean.clone().double()
    oval = list(geometry.OVAL)
    centre = spread[oval, :2].mean(0)
    spoke = spread[oval, :2] - centre
    for _ in range(20):  # make the oval the hull of all: no triangle may cross its edge
        between = (spoke.roll(1, 0) + spoke.roll(-1, 0)).norm(dim=1) / 2
        spoke = torch.maximum(spoke.norm(dim=1), 1.002 * between)[:, None] * spoke / spoke.norm(dim=1, keepdim=True)
    spread[oval, :2] = centre + 1.01 * spoke
    points = geometry.refine(spread)[:, :2].numpy()

    mouth = geometry.contours()[0]
    within = {
        *mouth,
        *geometry.fine_row((*mouth, mouth[0])),
        *(point for rows in (UPPER_LIP_ROWS, LOWER_LIP_ROWS) for row in rows[1:3] for point in row),
    }
    used = np.array([point for point in range(len(points)) if point not in within])
    found = used[Delaunay(points[used]).simplices]
    lips = (*geometry.UPPER_LIP_OUTER, *geometry.LOWER_LIP_OUTER[-2:0:-1])
    eyes = [geometry.fine_row((*contour, contour[0]))[:-1] for contour in geometry.contours()[1:]]
    keep = np.ones(len(found), bool)
    for hole in (lips, *eyes):
        keep &= ~(np.isin(found, hole).all(1) & _inside(points[found].mean(1), points[list(hole)]))
    strips = [corners for rows in (UPPER_LIP_ROWS, LOWER_LIP_ROWS) for corners in _lip(rows)]
    found = np.sort(np.concatenate([found[keep], np.array(strips)]), axis=1)
    return torch.from_numpy(found[np.lexsort(found.T[::-1])]).short()


def _lip(rows: tuple[tuple[int, ...], ...]) -> list[tuple[int, int, int]]:
    """Triangles between the rows of one lip; the inner row has points between its points."""
    found = []
    for outer, inner in zip(rows, rows[1:], strict=False):
        for place in range(len(outer) - 1):
            a, b, c, d = outer[place], outer[place + 1], inner[place], inner[place + 1]
            if inner is rows[-1]:
                middle = geometry.fine_row((c, d))[1]
                found += [(a, b, middle), (a, middle, c), (b, d, middle)]
            else:
                found += [(a, b, c), (b, d, c)]
    return found


def write_table(meshes: Tensor) -> None:
    """Make the table from meshes of nearly frontal faces with shut mouths."""
    mean = mean_of(meshes)
    save_file({"mean": mean, "triangles": triangulate(mean)}, geometry.TABLE)


def _inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Which points (N, 2) lie in the polygon (M, 2), by the even-odd rule."""
    start, end = polygon, np.roll(polygon, -1, axis=0)
    x, y = points[:, :1], points[:, 1:]
    crosses = (start[:, 1] > y) != (end[:, 1] > y)
    slope = (end[:, 0] - start[:, 0]) / np.where(end[:, 1] == start[:, 1], 1, end[:, 1] - start[:, 1])
    return (crosses & (x < start[:, 0] + (y - start[:, 1]) * slope)).sum(1) % 2 == 1

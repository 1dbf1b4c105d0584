"""Geometry of a head from its face mesh: the mesh's parts, rings around it for hair and neck, and flow between two
moments.

The mesh is MediaPipe's (468 points). All coordinates are pixels of the head square (see head_square.py) at a working
size, pixel i reaching from i to i + 1; z has the same scale and is smaller for what is nearer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

POINTS = 468

# Rows run from the corner at the left of the picture to the one at the right; upper and lower row share their ends.
UPPER_LIP_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_LIP_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
UPPER_LIP_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
LEFT_EYE_UPPER = (33, 246, 161, 160, 159, 158, 157, 173, 133)  # the eye at the left of the picture
LEFT_EYE_LOWER = (33, 7, 163, 144, 145, 153, 154, 155, 133)
RIGHT_EYE_UPPER = (362, 398, 384, 385, 386, 387, 388, 466, 263)
RIGHT_EYE_LOWER = (362, 382, 381, 380, 374, 373, 390, 249, 263)
LID_CREASES = (
    (247, 30, 29, 27, 28, 56, 190),
    (414, 286, 258, 257, 259, 260, 467),
)  # above the upper lids, left to right
LEFT_BROW = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55)
RIGHT_BROW = (336, 296, 334, 293, 300, 285, 295, 282, 283, 276)
OVAL = (
    10,
    338,
    297,
    332,
    284,
    251,
    389,
    356,
    454,
    323,
    361,
    288,
    397,
    365,
    379,
    378,
    400,
    377,
    152,
    148,
    176,
    149,
    150,
    136,
    172,
    58,
    132,
    93,
    234,
    127,
    162,
    21,
    54,
    103,
    67,
    109,
)
STEADY = (10, 338, 109, 151, 9, 8, 168, 6, 197, 195, 5, 4, 33, 133, 362, 263, 127, 356, 234, 454, 21, 251, 98, 327)

RINGS = (1.22, 1.5, 1.9)  # times the oval, before they are held inside the square
RIGIDITY = (0.97, 0.85, 0.35)  # how far each follows the head
NECK = (0.25, 0.65, 0.95)  # share of that lost towards the neck
ROOM = (0.35, 0.64, 0.86)  # the furthest place of each between oval (0) and border (1)
CHIN = (0.60, 0.20, 0.0)  # how far each follows the jaw
BORDER = 1 / 128  # the last ring, at rest, so far inside the square: the centre of the border's pixels at size 64

_ROWS = ((UPPER_LIP_INNER, LOWER_LIP_INNER), (LEFT_EYE_UPPER, LEFT_EYE_LOWER), (RIGHT_EYE_UPPER, RIGHT_EYE_LOWER))
TABLE = Path(__file__).parents[1] / "weights" / "face_triangles.safetensors"
MOUTH, LEFT_EYE, RIGHT_EYE = 1, 2, 3  # parts of a triangle; 0 is skin
_BEHIND = 1e4  # what lies behind an opening is drawn only where no skin is


def contours() -> list[list[int]]:
    """Closed contours: mouth, left eye, right eye."""
    return [[*upper, *lower[-2:0:-1]] for upper, lower in _ROWS]


def _between_table() -> tuple[list[list[int]], dict[tuple[int, int], int]]:
    """For each point put between two neighbours of a contour the four it is made from; and its number by its
    neighbours."""
    sources, number = [], {}
    for contour in contours():
        for place, first in enumerate(contour):
            second = contour[(place + 1) % len(contour)]
            number[first, second] = number[second, first] = POINTS + len(sources)
            sources.append([contour[place - 1], first, second, contour[(place + 2) % len(contour)]])
    return sources, number


_SOURCES, _NUMBER = _between_table()
BETWEEN = len(_SOURCES)  # points put between those of lips and lids: 52
FACE = POINTS + BETWEEN  # points of the face proper, 520
ALL = FACE + (len(RINGS) + 1) * len(OVAL)  # and the rings', 664


def fine_row(row: tuple[int, ...]) -> tuple[int, ...]:
    """A row of lips or lids with the points between its points."""
    fine = [row[0]]
    for first, second in zip(row, row[1:], strict=False):
        fine += [_NUMBER[first, second], second]
    return tuple(fine)


@dataclass(frozen=True, eq=False)
class Frame:
    """The head's own frame: axes (3, 3), rows right, down and backward; centre (3,) between the eyes; eyes: distance of
    the outer corners, pixels. Local coordinates are (points - centre) @ axes.T / eyes."""

    axes: Tensor
    centre: Tensor
    eyes: float

    def local(self, points: Tensor) -> Tensor:
        return (points - self.centre) @ self.axes.T / self.eyes

    def pixels(self, local: Tensor) -> Tensor:
        return local * self.eyes @ self.axes + self.centre


def head_frame(mesh: Tensor) -> Frame:
    """mesh (>= 468, 3)."""
    right = mesh[263] - mesh[33]
    eyes = right.norm()
    right = right / eyes
    down = mesh[152] - mesh[10]
    down = down - right * (right @ down)
    down = down / down.norm()
    return Frame(torch.stack([right, down, torch.linalg.cross(right, down)]), (mesh[33] + mesh[263]) / 2, eyes.item())


def refine(mesh: Tensor) -> Tensor:
    """mesh (..., 468, 3) -> (..., 520, 3): with a point between every two neighbours of inner lips and lids
    (Catmull-Rom)."""
    before, first, second, after = mesh[..., torch.tensor(_SOURCES, device=mesh.device).T, :].unbind(-3)
    return torch.cat([mesh, (9 * (first + second) - before - after) / 16], dim=-2)


def extend(mesh: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """mesh (468, 3) in pixels of the head square at `size` -> points (664, 3) that cover it, and rigidity (664,) in
    0..1.

    The last ring lies on the square's border and has rigidity 0, so whatever moves, the border rests.
    """
    frame = head_frame(mesh)
    oval = mesh[list(OVAL)]
    centre = (mesh[10] + mesh[152] + mesh[234] + mesh[454]) / 4
    spoke = oval - centre
    room = _to_border(centre[:2], spoke[:, :2], size).clamp(min=1.12)
    down = spoke @ frame.axes[1] / frame.eyes
    neck = ((down - 0.25) / 0.6).clamp(0, 1)
    points, rigidity = [refine(mesh)], [mesh.new_ones(FACE)]
    for times, rigid, loss, furthest in zip(RINGS, RIGIDITY, NECK, ROOM, strict=True):
        tall = times + (-down).clamp(min=0) * (times - 1) * 0.55  # there is more hair above than beside
        far = torch.minimum(tall, 1 + (room - 1) * furthest)
        ring = centre + spoke * far[:, None]
        back = oval[:, 2] + (times - 1) * 0.9 * frame.eyes
        points.append(torch.cat([ring[:, :2], back[:, None]], dim=1))
        rigidity.append(rigid * (1 - loss * neck))
    behind = oval[:, 2].amax() + 3 * frame.eyes
    points.append(torch.cat([_border(centre[:2], spoke[:, :2], size), behind.expand(len(OVAL), 1)], dim=1))
    rigidity.append(mesh.new_zeros(len(OVAL)))
    return torch.cat(points), torch.cat(rigidity)


def follow(points: Tensor, rigidity: Tensor, mesh: Tensor) -> Tensor:
    """The portrait's points (664, 3) after its face has moved to `mesh` (468, 3): hair and neck follow the head."""
    steady = list(STEADY)
    turn, scale, shift = similarity(points[steady], mesh[steady])
    rigid = scale * points @ turn.T + shift
    moved = points + rigidity[:, None] * (rigid - points)
    oval = list(OVAL)
    jaw = mesh[oval] - rigid[oval]
    rings = moved[FACE:].unflatten(0, (len(RINGS) + 1, len(OVAL))).clone()
    for ring, share in enumerate(CHIN):
        rings[ring] += share * jaw
    return hold_inside(points, torch.cat([refine(mesh), rings.flatten(0, 1)]))


def hold_inside(points: Tensor, moved: Tensor) -> Tensor:
    """Points of a portrait (664, 3) and where they have gone (..., 664, 3) -> the same, none beyond the resting border.

    Points that were outside in the portrait may stay there.
    """
    border = points[-len(OVAL) :, :2]
    low, high = border.amin(0), border.amax(0)
    margin = (high - low) * BORDER
    inside = len(points) - len(OVAL)
    rest = points[:inside, :2]
    least, most = torch.minimum(low + margin, rest), torch.maximum(high - margin, rest)
    held = torch.minimum(torch.maximum(moved[..., :inside, :2], least), most)
    return torch.cat([torch.cat([held, moved[..., :inside, 2:]], -1), moved[..., inside:, :]], dim=-2)


def similarity(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rotation (3, 3), scale and shift (3,) that bring source (N, 3) nearest to target (N, 3) (Umeyama 1991)."""
    from_mean, to_mean = source.mean(0), target.mean(0)
    a, b = source - from_mean, target - to_mean
    u, values, v = torch.linalg.svd(b.T @ a)
    sign = torch.ones_like(values)
    sign[2] = torch.det(u @ v).sign()
    turn = u @ torch.diag(sign) @ v
    scale = (values * sign).sum() / a.square().sum().clamp(min=1e-9)
    return turn, scale, to_mean - scale * turn @ from_mean


@cache
def triangles() -> tuple[Tensor, Tensor]:
    """(T, 3) point numbers, and (T,) the part each shows: skin 0, or what lies behind MOUTH, LEFT_EYE, RIGHT_EYE."""
    skin = load_file(TABLE)["triangles"].long()
    rings, count = [], len(OVAL)
    number = [list(OVAL)] + [
        list(range(FACE + ring * count, FACE + (ring + 1) * count)) for ring in range(len(RINGS) + 1)
    ]
    for inner, outer in zip(number, number[1:], strict=False):
        for place in range(count):
            after = (place + 1) % count
            rings += [(inner[place], inner[after], outer[place]), (inner[after], outer[after], outer[place])]
    corners, parts = [skin, torch.tensor(rings)], [torch.zeros(len(skin) + len(rings), dtype=torch.long)]
    for part, (upper, lower) in enumerate(_ROWS, start=1):
        strip = opening_triangles(upper, lower)
        corners.append(strip)
        parts.append(torch.full((len(strip),), part))
    return torch.cat(corners), torch.cat(parts)


def opening_triangles(upper: tuple[int, ...], lower: tuple[int, ...]) -> Tensor:
    """Triangles between an upper and a lower row with common ends, (T, 3)."""
    above, below = fine_row(upper), fine_row(lower)
    strip = []
    for place in range(len(above) - 1):
        a, b, c, d = above[place], above[place + 1], below[place], below[place + 1]
        strip += [] if a == c else [(a, b, c)]
        strip += [] if b == d else [(b, d, c)]
    return torch.tensor(strip)


@cache
def mean_face() -> Tensor:
    """(468, 3): the mean of many faces in the head's own frame, lips shut."""
    return load_file(TABLE)["mean"].float()


@cache
def mirror_order() -> Tensor:
    """(468,): for each point of a mirrored mesh which point of the mesh it was."""
    mean = mean_face().double()
    other = mean * mean.new_tensor([-1, 1, 1])
    other[:, 0] += 2 * mean[[10, 152, 1, 4, 168], 0].mean()
    return torch.cdist(mean, other).argmin(1)


def rasterise(points: Tensor, values: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """points (664, 3), values (664, K) -> (K, size, size) interpolated at pixel centres, and (size, size) bool:
    covered.

    The nearest triangle wins. Pixels that none covers are 0.
    """
    corner, part = (table.to(points.device) for table in triangles())
    (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = (points[corner[:, k]].unbind(-1) for k in range(3))
    area = (y1 - y2) * (x0 - x2) + (x2 - x1) * (y0 - y2)
    xs, ys = torch.stack([x0, x1, x2]), torch.stack([y0, y1, y2])
    left, top = ((low - 0.5).ceil().long().clamp(0, size) for low in (xs.amin(0), ys.amin(0)))
    right, bottom = ((high - 0.5).floor().long().clamp(-1, size - 1) for high in (xs.amax(0), ys.amax(0)))
    wide, tall = (right - left + 1).clamp(min=0), (bottom - top + 1).clamp(min=0)
    count = torch.where(area.abs() > 1e-9, wide * tall, 0)
    owner = torch.repeat_interleave(torch.arange(len(corner), device=points.device), count)
    step = torch.arange(len(owner), device=points.device) - (count.cumsum(0) - count)[owner]
    column, row = left[owner] + step % wide[owner], top[owner] + step // wide[owner]
    px, py = column + 0.5, row + 0.5
    a = ((y1 - y2)[owner] * (px - x2[owner]) + (x2 - x1)[owner] * (py - y2[owner])) / area[owner]
    b = ((y2 - y0)[owner] * (px - x2[owner]) + (x0 - x2)[owner] * (py - y2[owner])) / area[owner]
    weight = torch.stack([a, b, 1 - a - b], -1)
    inside = (weight > -1e-4).all(-1)
    owner, weight, place = owner[inside], weight[inside], (row * size + column)[inside]
    depth = (weight * torch.stack([z0, z1, z2], -1)[owner]).sum(-1) + _BEHIND * (part[owner] > 0)
    nearest = depth.new_full((size * size,), math.inf).scatter_reduce(0, place, depth, "amin")
    seen = depth <= nearest[place]
    found = (weight[seen, :, None] * values[corner[owner[seen]]]).sum(1)  # (pixels, K)
    picture = values.new_zeros(size * size, values.shape[-1])
    picture[place[seen]] = found.to(values.dtype)
    return picture.T.unflatten(1, (size, size)), torch.isfinite(nearest).unflatten(0, (size, size))


def flow_between(source: Tensor, target: Tensor, size: int) -> Tensor:
    """Points (664, 3) of portrait and frame in pixels of `size` -> (2, size, size) backward flow (x, y) in pixels of
    it: where in the portrait the frame's content comes from, minus where it is. Openings are filled from their
    edges."""
    return rasterise(target, (source - target)[:, :2], size)[0]


def _to_border(centre: Tensor, spoke: Tensor, size: int) -> Tensor:
    """How many spokes fit between centre and the resting border."""
    low, high = BORDER * size, (1 - BORDER) * size
    room = torch.where(spoke >= 0, high - centre, centre - low) / spoke.abs().clamp(min=1e-6)
    return room.amin(-1)


def _border(centre: Tensor, spoke: Tensor, size: int) -> Tensor:
    """One point of the border for each spoke; the four nearest to the corners lie in the corners."""
    low, high = BORDER * size, (1 - BORDER) * size
    ends = (centre + spoke * _to_border(centre, spoke, size)[:, None]).clamp(low, high)
    angle = torch.atan2(spoke[:, 1], spoke[:, 0])
    for corner in ((low, low), (high, low), (high, high), (low, high)):
        corner = centre.new_tensor(corner)
        away = corner - centre
        turn = torch.remainder(angle - torch.atan2(away[1], away[0]) + math.pi, 2 * math.pi) - math.pi
        ends[turn.abs().argmin()] = corner
    return ends

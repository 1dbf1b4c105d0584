"""Face detection (MediaPipe's detector) and face meshes of 468 points, read from an upright square around each face.

Pixels are continuous: the middle of the first pixel is at 0.5, the picture ends at its width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..auxiliary import face_detector, face_mesh
from .picture_files import to_float
from .voice_schedule import LETTERS

CHOICES = ("largest", "leftmost", "rightmost")
LARGEST_PICTURE = 1920  # pixels on the long side; larger pictures are downscaled by an integer factor before detection
VIEWS = (1.0, 1.6)  # side of the searched square over the picture's; the second finds heads that fill the picture
TILES = (0.6, 0.3, 0.15)  # tile sides as fractions of the long side; the next size is searched if no face is sure
SMALLEST_TILE = 140  # pixels; a face of 32 pixels is detected in a tile of up to 250
TILE_STEP = 0.6  # tile stride, in tile sides
SMALL_FACE = 0.25  # fraction of the long side; if the largest face is smaller, tiles are searched for others
MESH_SIDE = 1.5  # side of the mesh network's input square, in longer sides of the face's box
EYES = (33, 263)  # outer corners: left and right in the picture
OVERLAP = 0.3  # intersection over union from which two boxes are the same face
INSIDE = 0.6  # share of the smaller box inside the other from which they are the same face
FRAMES_AT_ONCE = 32

LEAST_SCORE, LEAST_PRESENCE = 0.5, 0.5  # minimum for a detection; MediaPipe's values
SURE_SCORE, SURE_PRESENCE = 0.7, 0.8  # exceeded by 99 % of real faces
CLOSE_VIEWS = (1.75, 2.5)  # sides of the squares in which a mesh is scored, in longer sides of its box
LEAST_HEIGHT = 32.0  # pixels from forehead to chin


class NoFaceError(ValueError):
    """No face was detected; the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class Face:
    """box: left, top, right, bottom of the mesh in pixels; mesh (468, 3): x, y in pixels, z on the same scale, smaller
    is nearer.

    score: the detector's, 0..1, around the upright mesh; presence: the mesh network's face probability, 0..1. is_sure:
    both exceed the thresholds of real faces, and the upright score exceeds that of the face upside down.
    """

    box: tuple[float, float, float, float]
    mesh: Tensor
    score: float
    presence: float
    is_sure: bool

    @property
    def height(self) -> float:
        """Distance from forehead to chin in pixels, independent of rotation."""
        return (self.mesh[10] - self.mesh[152]).norm().item()


def as_face(mesh: Tensor) -> Face:
    """A mesh (468, 3) that is known already, as the place where a face is followed from."""
    low, high = mesh[:, :2].amin(0).tolist(), mesh[:, :2].amax(0).tolist()
    return Face((*low, *high), mesh, 1.0, 1.0, True)


@dataclass(frozen=True)
class View:
    """How a square lies around a face: moved right and down in the picture, in its sides; its size, as a factor; its
    turn, radians."""

    right: float = 0.0
    down: float = 0.0
    size: float = 1.0
    turn: float = 0.0


USUAL_VIEW = (View(),)


@dataclass(frozen=True, eq=False)
class Regions:
    """N squares: centre (N, 2) and side (N,) in pixels; angle (N,) of the line between the eyes in radians."""

    centre: Tensor
    side: Tensor
    angle: Tensor

    def __len__(self) -> int:
        return len(self.side)

    def __getitem__(self, index) -> Regions:
        return Regions(self.centre[index], self.side[index], self.angle[index])

    @classmethod
    def around(cls, low: Tensor, high: Tensor, eyes: Tensor) -> Regions:
        """Squares around boxes from low to high (N, 2), rotated upright by eyes (N, 2, 2), left one first."""
        across = eyes[:, 1] - eyes[:, 0]
        return cls((low + high) / 2, MESH_SIDE * (high - low).amax(1), torch.atan2(across[:, 1], across[:, 0]))

    @classmethod
    def of_meshes(cls, meshes: Tensor) -> Regions:
        """meshes (N, 468, 3)."""
        flat = meshes[..., :2]
        return cls.around(flat.amin(1), flat.amax(1), flat[:, EYES])

    def seen(self, view: View) -> Regions:
        """The same faces, with squares that lie otherwise around them."""
        shift = self.side[:, None] * self.side.new_tensor([view.right, view.down])
        return Regions(self.centre + shift, self.side * view.size, self.angle + view.turn)


def read_squares(pixels: Tensor, regions: Regions, size: int, *, outside: str = "border") -> Tensor:
    """pixels (1 or N, 3, H, W) in [-1, 1] -> (N, 3, size, size): the regions, rotated upright.

    outside: 'border' repeats the picture's edge, 'black' is -1. Large regions are average-pooled first.
    """
    shrink = (regions.side / size).floor().clamp(min=1).long().tolist()
    squares = pixels.new_empty(len(regions), pixels.shape[1], size, size)
    for factor in set(shrink):
        chosen = [number for number, other in enumerate(shrink) if other == factor]
        picture = _shrink(pixels if len(pixels) == 1 else pixels[chosen], factor)
        squares[chosen] = _sample(picture, regions[chosen], size, factor, outside)
    return squares


def _shrink(pixels: Tensor, factor: int) -> Tensor:
    """Average-pool by an integer factor; edges are repeated to a multiple of it."""
    if factor == 1:
        return pixels
    missing = -pixels.shape[-1] % factor, -pixels.shape[-2] % factor
    if any(missing):
        pixels = F.pad(pixels, (0, missing[0], 0, missing[1]), mode="replicate")
    return F.avg_pool2d(pixels, factor)


def _shrink_floats(pixels: Tensor, factor: int) -> Tensor:
    """`_shrink` in [-1, 1]; of uint8 pixels some rows at a time, since pictures may be large."""
    if pixels.is_floating_point() or factor == 1:
        return _shrink(to_float(pixels), factor)
    return torch.cat([_shrink(to_float(rows), factor) for rows in pixels.split(64 * factor, dim=2)], dim=2)


def _sample(pixels: Tensor, regions: Regions, size: int, factor: int, outside: str) -> Tensor:
    height, width = pixels.shape[-2:]
    steps = (torch.arange(size, device=pixels.device) + 0.5) / size - 0.5
    v, u = torch.meshgrid(steps, steps, indexing="ij")
    side, cosine, sine = (
        value.to(pixels)[:, None, None] for value in (regions.side, regions.angle.cos(), regions.angle.sin())
    )
    centre = regions.centre.to(pixels)[:, :, None, None]
    x = (centre[:, 0] + side * (cosine * u - sine * v)) / factor
    y = (centre[:, 1] + side * (sine * u + cosine * v)) / factor
    grid = torch.stack([2 * x / width - 1, 2 * y / height - 1], -1)
    padding, black = ("border", 0) if outside == "border" else ("zeros", -1)
    pixels = (pixels - black).expand(len(regions), -1, -1, -1)  # expand: no copy of a single picture
    return F.grid_sample(pixels, grid, padding_mode=padding, align_corners=False) + black


class FaceFinder:
    """Detects faces and reads their meshes: detector (`FaceDetector`), mesh_network (`FaceMesh`), on one device,
    float32.

    Results are on the CPU.
    """

    def __init__(self, detector: torch.nn.Module, mesh_network: torch.nn.Module):
        self.detector, self.mesh_network = detector, mesh_network

    @torch.inference_mode()
    def find(self, pixels: Tensor) -> list[Face]:
        """The faces of a picture (1, 3, H, W) in [-1, 1] or uint8, largest first, unsure ones last.

        Detects faces down to about 40 pixels in pictures of up to 1920 pixels, in larger ones down to 2 % of the long
        side; much smaller faces beside a large one may be missed. Raises NoFaceError if there is none.
        """
        height, width = pixels.shape[-2:]
        factor = math.ceil(max(height, width) / LARGEST_PICTURE)
        small = self._moved(_shrink_floats(pixels, factor))
        found = self._faces(small, self._whole_views(small))
        sure = [face for face in found if face.is_sure]
        if not sure or sure[0].height < SMALL_FACE * max(small.shape[-2:]):
            for side in (share * max(small.shape[-2:]) for share in TILES):
                if side < SMALLEST_TILE:
                    break
                found = _distinct(found + self._faces(small, _tiles(small, side)))
                if any(face.is_sure for face in found):
                    break
        found = [_scaled(face, factor) for face in found]
        large = [face for face in found if face.height >= LEAST_HEIGHT]
        if not large:
            raise NoFaceError(_none_found(width, height, found))
        return large

    @torch.inference_mode()
    def mesh_in(self, pixels: Tensor, box: tuple[float, float, float, float]) -> Face:
        """The mesh of the region `box` (left, top, right, bottom in pixels) of a picture (1, 3, H, W) in [-1, 1] or
        uint8, face or not.

        Raises ValueError if the box is empty or outside the picture.
        """
        height, width = pixels.shape[-2:]
        x0, y0, x1, y1 = (float(edge) for edge in box)
        if not (x0 < x1 and y0 < y1 and x0 < width and y0 < height and x1 > 0 and y1 > 0):
            raise ValueError(
                f"the face box ({', '.join(f'{edge:.0f}' for edge in (x0, y0, x1, y1))}) is empty or outside the "
                f"picture of {width}x{height} pixels; use left, top, right, bottom"
            )
        factor = math.ceil(max(height, width) / LARGEST_PICTURE)
        small = self._moved(_shrink_floats(pixels, factor))
        low, high = (torch.tensor([corner]) / factor for corner in ((x0, y0), (x1, y1)))
        middle, side = (low + high) / 2, (high - low).amax(1)
        views = Regions(middle.expand(2, -1), side * torch.tensor([1.3, 2.2]), torch.zeros(2))
        seen = [
            Regions.around(corners[:1], corners[1:], eyes[None])
            for _, corners, eyes in self._detections(small, views)
            if _is_within(corners.mean(0), low, high)
        ]  # place and rotation of a face inside a generous box
        level = torch.stack([low, low + torch.tensor([[1.0, 0.0]])], 1)
        meshes, presence = self._read_twice(small, _joined([*seen, Regions.around(low, high, level)]))
        again = self._read(small, Regions.of_meshes(meshes))
        meshes, presence = torch.cat([meshes, again[0]]), torch.cat([presence, again[1]])
        is_inside = _is_within((meshes[..., :2].amin(1) + meshes[..., :2].amax(1)) / 2, low, high)
        best = max(range(len(meshes)), key=lambda number: (is_inside[number].item(), round(presence[number].item(), 2)))
        if not is_inside.any():  # the mesh drifted out of a box without a face: use the initial one
            meshes, presence = self._read(small, Regions.around(low, high, level))
            best = 0
        return _scaled(self._judged(small, meshes[best : best + 1], presence[best : best + 1])[0], factor)

    @torch.inference_mode()
    def follow(self, frames: Tensor, start: Face, *, views: Sequence[View] = USUAL_VIEW) -> list[Face]:
        """Track one face: its mesh in every frame (F, 3, H, W) in [-1, 1], which lies near `start`; of several views,
        the mean of what is read in each.

        The face may be up to a third of its width away. The mesh is read around that of `start`, then again around the
        result. Repeated readings of one face differ by 0.3 % of its height; to compare a picture with frames, track it
        in both.
        """
        faces = []
        for part in frames.split(FRAMES_AT_ONCE):
            regions = Regions.of_meshes(start.mesh[None].expand(len(part), -1, -1))
            meshes, presence = self._read_twice(self._moved(part), regions, views)
            faces += [
                _face(mesh, start.score, value, is_upright=True)
                for mesh, value in zip(meshes, presence.tolist(), strict=True)
            ]
        return faces

    def _moved(self, pixels: Tensor) -> Tensor:
        return pixels.to(next(self.mesh_network.parameters()))

    def _whole_views(self, pixels: Tensor) -> Regions:
        height, width = pixels.shape[-2:]
        return Regions(
            torch.tensor([[width / 2, height / 2]]).expand(len(VIEWS), -1),
            max(width, height) * torch.tensor(VIEWS),
            torch.zeros(len(VIEWS)),
        )

    def _faces(self, pixels: Tensor, views: Regions) -> list[Face]:
        """Distinct faces detected in these views, with their meshes."""
        found = self._detections(pixels, views)
        if not found:
            return []
        corners, eyes = (torch.stack([one[part] for one in found]) for part in (1, 2))
        meshes, presence = self._read_twice(pixels, Regions.around(corners[:, 0], corners[:, 1], eyes))
        likely = presence >= LEAST_PRESENCE
        return _distinct(self._judged(pixels, meshes[likely], presence[likely])) if likely.any() else []

    def _judged(self, pixels: Tensor, meshes: Tensor, presence: Tensor) -> list[Face]:
        """Meshes (N, 468, 3) and presence (N,), scored by the detector in close views, upright and upside down."""
        around = Regions.of_meshes(meshes)
        upright = _joined(
            [Regions(around.centre, around.side / MESH_SIDE * view, around.angle) for view in CLOSE_VIEWS]
        )
        views = _joined([upright, replace(upright, angle=upright.angle + math.pi)])
        scores, points = self._detect(pixels, views)
        is_central = ((points[:, :, :2].mean(2) - 0.5).abs() < 0.25).all(2)
        best = (scores * is_central).amax(1).view(2, len(CLOSE_VIEWS), -1).mean(1)  # (upright or not, N)
        return [
            _face(mesh, score, value, is_upright=score > flipped)
            for mesh, value, score, flipped in zip(meshes, presence.tolist(), *best.tolist(), strict=True)
        ]

    def _detections(self, pixels: Tensor, views: Regions) -> list[tuple[float, Tensor, Tensor]]:
        """(score, corners (2, 2), eyes (2, 2)) in pixels of all detections in the views, highest score first."""
        scores, points = self._detect(pixels, views)
        found = []
        for number in range(len(views)):
            for score, shares in _suppressed(scores[number], points[number]):
                place = (shares - 0.5) * views.side[number] + views.centre[number]
                found.append((score, place[:2], place[2:4]))
        kept: list[tuple[float, Tensor, Tensor]] = []
        for one in sorted(found, key=lambda one: -one[0]):
            if all(_overlap(one[1], other[1]) < OVERLAP for other in kept):
                kept.append(one)
        return kept

    def _detect(self, pixels: Tensor, views: Regions) -> tuple[Tensor, Tensor]:
        """Scores (N, 896) and points (N, 896, 8, 2) of the detector's anchors in the views; see `decode_boxes`."""
        squares = read_squares(pixels, views, face_detector.INPUT_SIZE, outside="black")
        parts = [self.detector(part) for part in squares.split(FRAMES_AT_ONCE)]
        scores, offsets = (torch.cat(part).float().cpu() for part in zip(*parts, strict=True))
        return scores, face_detector.decode_boxes(offsets)

    def _read(self, pixels: Tensor, regions: Regions) -> tuple[Tensor, Tensor]:
        """Meshes (N, 468, 3) in pixels and presence (N,) of the regions, of one picture or one picture each."""
        meshes, presence = [], []
        for start in range(0, len(regions), FRAMES_AT_ONCE):
            chosen = slice(start, start + FRAMES_AT_ONCE)
            part = regions[chosen]
            squares = read_squares(pixels if len(pixels) == 1 else pixels[chosen], part, face_mesh.INPUT_SIZE)
            points, values = (value.float().cpu() for value in self.mesh_network((squares + 1) / 2))
            scale = part.side[:, None] / face_mesh.INPUT_SIZE
            u, v = points[..., 0] * scale - part.side[:, None] / 2, points[..., 1] * scale - part.side[:, None] / 2
            cosine, sine = part.angle.cos()[:, None], part.angle.sin()[:, None]
            meshes.append(
                torch.stack(
                    [
                        part.centre[:, :1] + cosine * u - sine * v,
                        part.centre[:, 1:] + sine * u + cosine * v,
                        points[..., 2] * scale,
                    ],
                    -1,
                )
            )
            presence.append(values)
        return torch.cat(meshes), torch.cat(presence)

    def _read_twice(
        self, pixels: Tensor, regions: Regions, views: Sequence[View] = USUAL_VIEW
    ) -> tuple[Tensor, Tensor]:
        around = Regions.of_meshes(self._read(pixels, regions)[0])
        read = [self._read(pixels, around.seen(view)) for view in views]
        meshes, presence = (torch.stack(part).mean(0) for part in zip(*read, strict=True))
        return meshes, presence


def _tiles(pixels: Tensor, side: float) -> Regions:
    """Overlapping squares of `side` pixels that cover the picture."""
    height, width = pixels.shape[-2:]
    rows, columns = (
        torch.linspace(side / 2, length - side / 2, 1 + math.ceil((length - side) / (TILE_STEP * side)))
        if length > side
        else torch.tensor([length / 2])
        for length in (height, width)
    )
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    centres = torch.stack([x.flatten(), y.flatten()], -1)
    return Regions(centres, torch.full((len(centres),), side), torch.zeros(len(centres)))


def choose_face(faces: list[Face], choice: str | int = "largest") -> Face:
    """Select one of the sure faces: 'largest', 'leftmost', 'rightmost', its 1-based number from the left, or its
    letter, A for the leftmost.

    Raises NoFaceError if no face is sure, ValueError for an unknown choice or a number that is too high.
    """
    ordered = from_left(faces)
    if choice == "largest":
        return max(ordered, key=lambda face: face.height)
    if choice in ("leftmost", "rightmost"):
        return ordered[0 if choice == "leftmost" else -1]
    try:
        number = LETTERS.index(str(choice).upper()) + 1 if str(choice).isalpha() else int(choice)
    except ValueError:
        raise ValueError(
            f"the face must be one of {', '.join(CHOICES)} or a number from the left, got '{choice}'"
        ) from None
    if not 1 <= number <= len(ordered):
        raise ValueError(
            f"there {'is 1 face' if len(ordered) == 1 else f'are {len(ordered)} faces'} in the picture, but face "
            f"{choice} was selected; use a number from 1 to {len(ordered)}"
        )
    return ordered[number - 1]


def from_left(faces: list[Face]) -> list[Face]:
    """The sure faces in the order of their letters: A, B, C, ... from the left. Raises NoFaceError without any."""
    sure = [face for face in faces if face.is_sure]
    if not sure:
        raise NoFaceError(_none_sure(faces))
    return sorted(sure, key=lambda face: face.box[0] + face.box[2])


def _none_found(width: int, height: int, small: list[Face]) -> str:
    if small:
        tallest = max(face.height for face in small)
        return (
            f"The face in the picture ({width}x{height}) is only {tallest:.0f} pixels high; at least "
            f"{LEAST_HEIGHT:.0f} are needed. Use a larger picture, or set a face box or paint a face mask to use "
            "it anyway."
        )
    return (
        f"No face found in the picture ({width}x{height}). Use a picture with a clearly visible, upright face of "
        f"at least {LEAST_HEIGHT:.0f} pixels, or set a face box or paint a face mask over it."
    )


def _none_sure(faces: list[Face]) -> str:
    if not faces:
        return "No face found. Use a picture with a clearly visible face, or set a face box or paint a face mask."
    face = max(faces, key=lambda face: (face.presence, face.score))
    where = ", ".join(f"{edge:.0f}" for edge in face.box)
    return (
        f"The detection at {where} (left, top, right, bottom in pixels) may not be a face, or is upside down "
        f"(detector score {face.score:.2f}, mesh {face.presence:.2f}; real faces have at least {SURE_SCORE:.2f} "
        f"and {SURE_PRESENCE:.2f}). To animate it anyway, set this box as face box or paint a face mask over it."
    )


def _face(mesh: Tensor, score: float, presence: float, *, is_upright: bool) -> Face:
    low, high = mesh[:, :2].amin(0).tolist(), mesh[:, :2].amax(0).tolist()
    return Face((*low, *high), mesh, score, presence, is_upright and score >= SURE_SCORE and presence >= SURE_PRESENCE)


def _scaled(face: Face, factor: int) -> Face:
    return replace(face, box=tuple(factor * edge for edge in face.box), mesh=factor * face.mesh)


def _distinct(faces: list[Face]) -> list[Face]:
    """Remove duplicates; sure before unsure, large before small."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: (face.is_sure, face.presence * face.score), reverse=True):
        box = torch.tensor(face.box).view(2, 2)
        others = [torch.tensor(other.box).view(2, 2) for other in kept]
        if all(_overlap(box, other) < OVERLAP and _overlap(box, other, of_smaller=True) < INSIDE for other in others):
            kept.append(face)
    return sorted(kept, key=lambda face: (face.is_sure, face.height), reverse=True)


def _overlap(one: Tensor, other: Tensor, *, of_smaller: bool = False) -> float:
    """Intersection of two boxes, corners (2, 2), over their union or over the smaller one."""
    shared = (torch.minimum(one[1], other[1]) - torch.maximum(one[0], other[0])).clamp(min=0).prod().item()
    areas = [(box[1] - box[0]).prod().item() for box in (one, other)]
    return shared / max(min(areas) if of_smaller else sum(areas) - shared, 1e-9)


def _suppressed(scores: Tensor, points: Tensor) -> list[tuple[float, Tensor]]:
    """Weighted non-maximum suppression, as in MediaPipe: scores (N,), points (N, 8, 2) of a view -> its faces."""
    likely = (scores >= LEAST_SCORE) & (points[:, 1] > points[:, 0]).all(1)
    scores, order = scores[likely].sort(descending=True, stable=True)
    points = points[likely][order]
    found = []
    while len(scores):
        low, high = torch.maximum(points[:, 0], points[:1, 0]), torch.minimum(points[:, 1], points[:1, 1])
        shared = (high - low).clamp(min=0).prod(1)
        areas = (points[:, 1] - points[:, 0]).prod(1)
        same = shared / (areas + areas[:1] - shared) > OVERLAP
        same[0] = True
        weights = scores[same][:, None, None]
        found.append((scores[0].item(), (points[same] * weights).sum(0) / weights.sum()))
        scores, points = scores[~same], points[~same]
    return found


def _is_within(points: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """points (N, 2) or (2,) -> (N,) or (1,): whether they lie in the box from low to high, (1, 2) each."""
    return ((points > low) & (points < high)).all(-1)


def _joined(regions: list[Regions]) -> Regions:
    return Regions(
        torch.cat([one.centre for one in regions]),
        torch.cat([one.side for one in regions]),
        torch.cat([one.angle for one in regions]),
    )

"""What MediaPipe's face mesh reads in finished frames: mouth, eyes and head of every frame. It never saw the model's
training.

Known weaknesses, measured on the puppets' own frames: the width of the mouth is read roughly (r about 0.6 with the
truth), and mouths under beards or in drawings sometimes not at all. The mesh hardly sees lids move, so eyes are read
from pixels: how much the picture of an eye, held by its corners, differs from what it is most of the time, wherever it
fits that best: the corners tremble by a tenth of an eye in some faces.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..inputs.face_geometry import STEADY, similarity
from ..inputs.faces import FaceFinder, View, as_face
from ..inputs.motion_latents import LEFT_EYE, RIGHT_EYE, mouth_opening, mouth_width
from ..inputs.portrait import mesh_in_square
from ..synthetic.motion import FaceMotion, head_speed_degrees
from ..types import Fit

SIZE = 256  # pixels of the head square that places and trembling are given in
AT_ONCE = 32
VERSION = 3  # rises when the same frames are read or judged otherwise: results from before do not compare
# Where a face lies in the squares that its mesh is read in; one reading errs by as much as a mouth under a beard opens.
VIEWS = (
    View(),
    View(down=-0.04, size=0.92, turn=0.07),
    View(down=0.04, size=1.08, turn=-0.07),
    View(right=0.03, size=1.08, turn=0.07),
    View(right=-0.03, size=0.92, turn=-0.07),
)
SWAY_FRAMES = 3.0  # standard deviation of the Gaussian that smooths the pose before its speed is taken
# points that an eye is compared at, and their width in widths of the eye
EYE_WIDTH, EYE_HEIGHT, EYE_ROOM = (28, 16, 1.05)
SLACK, ALIGNED = 3, 2  # how many points an eye may lie beside its corners, and how often the usual look is aligned anew


@dataclass(frozen=True, eq=False)
class Reading:
    """Tracks of F frames.

    opening, width: (F,) of the mouth, in distances of the outer eye corners; eyes: (F, 2) how much the eyes at the left
    and at the right differ from their usual look, 0 (not at all) to 2; turn: (F, 3) yaw, pitch, roll in radians and
    place: (F, 2) pixels, from where the portrait has the head; shake: (F - 2,) mean length of the second difference of
    all points of the mesh. Pixels are those of the head square at 256.
    """

    opening: Tensor
    width: Tensor
    eyes: Tensor
    turn: Tensor
    place: Tensor
    shake: Tensor

    def __len__(self) -> int:
        return len(self.opening)

    def __getitem__(self, part: slice) -> Reading:
        """The frames of a slice without a step."""
        first, last, _ = part.indices(len(self))
        return Reading(
            **{
                field.name: getattr(self, field.name)[first : last - 2 * (field.name == "shake")]
                for field in fields(self)
            }
        )

    def speed(self, fps: float) -> Tensor:
        """(F - 19,) degrees per second, of the pose smoothed against the reading's own noise."""
        reach = round(3 * SWAY_FRAMES)
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / SWAY_FRAMES) ** 2)
        yaw, pitch, roll = F.conv1d(self.turn.T[:, None], (kernel / kernel.sum())[None, None])[:, 0]
        return head_speed_degrees(replace(FaceMotion.neutral(len(yaw)), yaw=yaw, pitch=pitch, roll=roll), fps)[1:]

    def as_lists(self) -> dict[str, list]:
        return {
            field.name: [
                [round(number, 5) for number in value] if isinstance(value, list) else round(value, 5)
                for value in getattr(self, field.name).tolist()
            ]
            for field in fields(self)
        }

    @classmethod
    def from_lists(cls, lists: dict[str, list]) -> Reading:
        return cls(**{field.name: torch.tensor(lists[field.name]) for field in fields(cls)})

    @classmethod
    def of(cls, meshes: Tensor, rest: Tensor, eyes: Tensor | None = None) -> Reading:
        """meshes (F, 468, 3) and the portrait's (468, 3), in pixels of the square at 256; eyes: see `eye_changes`."""
        steady, start = meshes[:, list(STEADY)].float(), rest[list(STEADY)].float()
        rotations = torch.stack([similarity(start, mesh)[0] for mesh in steady])
        yaw = torch.atan2(rotations[:, 0, 2], rotations[:, 2, 2])
        pitch = torch.asin((-rotations[:, 1, 2]).clamp(-1, 1))
        roll = torch.atan2(rotations[:, 1, 0], rotations[:, 1, 1])
        place = (steady - start)[..., :2].mean(1)
        shake = meshes[..., :2].diff(n=2, dim=0).norm(dim=-1).mean(1) if len(meshes) > 2 else meshes.new_zeros(0)
        eyes = meshes.new_zeros(len(meshes), 2) if eyes is None else eyes
        return cls(mouth_opening(meshes), mouth_width(meshes), eyes, torch.stack([yaw, pitch, roll], 1), place, shake)


def read(finder: FaceFinder, frames: np.ndarray, mesh: Tensor, fit: Fit) -> tuple[Reading, Tensor]:
    """frames (F, H, W, 3) uint8; mesh (468, 3): of the portrait, in their pixels; fit: the head square
    -> what is read, and the meshes (F, 468, 3) in pixels of the frames."""
    meshes = torch.cat(
        [_meshes(finder, frames[first : first + AT_ONCE], mesh) for first in range(0, len(frames), AT_ONCE)]
    )
    square = replace(fit, size=SIZE)
    return Reading.of(mesh_in_square(meshes, square), mesh_in_square(mesh, square), eye_changes(frames, meshes)), meshes


def _meshes(finder: FaceFinder, frames: np.ndarray, mesh: Tensor) -> Tensor:
    return torch.stack([face.mesh for face in finder.follow(_pixels(frames), as_face(mesh), views=VIEWS)])


def _pixels(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1


def eye_changes(frames: np.ndarray, meshes: Tensor) -> Tensor:
    """frames (F, H, W, 3) uint8, meshes (F, 468, 3) in their pixels -> (F, 2): 1 minus the correlation of each eye's
    picture, held by its corners, with the median over all frames, where it is greatest within `SLACK` points. It rises
    when lids shut; glances move it little."""
    return changes(eye_looks(frames, meshes, slack=SLACK), slack=SLACK)


def changes(looks: Tensor, *, slack: int = 0) -> Tensor:
    """`eye_looks` of all frames (F, 2, pixels), with that slack -> (F, 2), see `eye_changes`."""
    looks = looks.unflatten(2, (-1, EYE_WIDTH + 2 * slack))
    rows, shifts = looks.shape[2] - 2 * slack, range(2 * slack + 1)
    usual = looks[..., slack : slack + rows, slack : slack + EYE_WIDTH].flatten(2).median(0).values
    for _ in range(1 + ALIGNED * (slack > 0)):
        best, aligned = looks.new_full(looks.shape[:2], -2.0), None
        for down in shifts:
            for right in shifts:
                shifted = looks[..., down : down + rows, right : right + EYE_WIDTH].flatten(2)
                fits = (_standard(shifted) * _standard(usual)).mean(-1)
                better = (fits > best)[..., None]
                aligned = shifted if aligned is None else torch.where(better, shifted, aligned)
                best = torch.maximum(best, fits)
        usual = aligned.median(0).values
    return 1 - best


def eye_looks(frames: np.ndarray, meshes: Tensor, *, height: int = EYE_HEIGHT, slack: int = 0) -> Tensor:
    """frames (F, H, W, 3) uint8, meshes (F, 468, 3) in their pixels -> (F, 2, pixels): the eyes, held by their
    corners, `height` rows of `EYE_WIDTH` pixels, and `slack` more of them on every side."""
    places = []
    for eye in (LEFT_EYE, RIGHT_EYE):
        first, last = meshes[:, eye[0], :2], meshes[:, eye[1], :2]
        along = last - first
        across = torch.stack([-along[:, 1], along[:, 0]], 1)
        x = EYE_ROOM * ((torch.arange(-slack, EYE_WIDTH + slack) + 0.5) / EYE_WIDTH - 0.5)
        y = ((torch.arange(-slack, height + slack) + 0.5) / height - 0.5) * height / EYE_WIDTH
        places.append(
            (first + last)[:, None, None] / 2
            + x[None, None, :, None] * along[:, None, None]
            + y[None, :, None, None] * across[:, None, None]
        )
    grids = 2 * torch.cat(places, 1) / torch.tensor([frames.shape[2], frames.shape[1]]) - 1
    looks = [
        F.grid_sample(
            _pixels(frames[k : k + 1]).mean(1, keepdim=True),
            grids[k : k + 1],
            padding_mode="border",
            align_corners=False,
        )
        for k in range(len(frames))
    ]
    return torch.cat(looks).reshape(len(frames), 2, -1)


def _standard(values: Tensor) -> Tensor:
    spread = values.std(-1, keepdim=True, unbiased=False).clamp(min=1e-6)
    return (values - values.mean(-1, keepdim=True)) / spread

"""Instruments: mouth, eyes, pose and person, read from the pixels of a drawn head.

Three small networks, trained on rendered heads whose parameters are known (`instrument_training`), on people that no model was
trained on. The face reader sees a generous box around the head and finds mouth and eyes in it; the mouth reader sees a patch
around that mouth; the eye reader sees one eye at a time, mirrored if it is the right one, so it cannot guess one eye from the
other. The box comes from the reference still, one for a whole clip; nothing here knows the truth of the frame it reads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..checkpoints.native import write_tensors

WEIGHTS = Path(__file__).parent / "instruments.safetensors"
FORMAT = "comfyui-emo-instruments-1"

MOUTH = ("opening", "width", "closure", "tuck")
EYE = ("blink", "gaze_x", "gaze_y", "iris_red", "iris_green", "iris_blue")
POSE = ("yaw", "pitch", "roll")


@dataclass(frozen=True)
class InstrumentConfig:
    """Sizes in pixels: pictures are brought to `size` first, then boxes are cut out of them and scaled to face, mouth and eye."""

    size: int = 128
    face: int = 56
    mouth: int = 40
    eye: int = 32
    width: int = 16
    traits: tuple[str, ...] = ()  # what of a person is read, see `drawn.TRAITS`


@dataclass(frozen=True)
class FaceBox:
    """Where a head is in a picture, in 0..1: the middle between eyes and mouth, and the distance from eyes to mouth."""

    x: float
    y: float
    distance: float

    @classmethod
    def around(cls, mouth: Tensor, eye_left: Tensor, eye_right: Tensor) -> FaceBox:
        """Points (2,) as x, y in 0..1 of the reference still."""
        eyes = (eye_left + eye_right) / 2
        middle = (eyes + mouth) / 2
        return cls(middle[0].item(), middle[1].item(), (mouth - eyes).norm().item())

    def tensor(self, count: int) -> Tensor:
        """(count, 3)."""
        return torch.tensor([self.x, self.y, self.distance]).expand(count, 3)


@dataclass(frozen=True, eq=False)
class Readings:
    """What T pictures show; the truth of a rendered clip has the same form. (T,) float32 unless said otherwise.

    opening: as far as the lips part, 0..1; width: -1 rounded .. 1 spread; closure: 0..1 pressed; tuck: 0..1; blink: 0 open .. 1
    shut; gaze: about 1 is the corner, right and down of the picture; pose in radians; iris: (T, 2, 3) colours of the left and
    right eye; traits: (T, K) of the person, in standard deviations between people; marks: (T, 3, 2) mouth, left and right eye as
    x, y in 0..1 of the picture.
    """

    opening: Tensor
    width: Tensor
    closure: Tensor
    tuck: Tensor
    blink_left: Tensor
    blink_right: Tensor
    gaze_x_left: Tensor
    gaze_x_right: Tensor
    gaze_y_left: Tensor
    gaze_y_right: Tensor
    yaw: Tensor
    pitch: Tensor
    roll: Tensor
    iris: Tensor
    traits: Tensor
    marks: Tensor

    def __len__(self) -> int:
        return len(self.opening)

    def __getitem__(self, index) -> Readings:
        return Readings(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    @classmethod
    def join(cls, parts: list[Readings]) -> Readings:
        return cls(**{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)})


class Block(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(4, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.gelu(self.conv1(self.norm(x))))


class Reader(nn.Module):
    """A patch (B, 3, S, S) to numbers (B, outputs): three halvings, then one hidden layer that still knows where things are."""

    def __init__(self, size: int, width: int, outputs: int, *, hidden: int = 128):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, width, 5, stride=2, padding=2), nn.GELU(), Block(width),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.GELU(), Block(2 * width),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1), nn.GELU(), Block(4 * width))
        cells = size
        for _ in range(3):
            cells = (cells + 1) // 2
        self.head = nn.Sequential(nn.Flatten(), nn.LayerNorm(4 * width * cells**2), nn.Linear(4 * width * cells**2, hidden),
                                  nn.GELU(), nn.Linear(hidden, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x.contiguous(memory_format=torch.channels_last)).contiguous())


class Instruments(nn.Module):
    """The three readers, the scale of what they say, and which traits they read well enough to be trusted.

    `mean` and `std` of each output make it a plain number again; `trusted` (K,) is 1 for a trait whose reading follows the truth.
    """

    def __init__(self, config: InstrumentConfig, card: dict | None = None):
        super().__init__()
        self.config, self.card = config, card or {}
        self.face = Reader(config.face, config.width, 6 + len(POSE) + len(config.traits))
        self.mouth = Reader(config.mouth, config.width, len(MOUTH))
        self.eye = Reader(config.eye, config.width, len(EYE))
        for name, count in (("face", 6 + len(POSE) + len(config.traits)), ("mouth", len(MOUTH)), ("eye", len(EYE))):
            self.register_buffer(f"{name}_mean", torch.zeros(count))
            self.register_buffer(f"{name}_std", torch.ones(count))
        self.register_buffer("trusted", torch.ones(len(config.traits)))

    def see_face(self, pictures: Tensor, boxes: Tensor) -> Tensor:
        """pictures (B, 3, size, size), boxes (B, 3) as `FaceBox` -> (B, 9 + K): marks in units of the box, pose, and traits in
        standard deviations."""
        said = self.face(face_patch(pictures, boxes, self.config.face))
        plain = said * self.face_std + self.face_mean
        return torch.cat([plain[:, :9], said[:, 9:]], dim=1)

    def see_mouth(self, pictures: Tensor, mouths: Tensor, distances: Tensor) -> Tensor:
        """(B, 4): MOUTH."""
        said = self.mouth(mouth_patch(pictures, mouths, distances, self.config.mouth))
        return said * self.mouth_std + self.mouth_mean

    def see_eye(self, pictures: Tensor, eyes: Tensor, distances: Tensor, *, mirrored: bool) -> Tensor:
        """(B, 6): EYE. mirrored: for the right eye, so that the reader knows left eyes only."""
        patch = eye_patch(pictures, eyes, distances, self.config.eye)
        said = self.eye(patch.flip(-1) if mirrored else patch) * self.eye_std + self.eye_mean
        if mirrored:
            said = torch.cat([said[:, :1], -said[:, 1:2], said[:, 2:]], dim=1)
        return said

    @torch.no_grad()
    def read(self, pictures: Tensor, box: FaceBox | Sequence[FaceBox], *, chunk: int = 64) -> Readings:
        """pictures (T, 3, H, W) in [-1, 1] of one head that stays near `box`, or each in a box of its own."""
        device = self.trusted.device
        where = box.tensor(len(pictures)) if isinstance(box, FaceBox) else torch.cat([one.tensor(1) for one in box])
        parts = []
        for part, boxes in zip(pictures.split(chunk), where.split(chunk), strict=True):
            part, boxes = to_size(part.to(device).float(), self.config.size), boxes.to(device)
            face = self.see_face(part, boxes)
            marks = marks_in_picture(face[:, :6].unflatten(1, (3, 2)), boxes)
            mouth = self.see_mouth(part, marks[:, 0], boxes[:, 2])
            left = self.see_eye(part, marks[:, 1], boxes[:, 2], mirrored=False)
            right = self.see_eye(part, marks[:, 2], boxes[:, 2], mirrored=True)
            parts.append(Readings(
                *mouth.cpu().unbind(1), left[:, 0].cpu(), right[:, 0].cpu(), left[:, 1].cpu(), right[:, 1].cpu(),
                left[:, 2].cpu(), right[:, 2].cpu(), *face[:, 6:9].cpu().unbind(1),
                torch.stack([left[:, 3:], right[:, 3:]], 1).cpu(), face[:, 9:].cpu(), marks.cpu()))
        return Readings.join(parts)

    def find(self, picture: Tensor) -> FaceBox:
        """The box of the one head in a portrait (1, 3, H, W), drawn or not: from where portraits have it, in a few looks."""
        box = FaceBox(0.5, 0.58, 0.18)
        for _ in range(4):
            box = FaceBox.around(*self.read(picture, box).marks[0])
            box = FaceBox(min(max(box.x, 0.25), 0.75), min(max(box.y, 0.3), 0.8), min(max(box.distance, 0.08), 0.3))
        return box

    def save(self, path: str | Path = WEIGHTS) -> None:
        tensors = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in self.state_dict().items()}
        write_tensors(path, tensors, {"format": FORMAT, "config": json.dumps(asdict(self.config)), "card": json.dumps(self.card)})

    @classmethod
    def load(cls, path: str | Path = WEIGHTS, *, device: torch.device | str = "cpu") -> Instruments:
        """Raises FileNotFoundError, or ValueError for a file that holds no instruments."""
        path = Path(path)
        train = "make them with `python -m emo_model.evaluation train-instruments --out FILE`"
        if not path.is_file():
            raise FileNotFoundError(f"there are no instruments at {path}; {train}")
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError(f"{path.name} holds no instruments; {train}")
                state = {name: file.get_tensor(name).float() for name in file.keys()}
        except SafetensorError as error:
            raise ValueError(f"{path.name} is not a whole safetensors file ({error}); {train}") from None
        values = json.loads(metadata["config"])
        made = cls(InstrumentConfig(**values | {"traits": tuple(values["traits"])}), json.loads(metadata["card"]))
        made.load_state_dict(state)
        return made.to(device).eval()


def to_size(pictures: Tensor, size: int) -> Tensor:
    """(B, 3, H, W) -> (B, 3, size, size)."""
    if pictures.shape[-1] == size and pictures.shape[-2] == size:
        return pictures
    return F.interpolate(pictures, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def cut(pictures: Tensor, centre: Tensor, side: Tensor, size: int) -> Tensor:
    """Squares of `side` (B,) around `centre` (B, 2), in 0..1 of the pictures -> (B, 3, size, size); edges are repeated."""
    steps = (torch.arange(size, device=pictures.device) + 0.5) / size - 0.5
    x = centre[:, None, None, 0] + side[:, None, None] * steps[None, None, :]
    y = centre[:, None, None, 1] + side[:, None, None] * steps[None, :, None]
    grid = torch.stack(torch.broadcast_tensors(x, y), -1) * 2 - 1
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)


FACE_SIDE, FACE_RISE, MOUTH_SIDE, EYE_SIDE = 4.0, 0.4, 1.7, 0.95
"""Sides of the patches, and how far the face patch sits above the box's middle, in distances from eyes to mouth."""


def face_patch(pictures: Tensor, boxes: Tensor, size: int) -> Tensor:
    centre = torch.stack([boxes[:, 0], boxes[:, 1] - FACE_RISE * boxes[:, 2]], 1)
    return cut(pictures, centre, FACE_SIDE * boxes[:, 2], size)


def mouth_patch(pictures: Tensor, mouths: Tensor, distances: Tensor, size: int) -> Tensor:
    return cut(pictures, mouths, MOUTH_SIDE * distances, size)


def eye_patch(pictures: Tensor, eyes: Tensor, distances: Tensor, size: int) -> Tensor:
    return cut(pictures, eyes, EYE_SIDE * distances, size)


def marks_in_picture(marks: Tensor, boxes: Tensor) -> Tensor:
    """marks (B, 3, 2) in units of the box -> 0..1 of the picture."""
    return boxes[:, None, :2] + marks * boxes[:, None, 2:]


def marks_in_box(marks: Tensor, boxes: Tensor) -> Tensor:
    """Inverse of `marks_in_picture`."""
    return (marks - boxes[:, None, :2]) / boxes[:, None, 2:]

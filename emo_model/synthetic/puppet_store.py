"""The people that puppets are made of: head squares with their meshes, plain and in other looks, packed in one file.

pictures (N, 256, 256, 3) uint8, meshes (N, 468, 3) float32 in pixels of the square, held_out (N,) bool; metadata:
names (the picture's file name), looks (`plain` or what looks.py made of it), as JSON lists
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..inputs.face_geometry import POINTS, head_frame
from ..inputs.faces import FaceFinder, NoFaceError
from ..inputs.head_square import head_square
from ..inputs.media import to_uint8
from .identities import sample_identities
from .looks import change_look
from .motion import FaceMotion, sample_still_motion
from .puppets import Puppet
from .renderer import render

log = logging.getLogger(__name__)

SIZE = 256
MOST_YAW, MOST_PITCH, MOST_GAP = 0.45, 0.55, 0.30  # radians, radians, lip gap in mouth widths
LEAST_PRESENCE = 0.9
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class Person:
    """picture: (S, S, 3) uint8, a head square; mesh: (468, 3) float32 in its pixels; name: of the picture's file."""

    name: str
    picture: np.ndarray
    mesh: Tensor
    look: str = "plain"

    @property
    def is_held_out(self) -> bool:
        return is_held_out_face(self.name)

    @property
    def seed(self) -> int:
        """Of teeth and the like: the same in every look."""
        return _number(self.name) % 2**31

    def puppet(self) -> Puppet:
        return Puppet(self.picture, self.mesh, self.seed)

    def turned(self, yaw: float, pitch: float) -> Person:
        """The same person, seen turned by so many radians: the puppet's picture in that pose, cut anew, with its mesh.

        Portraits in three-quarter view are rare among pictures that make good puppets."""
        still = FaceMotion.neutral()
        pose = dataclasses.replace(still, yaw=still.yaw + yaw, pitch=still.pitch + pitch)
        frame = self.puppet().render(pose)
        mesh = torch.from_numpy(frame.points[:POINTS])
        return cut_person(self.name, Image.fromarray(frame.picture), mesh, size=len(self.picture), look=self.look)


def is_held_out_face(name: str) -> bool:
    """Whether this picture, by its file's name, is kept from training: one in ten, the same ones for ever."""
    return _number(Path(name).stem) % 1000 < 1000 * HELD_OUT_SHARE


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def load_people(
    faces_folder: str | Path, meshes_file: str | Path, *, size: int = SIZE, shuffle: int | None = None
) -> Iterator[Person]:
    """The usable faces of a folder: seen nearly from the front, the mouth at most a little open.

    meshes_file: safetensors with meshes (N, 468, 3) in pixels of each picture, presence (N,), and names as JSON in its
    metadata.
    shuffle: a seed, for another order than the file's. Raises FileNotFoundError for a picture that the meshes
    name and the folder lacks.
    """
    with safe_open(str(meshes_file), "pt") as file:
        meshes, presence = file.get_tensor("meshes").float(), file.get_tensor("presence").float()
        names = json.loads(file.metadata()["names"])
    for place in _order(len(names), shuffle):
        if presence[place] >= LEAST_PRESENCE and is_usable(meshes[place]):
            with Image.open(Path(faces_folder) / names[place]) as picture:
                yield cut_person(names[place], picture.convert("RGB"), meshes[place], size=size)


def find_people(
    faces_folder: str | Path, finder: FaceFinder, *, size: int = SIZE, shuffle: int | None = None
) -> Iterator[Person]:
    """The same without meshes: the finder reads them from each picture of the folder, the largest face each."""
    paths = sorted(path for path in Path(faces_folder).iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for path in (paths[place] for place in _order(len(paths), shuffle)):
        with Image.open(path) as picture:
            picture = picture.convert("RGB")
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 127.5 - 1
        try:
            face = finder.find(pixels)[0]
        except NoFaceError:
            continue
        if face.is_sure and face.presence >= LEAST_PRESENCE and is_usable(face.mesh):
            yield cut_person(path.name, picture, face.mesh, size=size)


def _order(count: int, shuffle: int | None) -> list[int]:
    if shuffle is None:
        return list(range(count))
    return torch.randperm(count, generator=torch.Generator().manual_seed(shuffle)).tolist()


def is_usable(mesh: Tensor) -> bool:
    """Whether a face (468, 3) makes a good puppet."""
    frame = head_frame(mesh)
    back = frame.axes[2]
    yaw, pitch = torch.atan2(back[0].abs(), back[2]), torch.asin(back[1].clamp(-1, 1)).abs()
    gap = (mesh[13] - mesh[14]).norm() / (mesh[61] - mesh[291]).norm()
    return bool(yaw <= MOST_YAW) and bool(pitch <= MOST_PITCH) and bool(gap <= MOST_GAP)


def cut_person(name: str, picture: Image.Image, mesh: Tensor, *, size: int = SIZE, look: str = "plain") -> Person:
    """The head square of a picture (edges repeated where it reaches outside), scaled, with its mesh."""
    fit = head_square(mesh, width=picture.width, height=picture.height, size=size)
    rows = np.clip(np.arange(fit.top, fit.top + fit.side), 0, picture.height - 1)
    columns = np.clip(np.arange(fit.left, fit.left + fit.side), 0, picture.width - 1)
    square = Image.fromarray(np.asarray(picture)[rows[:, None], columns[None]])
    scaled = np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))
    inside = (mesh - mesh.new_tensor([fit.left, fit.top, 0.0])) * (size / fit.side)
    return Person(name, scaled, inside.float(), look)


def drawn_people(seeds: Iterable[int], finder: FaceFinder, *, size: int = SIZE) -> Iterator[Person]:
    """Drawn heads in portrait poses, with the mesh that the finder reads; those that it is not sure of are left out."""
    for seed in seeds:
        moment = sample_still_motion([seed + 500_000_000])
        still = FaceMotion.neutral(1)
        calm = {
            name: 0.5 * getattr(moment, name) for name in ("yaw", "pitch", "roll", "x", "y", "gaze_x", "gaze_y", "brow")
        }
        pixels = render(sample_identities([seed]), dataclasses.replace(still, **calm), size=384)
        try:
            face = finder.find(pixels)[0]
        except NoFaceError:
            continue
        if face.is_sure and is_usable(face.mesh):
            yield cut_person(f"drawn-{seed}", Image.fromarray(to_uint8(pixels)[0]), face.mesh, size=size)


def with_looks(people: Iterable[Person], seed: int = 0) -> Iterator[Person]:
    """Everyone as they are, and once more in a look of their own."""
    for number, person in enumerate(people):
        yield person
        picture, mesh, look = change_look(
            person.picture, person.mesh, (seed * 1_000_003 + _number(person.name)) % 2**63
        )
        yield Person(person.name, picture, mesh, look)
        if (number + 1) % 200 == 0:
            log.info("%d people in other looks", number + 1)


def write_store(path: str | Path, people: Iterable[Person]) -> int:
    """Pack people of one size into a file (written beside it first); returns how many."""
    all_people = list(people)
    path = Path(path)
    part = path.with_suffix(".part")
    save_file(
        {
            "pictures": torch.from_numpy(np.stack([person.picture for person in all_people])),
            "meshes": torch.stack([person.mesh for person in all_people]),
            "held_out": torch.tensor([person.is_held_out for person in all_people]),
        },
        part,
        metadata={
            "names": json.dumps([person.name for person in all_people]),
            "looks": json.dumps([person.look for person in all_people]),
        },
    )
    os.replace(part, path)
    return len(all_people)


class PuppetStore:
    """A file of `write_store`; people are read from the disk on access."""

    def __init__(self, path: str | Path):
        self._file = safe_open(str(path), "pt")
        self._pictures = self._file.get_slice("pictures")
        self.meshes, self.held_out = self._file.get_tensor("meshes"), self._file.get_tensor("held_out")
        about = self._file.metadata()
        self.names, self.looks = json.loads(about["names"]), json.loads(about["looks"])

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Person:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return Person(
            self.names[index], self._pictures[index : index + 1][0].numpy(), self.meshes[index], self.looks[index]
        )

    def indices(self, *, held_out: bool) -> list[int]:
        """Of the people to train on, or of those kept from it."""
        return [index for index, kept in enumerate(self.held_out.tolist()) if kept == held_out]

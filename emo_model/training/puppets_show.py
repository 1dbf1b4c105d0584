"""Puppets made of a folder of pictures: packed for training, or to look at in extreme poses, in looks and speaking."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..checkpoints.mediapipe import load_face_finder
from ..outputs.video import VideoWriter
from ..synthetic.motion import FaceMotion, sample_motion
from ..synthetic.puppet_store import Person, drawn_people, find_people, load_people, with_looks, write_store
from ..synthetic.speech_library import SpeechLibrary

log = logging.getLogger(__name__)

POSES: dict[str, dict[str, float]] = {
    "neutral": {},
    "ah": {"opening": 1.0},
    "ee": {"opening": 0.35, "width": 0.9},
    "oo": {"opening": 0.3, "width": -0.95},
    "p": {"closure": 1.0},
    "f": {"opening": 0.14, "tuck": 1.0},
    "blink": {"blink_left": 1.0, "blink_right": 1.0},
    "gaze left": {"gaze_x": -0.4},
    "yaw left": {"yaw": -0.35, "opening": 0.3},
    "yaw right": {"yaw": 0.35},
    "pitch": {"pitch": 0.22},
    "smile": {"smile": 1.0, "squint": 0.3},
}


def add_puppet_commands(commands) -> None:
    """Add prepare-puppets and show-puppets to argparse's commands."""
    prepare = commands.add_parser("prepare-puppets", help="pack a folder of pictures of faces for training")
    show = commands.add_parser("show-puppets", help="draw sheets and a film of puppets to look at")
    for command, what in (
        (prepare, "the file to write (safetensors)"),
        (show, "folder of poses.png, looks.png, speaking.mp4"),
    ):
        command.add_argument("--faces", type=Path, required=True, help="a folder of pictures (jpg, png)")
        command.add_argument(
            "--meshes", type=Path, help="their face meshes (safetensors), if they have been found before"
        )
        command.add_argument("--out", type=Path, required=True, help=what)
        command.add_argument("--seed", type=int, default=0)
    prepare.add_argument("--drawn", type=int, default=120, help="drawn heads to add")
    show.add_argument("--people", type=int, default=24, help="how many")
    show.add_argument("--speech", type=Path, help="a folder of prepared speech, for the film")
    show.add_argument("--seconds", type=float, default=6.0, help="of the film")


def prepare_puppets(out: str | Path, *, faces: str | Path, meshes: str | Path | None, drawn: int, seed: int = 0) -> int:
    """Write the usable faces of a folder and drawn heads, plain and in other looks, to a file; returns how many."""
    finder = load_face_finder()
    people = itertools.chain(drawn_people(range(drawn), finder), _people(faces, meshes))
    return write_store(out, with_looks(people, seed))


def _people(faces: str | Path, meshes: str | Path | None, *, shuffle: int | None = None) -> Iterator[Person]:
    if meshes is None:
        return find_people(faces, load_face_finder(), shuffle=shuffle)
    return load_people(faces, meshes, shuffle=shuffle)


def show_puppets(
    faces: str | Path,
    meshes: str | Path | None,
    out: str | Path,
    *,
    people: int = 24,
    seed: int = 0,
    speech: str | Path | None = None,
    seconds: float = 6.0,
    fps: float = 25.0,
) -> list[Path]:
    """Write poses.png and looks.png, and speaking.mp4 if there is a folder of prepared speech; returns the files."""
    chosen = list(itertools.islice(_people(faces, meshes, shuffle=seed), people))
    if not chosen:
        raise ValueError(f"No usable face in {faces}: all are turned away, open-mouthed or uncertain")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    written = [out / "poses.png", out / "looks.png"]
    Image.fromarray(pose_sheet(chosen)).save(written[0])
    looks = [person for person in with_looks(chosen, seed) if person.look != "plain"]
    Image.fromarray(pose_sheet(looks, ("neutral", "ah", "ee", "blink", "yaw left", "yaw right"))).save(written[1])
    if speech is not None:
        film = out / "speaking.mp4"
        write_film(film, (chosen[:3] + looks[:3])[:6], SpeechLibrary(speech), seconds=seconds, fps=fps, seed=seed)
        written.append(film)
    return written


def pose_sheet(people: Sequence[Person], poses: Sequence[str] = tuple(POSES)) -> np.ndarray:
    """One row a person, one column a pose: (rows, columns, 3) uint8."""
    moments = FaceMotion.stack([posed(**POSES[pose]) for pose in poses])
    rows = [[frame.picture for frame in person.puppet().frames(moments)] for person in people]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def posed(**tracks: float) -> FaceMotion:
    """One moment: neutral but for these."""
    return dataclasses.replace(
        FaceMotion.neutral(), **{name: torch.tensor(float(value)) for name, value in tracks.items()}
    )


def write_film(
    path: Path, people: Sequence[Person], library: SpeechLibrary, *, seconds: float, fps: float, seed: int
) -> None:
    """Up to six people side by side, in two rows, who say the same."""
    piece = library.clip(0, seconds=seconds, seed=seed, fps=fps)
    rows = [people[:3], people[3:6]]
    rows = [row for row in rows if len(row) == min(3, len(people))]
    frames = [
        torch.cat([_speak(person, piece, fps, seed + number) for number, person in enumerate(row)], dim=2)
        for row in rows
    ]
    whole = torch.cat(frames, dim=1)  # (F, H, W, 3) uint8
    with VideoWriter(
        path, fps=fps, width=whole.shape[2], height=whole.shape[1], audio=(piece.waveform[None], 16000)
    ) as video:
        video.write(whole.numpy())


def _speak(person: Person, piece, fps: float, seed: int) -> Tensor:
    motion = sample_motion(seed, len(piece.tracks), fps, mouth=piece.tracks, voiced=piece.energy)
    return torch.from_numpy(np.stack([frame.picture for frame in person.puppet().frames(motion)]))

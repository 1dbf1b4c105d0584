"""Pictures of people to puppets, and puppets to look at."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image

from ..checkpoints.mediapipe import load_face_finder
from ..inputs.faces import FaceFinder, NoFaceError, choose_face
from ..inputs.media import VideoWriter, read_picture, to_uint8
from ..synthetic.motion import sample_motion, sample_still_motion
from ..synthetic.puppet_store import Person, PuppetStore, cut_person, is_usable, with_looks, write_store
from ..synthetic.speech import RATE
from ..synthetic.speech_library import SpeechLibrary

log = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
FPS = 25.0


def prepare_puppets(folder: Path, out: Path, *, looks: bool = False, seed: int = 0) -> int:
    """The people of a folder of pictures, by name, as a file of `PuppetStore`; returns how many.

    Left out are pictures without a face that is found for sure, and faces turned far or with an open mouth. looks: add each once
    more in another look. Raises FileNotFoundError if the folder holds no picture, ValueError if no face of them can be used.
    """
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise FileNotFoundError(f"there is no picture ({', '.join(SUFFIXES)}) in {folder}")
    people = list(_people(files, load_face_finder()))
    if not people:
        raise ValueError(f"none of the {len(files)} pictures in {folder} shows a face nearly from the front with its mouth shut")
    log.info("%d of %d pictures can be used", len(people), len(files))
    out.parent.mkdir(parents=True, exist_ok=True)
    return write_store(out, [*people, *(with_looks(people, seed) if looks else ())])


def _people(files: list[Path], finder: FaceFinder) -> Iterator[Person]:
    for file in files:
        try:
            picture = read_picture(file)
            mesh = choose_face(finder.find(picture)).mesh
        except NoFaceError:
            continue
        if is_usable(mesh):
            yield cut_person(file.name, Image.fromarray(to_uint8(picture)[0]), mesh)


def show_puppets(puppets: Path, out: Path, *, people: int = 8, seconds: float = 4.0, speech: Path | None = None,
                 seed: int = 0) -> None:
    """A contact sheet (.png): a row a person, as the picture has it and in seven moments; or a video (.mp4) in which they say
    pieces of prepared `speech`, each its own. Raises ValueError for another suffix, or a video without speech."""
    store = PuppetStore(puppets)
    chosen = torch.randperm(len(store), generator=torch.Generator().manual_seed(seed))[:people].tolist()
    if out.suffix.lower() == ".png":
        rows = [np.concatenate([store[index].picture, *_moments(store[index], seed)], axis=1) for index in chosen]
        out.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate(rows)).save(out)
        return
    if out.suffix.lower() != ".mp4" or speech is None:
        raise ValueError(f"{out.name}: puppets are shown as a sheet (.png), or as a video (.mp4) together with --speech")
    library = SpeechLibrary(speech)
    said = [library.clip(number, seconds=seconds, seed=seed, fps=FPS) for number in range(len(chosen))]
    shown = []
    for number, (index, clip) in enumerate(zip(chosen, said, strict=True)):
        motion = sample_motion(seed + number, len(clip.tracks), FPS, mouth=clip.tracks, voiced=clip.energy)
        shown.append(np.stack([frame.picture for frame in store[index].puppet().frames(motion)]))
    columns = min(4, len(shown))
    shown += [np.zeros_like(shown[0])] * (-len(shown) % columns)
    frames = rearrange(np.stack(shown), "(r c) f h w k -> f (r h) (c w) k", c=columns)
    sound = (sum(clip.waveform for clip in said) / len(said) ** 0.5).clamp(-1, 1)
    with VideoWriter(out, fps=FPS, width=frames.shape[2], height=frames.shape[1], audio=(sound[None], RATE)) as video:
        video.write(frames)


def _moments(person: Person, seed: int) -> list[np.ndarray]:
    puppet, moments = person.puppet(), sample_still_motion([1000 * seed + number for number in range(7)])
    return [puppet.render(moments[number]).picture for number in range(7)]

"""Held-out puppets with held-out voices: every frame is known, and training uses neither."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..config import ModelConfig
from ..inputs.face_geometry import POINTS, STEADY
from ..inputs.motion_latents import motion_latents
from ..synthetic.motion import FaceMotion, sample_motion
from ..synthetic.music import accompaniment, mix
from ..synthetic.puppet_store import Person, PuppetStore
from ..synthetic.puppets import Puppet
from ..synthetic.speech import RATE, Speech, insert_silence
from ..synthetic.speech_library import SpeechLibrary
from ..synthetic.visemes import mouth_tracks, voiced_energy

NEW_LANGUAGE = "fi"  # of which no voice is trained on
DRAWN = "drawn"  # how the names of drawn heads begin
# of the pause that is put into speech, and what is left out at either end
PAUSE_SECONDS, PAUSE_EDGE_SECONDS = (1.6, 0.24)
LEAST_SPOKEN = 0.6  # share of a piece in which somebody speaks
OVERSAMPLING = 4  # pixels of flow along each side of a cell
HEAD = ("yaw", "pitch", "roll", "x", "y", "scale")  # the tracks of a motion that move the head as a whole
FITTING, NUDGE = 5, 0.01  # rounds of Gauss-Newton, and by how much a track is changed for its derivative


@dataclass(frozen=True, eq=False)
class Scene:
    """One person, one voice, and how the puppet moves: the truth.

    waveform: (T,) at 16 kHz; motion: (F,); silent: (F,) bool, frames well inside a pause.
    """

    key: str
    person: Person
    voice: str
    language: str
    waveform: Tensor
    motion: FaceMotion
    silent: Tensor

    @cached_property
    def puppet(self) -> Puppet:
        return self.person.puppet()

    @property
    def box(self) -> tuple[float, ...]:
        """Left, top, right, bottom of the face in pixels."""
        flat = self.person.mesh[:, :2]
        return (*flat.amin(0).tolist(), *flat.amax(0).tolist())

    @property
    def picture(self) -> Tensor:
        """(1, 3, S, S) in [-1, 1]."""
        return torch.from_numpy(self.person.picture).permute(2, 0, 1)[None].float() / 127.5 - 1

    @property
    def opening(self) -> Tensor:
        """(F,): how far the lips part; pressed lips show none of the opening behind them."""
        return (self.motion.opening * (1 - 0.92 * self.motion.closure)).clamp(0, 1)

    def frames(self) -> tuple[np.ndarray, Tensor]:
        """The puppet's own frames (F, S, S, 3) uint8 and exact meshes (F, 468, 3)."""
        made = [(frame.picture, frame.points[:POINTS]) for frame in self.puppet.frames(self.motion)]
        pictures, points = zip(*made, strict=True)
        return np.stack(pictures), torch.from_numpy(np.stack(points)).float()

    @property
    def rest(self) -> Tensor:
        """The puppet's own mesh (468, 3) at rest, in pixels of its picture; its lids are fitted better than the
        store's."""
        return torch.from_numpy(self.puppet.rest[:POINTS]).float()

    def at_rest(self, moved: Tensor) -> np.ndarray:
        """The puppet at rest, its mouth and eyes as the picture has them, in frames (F, S, S, 3) uint8 whose head has
        moved the points of the mesh by moved (F, 468, 2), pixels of the picture, as nearly as a head can."""
        steady = list(STEADY)
        wanted = self.rest[steady, :2].double() + moved[:, steady].double()
        motion = FaceMotion.neutral(len(moved))

        def places(motion: FaceMotion) -> Tensor:
            return torch.from_numpy(self.puppet.pose(motion)[:, steady, :2]).double().flatten(1)

        for _ in range(FITTING):
            now = places(motion)
            nudged = [replace(motion, **{name: getattr(motion, name) + NUDGE}) for name in HEAD]
            slopes = torch.stack([(places(one) - now) / NUDGE for one in nudged], -1)  # (F, 2 N, 6)
            step = torch.linalg.lstsq(slopes, (wanted.flatten(1) - now)[..., None]).solution[..., 0].float()
            motion = replace(motion, **{name: getattr(motion, name) + step[:, k] for k, name in enumerate(HEAD)})
        return np.stack([frame.picture for frame in self.puppet.frames(motion)])

    def latents(self, config: ModelConfig) -> Tensor:
        """Exact raw motion latents (F, C, h, w)."""
        flows, points = self.puppet.flows(self.motion, OVERSAMPLING * config.latent_size)
        motion, scale = self.motion, config.image_size / len(self.person.picture)
        meshes = torch.from_numpy(points[:, :POINTS]).float() * scale
        return motion_latents(
            torch.from_numpy(flows),
            meshes,
            self.rest * scale,
            cells=config.latent_size,
            size=config.image_size,
            press=motion.closure - motion.tuck,
            gaze=torch.stack([motion.gaze_x, motion.gaze_y], -1),
        )


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of speech: waveform (T,), tracks (F, 4), energy (F,), silent (F,) bool."""

    waveform: Tensor
    tracks: Tensor
    energy: Tensor
    silent: Tensor
    voice: str
    language: str


def make_scene(key: str, person: Person, piece: Piece, *, seed: int, fps: float) -> Scene:
    motion = sample_motion(seed, len(piece.tracks), fps, mouth=piece.tracks, voiced=piece.energy)
    return Scene(key, person, piece.voice, piece.language, piece.waveform, motion, piece.silent)


KINDS = {
    "photographs": lambda name, look: look == "plain" and not name.startswith(DRAWN),
    "looks": lambda name, look: look != "plain" and not name.startswith(DRAWN),
    "drawn": lambda name, look: name.startswith(DRAWN) and look == "plain",
}


def people(puppets: PuppetStore, kind: str = "photographs", *, seed: int = 0) -> list[int]:
    """Numbers of the held-out people of a kind (`KINDS`), in an order of chance."""
    about = zip(puppets.names, puppets.looks, strict=True)
    suits = [KINDS[kind](name, look) for name, look in about]
    chosen = [index for index in puppets.indices(held_out=True) if suits[index]]
    random.Random(f"people/{seed}").shuffle(chosen)
    return chosen


def pieces(
    library: SpeechLibrary,
    count: int,
    *,
    seconds: float,
    fps: float,
    seed: int,
    suits: Callable[[Speech], bool] = lambda speech: True,
    change: Callable[[Speech, int], Speech] = lambda speech, number: speech,
) -> list[Piece]:
    """`count` pieces of the clips that suit, each clip once before any comes again; in most of each piece somebody
    speaks.

    change: what becomes of a whole clip first; its number makes the change the same every time.
    Raises ValueError if no clip suits.
    """
    suited = [index for index, clip in enumerate(library.clips) if suits(library[index]) and clip["phonemes"]]
    if not suited:
        raise ValueError(
            "no clip of the prepared speech suits this group of rows; prepare more minutes, or give another folder"
        )
    choose = random.Random(f"pieces/{seed}")
    choose.shuffle(suited)
    found = []
    for number in range(count):
        speech = change(library[suited[number % len(suited)]], number)
        frames, all_frames = round(seconds * fps), int(speech.seconds * fps + 1e-6)
        starts = [choose.randrange(max(1, all_frames - frames + 1)) for _ in range(12)]
        best = max(starts, key=lambda first: min(LEAST_SPOKEN, _spoken(speech, first / fps, first / fps + seconds)))  # noqa: B023
        found.append(cut(speech, best, frames, fps=fps))
    return found


def paused_pieces(
    library: SpeechLibrary,
    count: int,
    *,
    seconds: float,
    fps: float,
    seed: int,
    suits: Callable[[Speech], bool] = lambda speech: True,
) -> list[Piece]:
    """Pieces with a pause of 1.6 s in the middle."""
    found = []
    before = (seconds - PAUSE_SECONDS) / 2
    for number, index in enumerate(_shuffled([i for i in range(len(library)) if suits(library[i])], seed)[:count]):
        speech = library[index]
        at = random.Random(f"pause/{seed}/{number}").uniform(before + 0.5, speech.seconds - before - 0.5)
        later = [start for _, start, _ in speech.phonemes if start >= at]
        if not later:
            continue
        at, changed = later[0], insert_silence(speech, at, PAUSE_SECONDS)
        piece = cut(changed, max(0, round((at - before) * fps)), round(seconds * fps), fps=fps)
        found.append(piece)
    return found


def cut(speech: Speech, first: int, frames: int, *, fps: float) -> Piece:
    """Frames first, first + 1, ...: a piece that begins inside a word begins with its mouth open."""
    start, length = round(first / fps * RATE), round(frames / fps * RATE)
    waveform = speech.waveform[start : start + length]
    waveform = torch.nn.functional.pad(waveform, (0, length - len(waveform)))
    times = (torch.arange(first, first + frames) + 0.5) / fps
    silent = torch.ones(frames, dtype=torch.bool)
    for _, begin, end in speech.phonemes:
        silent &= (times < begin - PAUSE_EDGE_SECONDS) | (times > end + PAUSE_EDGE_SECONDS)
    return Piece(
        waveform,
        _padded(mouth_tracks(speech, fps=fps)[first : first + frames], frames),
        _padded(voiced_energy(speech, fps=fps)[first : first + frames], frames),
        silent,
        speech.voice,
        speech.language,
    )


def with_music(speech: Speech, number: int, *, decibels: float = 5.0) -> Speech:
    """The voice `decibels` above an accompaniment."""
    return mix(speech, accompaniment(6_000 + number, speech.seconds), decibels)


def joined(parts: Sequence[Piece]) -> Piece:
    """Pieces one after the other, in the first one's voice by name."""
    return Piece(
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("waveform", "tracks", "energy", "silent")),
        parts[0].voice,
        parts[0].language,
    )


def encoder_piece(name: str, waveform: Tensor, tracks: Tensor) -> Piece:
    """A recording, whose mouth is unknown, with the mouth that an audio encoder predicts from it."""
    return Piece(waveform, tracks, tracks[:, 0], torch.zeros(len(tracks), dtype=torch.bool), name, "")


def _spoken(speech: Speech, begin: float, end: float) -> float:
    """Share of the time from `begin` to `end` in which somebody speaks."""
    return sum(max(0.0, min(late, end) - max(early, begin)) for _, early, late in speech.phonemes) / (end - begin)


def _padded(track: Tensor, frames: int) -> Tensor:
    missing = frames - len(track)
    return track if missing <= 0 else torch.cat([track, track[-1:].expand(missing, *track.shape[1:])])


def _shuffled(items: Sequence[int], seed: int) -> list[int]:
    items = list(items)
    random.Random(f"pieces/{seed}").shuffle(items)
    return items

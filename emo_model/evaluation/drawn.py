"""Drawn heads whose every frame is known: the truth that instruments are trained and models are measured on.

The only door to `synthetic` and to prepared speech; nothing of the training loop comes through it. Seeds of people:
training draws below 800 million, a model is measured on those from 800 million, instruments are trained from 900 million and
tested from 950 million.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..synthetic import motion as synthetic_motion
from ..synthetic.dice import Dice
from ..synthetic.identities import STYLES, Identities, sample_identities
from ..synthetic.motion import FaceMotion, sample_motion, sample_still_motion
from ..synthetic.renderer import landmarks, render
from ..synthetic.speech import RATE, TRAINING_VOICES, add_noise, insert_silence, is_held_out, language_of
from ..synthetic.speech_library import SpeechClip, SpeechLibrary, prepare_speech
from ..synthetic.visemes import mouth_tracks, voiced_energy
from .instruments import FaceBox, Instruments, Readings

HELD_OUT_PEOPLE, INSTRUMENT_PEOPLE, INSTRUMENT_TEST_PEOPLE = 800_000_000, 900_000_000, 950_000_000

TRAITS = (*(f"{colour} {part}" for colour in ("skin", "hair", "lips") for part in ("red", "green", "blue")),
          "femininity", "age", "face_width", "jaw_taper", "jaw_square", "eye_x", "eye_y", "eye_width", "eye_height", "brow_y",
          "brow_thickness", "nose_width", "mouth_width", "lip_upper", "lip_lower", "beard", "moustache", "glasses", "hair_top",
          "hair_side", "ink_width", "shade_soft")
"""What makes a person, by the renderer's names, as far as a small picture may show it."""


def traits(who: Identities, names: Sequence[str] = TRAITS) -> Tensor:
    """(B, K): these traits of each person, in the renderer's units."""
    def one(name: str) -> Tensor:
        field, _, part = name.partition(" ")
        value = getattr(who, field)
        return (value[:, ("red", "green", "blue").index(part)] if part else value).float()

    return torch.stack([one(name) for name in names], dim=1)


def truth(who: Identities, motion: FaceMotion, instruments: Instruments) -> Readings:
    """What the instruments should say of these pictures."""
    marks = landmarks(who, motion)
    said = Readings(
        opening=visible_opening(motion), width=motion.width, closure=motion.closure, tuck=motion.tuck,
        blink_left=motion.blink_left, blink_right=motion.blink_right, gaze_x_left=motion.gaze_x, gaze_x_right=motion.gaze_x,
        gaze_y_left=motion.gaze_y, gaze_y_right=motion.gaze_y, yaw=motion.yaw, pitch=motion.pitch, roll=motion.roll,
        iris=who.iris[:, None].expand(-1, 2, -1),
        traits=_standard(who, instruments),
        marks=torch.stack([marks.mouth, marks.eye_left, marks.eye_right], 1))
    return Readings(**{name: value.cpu() for name, value in vars(said).items()})


def standard_traits(seeds: Sequence[int], instruments: Instruments) -> Tensor:
    """(P, K) traits of people in standard deviations, on the CPU."""
    return _standard(sample_identities(seeds), instruments).cpu()


def _standard(who: Identities, instruments: Instruments) -> Tensor:
    values = traits(who, instruments.config.traits)
    return (values - instruments.face_mean[9:].to(values)) / instruments.face_std[9:].to(values)


def stills(seeds: Sequence[int], *, size: int, device: torch.device | str = "cpu") -> tuple[Identities, FaceMotion, Tensor]:
    """A person and any moment for each seed, and the pictures (B, 3, size, size)."""
    who, moment = sample_identities(seeds, device=device), sample_still_motion(seeds, device=device)
    return who, moment, render(who, moment, size=size)


def visible_opening(motion: FaceMotion) -> Tensor:
    """How far the lips part: pressed lips show none of the opening behind them (as `lips.mouth_shape`)."""
    return (motion.opening * (1 - 0.92 * motion.closure)).clamp(0, 1)


def head_speed_degrees(yaw: Tensor, pitch: Tensor, roll: Tensor, fps: float) -> Tensor:
    """Tracks (T,) in radians -> (T - 1,) degrees per second from frame to frame, as models are trained on it."""
    motion = replace(FaceMotion.neutral(len(yaw)), yaw=yaw, pitch=pitch, roll=roll)
    return synthetic_motion.head_speed_degrees(motion, fps)[1:]


def calm(seeds: Sequence[int], *, device: torch.device | str = "cpu") -> FaceMotion:
    """As people sit for a portrait: lips shut, eyes open, the head nearly straight."""
    moved = sample_still_motion([seed + 30_000_000 for seed in seeds], device=device)
    still = FaceMotion.neutral(len(seeds), device=device)
    a_little = ("yaw", "pitch", "roll", "x", "y", "gaze_x", "gaze_y", "brow")
    return replace(still, **{name: 0.5 * getattr(moved, name) for name in a_little})


def reference_boxes(who: Identities, motion: FaceMotion) -> list[FaceBox]:
    """A box for each reference still."""
    marks = landmarks(who, motion)
    return [FaceBox.around(*three) for three in zip(marks.mouth.cpu(), marks.eye_left.cpu(), marks.eye_right.cpu(), strict=True)]


def exercise(seeds: Sequence[int], *, device: torch.device | str = "cpu") -> FaceMotion:
    """Moments (B,) for training instruments: all further and freer than a model would show it, each eye with its own lids."""
    dice = Dice(seeds)
    unit, between, normal = dice.unit, dice.between, dice.normal
    motion = sample_still_motion(seeds)
    kind = unit("exercise mouth")
    closure = torch.where(kind < 0.25, between("exercise closure", 0, 1), 0.0)
    tuck = torch.where((kind >= 0.25) & (kind < 0.40), between("exercise tuck", 0, 1), 0.0)
    opening = between("exercise opening", 0, 1) ** 1.5
    opening = torch.where(closure + tuck > 0, opening * 0.5, torch.where(unit("exercise shut") < 0.12, 0.0, opening))
    lids = unit("exercise lids")
    left, right = between("exercise left lid", 0, 1.1).clamp(max=1), between("exercise right lid", 0, 1.1).clamp(max=1)
    none = torch.zeros_like(left)
    little = torch.where(unit("exercise little gaze") < 0.5, 0.35, 1.2)  # most glances are small, and must be told apart
    made = dict(
        opening=opening, closure=closure, tuck=tuck, width=between("exercise width", -1, 1),
        yaw=normal("exercise yaw", 0, 0.22), pitch=normal("exercise pitch", 0, 0.13), roll=normal("exercise roll", 0, 0.10),
        x=normal("exercise x", 0, 0.04), y=normal("exercise y", 0, 0.03), scale=1 + normal("exercise scale", 0, 0.03),
        blink_left=torch.where(lids < 0.55, none, left),
        blink_right=torch.where(lids < 0.55, none, torch.where(lids < 0.75, left, right)),
        gaze_x=normal("exercise gaze x", 0, 0.30) * little, gaze_y=normal("exercise gaze y", 0, 0.25) * little)
    return replace(motion, **{name: track.float() for name, track in made.items()}).to(device)


@dataclass(frozen=True, eq=False)
class Scene:
    """A person never trained on, who says what a voice never trained on says.

    motion: (F,); waveform: (T,) at 16 kHz; portrait: (1, 3, S, S) in [-1, 1], another, calm moment; box: of the portrait.
    """

    number: int
    seed: int
    style: str
    voice: str
    language: str
    who: Identities
    motion: FaceMotion
    waveform: Tensor
    portrait: Tensor
    box: FaceBox

    def __len__(self) -> int:
        return len(self.motion)

    def pictures(self, size: int, frames: Sequence[int] | slice = slice(None)) -> Tensor:
        """The truth (F, 3, size, size), or some frames of it."""
        motion = self.motion[frames]
        return render(self.who.repeat(len(motion)), motion, size=size)

    def truth(self, instruments: Instruments) -> Readings:
        return truth(self.who.repeat(len(self)), self.motion, instruments)


def scenes(library: SpeechLibrary, count: int, *, seconds: float, size: int, fps: float, device: torch.device | str = "cpu",
           first: int = 0, repeat_first: bool = False) -> Iterator[Scene]:
    """Scenes `first` .. `first + count`, styles in turn.

    Longer than the prepared clips, several voices follow one another; `repeat_first`: the last of them says again what the first
    said, so that the two ends can be compared.
    """
    for number in range(first, first + count):
        pieces = _speech(library, number, seconds, fps, repeat_first)
        tracks, energy = torch.cat([piece.tracks for piece in pieces]), torch.cat([piece.energy for piece in pieces])
        yield _scene(number, tracks, energy, torch.cat([piece.waveform for piece in pieces]), pieces[0].voice, size=size, fps=fps,
                     device=device)


def paused_scenes(library: SpeechLibrary, count: int, *, pause_seconds: float, size: int, fps: float,
                  noise_decibels: float | None = None, device: torch.device | str = "cpu",
                  first: int = 0) -> Iterator[tuple[Scene, Tensor]]:
    """Scenes `first` .. `first + count`, each a whole prepared clip with two pauses put in, and their frames (F,) bool that lie
    well inside silence.

    noise_decibels: how far below the speech a room rustles all the time; None: pauses are silent to the last bit.
    """
    voices = sorted({clip["voice"] for clip in library.clips})
    for number in range(first, first + count):
        wanted = voices[number % len(voices)]
        speech = next(library[index % len(library)] for index in range(number, number + len(library))
                      if library.clips[index % len(library)]["voice"] == wanted)
        whole = speech.seconds
        for at in (whole / 3, 2 * whole / 3 + pause_seconds):
            speech = insert_silence(speech, at, pause_seconds)
        frames = round(speech.seconds * fps)
        silent = silences(speech.phonemes, frames, fps)
        tracks, energy = mouth_tracks(speech, fps=fps), voiced_energy(speech, fps=fps)
        if noise_decibels is not None:
            speech = add_noise(speech, noise_decibels, seed=number, colour=-3)
        yield _scene(number, tracks, energy, speech.waveform, speech.voice, size=size, fps=fps, device=device), silent


def silences(phonemes: Sequence[tuple[str, float, float]], frames: int, fps: float, *, shortest: float = 1.5,
             margin: float = 0.4) -> Tensor:
    """(F,) bool: frames at least `margin` seconds inside a stretch of `shortest` seconds or more between two phonemes."""
    now = (torch.arange(frames) + 0.5) / fps
    silent = torch.zeros(frames, dtype=torch.bool)
    for (_, _, end), (_, start, _) in zip(phonemes, phonemes[1:], strict=False):
        if start - end >= shortest:
            silent |= (now >= end + margin) & (now <= start - margin)
    return silent


def _scene(number: int, tracks: Tensor, energy: Tensor, waveform: Tensor, voice: str, *, size: int, fps: float,
           device: torch.device | str) -> Scene:
    seed = _person(number)
    motion = sample_motion(seed, len(tracks), fps, mouth=tracks, voiced=energy)
    who, still = sample_identities([seed], device=device), calm([seed], device=device)
    return Scene(number, seed, who.style_names[0], voice, language_of(voice), who, motion.to(device), waveform,
                 render(who, still, size=size), reference_boxes(who, still)[0])


def _person(number: int) -> int:
    """The seed of scene `number`, so that styles take turns."""
    wanted, turn = number % len(STYLES), number // len(STYLES)
    seen, start = 0, HELD_OUT_PEOPLE
    while True:
        seeds = range(start, start + 100)
        for seed, style in zip(seeds, sample_identities(seeds).style.tolist(), strict=True):
            if style == wanted:
                if seen == turn:
                    return seed
                seen += 1
        start += 100


def _speech(library: SpeechLibrary, number: int, seconds: float, fps: float, repeat_first: bool) -> list[SpeechClip]:
    """Voices in turn; every fourth scene speaks a language never trained on, where there is one."""
    voices = sorted({clip["voice"] for clip in library.clips})
    foreign, known = [[voice for voice in voices if is_foreign(voice) == strange] for strange in (True, False)]
    longest = min(clip["samples"] for clip in library.clips) / RATE
    count = max(1, -(-round(seconds * fps) // int(longest * fps)))
    pieces = []
    for part in range(count):
        place = number + part
        some, turn = (foreign, place // 4) if place % 4 == 3 else (known, place - place // 4)
        some = some or foreign or known
        wanted = some[turn % len(some)]
        tries = (library.clip(number + 1_000 * part, seconds=seconds / count, seed=77 + draw, fps=fps) for draw in range(1_000))
        pieces.append(next(piece for piece in tries if piece.voice == wanted))
    return [*pieces[:-1], pieces[0]] if repeat_first and count > 1 else pieces


def is_foreign(voice: str) -> bool:
    """Whether no training voice speaks its language."""
    return language_of(voice) not in {language_of(heard) for _, voices in TRAINING_VOICES for heard in voices}


def held_out_speech(folder: Path | None, *, minutes: float = 4.0) -> SpeechLibrary:
    """Prepared speech of held-out voices; spoken now if no folder is given.

    Raises RuntimeError where no speech engine is installed, ValueError for speech of voices that training may have heard.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as made:
            return SpeechLibrary(prepare_speech(made, minutes=minutes, seed=900, held_out=True))
    library = SpeechLibrary(folder)
    heard = sorted({clip["voice"] for clip in library.clips if not is_held_out(clip["voice"])})
    if heard:
        raise ValueError(f"{folder} holds speech of {len(heard)} voices that training hears ({', '.join(heard[:3])}); prepare "
                         "held-out speech with `python -m emo_model.evaluation prepare-speech --out DIR`")
    return library

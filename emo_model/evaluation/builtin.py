"""The built-in model, measured: held-out people with held-out voices, read by the face mesh from the finished frames.

A clip is made once and read at once; what is kept are tracks and numbers (the records), from which `report` makes the
table. The ceiling of a clip are the puppet's own frames, read in the same way; they do not depend on the model and are
kept beside.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..checkpoints import native
from ..config import ModelConfig, SamplingConfig
from ..inputs.audio import read_audio, resample
from ..inputs.faces import FaceFinder, NoFaceError
from ..inputs.media import read_picture
from ..outputs.likeness import TEN_VIEWS, Likeness
from ..synthetic.puppet_store import PuppetStore
from ..synthetic.speech import RATE
from ..synthetic.speech_library import SpeechLibrary
from ..types import Fit
from . import scenes
from .hearing import heard
from .metrics import picture, sharpness
from .reading import VERSION, Reading, read
from .scenes import Piece, Scene
from .stage import Stage, Take

log = logging.getLogger(__name__)

GROUPS = {
    "decoder": "the truth's own latents through the decoder: what EMO could reach at most",
    "main": "held-out people x held-out voices of languages that were trained on",
    "control": "the same people with another clip's voice",
    "language": "a language that no voice of training speaks",
    "sung": "singing",
    "music": "speech 5 dB above an accompaniment",
    "pauses": "speech with a pause of 1.6 s",
    "speed": "each head speed of the model",
    "looks": "held-out people as paintings, drawings and so on",
    "drawn": "drawn heads",
    "recordings": "recordings of real speech, against the audio encoder's prediction",
    "portraits": "real pictures: likeness, what moves outside the head, tears",
    "fast": "the fast variant on clips of main",
    "time": "seconds a frame with everything included, 512x512",
    "long": "a minute in one go",
}
USUAL = tuple(name for name in GROUPS if name not in ("long",))
JUDGED = {"main", "fast", "long", "decoder"}  # of the puppets' clips, those whose likeness a row tells
FACE_SAMPLES = 8  # frames of a clip whose likeness and sharpness are measured
SKIPPED = "skipped"  # in place of a clip's name
OPEN = 0.05  # distances of the eye corners from where on the inside of a mouth can be looked at


@dataclass(frozen=True)
class Amount:
    """How much is measured: clips of `seconds`; a quarter of them at each head speed, half of them in the smaller
    groups."""

    clips: int = 32
    seconds: float = 4.0
    portrait_seconds: float = 2.0
    recording_seconds: float = 8.0  # of each recording at most
    long_clips: int = 2
    long_seconds: float = 60.0

    @property
    def few(self) -> int:
        return max(2, self.clips // 2)

    @property
    def fewest(self) -> int:
        return max(2, self.clips // 5)


@dataclass(frozen=True)
class Sources:
    """Where people and voices come from: a file of puppets, folders of prepared held-out speech, spoken and sung;
    recordings and pictures as files; fast: the file of the fast variant."""

    puppets: Path
    speech: Path
    sung: Path | None = None
    recordings: tuple[Path, ...] = ()
    portraits: tuple[Path, ...] = ()
    fast: Path = native.FAST_WEIGHTS


class Records:
    """Numbers by group and clip, kept in files: `path` those of one model, `ceilings` those of the puppets, of no
    model.

    Several runs of the same model may fill the same files at the same time, each with other groups.
    """

    def __init__(self, path: Path | None, about: dict):
        self.path, self.about = path, about
        self.groups: dict[str, dict[str, dict]] = {}
        self.ceilings: dict[str, dict] = {}
        self._ceilings_path = None if path is None else path.with_name("ceilings.json")
        if path is not None:
            if path.exists() and not self._known():
                log.info("%s is of another model or other settings; it is made anew", path)
            self._merge()

    def get(self, group: str, key: str, signature: str) -> dict | None:
        found = self.groups.get(group, {}).get(key)
        return found if found and found["signature"] == signature else None

    def put(self, group: str, key: str, signature: str, record: dict) -> None:
        self.groups.setdefault(group, {}).pop(SKIPPED, None)
        self.groups[group][key] = plain(record | {"signature": signature})

    def skip(self, group: str, reason: str) -> None:
        """Say why a group has no clips, unless an earlier run made some."""
        if not self.groups.get(group, {}).keys() - {SKIPPED}:
            self.groups[group] = {SKIPPED: {"signature": "", "reason": reason}}

    def save(self, rows: list[dict] | None = None) -> None:
        """rows: None leaves those of the file."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._merge()
        rows = self._known().get("rows", []) if rows is None else rows
        for path, content in (
            (self.path, {"about": self.about, "rows": rows, "records": self.groups}),
            (self._ceilings_path, self.ceilings),
        ):
            beside = path.with_name(f"{path.name}.{os.getpid()}.part")
            beside.write_text(json.dumps(content) + "\n", encoding="utf-8")
            beside.replace(path)

    def _known(self) -> dict:
        """What lies in the file, if it is of the same model and settings."""
        if not self.path.exists():
            return {}
        found = json.loads(self.path.read_text(encoding="utf-8"))
        return found if found.get("about", {}).get("identity") == self.about["identity"] else {}

    def _merge(self) -> None:
        """Take over what other runs have put into the files; what is known here stays."""
        for group, clips in self._known().get("records", {}).items():
            own = self.groups.setdefault(group, {})
            for key, record in clips.items():
                if key != SKIPPED or not own:
                    own.setdefault(key, record)
        if self._ceilings_path.exists():
            self.ceilings = json.loads(self._ceilings_path.read_text(encoding="utf-8")) | self.ceilings


class Bench:
    """A model on its device, with what it is measured on, and the numbers so far."""

    def __init__(
        self,
        bundle: native.Bundle,
        finder: FaceFinder,
        sources: Sources,
        records: Records,
        *,
        sampling: SamplingConfig | None = None,
        amount: Amount = Amount(),
    ):
        if amount.clips < 2:
            raise ValueError(f"the control needs the voice of another clip: at least 2 clips, got {amount.clips}")
        self.bundle, self.finder, self.sources, self.records, self.amount = bundle, finder, sources, records, amount
        self.stage = Stage(bundle, finder, sampling or bundle.sampling)
        self.fps = bundle.config.fps

    def measure(self, groups: Iterable[str], *, on_group: Callable[[], None] = lambda: None) -> dict:
        """Fill the records of these groups; `on_group` is called after each."""
        groups = tuple(groups)
        unknown = sorted(set(groups) - GROUPS.keys())
        if unknown:
            raise ValueError(f"there is no group of rows '{unknown[0]}'; choose from: {', '.join(GROUPS)}")
        for name in GROUPS:
            if name in groups:
                began = time.monotonic()
                try:
                    getattr(self, f"_{name}")()
                except _Skipped as reason:
                    log.info("%s: skipped: %s", name, reason)
                    self.records.skip(name, str(reason))
                log.info("%s: %.1f minutes", name, (time.monotonic() - began) / 60)
                on_group()
        return self.records.groups

    # what is measured on

    @cached_property
    def puppets(self) -> PuppetStore:
        return PuppetStore(self.sources.puppets)

    @cached_property
    def speech(self) -> SpeechLibrary:
        return SpeechLibrary(self.sources.speech)

    @cached_property
    def people(self) -> list[int]:
        found = scenes.people(self.puppets)
        if not found:
            raise ValueError(f"{self.sources.puppets} holds no photographs of people that are kept from training")
        return found

    @cached_property
    def likeness(self) -> Likeness | None:
        try:
            return Likeness(TEN_VIEWS)
        except ModuleNotFoundError as error:
            log.info("identity: skipped: %s", error)
            return None

    def scenes(self, name: str, pieces: Sequence[Piece], *, first: int = 0, people: Sequence[int] = ()) -> list[Scene]:
        """Each piece by another person, from number `first` on, as long as there are people (photographs, if none are
        given)."""
        people = people or self.people
        chosen = [self.puppets[people[(first + number) % len(people)]] for number in range(len(pieces))]
        return [
            scenes.make_scene(f"{name}{number}", person, piece, seed=_number(f"{name}{number}"), fps=self.fps)
            for number, (person, piece) in enumerate(zip(chosen, pieces, strict=True))
        ]

    @cached_property
    def main_scenes(self) -> list[Scene]:
        return self.scenes("main", self._pieces(self.speech, self.amount.clips, 1, suits=_is_known))

    def _pieces(self, library: SpeechLibrary, count: int, seed: int, **how) -> list[Piece]:
        try:
            return scenes.pieces(library, count, seconds=self.amount.seconds, fps=self.fps, seed=seed, **how)
        except ValueError as error:
            raise _Skipped(str(error)) from None

    # groups

    def _decoder(self) -> None:
        self._watch(
            "decoder",
            self.main_scenes[: self.amount.few],
            lambda scene, number: self.stage.act(scene),
            after=lambda scene, take: picture.against(take.frames, *scene.frames()),
        )

    def _main(self) -> None:
        self._watch("main", self.main_scenes, self._spoken)

    def _control(self) -> None:
        others = self.main_scenes[self.amount.clips // 2 :] + self.main_scenes[: self.amount.clips // 2]
        for scene in others:
            self._ceiling(scene)
        pairs = dict(zip((scene.key for scene in self.main_scenes), others, strict=True))
        self._watch(
            "control",
            self.main_scenes,
            lambda scene, number: self._spoken(replace(scene, waveform=pairs[scene.key].waveform), number),
            more=lambda scene: {"voice_of": self.signature(pairs[scene.key])},
        )

    def _language(self) -> None:
        pieces = self._pieces(
            self.speech, self.amount.few, 2, suits=lambda speech: speech.language == scenes.NEW_LANGUAGE
        )
        self._watch("language", self.scenes("language", pieces, first=40), self._spoken)

    def _sung(self) -> None:
        if self.sources.sung is None:
            raise _Skipped("give a folder of held-out singing as --sung")
        pieces = self._pieces(SpeechLibrary(self.sources.sung), self.amount.few, 3, suits=lambda speech: speech.sung)
        self._watch("sung", self.scenes("sung", pieces, first=60), self._spoken)

    def _music(self) -> None:
        pieces = self._pieces(self.speech, self.amount.few, 4, suits=_is_known, change=scenes.with_music)
        self._watch("music", self.scenes("music", pieces, first=80), self._spoken)

    def _pauses(self) -> None:
        pieces = scenes.paused_pieces(
            self.speech, self.amount.few, seconds=self.amount.seconds, fps=self.fps, seed=5, suits=_is_known
        )
        self._watch("pauses", self.scenes("pauses", pieces, first=100), self._spoken, salt="held", after=self._held)

    def _held(self, scene: Scene, take: Take) -> dict:
        """held: the opening read in the puppet at rest, its head where the model has it, in the frames of a pause: the
        mesh reads a mouth that rests more or less open as the head turns."""
        size = len(scene.person.picture)
        moved = take.moved[scene.silent] * (size / take.frames.shape[1])
        if not len(moved):
            return {"held": []}
        fit = Fit(size, size, 0, 0, size, size)
        _, own = read(self.finder, scene.person.picture[None], scene.person.mesh.float(), fit)
        return {"held": read(self.finder, scene.at_rest(moved), own[0], fit)[0].opening}

    def _speed(self) -> None:
        speeds = self.bundle.config.speed_centres
        if not speeds:
            raise _Skipped("this model has no speed layers")
        for speed in speeds:
            self._watch(
                f"speed {speed:g}", self.main_scenes[: self.amount.fewest], partial(self._spoken, head_speed=speed)
            )

    def _looks(self) -> None:
        self._of_kind("looks", 6)

    def _drawn(self) -> None:
        self._of_kind("drawn", 7)

    def _of_kind(self, kind: str, seed: int) -> None:
        people = scenes.people(self.puppets, kind)
        if not people:
            raise _Skipped(f"{self.sources.puppets.name} holds no such people that are kept from training")
        pieces = self._pieces(self.speech, self.amount.few, seed, suits=_is_known)
        self._watch(kind, self.scenes(kind, pieces, people=people), self._spoken)

    def _recordings(self) -> None:
        if not self.sources.recordings:
            raise _Skipped("give sound files of real speech as --recordings")
        pieces = []
        for path in self.sources.recordings:
            waveform = resample(*read_audio(path))[: round(self.amount.recording_seconds * RATE)]
            frames = int(len(waveform) / RATE * self.fps)
            tracks = heard(self.bundle.audio_encoder, waveform, frames, fps=self.fps)
            pieces.append(scenes.encoder_piece(path.name, waveform[: round(frames / self.fps * RATE)], tracks))
        self._watch("recordings", self.scenes("recordings", pieces, first=120), self._spoken)

    def _portraits(self) -> None:
        if not self.sources.portraits:
            raise _Skipped("give real pictures, or a folder of them, as --portraits")
        pieces = scenes.pieces(
            self.speech,
            len(self.sources.portraits),
            seconds=self.amount.portrait_seconds,
            fps=self.fps,
            seed=8,
            suits=_is_known,
        )
        for number, (path, piece) in enumerate(zip(self.sources.portraits, pieces, strict=True)):
            signature = f"{VERSION} {_hash(path.read_bytes())} {_hash(piece.waveform.numpy().tobytes())}"
            if self.records.get("portraits", path.name, signature) is None:
                try:
                    take = self.stage.speak(read_picture(path), piece.waveform, seed=number)
                    record = self._numbers(take) | {
                        "outside": take.changed_outside,
                        "frame_pixels": take.frames[0, :, :, 0].size,
                    }
                except (NoFaceError, OSError, ValueError) as error:
                    record = {"refused": str(error)}
                self.records.put("portraits", path.name, signature, record)
                self._tell("portraits", number, len(pieces), path.name)

    def _fast(self) -> None:
        if not self.sources.fast.exists():
            raise _Skipped(f"there is no {self.sources.fast.name}")
        from .. import talk

        bundle = talk.load(self.sources.fast, self.stage.device)
        stage, self.stage = self.stage, Stage(bundle, self.finder, bundle.sampling)
        try:
            self._watch(
                "fast", self.main_scenes[: self.amount.few], self._spoken, salt=native.weights_hash(self.sources.fast)
            )
        finally:
            self.stage = stage

    def _time(self) -> None:
        """The command's own report, for a picture of 512x512 and 8 s of voice."""
        from PIL import Image

        from ..rendering import make_video

        piece = scenes.cut(self.speech[0], 0, round(8 * self.fps), fps=self.fps)
        person = self.puppets[self.people[0]]
        models = {"default": self.bundle_path} if self.bundle_path else {}
        if self.sources.fast.exists():
            models["fast"] = self.sources.fast
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            Image.fromarray(person.picture).resize((512, 512), Image.Resampling.LANCZOS).save(folder / "picture.png")
            _write_wav(folder / "voice.wav", piece.waveform)
            for name, path in models.items():
                sampling = self.stage.sampling if name == "default" else native.read_sampling(path)
                made = make_video(
                    folder / "picture.png",
                    folder / "voice.wav",
                    folder / "out.mp4",
                    model=path,
                    sampling=sampling,
                    progress=False,
                    device=str(self.stage.device),
                )
                self.records.put(
                    "time",
                    name,
                    str(time.time()),
                    {
                        "seconds_per_frame": made["seconds_per_frame"],
                        "first_clip_seconds": made["first_clip_seconds"],
                        "frames": made["frames"],
                        "threads": torch.get_num_threads(),
                        "peak_rss_mb": made["peak_rss_mb"],
                    },
                )

    def _long(self) -> None:
        amount = self.amount
        count = amount.long_clips * math.ceil(amount.long_seconds / 10)
        speech = scenes.pieces(self.speech, count, seconds=10, fps=self.fps, seed=9)
        each = len(speech) // amount.long_clips
        pieces = [scenes.joined(speech[first : first + each]) for first in range(0, each * amount.long_clips, each)]
        self._watch("long", self.scenes("long", pieces, first=140), self._spoken)

    # one clip

    bundle_path: Path | None = None  # the model's file, for the command of `time`

    def _spoken(self, scene: Scene, number: int, **changes) -> Take:
        return self.stage.speak(scene.picture, scene.waveform, seed=number, face=scene.box, **changes)

    def _watch(
        self,
        group: str,
        some: Sequence[Scene],
        perform: Callable[[Scene, int], Take],
        *,
        salt: str = "",
        more: Callable[[Scene], dict] = lambda scene: {},
        after: Callable[[Scene, Take], dict] = lambda scene, take: {},
    ) -> None:
        for number, scene in enumerate(some):
            self._ceiling(scene)
            own = more(scene)
            signature = " ".join((self.signature(scene), salt, *own.values())).strip()
            if self.records.get(group, scene.key, signature) is not None:
                continue
            take = perform(scene, number)
            record = (
                self._numbers(take, likeness=group in JUDGED)
                | own
                | {
                    "scene": self.signature(scene),
                    "person": scene.person.name,
                    "look": scene.person.look,
                    "voice": scene.voice,
                    "language": scene.language,
                }
            )
            self.records.put(group, scene.key, signature, record | after(scene, take))
            self._tell(group, number, len(some), f"{scene.person.name}, {scene.voice}")

    def _numbers(self, take: Take, *, likeness: bool = True) -> dict:
        """What is kept of a clip; likeness: takes longest, ten calls of dlib's network a frame."""
        count = len(take.frames)
        chosen = sorted(
            {round((index + 0.5) * count / FACE_SAMPLES - 0.5) for index in range(min(count, FACE_SAMPLES))}
        )
        own = sharpness.of_face(take.still, take.mesh)
        record = {
            "reading": take.reading.as_lists(),
            "rest": read_rest(take),
            "folds": take.folds,
            "torn": take.torn,
            "seconds_per_frame": take.seconds / count,
            "side": take.fit.side,
            "sharp_face": [sharpness.of_face(take.frames[index], take.meshes[index]) / own for index in chosen],
            "sharp_mouth": mouth_sharpness(take.frames, take.meshes, take.reading),
        }
        if likeness and self.likeness is not None:
            record["identity"] = self.likeness.distances(
                take.frames[chosen], take.meshes[chosen], take.still, take.mesh
            )
        return record

    def _ceiling(self, scene: Scene) -> dict:
        """The puppet's own frames, read as the model's are, and the truth."""
        signature = self.signature(scene)
        if signature not in self.records.ceilings:
            frames, exact = scene.frames()
            size = len(scene.person.picture)
            fit = Fit(size, size, 0, 0, size, size)
            _, own = read(self.finder, scene.person.picture[None], scene.person.mesh.float(), fit)
            reading, meshes = read(self.finder, frames, own[0], fit)
            motion = scene.motion
            self.records.ceilings[signature] = plain(
                {
                    "reading": reading.as_lists(),
                    "exact": Reading.of(exact * (256 / size), scene.rest * (256 / size)).as_lists(),
                    "rest": float(Reading.of(own, own[0]).opening),
                    "sharp_mouth": mouth_sharpness(frames, meshes, reading),
                    "truth": {
                        "opening": scene.opening,
                        "width": motion.width,
                        "closure": motion.closure,
                        "blink": torch.maximum(motion.blink_left, motion.blink_right),
                        "silent": scene.silent.int(),
                    },
                }
            )
        return self.records.ceilings[signature]

    def signature(self, scene: Scene) -> str:
        """The same for the same puppet moving in the same way to the same voice."""
        if scene.key not in self._signatures:
            moved = scene.puppet.pose(scene.motion).astype(np.float32)
            self._signatures[scene.key] = (
                f"{VERSION} {_hash(moved.tobytes())} {_hash(scene.waveform.numpy().tobytes())}"
            )
        return self._signatures[scene.key]

    @cached_property
    def _signatures(self) -> dict[str, str]:
        return {}

    def _tell(self, group: str, number: int, count: int, what: str) -> None:
        log.info("%s %d of %d: %s", group, number + 1, count, what)
        self.records.save()


class _Skipped(Exception):
    """A group that cannot be measured here, and what it needs."""


def read_rest(take: Take) -> float:
    """Opening of the mouth as read in the portrait itself."""
    return float(Reading.of(take.mesh[None] * (256 / take.fit.side), take.mesh * (256 / take.fit.side)).opening)


def mouth_sharpness(frames: np.ndarray, meshes: Tensor, reading: Reading) -> list[float]:
    """[mean over the frames with an open mouth, how many these are]."""
    found = [
        sharpness.of_mouth(frames[index], meshes[index])
        for index in (reading.opening > OPEN).nonzero().flatten().tolist()
    ]
    found = [value for value in found if not math.isnan(value)]
    return [sum(found) / len(found) if found else math.nan, len(found)]


def about(bundle: native.Bundle, path: Path, sampling: SamplingConfig, amount: Amount) -> dict:
    """What stands at the head of the results; `identity` must be the same for results to be gone on with."""
    import platform

    weights = hashlib.sha256()
    for part in bundle.parts.values():
        for value in part.state_dict().values():
            weights.update(value.detach().cpu().contiguous().view(-1).numpy().tobytes()[:4096])
    seconds = {name: value for name, value in dataclasses.asdict(amount).items() if name.endswith("seconds")}
    identity = {
        "weights": weights.hexdigest()[:16],
        "sampling": dataclasses.asdict(sampling),
        **seconds,
        "reading": VERSION,
    }
    return {
        "identity": json.loads(json.dumps(identity)),
        "model": path.name,
        "card": bundle.card,
        "fps": bundle.config.fps,
        "clip_frames": bundle.config.clip_frames,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def plain(values):
    """As JSON has it: tensors to lists, floats rounded, not-a-number to None."""
    if isinstance(values, dict):
        return {key: plain(value) for key, value in values.items()}
    if isinstance(values, Tensor | np.ndarray):
        return plain(values.tolist())
    if isinstance(values, (list, tuple)):
        return [plain(value) for value in values]
    if isinstance(values, float):
        return round(values, 5) if math.isfinite(values) else None
    return values


def _is_known(speech) -> bool:
    return speech.language != scenes.NEW_LANGUAGE and not speech.sung


def _number(text: str) -> int:
    return int(_hash(text.encode())[:8], 16)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _write_wav(path: Path, waveform: Tensor) -> None:
    import wave

    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((waveform.clamp(-1, 1) * 32767).round().short().numpy().tobytes())


def untrained(config: ModelConfig, *, decoder: Path | None = None) -> native.Bundle:
    """A model with fresh weights and, if a file is given, the motion decoder of a training run in it: for rows of the
    decoder.

    decoder: weights as training leaves them at the end, or its state in between (then the averaged ones are taken).
    """
    from safetensors.torch import load_file

    torch.manual_seed(0)
    bundle = native.build(config)
    if decoder is not None:
        tensors = load_file(decoder)
        average = "average.decoder."
        if any(name.startswith(average) for name in tensors):
            tensors = {name.removeprefix(average): value for name, value in tensors.items() if name.startswith(average)}
        bundle.motion_decoder.load_state_dict(tensors)
    return bundle

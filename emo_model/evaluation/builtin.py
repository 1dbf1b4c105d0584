"""The built-in model measured: held-out people say what held-out voices say, and the instruments read what came out.

Every video is made once and read at once; what is kept of it are numbers by frame and by clip (the records), from which `report`
makes the table. Beside each video stand the ceiling, which is the truth after the model's own autoencoder, and the control, which
is the same person with the voice of another clip.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints import native
from ..config import SamplingConfig
from ..inputs import face, vae
from ..inputs.audio import SAMPLE_RATE, encode_long, features_per_frame, read_audio, resample
from ..inputs.media import read_picture
from ..sampling.clips import generate_clips
from ..synthetic.speech_library import SpeechLibrary
from ..types import Conditions, Fit, MotionFrames, Portrait, Speed
from . import drawn
from .drawn import Scene
from .instruments import Instruments, Readings
from .metrics import eyes, head, identity, mouth, picture
from .statistics import correlation, mean

log = logging.getLogger(__name__)

GROUPS = ("main", "control", "steps", "speed", "long", "autoencoder", "recordings")
"""main: a video for each scene; control: with another clip's voice; steps: 4 against 10; speed: each head speed of the model;
long: a minute in one go; autoencoder: pictures in and out; recordings: sound files, whose mouth nobody knows, against what the
audio encoder hears in them."""

QUICK = ("main", "control")
TRACKS = ("opening", "width", "closure", "blink_left", "blink_right", "gaze_x_left", "gaze_x_right", "gaze_y_left",
          "gaze_y_right", "yaw", "pitch", "roll")
_GALLERY_PEOPLE, _STILLS = 430, 840_000_000


@dataclass(frozen=True)
class Amount:
    """How much is measured. clips of `seconds` for main and control; a quarter of them for steps and speed; long_clips of
    long_seconds; stills for the autoencoder."""

    clips: int = 32
    seconds: float = 4.0
    long_clips: int = 4
    long_seconds: float = 60.0
    stills: int = 250
    recording_seconds: float = 8.0  # of each recording at most
    control_shift: int | None = None  # clip i hears clip i + shift; None: half the clips


class Bench:
    """A model on a device, with the instruments, and the numbers read so far."""

    def __init__(self, bundle: native.Bundle, instruments: Instruments, library: SpeechLibrary, sampling: SamplingConfig, *,
                 amount: Amount, recordings: Sequence[Path] = (), portraits: Sequence[Path] = (),
                 device: torch.device | str = "cpu"):
        if bundle.autoencoder is None or bundle.audio_encoder is None:
            raise ValueError("only a model with an autoencoder and an audio encoder of its own can be measured")
        if amount.clips < 2:
            raise ValueError(f"the control needs the voice of another clip: at least 2 clips, got {amount.clips}")
        self.bundle, self.instruments, self.library, self.sampling = bundle, instruments, library, sampling
        self.amount, self.device, self.config = amount, device, bundle.config
        self.recordings, self.portraits = recordings, portraits
        self.gallery = self._gallery()
        self._scenes: dict[int, Scene] = {}

    def measure(self, groups: tuple[str, ...] = GROUPS, *, on_group: Callable[[dict], None] = lambda records: None) -> dict:
        """The records of these groups by name; `on_group` sees them after each."""
        unknown = sorted(set(groups) - set(GROUPS))
        if unknown:
            raise ValueError(f"there is no group of rows '{unknown[0]}'; choose from: {', '.join(GROUPS)}")
        records: dict = {}
        for name in GROUPS:
            if name == "recordings" and not self.recordings:
                continue
            if name in groups or (name == "main" and {"control", "steps", "speed"} & set(groups)):
                records[name] = getattr(self, f"_{name}")(records)
                on_group(records)
        return records

    # groups

    def _main(self, records: dict) -> list[dict]:
        return [self._watch(self.scene(number)) for number in range(self.amount.clips)]

    def _control(self, records: dict) -> list[dict]:
        shift = self.amount.control_shift or self.amount.clips // 2
        found = []
        for number in range(self.amount.clips):
            scene, other = self.scene(number), self.scene((number + shift) % self.amount.clips)
            pictures, _ = self.speak(scene.portrait, other.waveform, self._sampling(number))
            said = self.instruments.read(pictures, scene.box)
            true, heard = scene.truth(self.instruments), other.truth(self.instruments)
            found.append({"number": number, "voice_of": other.number, "opening_r": correlation(said.opening, true.opening),
                          "other_opening_r": correlation(said.opening, heard.opening),
                          "darkness_r": correlation(mouth.darkness(pictures, scene.box), true.opening),
                          "width_r": correlation(said.width, true.width), "closure_r": correlation(said.closure, true.closure),
                          "tracks": {"opening": _rounded(said.opening)}})
            log.info("control %d of %d: opening r %.3f, with the voice it heard %.3f", number + 1, self.amount.clips,
                     found[-1]["opening_r"], found[-1]["other_opening_r"])
        return found

    def _steps(self, records: dict) -> dict[str, list[dict]]:
        return {str(steps): self._varied(records, f"{steps} steps", replace(self.sampling, steps=steps)) for steps in (4, 10)}

    def _speed(self, records: dict) -> dict[str, list[dict]]:
        return {str(speed): self._varied(records, f"head speed {speed}", replace(self.sampling, head_speed=speed))
                for speed in self.config.speed_centres}

    def _long(self, records: dict) -> list[dict]:
        found = []
        for scene in drawn.scenes(self.library, self.amount.long_clips, seconds=self.amount.long_seconds, first=1_000,
                                  size=self.config.image_size, fps=self.config.fps, device=self.device, repeat_first=True):
            pictures, seconds = self.speak(scene.portrait, scene.waveform, self._sampling(scene.number))
            said, true = self.instruments.read(pictures, scene.box), scene.truth(self.instruments)
            part = max(25, round(len(scene) / 6))
            found.append({"number": scene.number, "style": scene.style, "frames": len(scene), "seconds_of_work": seconds,
                          "frames_of_part": part, "opening_r": mouth.opening_by_part(said.opening, true.opening, part),
                          "identity_error": _by_part(identity.errors(said, true, self.instruments.trusted.cpu()), part),
                          "sharpness": _by_part(picture.sharpness(pictures), part),
                          "disagreeing": _by_part(eyes.disagreeing(said).float(), part)})
            log.info("%d s of scene %d: opening r by part %s", round(self.amount.long_seconds), scene.number,
                     " ".join(f"{value:.2f}" for value in found[-1]["opening_r"]))
        return found

    def _autoencoder(self, records: dict) -> list[dict]:
        found = []
        for start in range(0, self.amount.stills, 50):
            seeds = range(_STILLS + start, _STILLS + min(start + 50, self.amount.stills))
            who, moment, pictures = drawn.stills(seeds, size=self.config.image_size, device=self.device)
            off = picture.squared_errors(self.recode(pictures), pictures.cpu(), drawn.truth(who, moment, self.instruments).marks)
            found += [{"seed": seed, "style": style, **{name: values[row].item() for name, values in off.items()}}
                      for row, (seed, style) in enumerate(zip(seeds, who.style_names, strict=True))]
        return found

    def _recordings(self, records: dict) -> list[dict]:
        """Every recording on a drawn head and on each given portrait."""
        people = [("drawn", self.scene(0).portrait, self.scene(0).box)] if self.recordings else []
        for path in self.portraits:
            pixels, _ = face.fit_picture(read_picture(path), self.config.image_size, "crop")
            people.append((path.name, pixels, self.instruments.find(pixels)))
        found = []
        for recording in self.recordings:
            sound = resample(*read_audio(recording))[:round(self.amount.recording_seconds * SAMPLE_RATE)]
            heard = self.hear(sound)
            for name, portrait, box in people:
                pictures, _ = self.speak(portrait, sound, self.sampling)
                said = self.instruments.read(pictures, box)
                found.append({"recording": recording.name, "portrait": name, "frames": len(said),
                              "opening_r": correlation(said.opening, heard[:len(said)]), "tracks": {
                                  "heard": {"opening": _rounded(heard)}, "generated": {"opening": _rounded(said.opening)}}})
                log.info("%s on %s: opening r with what is heard %.3f", recording.name, name, found[-1]["opening_r"])
        return found

    # work

    def scene(self, number: int) -> Scene:
        if number not in self._scenes:
            self._scenes[number], = drawn.scenes(self.library, 1, seconds=self.amount.seconds, size=self.config.image_size,
                                                 fps=self.config.fps, device=self.device, first=number)
        return self._scenes[number]

    def speak(self, portrait: Tensor, waveform: Tensor, sampling: SamplingConfig) -> tuple[Tensor, float]:
        """As the function `speak`, with this bench's model."""
        return speak(self.bundle, portrait, waveform, sampling, device=self.device)

    def recode(self, pictures: Tensor) -> Tensor:
        """The autoencoder's way out and back, on the CPU."""
        return recode(self.bundle, pictures, device=self.device)

    @torch.no_grad()
    def hear(self, waveform: Tensor) -> Tensor:
        """waveform (T,) at 16 kHz -> (F,) the mouth opening as the audio encoder hears it."""
        encoder = self.bundle.audio_encoder
        features = encode_long(lambda sound: encoder(sound.to(self.device)), waveform)
        opening = encoder.mouth(features[None])[0, :, None, :1]
        return features_per_frame(opening, fps=self.config.fps, seconds=len(waveform) / SAMPLE_RATE).frames[:, 0, 0]

    def _watch(self, scene: Scene) -> dict:
        """Make the video of a scene, and read it, the truth and the ceiling."""
        true, original = scene.truth(self.instruments), scene.pictures(self.config.image_size).cpu()
        made, seconds = self.speak(scene.portrait, scene.waveform, self._sampling(scene.number))
        heard = self.hear(scene.waveform)
        record = {"number": scene.number, "seed": scene.seed, "style": scene.style, "voice": scene.voice,
                  "language": scene.language, "is_foreign": drawn.is_foreign(scene.voice), "frames": len(scene),
                  "seconds_of_work": seconds,
                  "heard_opening_r": correlation(heard, true.opening)}
        for name, pictures in (("truth", original), ("ceiling", self.recode(original)), ("generated", made)):
            record[name] = self._numbers(pictures, scene, true)
        record["tracks"] = {"known": _tracks(true), "heard": {"opening": _rounded(heard)},
                            **{name: record[name].pop("tracks") for name in ("ceiling", "generated", "truth")}}
        log.info("clip %d of %d (%s, %s): opening r %.3f, ceiling %.3f; %.2f s a frame", scene.number + 1, self.amount.clips,
                 scene.style, scene.voice, record["generated"]["opening_r"], record["ceiling"]["opening_r"], seconds / len(scene))
        return record

    def _numbers(self, pictures: Tensor, scene: Scene, true: Readings) -> dict:
        said, trusted = self.instruments.read(pictures, scene.box), self.instruments.trusted.cpu()
        second = round(self.config.fps)
        person = identity.measure(said, true, trusted=trusted, gallery=self.gallery)
        frames = self.config.clip_frames
        return {**mouth.measure(said, true), **eyes.measure(said, true), **picture.measure(pictures, said, clip_frames=frames),
                **head.measure(said, clip_frames=frames, fps=self.config.fps),
                **{f"identity_{name}": value for name, value in person.items()},
                "darkness_r": correlation(mouth.darkness(pictures, scene.box), true.opening),
                "by_second": {"opening_r": mouth.opening_by_part(said.opening, true.opening, second),
                              "identity_error": _by_part(identity.errors(said, true, trusted), second),
                              "sharpness": _by_part(picture.sharpness(pictures), second),
                              "disagreeing": _by_part(eyes.disagreeing(said).float(), second)},
                "tracks": _tracks(said)}

    def _varied(self, records: dict, what: str, sampling: SamplingConfig) -> list[dict]:
        """Some of the main scenes at other settings; those of the main group itself are not made again."""
        found = []
        for number in range(max(2, self.amount.clips // 4)):
            if sampling == self.sampling:
                numbers = records["main"][number]["generated"]
            else:
                scene = self.scene(number)
                pictures, _ = self.speak(scene.portrait, scene.waveform, replace(sampling, seed=self._sampling(number).seed))
                numbers = self._numbers(pictures, scene, scene.truth(self.instruments))
            kept = ("opening_r", "speed", "sharpness", "identity_error")
            found.append({"number": number} | {name: numbers[name] for name in kept})
        log.info("%s: opening r %.3f, %.1f degrees a second", what, mean([clip["opening_r"] for clip in found]),
                 mean([clip["speed"] for clip in found]))
        return found

    def _sampling(self, number: int) -> SamplingConfig:
        """Each clip its own noise."""
        return replace(self.sampling, seed=self.sampling.seed + number)

    def _gallery(self) -> Tensor:
        """(P, K) traits of people to be mistaken for."""
        return drawn.standard_traits(range(_STILLS, _STILLS + _GALLERY_PEOPLE), self.instruments)


def speak(bundle: native.Bundle, portrait: Tensor, waveform: Tensor, sampling: SamplingConfig, *,
          device: torch.device | str = "cpu") -> tuple[Tensor, float]:
    """portrait (1, 3, S, S) of the model's size, waveform (T,) at 16 kHz -> pictures (F, 3, S, S) on the CPU, seconds of work."""
    began = time.monotonic()
    parts = [pictures for _, pictures in clips_of(bundle, portrait, waveform, sampling, device=device)]
    return torch.cat(parts), time.monotonic() - began


def clips_of(bundle: native.Bundle, portrait: Tensor, waveform: Tensor, sampling: SamplingConfig, *,
             device: torch.device | str = "cpu", first_frame: int = 0,
             motion: MotionFrames = MotionFrames()) -> Iterator[tuple[Tensor, Tensor]]:  # noqa: B008
    """As `speak`, clip by clip: latents (F, C, h, w) and pictures (F, 3, S, S), on the CPU.

    first_frame: of the sound's frames, where the video begins; motion: what its first clip follows.
    """
    config = bundle.config
    heard = encode_long(lambda sound: bundle.audio_encoder(sound.to(device)), waveform)
    audio = features_per_frame(heard, fps=config.fps, seconds=len(waveform) / SAMPLE_RATE)
    audio = replace(audio, frames=audio.frames[first_frame:])
    size = config.image_size
    conditions = Conditions(
        Portrait(vae.encode(bundle.autoencoder, portrait.to(device), config), portrait, Fit(size, size, 0, 0, size, size)),
        face.whole_mask(size), audio, Speed.constant(sampling.head_speed))
    for latents in generate_clips(bundle.emo, conditions, config=sampling, device=device, motion=motion):
        latents = latents[0].transpose(0, 1)
        yield latents.float().cpu(), vae.decode(bundle.autoencoder, latents, config).float().cpu()


def recode(bundle: native.Bundle, pictures: Tensor, *, device: torch.device | str = "cpu") -> Tensor:
    """pictures (T, 3, S, S) through the model's autoencoder, out and back, on the CPU."""
    coder, config = bundle.autoencoder, bundle.config
    return torch.cat([vae.decode(coder, vae.encode(coder, part, config), config).float().cpu()
                      for part in pictures.to(device).split(16)])


def about(bundle: native.Bundle, model: Path, instruments: Instruments, sampling: SamplingConfig, amount: object,
          device: torch.device | str) -> dict:
    """What was measured with what: the head of results.json."""
    cuda = torch.device(device).type == "cuda"
    return {"model": {"file": model.name, "sha256": hashlib.sha256(model.read_bytes()).hexdigest(), "card": bundle.card,
                      "config": dataclasses.asdict(bundle.config)},
            "sampling": dataclasses.asdict(sampling), "amount": dataclasses.asdict(amount), "instruments": instruments.card,
            "machine": torch.cuda.get_device_name() if cuda else f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
            "torch": torch.__version__}


def _tracks(said: Readings) -> dict[str, list[float]]:
    return {name: _rounded(getattr(said, name)) for name in TRACKS}


def _rounded(track: Tensor) -> list[float]:
    return [round(value, 4) for value in track.tolist()]


def _by_part(values: Tensor, frames: int) -> list[float]:
    """Mean of each whole stretch."""
    count = len(values) // frames
    return values[:count * frames].unflatten(0, (count, frames)).mean(1).tolist() if count else []

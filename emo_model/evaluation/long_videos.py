"""Long videos measured: do colours and person drift over minutes, what does the face do in pauses, where do videos show seams?

Frames are read as they are made and never kept; what is kept are numbers by window of seconds. As in `builtin`, a ceiling stands
beside each number: the drawn truth after the model's own autoencoder (of which a run of minutes looks at every fifth frame).
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from ..checkpoints import native
from ..config import SamplingConfig
from ..inputs import vae
from ..inputs.decoded import trace_back
from ..inputs.media import VideoWriter, last_frames, to_uint8
from ..synthetic.speech_library import SpeechLibrary
from ..types import MotionFrames
from . import drawn
from .builtin import clips_of, recode
from .drawn import Scene
from .instruments import FaceBox, Instruments, Readings
from .metrics import colour, head, identity, mouth, pauses, picture, seams
from .statistics import correlation

log = logging.getLogger(__name__)

GROUPS = ("drift", "pauses", "seams")
"""drift: minutes of speech by one person; pauses: speech with pauses of seconds, without and with the noise of a room; seams:
videos that continue another, as latents, through pixels and as a file, against the borders between clips."""

_FIRST_DRIFT, _FIRST_PAUSE, _FIRST_SEAM = 1_000, 3_000, 4_000  # scenes
_EVERY = 5  # frames of the truth of which one is looked at


@dataclass(frozen=True)
class Amount:
    """How much is measured."""

    runs: int = 3  # people who speak for minutes
    minutes: float = 5.0
    window_seconds: float = 10.0
    paused: int = 4  # scenes with two pauses each
    pause_seconds: float = 3.0
    noise_decibels: float = 40.0  # how far below the speech the room is in the second half of the measurement of pauses
    joined: int = 12  # videos that continue another
    joined_clips: int = 2  # clips of each half

    def __post_init__(self):
        if self.window_seconds < 1 or 60 * self.minutes < 2 * self.window_seconds:
            raise ValueError("a drift is read from at least two windows of 1 s or more; "
                             f"got {self.minutes} minutes in windows of {self.window_seconds} s")


@dataclass(frozen=True, eq=False)
class Watched:
    """What is kept of T frames: mean colours lab, face_lab (T, 3); sharpness (T,); background (T,), its change since the frame
    before, nan for the first; latents (T, 2), mean and standard deviation; readings."""

    lab: Tensor
    face_lab: Tensor
    sharpness: Tensor
    background: Tensor
    latents: Tensor
    said: Readings


class Bench:
    """A model on a device, with the instruments and held-out speech."""

    def __init__(self, bundle: native.Bundle, instruments: Instruments, library: SpeechLibrary, sampling: SamplingConfig, *,
                 amount: Amount, device: torch.device | str = "cpu"):
        if bundle.autoencoder is None or bundle.audio_encoder is None:
            raise ValueError("only a model with an autoencoder and an audio encoder of its own can be measured")
        self.bundle, self.instruments, self.library, self.sampling = bundle, instruments, library, sampling
        self.amount, self.device, self.config = amount, device, bundle.config

    def measure(self, groups: Sequence[str] = GROUPS, *, on_group: Callable[[dict], None] = lambda records: None) -> dict:
        """The records of these groups by name; `on_group` sees them after each run of minutes and after each group."""
        unknown = sorted(set(groups) - set(GROUPS))
        if unknown:
            raise ValueError(f"there is no group '{unknown[0]}'; choose from: {', '.join(GROUPS)}")
        records: dict = {}
        for name in groups:
            records[name] = []
            for record in getattr(self, f"_{name}")():
                records[name].append(record)
                on_group(records)
        return records

    # groups

    def _drift(self) -> Iterable[dict]:
        frames = round(self.amount.window_seconds * self.config.fps)
        for scene in drawn.scenes(self.library, self.amount.runs, seconds=60 * self.amount.minutes, first=_FIRST_DRIFT,
                                  **self._drawing()):
            began, true = time.monotonic(), scene.truth(self.instruments)
            made = self.watch(clips_of(self.bundle, scene.portrait, scene.waveform, self._sampling(scene.number),
                                       device=self.device), scene.box)
            seconds = time.monotonic() - began
            looked = list(range(0, len(scene), _EVERY))
            best = self.watch(self._recoded(scene, looked), scene.box)
            portrait = colour.measure(recode(self.bundle, scene.portrait, device=self.device), scene.box)
            yield {"number": scene.number, "style": scene.style, "voice": scene.voice, "frames": len(scene),
                   "seconds_of_work": seconds, "window_seconds": frames / self.config.fps,
                   "portrait": {name: values[0].tolist() for name, values in portrait.items()},
                   "generated": self._windows(made, true, frames),
                   "ceiling": self._windows(best, true[looked], max(1, frames // _EVERY))}
            log.info("%d frames of scene %d (%s): %.3f s a frame", len(scene), scene.number, scene.style, seconds / len(scene))

    def _pauses(self) -> Iterable[dict]:
        for name, noise in (("silent", None), ("noisy", self.amount.noise_decibels)):
            for scene, silent in drawn.paused_scenes(
                    self.library, self.amount.paused, pause_seconds=self.amount.pause_seconds, noise_decibels=noise,
                    first=_FIRST_PAUSE, **self._drawing()):
                made = self.watch(clips_of(self.bundle, scene.portrait, scene.waveform, self._sampling(scene.number),
                                           device=self.device), scene.box)
                best = self.watch(self._recoded(scene, range(len(scene))), scene.box)
                true = scene.truth(self.instruments)
                yield {"number": scene.number, "room": name, "style": scene.style, "voice": scene.voice,
                       "frames": len(scene), "silent_frames": int(silent.sum()),
                       "opening_r": correlation(made.said.opening, true.opening),
                       "generated": pauses.measure(made.said, silent=silent, fps=self.config.fps),
                       "ceiling": pauses.measure(best.said, silent=silent, fps=self.config.fps)}

    def _seams(self) -> Iterable[dict]:
        """Each scene in one go, and in two halves, of which the second has other noise.

        It continues the first from its last latents, from the pixels they became, or from a video file, and hears its own half of
        the sound after the other one, or (alone) without it, as a second recording would be; nothing: it continues no one.
        """
        clips, clip = self.amount.joined_clips, self.config.clip_frames
        half = clips * clip
        for scene in drawn.scenes(self.library, self.amount.joined, seconds=2 * half / self.config.fps, first=_FIRST_SEAM,
                                  **self._drawing()):
            sampling = self._sampling(scene.number)
            whole = list(clips_of(self.bundle, scene.portrait, scene.waveform, sampling, device=self.device))
            first = whole[:clips]  # noise and sound of the first half do not know how long the video is
            shown = torch.cat([latents for latents, _ in first]).to(self.device)
            last = shown[-self.config.motion_frames:]
            alone = scene.waveform[round(half / self.config.fps * drawn.RATE):]
            ways = {"whole": whole[clips:]}
            for name, motion, sound, start in (("latents", last, scene.waveform, half), ("alone", last, alone, 0), (
                    "pixels", self._through_pixels(last), scene.waveform, half), (
                    "video", self._through_video(shown), scene.waveform, half), ("nothing", None, scene.waveform, half)):
                given = MotionFrames(None if motion is None else rearrange(motion, "n c h w -> 1 c n h w"))
                ways[name] = list(clips_of(self.bundle, scene.portrait, sound, replace(sampling, seed=sampling.seed + 1_000_000),
                                           device=self.device, first_frame=start, motion=given))
            found = {}
            for name, second in ways.items():
                latents, pictures = (torch.cat(parts) for parts in zip(*first, *second, strict=True))
                said = self.instruments.read(pictures, scene.box)
                borders = [place for place in seams.borders(len(pictures), clip) if place != half]
                found[name] = seams.measure(seams.changes(pictures, latents, said, fps=self.config.fps),
                                            {"borders": borders, "middle": [half]})
            yield {"number": scene.number, "style": scene.style, "voice": scene.voice, "frames": 2 * half, "changes": found}

    # work

    def watch(self, shown: Iterable[tuple[Tensor, Tensor]], box: FaceBox) -> Watched:
        """(latents, pictures) in stretches -> numbers, frame by frame."""
        kept: list[tuple[Tensor, ...]] = []
        read, last = [], None
        for latents, pictures in shown:
            colours = colour.measure(pictures, box)
            before = pictures[:1] if last is None else last
            change = picture.background_changes(torch.cat([before, pictures]))
            if last is None:
                change[0] = math.nan
            kept.append((colours["lab"], colours["face_lab"], picture.sharpness(pictures), change,
                         torch.stack([latents.mean((1, 2, 3)), latents.std((1, 2, 3))], 1)))
            read.append(self.instruments.read(pictures, box))
            last = pictures[-1:]
        return Watched(*(torch.cat(parts) for parts in zip(*kept, strict=True)), Readings.join(read))

    def _windows(self, seen: Watched, true: Readings, frames: int) -> dict[str, list]:
        """The numbers of each whole window."""
        count = len(seen.lab) // frames
        starts = range(0, count * frames, frames)

        def means(values: Tensor) -> list:
            return [values[start:start + frames].nanmean(0).tolist() for start in starts]

        return {"lab": means(seen.lab), "face_lab": means(seen.face_lab), "sharpness": means(seen.sharpness),
                "background": means(seen.background), "latents": means(seen.latents),
                "identity_error": means(identity.errors(seen.said, true, self.instruments.trusted.cpu())),
                "opening_r": mouth.opening_by_part(seen.said.opening[:count * frames], true.opening[:count * frames], frames),
                "head_speed": [head.speed(seen.said[start:start + frames], self.config.fps, smooth=True).mean().item()
                               for start in starts]}

    def _recoded(self, scene: Scene, frames: Sequence[int]) -> Iterable[tuple[Tensor, Tensor]]:
        for start in range(0, len(frames), 48):
            pictures = scene.pictures(self.config.image_size, list(frames[start:start + 48])).to(self.device)
            latents = vae.encode(self.bundle.autoencoder, pictures, self.config)
            yield latents.cpu(), vae.decode(self.bundle.autoencoder, latents, self.config).float().cpu()

    def _through_pixels(self, latents: Tensor) -> Tensor:
        """(n, C, h, w) as they come back from pictures of 256 levels a colour."""
        pixels = vae.decode(self.bundle.autoencoder, latents, self.config)
        return self._traced_back(((pixels + 1) * 127.5).round() / 127.5 - 1)

    def _through_video(self, latents: Tensor) -> Tensor:
        """(T, C, h, w) of all frames -> (n, C, h, w), the last ones as they come back from the project's own kind of video."""
        pixels, size = vae.decode(self.bundle.autoencoder, latents, self.config), self.config.image_size
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "first.mp4"
            with VideoWriter(file, fps=self.config.fps, width=size, height=size) as video:
                video.write(to_uint8(pixels))
            frames = torch.from_numpy(last_frames(str(file), self.config.motion_frames)).to(latents)
        return self._traced_back(rearrange(frames / 127.5 - 1, "n h w c -> n c h w"))

    def _traced_back(self, pixels: Tensor) -> Tensor:
        return vae.to_scaled(trace_back(self.bundle.autoencoder, pixels), self.config)

    def _drawing(self) -> dict:
        return {"size": self.config.image_size, "fps": self.config.fps, "device": self.device}

    def _sampling(self, number: int) -> SamplingConfig:
        return replace(self.sampling, seed=self.sampling.seed + number)

"""Before the wait: how long it will take, and what must fit into memory and onto the disk."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .config import ModelConfig, SamplingConfig
from .sampling.samplers import evaluations

GB = 1e9
ACTIVATIONS = (
    100  # numbers alive at once, per cell of a frame and channel of the first level; benchmarks/memory.py: at most 76
)
VIDEO_BYTES, GRAIN_BYTES = 0.02, 0.008  # of the file, per pixel and frame, and more for each unit of grain: two to four
# times what moving heads take at the default quality (crf 17)
GRAIN = 10.0  # of a picture that is not known: 0.1 bytes a pixel
SOUND_BYTES = 48_000  # of the file, per second


@dataclass(frozen=True)
class Estimate:
    """What a run will take. All of it grows with the length but the two kinds of memory.

    clips, of which `finished` lie on the disk; minutes: of rendering, None before a step was timed; device_bytes: at
    most at a time, of the device that renders; ram_bytes: at most at a time, beside the program itself and what is on
    the device; clip_bytes and video_bytes: on the disk, for clips that are not there yet and for the video.
    """

    frames: int
    clips: int
    finished: int
    minutes: float | None
    device_bytes: int
    ram_bytes: int
    clip_bytes: int
    video_bytes: int

    @property
    def length(self) -> str:
        """One sentence for the node: how much there is to do."""
        there = f", of which {self.finished} are finished" if self.finished else ""
        time = "" if self.minutes is None else f"; {minutes_and_seconds(self.minutes * 60)} on this machine"
        return f"{self.frames} frames in {self.clips} clips{there}{time}."

    @property
    def needs(self) -> str:
        """One sentence for the log: memory and disk."""
        return (
            f"At most {size(self.device_bytes)} of the device's memory and {size(self.ram_bytes)} of RAM; "
            f"{size(self.clip_bytes)} of disk for clips, at most about {size(self.video_bytes)} for the video."
        )

    @property
    def says(self) -> str:
        return f"{self.length} {self.needs}"

    def refuse_what_cannot_fit(self, clips_folder: str | Path, video_folder: str | Path | None = None) -> None:
        """Raises OSError with the numbers and a remedy where a disk is too small."""
        needs: dict[int, list] = {}  # by file system: a folder on it, and bytes
        for folder, more in ((clips_folder, self.clip_bytes), (video_folder, self.video_bytes)):
            if folder is not None:
                place = _existing(Path(folder))
                needs.setdefault(os.stat(place).st_dev, [place, 0])[1] += more
        for place, needed in needs.values():
            free = shutil.disk_usage(place).free
            if needed > free:
                raise OSError(
                    f"This run needs about {size(needed)} on the disk of {place}, and {size(free)} "
                    f"are free: {self.frames} frames, of which {self.finished} of {self.clips} clips are "
                    "finished. Make room, or take a shorter sound; what is finished stays."
                )


def estimate(
    config: ModelConfig,
    sampling: SamplingConfig,
    *,
    frames: int,
    fps: float,
    finished: int = 0,
    weights_bytes: int = 0,
    compute_bytes: int = 4,
    feature_bytes: int = 0,
    seconds_per_step: float | None = None,
    picture: tuple[int, int] | None = None,
    grain: float = GRAIN,
    faces: int = 1,
) -> Estimate:
    """What a video of `frames` frames will take.

    finished: clips that need not be rendered; weights_bytes: of the model; compute_bytes: of a number that it
    calculates with; feature_bytes: of the voices' features; seconds_per_step: measured on this machine, all
    evaluations of guidance in it; picture: height and width of the video's frames, where they are not the model's
    square; grain: see `grain_of`; faces: how many move, each with clips of its own.
    """
    pixels = config.image_size**2 if picture is None else picture[0] * picture[1]
    clips = faces * count_clips(frames, config.clip_frames)
    left = max(0, clips - finished)
    cells = config.latent_channels * config.latent_size**2
    pictures = 16 * pixels * 3 * 4 * 4  # a block on its way from the decoder to the file
    return Estimate(
        frames,
        clips,
        finished,
        None if seconds_per_step is None else left * sampling.steps * seconds_per_step / 60,
        weights_bytes + activation_bytes(config, frames_at_once(config, sampling), compute_bytes),
        weights_bytes + feature_bytes + pictures + 4 * clip_bytes(config),
        left * clip_bytes(config),
        round(frames * (pixels * (VIDEO_BYTES + GRAIN_BYTES * grain) + SOUND_BYTES / fps) + cells),
    )


def grain_of(picture: Tensor) -> float:
    """How much neighbouring pixels differ, 0..255, in the rows of a picture (1, 3, H, W) in [-1, 1] or uint8; at most
    400 rows are read."""
    rows = picture[:, :, :: max(1, picture.shape[2] // 200)]
    rows = rows if rows.is_floating_point() else rows / 127.5
    return 127.5 * rows.diff(dim=-1).abs().mean().item() if rows.shape[-1] > 1 else 0.0


def size(count: float) -> str:
    """Bytes for a sentence: '54 kB', '3.2 MB', '1.20 GB'."""
    if count < 1e6:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e6:.1f} MB" if count < 1e8 else f"{count / GB:.2f} GB"


def clip_bytes(config: ModelConfig) -> int:
    """Of a clip's file."""
    return config.clip_frames * config.latent_channels * config.latent_size**2 * 4 + 4096


def count_clips(frames: int, clip_frames: int) -> int:
    return -(-frames // clip_frames)


def frames_at_once(config: ModelConfig, sampling: SamplingConfig) -> int:
    """Frames of a clip and before it, as `activation_bytes` counts them: two evaluations in a batch, and three as half
    more."""
    return (config.clip_frames + config.motion_frames) * max(2, evaluations(sampling)) // 2


def activation_bytes(config: ModelConfig, frames: int, compute_bytes: int) -> int:
    """The memory that sampling clips of `frames` frames, motion frames among them, needs beside the weights.

    A third more than was counted for 'hallo' with both halves of guidance in one batch; for smaller models more.
    """
    return config.latent_size**2 * frames * config.channels[0] * compute_bytes * ACTIVATIONS


def minutes_and_seconds(seconds: float) -> str:
    """'about 40 s', 'about 12 min', 'about 3 h 20 min'."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 90 else f"about {minutes // 60} h {minutes % 60} min"


def _existing(folder: Path) -> Path:
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())

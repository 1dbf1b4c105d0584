"""Before the wait: how long it will take, and what must fit into memory and onto the disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .config import ModelConfig, SamplingConfig
from .outputs.disk import GRAIN, SOUND_BYTES, check_disk, size, video_bytes
from .sampling.samplers import evaluations

ACTIVATIONS = (
    100  # numbers alive at once, per cell of a frame and channel of the first level; benchmarks/memory.py: at most 76
)


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
        check_disk(
            [(clips_folder, self.clip_bytes), *([] if video_folder is None else [(video_folder, self.video_bytes)])],
            what="This run",
            details=f"{self.frames} frames, of which {self.finished} of {self.clips} clips are finished",
            remedy="Make room, or take a shorter sound; what is finished stays.",
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
    sound_bytes: float = SOUND_BYTES,
) -> Estimate:
    """What a video of `frames` frames will take.

    finished: clips that need not be rendered; weights_bytes: of the model; compute_bytes: of a number that it
    calculates with; feature_bytes: of the voices' features; seconds_per_step: measured on this machine, all
    evaluations of guidance in it; picture: height and width of the video's frames, where they are not the model's
    square; grain, sound_bytes: see `outputs.disk.video_bytes`; faces: how many move, each with clips of its own.
    """
    height, width = (config.image_size,) * 2 if picture is None else picture
    clips = faces * count_clips(frames, config.clip_frames)
    left = max(0, clips - finished)
    cells = config.latent_channels * config.latent_size**2
    pictures = 16 * height * width * 3 * 4 * 4  # a block on its way from the decoder to the file
    return Estimate(
        frames,
        clips,
        finished,
        None if seconds_per_step is None else left * sampling.steps * seconds_per_step / 60,
        weights_bytes + activation_bytes(config, frames_at_once(config, sampling), compute_bytes),
        weights_bytes + feature_bytes + pictures + 4 * clip_bytes(config),
        left * clip_bytes(config),
        video_bytes(frames, fps=fps, width=width, height=height, grain=grain, sound_bytes=sound_bytes) + cells,
    )


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

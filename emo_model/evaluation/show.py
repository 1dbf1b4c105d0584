"""Pictures that speak, to be looked at: videos, strips of frames, and an animated WebP."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .. import talk
from ..checkpoints.native import Bundle
from ..config import SamplingConfig
from ..inputs.audio import read_audio, resample
from ..inputs.faces import NoFaceError
from ..outputs.video import VideoWriter
from ..synthetic.speech import RATE
from ..types import Fit

GAP = 4  # pixels between the pictures of a strip
QUALITIES = (90, 82, 74, 66, 58, 50, 40, 30)


@dataclass(frozen=True, eq=False)
class Shown:
    """still: (H, W, 3) uint8; frames: (F, H, W, 3); fit: the head square; seconds: of work."""

    still: np.ndarray
    frames: np.ndarray
    fit: Fit
    fps: float
    seconds: float

    def head(self, picture: np.ndarray) -> np.ndarray:
        """The head square of a picture (H, W, 3), as far as it lies inside."""
        fit = self.fit
        return picture[max(0, fit.top) : fit.top + fit.side, max(0, fit.left) : fit.left + fit.side]


def speak(
    bundle: Bundle, portrait: Path, voice: Path, *, sampling: SamplingConfig, start: float = 0.0, seconds: float = 4.0
) -> Shown:
    """A picture speaks `seconds` of a sound file from `start` on. Raises NoFaceError, OSError and ValueError as
    `talk.speak`."""
    began = time.monotonic()
    sound = resample(*read_audio(voice))[round(start * RATE) : round((start + seconds) * RATE)]
    scene = talk.prepare(bundle, portrait, (sound[None], RATE), sampling=sampling)
    with torch.no_grad():
        frames = np.concatenate(
            [block for latents in scene.generate() for block in scene.decoder.blocks(latents[0].transpose(0, 1))]
        )
    return Shown(scene.decoder.still, frames, scene.decoder.fit, bundle.config.fps, time.monotonic() - began)


def look(
    bundle: Bundle,
    portrait: Path,
    voice: Path,
    folder: Path,
    *,
    sampling: SamplingConfig,
    seconds: float,
    frames: int,
    height: int,
) -> str:
    """FOLDER/NAME.mp4 and NAME.jpg (the portrait's head and `frames` of the video); returns a sentence for the log."""
    try:
        shown = speak(bundle, portrait, voice, sampling=sampling, seconds=seconds)
    except (NoFaceError, OSError, ValueError) as error:
        return f"refused: {error}"
    folder.mkdir(parents=True, exist_ok=True)
    sound = resample(*read_audio(voice))[: round(seconds * RATE)]
    high, wide = shown.still.shape[:2]
    with VideoWriter(
        folder / f"{portrait.stem}.mp4", fps=shown.fps, width=wide, height=high, audio=(sound[None], RATE)
    ) as video:
        video.write(shown.frames)
    heads = [shown.head(frame) for frame in shown.frames]
    write_strip(
        shown.head(shown.still), heads, folder / f"{portrait.stem}.jpg", count=frames, height=height or shown.fit.side
    )
    return f"{len(shown.frames)} frames of {wide}x{high} in {shown.seconds:.1f} s"


def write_strip(portrait: np.ndarray, frames: Sequence[np.ndarray], path: Path, *, count: int, height: int) -> None:
    """The portrait (H, W, 3) uint8, a gap, and `count` of the frames, evenly apart, in a row of that height."""
    if len(frames) < count:
        raise ValueError(
            f"{count} pictures asked of a video of {len(frames)} frames; ask for fewer, or for more seconds"
        )
    chosen = [frames[round((index + 0.5) * len(frames) / count - 0.5)] for index in range(count)]
    pictures = [Image.fromarray(picture) for picture in [portrait, *chosen]]
    pictures = [
        picture.resize((round(picture.width * height / picture.height), height), Image.Resampling.LANCZOS)
        for picture in pictures
    ]
    whole = Image.new("RGB", (sum(picture.width for picture in pictures) + (len(pictures) + 1) * GAP, height), "white")
    left = 0
    for place, picture in enumerate(pictures):
        whole.paste(picture, (left, 0))
        left += picture.width + (3 * GAP if place == 0 else GAP)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    whole.save(path, **({"quality": 90} if Path(path).suffix.lower() in (".jpg", ".jpeg") else {}))


def write_webp(frames: np.ndarray, path: Path, *, fps: float, side: int, megabytes: float) -> int:
    """Frames (F, H, W, 3) uint8 as an animation that repeats, the longer side `side`; returns the quality that fits.

    Raises ValueError if no quality makes it small enough.
    """
    scale = min(1.0, side / max(frames.shape[1:3]))
    size = round(frames.shape[2] * scale), round(frames.shape[1] * scale)
    pictures = [Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS) for frame in frames]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    for quality in QUALITIES:
        pictures[0].save(
            path,
            save_all=True,
            append_images=pictures[1:],
            duration=round(1000 / fps),
            loop=0,
            quality=quality,
            method=4,
        )
        if path.stat().st_size <= megabytes * 1e6:
            return quality
    raise ValueError(
        f"{len(frames)} frames of {size[0]}x{size[1]} do not fit {megabytes:g} MB; choose fewer seconds or a smaller "
        "side"
    )

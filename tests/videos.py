"""Short videos and tones for tests, and videos read back."""

from __future__ import annotations

import wave
from pathlib import Path

import av
import numpy as np
import torch


def read_video(path: str | Path) -> tuple[np.ndarray, float]:
    """All frames (F, H, W, 3) uint8 of a short video, and its frame rate."""
    with av.open(str(Path(path).absolute())) as container:
        stream = container.streams.video[0]
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
        return frames, float(stream.average_rate)


def moving(frames: int, *, width: int = 32, height: int = 32) -> np.ndarray:
    """(F, H, W, 3): a soft slope that turns brighter frame by frame."""
    slope = np.linspace(0, 80, width)[None, None, :, None] + np.arange(frames)[:, None, None, None] * (
        160 / max(frames, 1)
    )
    return np.broadcast_to(slope, (frames, height, width, 3)).astype(np.uint8)


def tone(seconds: float, rate: int, *, channels: int = 1) -> torch.Tensor:
    """(C, T) of 440 Hz, half of full scale."""
    return (0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(round(seconds * rate)) / rate)).expand(channels, -1)


def shorten_sound(path: Path, into: Path, *, seconds: float) -> None:
    """The beginning of a WAV file."""
    with wave.open(str(path)) as source, wave.open(str(into), "wb") as target:
        target.setparams(source.getparams())
        target.writeframes(source.readframes(round(seconds * source.getframerate())))


def shorten(path: Path, into: Path, *, seconds: float) -> None:
    """The beginning of a video, without its sound."""
    with av.open(str(path)) as source, av.open(str(into), "w") as target:
        shown = source.streams.video[0]
        stream = target.add_stream("libx264", rate=shown.average_rate)
        stream.width, stream.height, stream.pix_fmt = shown.width, shown.height, "yuv420p"
        for frame in source.decode(shown):
            if frame.time >= seconds:
                break
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))

"""Drawn heads to look at: contact sheets, and clips with sound."""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from ..inputs.media import to_uint8
from ..outputs.video import VideoWriter
from .identities import sample_identities
from .motion import sample_motion, sample_still_motion
from .renderer import render
from .speech import RATE, Speech
from .visemes import mouth_tracks, voiced_energy


def write_clip(
    path: str | Path, frames: Tensor, fps: float, waveform: Tensor | None = None, sample_rate: int = RATE
) -> None:
    """frames: (F, 3, H, W) in [-1, 1]; waveform: (T,) or (C, T) in [-1, 1] -> an mp4."""
    sound = None if waveform is None else (torch.atleast_2d(waveform), sample_rate)
    with VideoWriter(path, fps=fps, width=frames.shape[-1], height=frames.shape[-2], audio=sound) as video:
        video.write(to_uint8(frames))


def draw_clip(seed: int, speech: Speech, *, size: int, fps: float = 25.0, head_speed: float | None = None) -> Tensor:
    """Person `seed` says `speech`: (F, 3, size, size) in [-1, 1]."""
    mouth = mouth_tracks(speech, fps=fps)
    motion = sample_motion(
        seed, len(mouth), fps, mouth=mouth, voiced=voiced_energy(speech, fps=fps), head_speed=head_speed
    )
    return render(sample_identities([seed]).repeat(len(mouth)), motion, size=size)


def write_sheet(path: str | Path, seeds: list[int], *, size: int, columns: int = 8) -> None:
    """Still pictures of these people side by side, row by row."""
    pictures = render(sample_identities(seeds), sample_still_motion(seeds), size=size)
    columns = min(columns, len(seeds))
    empty = pictures.new_ones(-len(seeds) % columns, 3, size, size)
    whole = rearrange(torch.cat([pictures, empty]), "(r c) k h w -> 1 k (r h) (c w)", c=columns)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(to_uint8(whole)[0]).save(path)

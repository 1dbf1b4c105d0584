"""The WORLD vocoder (Morise et al. 2016; `pip install pyworld`): speech taken apart into pitch, envelope and breath,
and put together again at other times and pitches. Only needed to prepare training data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .speech import RATE, Speech
from .visemes import is_vowel

INSTALL = "Another voice for speech needs the WORLD vocoder. Install it with 'pip install pyworld \"setuptools<81\"'."

FRAME_SECONDS = 0.005
_EDGE_SECONDS = 0.03  # the beginning and the end of a sound, where the neighbours are still heard, are hardly stretched

Phonemes = Iterable[tuple[str, float, float]]


@dataclass(frozen=True, eq=False)
class Frames:
    """A voice every 5 ms. pitch: (N,) Hz, 0 without voice; envelope: (N, bins) logarithm of power; breath: (N, bins)
    share of it that is noise."""

    pitch: np.ndarray
    envelope: np.ndarray
    breath: np.ndarray

    def __len__(self) -> int:
        return len(self.pitch)


def analyse(speech: Speech) -> Frames:
    """Raises ModuleNotFoundError, saying what to install, without pyworld."""
    world = _world()
    sound = speech.waveform.double().numpy()
    pitch, times = world.dio(sound, RATE, f0_floor=60.0, f0_ceil=500.0, frame_period=FRAME_SECONDS * 1000)
    pitch = _voiced_vowels(world.stonemask(sound, pitch, times, RATE), times, speech)
    envelope = np.log(world.cheaptrick(sound, pitch, times, RATE) + 1e-12)
    return Frames(pitch, envelope, world.d4c(sound, pitch, times, RATE, threshold=0.0))


def stretch(frames: Frames, now: np.ndarray, knots: tuple[list[float], list[float]]) -> Frames:
    """The frames at other times: `now` (M,) seconds, knots as `time_map`'s; of the pitch only where there is any."""
    place = np.interp(now, *knots) / FRAME_SECONDS
    place = place.clip(0, len(frames) - 1.001)
    low, share = place.astype(int), (place % 1)[:, None]

    def between(track: np.ndarray) -> np.ndarray:
        return track[low] * (1 - share) + track[low + 1] * share

    nearest = np.minimum(np.round(place).astype(int), len(frames) - 1)
    return Frames(frames.pitch[nearest], between(frames.envelope), between(frames.breath))


def synthesise(frames: Frames, seconds: float) -> Tensor:
    """(T,) float32 at 16 kHz, its loudest sample 0.8."""
    tracks = frames.pitch, np.exp(frames.envelope), np.clip(frames.breath, 0.001, 1.0)
    sound = _world().synthesize(*map(np.ascontiguousarray, tracks), RATE, FRAME_SECONDS * 1000)
    sound = torch.from_numpy(sound[: round(seconds * RATE)]).float()
    sound = torch.nn.functional.pad(sound, (0, round(seconds * RATE) - len(sound)))
    return sound * (0.8 / sound.abs().max().clamp(min=0.05))


def time_map(
    old: Phonemes,
    new: Phonemes,
    old_seconds: float,
    new_seconds: float,
    *,
    keeps_edges: Callable[[str], bool] = is_vowel,
) -> tuple[list[float], list[float]]:
    """Knots (new seconds, old seconds), both rising, for the same phonemes at two times; of those that keep their edges
    the middle is stretched."""
    after, before = [0.0], [0.0]

    def knot(at: float, source: float) -> None:
        if at > after[-1] + 1e-6:
            after.append(at)
            before.append(max(source, before[-1]))

    for (ipa, start, end), (_, new_start, new_end) in zip(old, new, strict=True):
        knot(new_start, start)
        edge = min(_EDGE_SECONDS, (end - start) / 3)
        if keeps_edges(ipa):
            knot(new_start + 1.3 * edge, start + edge)
            knot(new_end - 1.3 * edge, end - edge)
        knot(new_end, end)
    knot(new_seconds, old_seconds)
    return after, before


def smooth(track: np.ndarray, seconds: float) -> np.ndarray:
    """Gaussian smoothing over frames, edges repeated."""
    reach = max(1, round(4 * seconds / FRAME_SECONDS))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * FRAME_SECONDS / seconds) ** 2)
    return np.convolve(np.pad(track, reach, mode="edge"), kernel / kernel.sum(), mode="valid")


def _world():
    try:
        import pyworld
    except ImportError as error:
        raise ModuleNotFoundError(f"{INSTALL} ({error})") from error
    return pyworld


def _voiced_vowels(pitch: np.ndarray, times: np.ndarray, speech: Speech) -> np.ndarray:
    """The pitch with gaps inside vowels filled: a creaky moment, held for a second, would be a whisper."""
    known = np.flatnonzero(pitch > 0)
    if not len(known):
        return pitch
    filled = np.interp(times, times[known], pitch[known])
    inside = np.zeros(len(pitch), dtype=bool)
    for ipa, start, end in speech.phonemes:
        inside |= is_vowel(ipa) & (times >= start) & (times <= end)
    return np.where((pitch > 0) | inside, filled, 0.0)

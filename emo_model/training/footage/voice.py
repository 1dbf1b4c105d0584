"""The sound of a video: speech or not, and how far it is off the lips."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...inputs.audio import SAMPLE_RATE, SoundFile, resampled
from .settings import Limits

CONTEXT = 1.0  # seconds around a piece that its features depend on as well
SPOKEN = 0.12  # opening that the sound asks for in speech
SILENT = 1e-3  # peak of a sound that is none, -60 dB
PEAK_WIDTH = 5  # frames around the best offset that belong to its peak
LEAST_LEAD = 0.08  # of the peak's correlation before all others
ALIKE = 3.2  # frames as which one counts: the variance of r between a mouth and other words is that over their number
SURE, SURE_SHIFTED = (
    2.4,
    3.5,
)  # standard deviations of such an r that the best needs, where it is expected and elsewhere
NO_OFFSET = 2.5  # frames up to which sound counts as where it should be, for which less evidence is enough
OWN_LAG = 1  # frames by which a clip's own best offset may differ from its video's


class Sound:
    """16 kHz mono of a file, in a temporary file; use with `with`. Raises ValueError for a file without sound."""

    def __init__(self, path: str | Path):
        self._file = tempfile.TemporaryFile()
        blocks, self.samples = resampled(SoundFile(path))
        written, self.peak = 0, 0.0
        for block in blocks:
            block = block[: self.samples - written]
            written += len(block)
            if len(block):
                self.peak = max(self.peak, float(block.abs().max()))
                self._file.write(block.contiguous().numpy().astype(np.float32).tobytes())
        self.samples = written

    def __enter__(self) -> Sound:
        return self

    def __exit__(self, *error) -> None:
        self._file.close()

    def read(self, first: int, count: int) -> Tensor:
        """Samples (count,) from `first` on; silence before the beginning and after the end."""
        result = torch.zeros(count)
        begin, end = max(0, first), min(self.samples, first + count)
        if begin < end:
            self._file.seek(4 * begin)
            values = np.frombuffer(self._file.read(4 * (end - begin)), np.float32)
            result[begin - first : begin - first + len(values)] = torch.from_numpy(values.copy())
        return result


def features_between(features, sound: Sound, *, first: float, frames: int, fps: float) -> Tensor:
    """Audio features (F, L, D) of `frames` frames from second `first` on, with `CONTEXT` to both sides.

    features: (sound (T,) at 16 kHz, fps) -> (F, L, D).
    """
    margin = round(CONTEXT * fps)
    samples = round((frames + 2 * margin) / fps * SAMPLE_RATE)
    wave = sound.read(round((first - margin / fps) * SAMPLE_RATE), samples)
    return features(wave, fps)[margin : margin + frames].float().cpu()


@dataclass(frozen=True, eq=False)
class Heard:
    """A piece's mouth as seen, (F,), and as the sound asks for, (F + 2 R,): R frames more to both sides."""

    seen: Tensor
    asked: Tensor

    @property
    def reach(self) -> int:
        return (len(self.asked) - len(self.seen)) // 2

    @property
    def speech(self) -> float:
        """Share of the frames in which the sound opens a mouth."""
        inside = self.asked[self.reach : len(self.asked) - self.reach]
        return float((inside > SPOKEN).float().mean())

    def products(self) -> Tensor:
        """(2 R + 1, 3): sums of seen x asked, seen², asked² about their means, for each lag."""
        frames = len(self.seen)
        seen = (self.seen - self.seen.mean()).double()
        asked = self.asked.double().unfold(0, frames, 1)  # (2 R + 1, F)
        asked = asked - asked.mean(1, keepdim=True)
        own = seen.square().sum().expand(len(asked))
        return torch.stack([asked @ seen, own, asked.square().sum(1)], 1)


@dataclass(frozen=True)
class Agreement:
    """seconds: by which the sound is late (to be moved earlier) at the best offset; r: the correlation there; lead:
    before every offset farther away; chance: the standard deviation of a correlation in so many frames; is_shifted:
    whether the offset is larger than sound usually is off."""

    seconds: float
    r: float
    lead: float
    chance: float
    is_shifted: bool

    def problem(self, limits: Limits) -> str:
        """A sentence, or "" if lips and sound agree. A short video needs a higher correlation: among many offsets
        chance finds one."""
        needed = max(limits.agreement, (SURE_SHIFTED if self.is_shifted else SURE) * self.chance)
        if self.r < needed:
            return f"the mouth does not follow the sound: correlation {self.r:.2f} at best, {needed:.2f} is needed"
        if self.lead < LEAST_LEAD:
            return f"the offset is not certain: correlation {self.r:.2f}, {self.r - self.lead:.2f} at another offset"
        if abs(self.seconds) > limits.offset + 1e-6:
            return f"the sound is off by {self.seconds:+.2f} s, more than {limits.offset} s"
        return ""


def correlations(pieces: Sequence[Heard]) -> Tensor:
    """(2 R + 1,) of all pieces together, by lag in frames from -R to R: positive where the sound is late."""
    product, one, other = torch.stack([piece.products() for piece in pieces]).sum(0).unbind(1)
    return product / (one * other).sqrt().clamp(min=1e-12)


def agreement(pieces: Sequence[Heard], *, fps: float) -> Agreement:
    """The offset at which the pieces' mouths and sounds agree best, to a fraction of a frame."""
    r = correlations(pieces)
    best, reach = int(r.argmax()), (len(r) - 1) // 2
    shift = 0.0
    if 0 < best < len(r) - 1:
        before, at, after = r[best - 1 : best + 2].tolist()
        bend = before - 2 * at + after
        shift = 0.5 * (before - after) / bend if bend < -1e-9 else 0.0
    away = (torch.arange(len(r)) - best).abs() > PEAK_WIDTH
    lead = float(r[best] - r[away].max()) if away.any() else 0.0
    chance = math.sqrt(ALIKE / sum(len(piece.seen) for piece in pieces))
    offset = best - reach + shift
    return Agreement(offset / fps, float(r[best]), lead, chance, abs(offset) > NO_OFFSET)


def own_agreement(piece: Heard, offset_frames: float) -> float:
    """The correlation of one piece within a frame of its video's offset."""
    r = correlations([piece])
    at = round(offset_frames) + piece.reach
    return float(r[max(0, at - OWN_LAG) : at + OWN_LAG + 1].max())

"""Several voices in one video: which face hears which sound when, and the mix of all as the soundtrack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..types import AudioFeatures
from .audio import SAMPLE_RATE, FramesInTime, LayersInTime, SoundFile, resampled
from .voice_schedule import Span, VoiceSchedule, audible

Sound = SoundFile | tuple[Tensor, int]
"""A file, or a waveform (C, T) in [-1, 1] and its sample rate."""


@dataclass(frozen=True, eq=False)
class Voice:
    """What one face says.

    sound: None for a face that is silent throughout; begin: the second at which the sound starts; spans: when it is
    heard, in seconds of the video, increasing and disjoint; None: throughout.
    """

    sound: Sound | None = None
    begin: float = 0.0
    spans: tuple[Span, ...] | None = None

    @property
    def seconds(self) -> float:
        """The end of the sound, in seconds of the video."""
        return 0.0 if self.sound is None else self.begin + seconds_of(self.sound)

    def silent(self, seconds: float) -> tuple[Span, ...]:
        """Increasing, disjoint intervals of a video of `seconds` in which the face has no voice."""
        spans = ((self.begin, self.seconds),) if self.spans is None else self.spans
        heard = [(begin, min(end, self.seconds)) for begin, end in spans if begin < min(end, self.seconds)]
        edges = [0.0, *(edge for span in heard for edge in span), seconds]
        return tuple((begin, end) for begin, end in zip(edges[::2], edges[1::2], strict=True) if begin < end)

    def at_16_khz(self) -> Iterator[Tensor]:
        """Blocks (T,) at 16 kHz from the video's begin on; silence outside the intervals."""
        if self.sound is None:
            return
        yield from torch.zeros(round(self.begin * SAMPLE_RATE)).split(SAMPLE_RATE)
        given = (self.sound,) if isinstance(self.sound, SoundFile) else self.sound
        position = round(self.begin * SAMPLE_RATE)
        for block in resampled(*given)[0]:
            yield block if self.spans is None else block * audible(self.spans, position, len(block), SAMPLE_RATE)
            position += len(block)

    def heard(self, seconds: float) -> Tensor:
        """(T,) at 16 kHz: `seconds` of it."""
        sound, filled = torch.zeros(round(seconds * SAMPLE_RATE)), 0
        for block in self.at_16_khz():
            block = block[: len(sound) - filled]
            sound[filled : filled + len(block)] = block
            filled += len(block)
        return sound


def seconds_of(sound: Sound) -> float:
    return sound[0].shape[1] / sound[1] if isinstance(sound, tuple) else sound.samples / sound.rate


def rate_of(sound: Sound) -> int:
    return sound[1] if isinstance(sound, tuple) else sound.rate


def assign(
    letters: Sequence[str],
    sounds: Sequence[Sound | None],
    *,
    schedule: VoiceSchedule | None = None,
    in_turn: bool = False,
) -> list[Voice]:
    """A voice for each face: the k-th sound for the k-th letter, silence for the faces beyond.

    schedule: a face is heard in its own intervals only; with a single sound it is that of all faces that are named.
    in_turn: each sound starts where the one before it ends. Raises ValueError where a sound or a name has no face, or a
    sound would never be heard.
    """
    given = [sound for sound in sounds if sound is not None]
    those = f"{len(letters)} face{'s' * (len(letters) > 1)}: {', '.join(letters)}"
    if not given:
        raise ValueError("there is no voice; give at least one face a sound")
    if len(sounds) > len(letters):
        raise ValueError(f"there are {len(sounds)} voices for {those}; leave some out, or use another picture")
    if schedule is None:
        begins = [0.0]
        for sound in sounds:
            begins.append(begins[-1] + (0.0 if sound is None or not in_turn else seconds_of(sound)))
        voices = [
            Voice(sound, begin if sound is not None else 0.0) for sound, begin in zip(sounds, begins, strict=False)
        ]
        return voices + [Voice()] * (len(letters) - len(voices))
    if in_turn:
        raise ValueError(
            "a schedule says who speaks when, so the voices cannot also follow each other; drop one of both"
        )
    unknown = [letter for letter in schedule.letters if letter not in letters]
    if unknown:
        raise ValueError(f"the schedule names {', '.join(unknown)}, but there are {those}")
    if len(given) == 1:
        sounds = [given[0] if letter in schedule.letters else None for letter in letters]
    for letter, sound in zip(letters, sounds, strict=False):
        if sound is not None and letter not in schedule.letters:
            raise ValueError(f"face {letter} has a voice, but the schedule never names {letter}; add its intervals")
    sounds = [*sounds, *[None] * (len(letters) - len(sounds))]
    return [
        Voice() if sound is None else Voice(sound, spans=schedule.spans(letter))
        for letter, sound in zip(letters, sounds, strict=True)
    ]


def encode_voice(encode: Callable[[Tensor], Tensor], voice: Voice, *, fps: float, seconds: float) -> AudioFeatures:
    """`audio.encode_lazily` of one face's voice for a video of `seconds`."""
    layers = LayersInTime(encode, voice.at_16_khz(), round(seconds * SAMPLE_RATE))
    frames = FramesInTime(layers, max(1, round(seconds * fps)), fps=fps)
    return AudioFeatures(frames, fps=float(fps), seconds=seconds, silent=voice.silent(seconds))


def soundtrack(voices: Sequence[Voice]) -> Sound | MixedSound:
    """What the video's sound is: the one sound unchanged where there is one, else the sum."""
    distinct = {id(voice.sound): voice for voice in voices if voice.sound is not None}
    if len(distinct) == 1:
        (only,) = distinct.values()
        if not only.begin:
            return only.sound
    return MixedSound(tuple(distinct.values()))


class MixedSound:
    """The sum of several sounds, in blocks of a second, at the highest of their rates and numbers of channels.

    A sound with fewer channels is heard in all of them. rate, channels, samples: as of a `SoundFile`. Sums beyond full
    scale are clipped.
    """

    def __init__(self, voices: Sequence[Voice]):
        self.voices = tuple(voices)
        self.rate = max(rate_of(voice.sound) for voice in voices)
        self.channels = max(
            len(voice.sound[0]) if isinstance(voice.sound, tuple) else voice.sound.channels for voice in voices
        )
        self.samples = round(max(voice.seconds for voice in voices) * self.rate)

    def blocks(self) -> Iterator[Tensor]:
        """Blocks (C, T) float32 in [-1, 1]."""
        sources = [_Queue(self._placed(voice), self.channels) for voice in self.voices]
        for start in range(0, self.samples, self.rate):
            count = min(self.rate, self.samples - start)
            yield sum(source.take(count) for source in sources).clamp(-1, 1)

    def waveform(self) -> tuple[Tensor, int]:
        """All of it: (C, T), and its rate."""
        return torch.cat([torch.zeros(self.channels, 0), *self.blocks()], dim=1), self.rate

    def _placed(self, voice: Voice) -> Iterator[Tensor]:
        yield from torch.zeros(self.channels, round(voice.begin * self.rate)).split(self.rate, dim=1)
        if isinstance(voice.sound, tuple):
            blocks = iter(voice.sound[0].float().split(voice.sound[1], dim=1))
        else:
            blocks = voice.sound.blocks()
        for block in _at_rate(blocks, rate_of(voice.sound), self.rate):
            if len(block) != self.channels:
                block = block.mean(0, keepdim=True).expand(self.channels, -1)
            yield block


class _Queue:
    """Blocks (C, T) of any length, taken by number of samples; zeros after the last."""

    def __init__(self, blocks: Iterator[Tensor], channels: int):
        self.blocks, self.waiting = blocks, torch.zeros(channels, 0)

    def take(self, count: int) -> Tensor:
        parts = [self.waiting]
        missing = count - self.waiting.shape[1]
        while missing > 0:
            block = next(self.blocks, None)
            parts.append(torch.zeros(len(self.waiting), missing) if block is None else block)
            missing -= parts[-1].shape[1]
        joined = torch.cat(parts, dim=1)
        self.waiting = joined[:, count:]
        return joined[:, :count]


def _at_rate(blocks: Iterator[Tensor], rate: int, wanted: int) -> Iterator[Tensor]:
    """Blocks (C, T) at `rate` -> blocks at the wanted rate; each channel by a resampler of its own."""
    if rate == wanted:
        yield from blocks
        return
    import av
    from av.audio.resampler import AudioResampler

    channels, start = None, 0

    def converted(frames: list) -> Tensor:
        parts = [
            [part.to_ndarray()[0] for part in one.resample(frame)] for one, frame in zip(channels, frames, strict=True)
        ]
        return torch.stack([torch.cat([torch.zeros(0), *map(torch.from_numpy, part)]) for part in parts])

    for block in blocks:
        channels = channels or [AudioResampler("fltp", "mono", wanted) for _ in block]
        frames = [
            av.AudioFrame.from_ndarray(one[None].contiguous().numpy(), format="fltp", layout="mono") for one in block
        ]
        for frame in frames:
            frame.sample_rate, frame.pts = rate, start
        start += block.shape[1]
        yield converted(frames)
    if channels:
        yield converted([None] * len(channels))

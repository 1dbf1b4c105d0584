"""Accompaniment and background noise, made from oscillators and filtered noise: what may sound under a voice.

Nothing here is recorded; everything follows from a seed.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .speech import RATE, Speech

LOUDNESS_RATE = 50  # steps per second of the loudness that `mix` keeps

_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10), (0, 2, 4, 5, 7, 9, 10))
_PROGRESSIONS = ((0, 4, 5, 3), (0, 3, 4, 4), (5, 3, 0, 4), (0, 5, 3, 4), (1, 4, 0, 0), (0, 0, 3, 4), (0, 6, 5, 4))
_PERIOD = 1024  # samples of a wavetable
_NOISES = ("room", "hum", "crowd", "rain", "traffic", "applause", "hiss")


@dataclass(frozen=True)
class Instrument:
    """A timbre. slope: harmonics fall with this power of their number; odd: the share of the even ones that is missing;
    formant: harmonics near this frequency in Hz are louder by `lift`; attack, decay: seconds; sustain: 0 (plucked) .. 1
    (bowed, blown)."""

    slope: float
    odd: float
    formant: float
    lift: float
    attack: float
    decay: float
    sustain: float
    vibrato: float  # semitones

    @classmethod
    def draw(cls, choose: random.Random, *, held: bool) -> Instrument:
        return cls(
            slope=choose.uniform(0.7, 2.4),
            odd=choose.choice((0.0, 0.0, choose.random())),
            formant=math.exp(choose.uniform(math.log(300), math.log(3000))),
            lift=choose.choice((0.0, choose.uniform(0, 3))),
            attack=choose.uniform(0.02, 0.2) if held else choose.uniform(0.002, 0.015),
            decay=choose.uniform(0.3, 1.5) if held else choose.uniform(0.08, 0.9),
            sustain=choose.uniform(0.4, 1.0) if held else 0.0,
            vibrato=choose.choice((0.0, choose.uniform(0.05, 0.5))) if held else 0.0,
        )


def accompaniment(seed: int, seconds: float) -> Tensor:
    """(T,) float32 at 16 kHz, root mean square 0.1: chords, bass, arpeggio, a leading instrument and drums, or some of
    them."""
    choose, chance = random.Random(f"music/{seed}"), np.random.default_rng(seed)
    beat = 60 / choose.uniform(62, 168)
    tonic = 55.0 * 2 ** (choose.randrange(12) / 12)  # Hz
    scale, roots = choose.choice(_SCALES), choose.choice(_PROGRESSIONS)
    beats_a_bar = choose.choice((3, 4, 4, 4))
    sound = np.zeros(round(seconds * RATE) + RATE)
    bars = math.ceil(seconds / (beat * beats_a_bar)) + 1
    offset = -choose.random() * beat * beats_a_bar  # it may begin anywhere in a bar

    def hertz(degree: int, octave: int) -> float:
        above, step = divmod(degree, len(scale))
        return tonic * 2 ** (octave + above + scale[step] / 12)

    def bar_start(bar: int) -> float:
        return offset + bar * beats_a_bar * beat

    chords, octave = Instrument.draw(choose, held=choose.random() < 0.6), choose.choice((1, 2, 2))
    patterns = {"chords": choose.choice((1, 1, 2, beats_a_bar)), "arpeggio": choose.choice((2, 3, 4))}
    parts = [
        part
        for part, share in (("chords", 0.75), ("bass", 0.65), ("arpeggio", 0.4), ("lead", 0.35), ("drums", 0.6))
        if choose.random() < share
    ] or ["chords"]
    for part in parts:
        level = math.exp(choose.gauss(0, 0.4))
        layer = np.zeros_like(sound)
        player = (
            chords
            if part == "chords"
            else Instrument.draw(choose, held=part in ("bass", "lead") and choose.random() < 0.7)
        )
        kit = _Kit.draw(choose, beats_a_bar)
        degree = choose.randrange(len(scale))
        for bar in range(bars):
            start, root = bar_start(bar), roots[bar % len(roots)]
            if part == "chords":
                count = patterns["chords"]
                for stroke in range(count):
                    length = beats_a_bar * beat / count
                    for third in (0, 2, 4) if choose.random() < 0.8 else (0, 2, 4, 6):
                        _add(layer, player, chance, start + stroke * length, length, hertz(root + third, octave), 0.5)
            elif part == "bass":
                for place in range(beats_a_bar):
                    step = choose.choice((0, 0, 0, 4, 7))
                    _add(layer, player, chance, start + place * beat, beat * 0.9, hertz(root + step, 0), 1.0)
            elif part == "arpeggio":
                count = patterns["arpeggio"] * beats_a_bar
                for place in range(count):
                    third = (0, 2, 4, 7)[place % 4]
                    length = beats_a_bar * beat / count
                    _add(layer, player, chance, start + place * length, 1.5 * length, hertz(root + third, 2), 0.7)
            elif part == "lead":
                place = 0.0
                while place < beats_a_bar:
                    length = choose.choice((0.5, 0.5, 1, 1, 2))
                    degree = max(0, min(9, degree + choose.randint(-2, 2)))
                    if choose.random() < 0.85:
                        _add(layer, player, chance, start + place * beat, length * beat * 0.95, hertz(degree, 2), 1.0)
                    place += length
            else:
                kit.play(layer, chance, start, beat)
        sound += level * layer / max(1e-9, np.sqrt(np.square(layer).mean()))
    sound = sound[: round(seconds * RATE)]
    if choose.random() < 0.6:
        sound = _room(sound, chance, choose.uniform(0.1, 0.6), choose.uniform(0.1, 0.6))
    return _scaled(_coloured(sound, choose.uniform(-4, 1.5)))


def noise_bed(seed: int, seconds: float) -> Tensor:
    """(T,) float32 at 16 kHz, root mean square 0.1: the noise of a room, mains hum, a crowd, rain, traffic, applause or
    hiss."""
    choose, chance = random.Random(f"noise/{seed}"), np.random.default_rng(seed + 1_000_003)
    size = round(seconds * RATE)
    kind = choose.choice(_NOISES)
    hiss = chance.standard_normal(size)
    if kind == "room":
        sound = _coloured(hiss, choose.uniform(-9, -3)) + _coloured(chance.standard_normal(size), 0) * 0.02
    elif kind == "hum":
        first, now = choose.choice((50, 60, 100, 120)), np.arange(size) / RATE
        sound = sum(
            choose.random() / number * np.sin(2 * math.pi * first * number * now + choose.random() * 6)
            for number in range(1, 16)
        ) + 0.1 * _coloured(hiss, -4)
    elif kind == "crowd":
        sound = sum(_talker(choose, chance, size) for _ in range(choose.randint(6, 20)))
    elif kind == "rain":
        drops = chance.standard_normal(size) * (chance.random(size) < choose.uniform(0.002, 0.03))
        sound = _coloured(drops, choose.uniform(-2, 2)) * 3 + _coloured(hiss, -1) * 0.3
    elif kind == "traffic":
        sound = _coloured(hiss, choose.uniform(-8, -5)) * np.exp(_slow(chance, size, choose.uniform(1.0, 3.0)))
    elif kind == "applause":
        claps = chance.random(size) < choose.uniform(20, 150) / RATE
        ring = np.exp(-np.arange(600) / choose.uniform(40, 150)) * chance.standard_normal(600)
        sound = _convolve(claps * chance.random(size), ring)
    else:
        sound = _coloured(hiss, choose.uniform(-3, 3))
    if choose.random() < 0.3:
        sound = sound * np.exp(0.7 * _slow(chance, size, choose.uniform(0.2, 1.0)))
    return _scaled(sound)


def mix(speech: Speech, bed: Tensor, snr_decibels: float) -> Speech:
    """`bed` (at least as long) under the voice, at so many decibels: power of the voice while it speaks over power of
    the bed.

    The mix is made quieter where it would exceed 1. Its `loudness` stays that of the voice alone. Raises ValueError if
    `bed` is too short or silent.
    """
    bed = bed[: len(speech.waveform)]
    if len(bed) < len(speech.waveform) or not bool(bed.any()):
        raise ValueError(
            f"the bed has {len(bed)} samples of sound, the voice {len(speech.waveform)}; make a longer one"
        )
    gain = (spoken_power(speech) / bed.square().mean()).sqrt() * 10 ** (-snr_decibels / 20)
    waveform = speech.waveform + gain * bed
    scale = (0.95 / waveform.abs().max().clamp(min=1e-9)).clamp(max=1.0)
    loudness = speech.loudness
    if loudness is None:
        steps = max(2, round(speech.seconds * LOUDNESS_RATE))
        loudness = torch.nn.functional.adaptive_avg_pool1d(speech.waveform.square()[None], steps)[0].sqrt()
    return replace(speech, waveform=waveform * scale, loudness=loudness * scale)


def spoken_power(speech: Speech) -> Tensor:
    """Mean square of the waveform where phonemes cover it; of all of it where there are none."""
    spoken = torch.zeros(len(speech.waveform), dtype=torch.bool)
    for _, start, end in speech.phonemes:
        spoken[round(start * RATE) : round(end * RATE)] = True
    return speech.waveform[spoken].square().mean() if spoken.any() else speech.waveform.square().mean()


def without_voice(bed: Tensor) -> Speech:
    """A clip without speech: all tracks of the mouth are 0."""
    return Speech(bed, (), "none", "music", "", loudness=torch.zeros(2))


@dataclass(frozen=True)
class _Kit:
    """Drums: at which half beats of a bar each sounds, and how."""

    kick: tuple[int, ...]
    snare: tuple[int, ...]
    hat: tuple[int, ...]
    kick_hertz: float
    hat_decay: float

    @classmethod
    def draw(cls, choose: random.Random, beats: int) -> _Kit:
        halves = 2 * beats
        kick = tuple(sorted({0, *(choose.randrange(halves) for _ in range(choose.randint(0, 3)))}))
        snare = choose.choice((tuple(range(2, halves, 4)), (halves - 2,), (3, 6), ()))
        hat = tuple(range(0, halves, choose.choice((1, 2))))
        return cls(kick, snare, hat, choose.uniform(45, 80), choose.uniform(0.01, 0.12))

    def play(self, layer: np.ndarray, chance: np.random.Generator, start: float, beat: float) -> None:
        now = np.arange(round(0.25 * RATE)) / RATE
        sweep = 2 * math.pi * (self.kick_hertz * now - 6 * np.exp(-now * 40) / 1.5)
        rattle = chance.standard_normal(len(now)) * 0.6 + np.sin(2 * math.pi * 190 * now)
        sounds = (
            (self.kick, np.sin(sweep) * np.exp(-now * 14), 1.6),
            (self.snare, rattle * np.exp(-now * 22), 0.9),
            (self.hat, np.diff(chance.standard_normal(len(now) + 1)) * np.exp(-now / self.hat_decay), 0.35),
        )
        for places, sound, level in sounds:
            for place in places:
                _place(layer, sound * level * chance.uniform(0.7, 1.1), start + place * beat / 2)


def _add(
    layer: np.ndarray,
    player: Instrument,
    chance: np.random.Generator,
    start: float,
    length: float,
    hertz: float,
    level: float,
) -> None:
    """One note. Its harmonics are in a table of one period; plucked notes lose the upper ones as they fade."""
    tail = 0.08
    size = round((length + tail) * RATE)
    now = np.arange(size) / RATE
    numbers = np.arange(1, max(2, min(40, int(7600 / hertz)) + 1))
    sizes = numbers**-player.slope * np.where(numbers % 2, 1.0, 1 - player.odd)
    sizes = sizes * (1 + player.lift * np.exp(-0.5 * (np.log2(numbers * hertz / player.formant) / 0.4) ** 2))
    phases = chance.random(len(numbers))
    waves = np.sin(2 * math.pi * (numbers[:, None] * np.arange(_PERIOD + 1) / _PERIOD + phases[:, None]))
    bright, dull = sizes @ waves, (sizes / (1 + numbers * numbers / 4)) @ waves
    bend = player.vibrato * np.clip((now - 0.15) / 0.2, 0, 1) * np.sin(2 * math.pi * 5.5 * now) / 12
    phase = (
        (
            hertz * 2 ** (chance.normal(0, 0.04) / 12) * (now if not player.vibrato else np.cumsum(2**bend) / RATE)
            + chance.random()
        )
        % 1
        * _PERIOD
    )
    low, share = phase.astype(int), phase % 1
    low = np.minimum(low, _PERIOD - 1)
    fade = np.exp(-now / player.decay)
    tone = bright[low] * (1 - share) + bright[low + 1] * share
    if player.sustain < 0.3:
        soft = dull[low] * (1 - share) + dull[low + 1] * share
        tone = tone * fade + soft * (1 - fade)
    shape = np.minimum(1, now / player.attack) * (player.sustain + (1 - player.sustain) * fade)
    shape *= np.clip((length + tail - now) / tail, 0, 1)
    _place(layer, tone * shape * level * chance.uniform(0.75, 1.1), start)


def _place(layer: np.ndarray, sound: np.ndarray, start: float) -> None:
    """Add `sound` from `start` seconds on; what lies outside is left out."""
    first = round(start * RATE)
    sound = sound[max(0, -first) :]
    first = max(0, first)
    sound = sound[: max(0, len(layer) - first)]
    layer[first : first + len(sound)] += sound


def _talker(choose: random.Random, chance: np.random.Generator, size: int) -> np.ndarray:
    """One of a crowd: a buzz or hiss through two moving resonances, in syllables; no words."""
    steps = max(4, round(size / RATE * choose.uniform(3, 6)))
    grid, at = np.linspace(0, size, steps), np.arange(size)
    pitch = choose.choice((110, 210)) * 2 ** (np.interp(at, grid, chance.normal(0, 0.12, steps)))
    buzz = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0.0) + 0.03 * chance.standard_normal(size)
    result = np.zeros(size)
    loud = np.interp(at, grid, chance.random(steps) ** 2)
    for _ in range(4):  # a few fixed resonances, faded into one another, stand in for moving ones
        low, high = choose.uniform(300, 800), choose.uniform(900, 2600)
        frequency = np.fft.rfftfreq(size, 1 / RATE)
        shape = sum(1 / (1 + ((frequency - centre) / width) ** 2) for centre, width in ((low, 90), (high, 140)))
        result += np.fft.irfft(np.fft.rfft(buzz) * shape, size) * np.interp(at, grid, chance.random(steps) ** 3)
    return result * loud * math.exp(choose.gauss(0, 0.5))


def _coloured(sound: np.ndarray, decibels_per_octave: float) -> np.ndarray:
    spectrum = np.fft.rfft(sound)
    frequency = np.linspace(0, RATE / 2, len(spectrum)).clip(40)
    return np.fft.irfft(spectrum * 10 ** (decibels_per_octave * np.log2(frequency / 1000) / 20), len(sound))


def _room(sound: np.ndarray, chance: np.random.Generator, decay: float, share: float) -> np.ndarray:
    """With the echoes of a room that fade by 1/e in `decay` seconds, `share` of the sound's power."""
    length = round(3 * decay * RATE)
    echo = chance.standard_normal(length) * np.exp(-np.arange(length) / (decay * RATE))
    wet = _convolve(sound, echo)
    return sound + wet * math.sqrt(share) * np.sqrt(np.square(sound).mean() / max(1e-12, np.square(wet).mean()))


def _convolve(sound: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    size = len(sound) + len(kernel)
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(kernel, size), size)[: len(sound)]


def _slow(chance: np.random.Generator, size: int, seconds: float) -> np.ndarray:
    """A slowly varying track of about unit variance."""
    steps = max(3, round(size / RATE / seconds) + 2)
    return np.interp(np.arange(size), np.linspace(0, size, steps), chance.standard_normal(steps))


def _scaled(sound: np.ndarray) -> Tensor:
    return torch.from_numpy(sound * (0.1 / max(1e-9, np.sqrt(np.square(sound).mean())))).float()

"""The same words by another person: pitch and its melody, vocal tract, breath, brightness and the lengths of the sounds
are changed by a vocoder, with the new times of all phonemes known exactly.

Engines whose voices come from recordings have few of them, most of them men; this makes women, children and other men
of each. Long vowels and double consonants, which some languages have and most of the engines' do not, are made as well.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import numpy as np

from . import vocoder
from .speech import RATE, Speech

_FORMANTS_WITH_PITCH = 0.27  # a voice of twice the pitch has formants 1.2 times as high (women against men)
_TRACT = (0.74, 1.4)  # factors of the formants at most
_PITCHES = ((0.45, 85.0, 165.0), (0.40, 150.0, 270.0), (0.15, 230.0, 360.0))  # share, Hz from, to
_SHORTEST_SECONDS = 0.03  # no sound is made shorter than this, nor than it was


@dataclass(frozen=True)
class Person:
    """pitch: Hz, the median. melody: factor of the semitones by which the pitch leaves it. drift: semitones. tract:
    factor of the formants on top of what usually goes with the pitch. breath: exponent of the share of noise, below 1
    breathy. tilt: decibels an octave. pace: factor of all times; unevenness: standard deviation of the logarithm of a
    sound's length; long: share of the sounds that are held 1.6 to 2.4 times as long."""

    pitch: float
    melody: float = 1.0
    drift: float = 0.0
    tract: float = 1.0
    breath: float = 1.0
    tilt: float = 0.0
    pace: float = 1.0
    unevenness: float = 0.0
    long: float = 0.0

    @classmethod
    def draw(cls, choose: random.Random) -> Person:
        shares = [share for share, _, _ in _PITCHES]
        _, low, high = choose.choices(_PITCHES, shares)[0]
        return cls(
            pitch=low * (high / low) ** choose.random(),
            melody=math.exp(choose.gauss(0.0, 0.35)),
            drift=choose.uniform(0.0, 0.5),
            tract=math.exp(choose.gauss(0.0, 0.07)),
            breath=math.exp(choose.gauss(-0.1, 0.3)),
            tilt=choose.gauss(0.0, 1.5),
            pace=math.exp(choose.gauss(0.0, 0.08)),
            unevenness=choose.uniform(0.0, 0.2),
            long=choose.choice((0.0, 0.0, choose.uniform(0.05, 0.3))),
        )


def revoice(speech: Speech, person: Person, *, seed: int) -> Speech:
    """`speech`, nothing mixed under it, as `person` says it; the same for the same arguments.

    Raises ModuleNotFoundError, saying what to install, without pyworld.
    """
    choose, chance = random.Random(seed), np.random.default_rng(seed)
    phonemes, seconds = _timed(speech, person, choose)
    frames = vocoder.analyse(speech)
    knots = vocoder.time_map(speech.phonemes, phonemes, speech.seconds, seconds, keeps_edges=lambda ipa: True)
    frames = vocoder.stretch(
        frames, np.arange(round(seconds / vocoder.FRAME_SECONDS) + 1) * vocoder.FRAME_SECONDS, knots
    )
    voiced = frames.pitch > 0
    own = float(np.median(frames.pitch[voiced])) if voiced.any() else person.pitch
    semitones = 12 * np.log2(np.where(voiced, frames.pitch, own) / own) * person.melody
    drift = vocoder.smooth(chance.standard_normal(len(frames)), 0.2)
    semitones = semitones + person.drift * drift / max(1e-9, drift.std())
    pitch = np.where(voiced, person.pitch * 2 ** (semitones.clip(-14, 14) / 12), 0.0).clip(max=600.0)
    tract = min(max((person.pitch / own) ** _FORMANTS_WITH_PITCH * person.tract, _TRACT[0]), _TRACT[1])
    hertz = np.linspace(0, RATE / 2, frames.envelope.shape[1])
    tilt = person.tilt * np.log2(hertz.clip(100) / 1000) * math.log(10) / 10
    changed = vocoder.Frames(
        pitch, _shifted(frames.envelope, tract) + tilt, _shifted(frames.breath, tract).clip(1e-3, 1.0) ** person.breath
    )
    waveform = vocoder.synthesise(changed, seconds)
    return replace(speech, waveform=waveform, phonemes=phonemes)


def _timed(speech: Speech, person: Person, choose: random.Random) -> tuple[tuple[tuple[str, float, float], ...], float]:
    """(phonemes at their new times, seconds of the whole)."""
    phonemes, old, new = [], 0.0, 0.0
    for ipa, start, end in speech.phonemes:
        new += (start - old) * person.pace
        factor = person.pace * math.exp(choose.gauss(0.0, person.unevenness))
        factor *= choose.uniform(1.6, 2.4) if choose.random() < person.long else 1.0
        length = max((end - start) * factor, min(end - start, _SHORTEST_SECONDS))
        phonemes.append((ipa, new, new + length))
        old, new = end, new + length
    return tuple(phonemes), new + max(0.0, speech.seconds - old) * person.pace


def _shifted(track: np.ndarray, factor: float) -> np.ndarray:
    """(N, bins) with all frequencies multiplied by `factor`; the highest bin is repeated."""
    bins = track.shape[1]
    place = (np.arange(bins) / factor).clip(0, bins - 1.001)
    low, share = place.astype(int), place % 1
    return track[:, low] * (1 - share) + track[:, low + 1] * share

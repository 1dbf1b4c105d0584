"""Speech made into singing: vowels held on the notes of a melody, with the new times of all phonemes known exactly.

The voice is taken apart and put together again by the WORLD vocoder (`vocoder`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from . import vocoder
from .speech import Speech
from .visemes import is_vowel

_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), (0, 3, 5, 7, 10), (0, 2, 3, 5, 7, 9, 10))
_LOW_TONIC, _HIGH_TONIC = (82.0, 165.0), (165.0, 330.0)  # Hz
_SHORTEST, _LONGEST = 2.0, 8.0  # how many times as long a vowel is held as it was spoken


@dataclass(frozen=True)
class Style:
    """How one singer sings one song. tonic: Hz; scale: semitones above it; beat: seconds; vibrato, drift: semitones."""

    tonic: float
    scale: tuple[int, ...]
    beat: float
    vibrato: float
    vibrato_hertz: float
    drift: float
    glide: float  # seconds: standard deviation of the Gaussian that joins the notes

    @classmethod
    def draw(cls, choose: random.Random) -> Style:
        low, high = choose.choice((_LOW_TONIC, _HIGH_TONIC))
        return cls(
            tonic=low * (high / low) ** choose.random(),
            scale=choose.choice(_SCALES),
            beat=choose.uniform(0.28, 0.85),
            vibrato=choose.choice((0.0, choose.uniform(0.1, 0.4), choose.uniform(0.3, 0.9))),
            vibrato_hertz=choose.uniform(4.6, 6.6),
            drift=choose.uniform(0.03, 0.15),
            glide=choose.uniform(0.015, 0.06),
        )


@dataclass(frozen=True)
class Melody:
    """phonemes: (IPA, start, end) in seconds as sung; notes: (start, end, Hz), one or more a vowel; seconds: of the
    whole."""

    phonemes: tuple[tuple[str, float, float], ...]
    notes: tuple[tuple[float, float, float], ...]
    seconds: float


def compose(speech: Speech, style: Style, choose: random.Random) -> Melody:
    """A melody for what is said: every vowel is held for some beats, consonants and pauses stay about as long as they
    are."""
    phonemes, notes = [], []
    degree, shift, spoken = (
        choose.randrange(len(style.scale)),
        0.0,
        0.0,
    )  # shift: seconds from spoken to sung time, so far
    for index, (ipa, start, end) in enumerate(speech.phonemes):
        sung, length = start + shift, end - start
        following = speech.phonemes[index + 1][1] if index + 1 < len(speech.phonemes) else math.inf
        if is_vowel(ipa):
            beats = choose.choice((0.5, 1, 1, 1, 1.5, 2, 2, 3)) * (2 if following > end + 0.12 else 1)
            held = max(_SHORTEST * length, min(_LONGEST * length, beats * style.beat - 0.12))
            parts = 2 if held > 0.5 and choose.random() < 0.2 else 1
            for part in range(parts):
                leap = choose.choice((-2, -1, -1, 0, 1, 1, 2)) if choose.random() < 0.85 else choose.randint(-5, 5)
                degree = max(-3, min(len(style.scale) + 3, degree + leap))
                octave, step = divmod(degree, len(style.scale))
                hertz = style.tonic * 2 ** (octave + style.scale[step] / 12)
                notes.append((sung + held * part / parts, sung + held * (part + 1) / parts, hertz))
        else:
            held = length * choose.uniform(0.9, 1.3)
        phonemes.append((ipa, sung, sung + held))
        shift += held - length
        spoken = end
    return Melody(tuple(phonemes), tuple(notes), max(speech.seconds, spoken) + shift)


def sing(speech: Speech, melody: Melody, style: Style, *, seed: int) -> Speech:
    """`speech` sung to `melody`, which was composed for it; the same for the same arguments.

    Raises ModuleNotFoundError, saying what to install, without pyworld.
    """
    if not melody.notes:  # nothing but consonants, or nothing at all
        return replace(speech, sung=True)
    chance = np.random.default_rng(seed)
    spoken = vocoder.analyse(speech)
    now = np.arange(round(melody.seconds / vocoder.FRAME_SECONDS) + 1) * vocoder.FRAME_SECONDS
    held = vocoder.stretch(
        spoken, now, vocoder.time_map(speech.phonemes, melody.phonemes, speech.seconds, melody.seconds)
    )
    voiced = held.pitch > 0
    loud = np.interp(now, *_loudness(held.envelope, voiced, now, chance))
    pitch = np.where(voiced, _contour(now, melody, style, chance), 0.0)
    sung = replace(held, pitch=pitch, envelope=held.envelope + loud[:, None])
    return replace(speech, waveform=vocoder.synthesise(sung, melody.seconds), phonemes=melody.phonemes, sung=True)


def singer(seed: int, *, held_out: bool = False) -> Callable[[Speech, random.Random], Speech]:
    """Sings what it is given in one key and tempo, drawn by `seed`; for `sample_speech`."""
    style = Style.draw(random.Random(f"{seed}/{held_out}/style"))

    def perform(speech: Speech, choose: random.Random) -> Speech:
        return sing(speech, compose(speech, style, choose), style, seed=choose.getrandbits(32))

    return perform


def _contour(now: np.ndarray, melody: Melody, style: Style, chance: np.random.Generator) -> np.ndarray:
    """The sung pitch in Hz at each frame: notes joined by glides, vibrato where a note is held, and a little drift."""
    starts = np.array([start for start, _, _ in melody.notes])
    which = np.searchsorted(starts, now, side="right").clip(1) - 1  # a consonant keeps the note of the vowel before it
    semitones = 12 * np.log2(np.array([hertz for _, _, hertz in melody.notes])[which])
    semitones = vocoder.smooth(semitones, style.glide)
    held = now - starts[which]
    vibrato = style.vibrato * np.clip((held - 0.2) / 0.3, 0, 1) * np.sin(2 * math.pi * style.vibrato_hertz * held)
    drift = vocoder.smooth(chance.standard_normal(len(now)), 0.15)
    return 2 ** ((semitones + vibrato + style.drift * drift / max(1e-9, drift.std())) / 12)


def _loudness(envelope: np.ndarray, voiced: np.ndarray, now: np.ndarray, chance: np.random.Generator):
    """(times, gains in nepers of power): half of the ups and downs of speech are levelled, slow swells are added."""
    level = np.log(np.exp(envelope).mean(1) + 1e-12)
    usual = np.median(level[voiced]) if voiced.any() else level.mean()
    gain = np.where(voiced, 0.5 * (usual - level).clip(-3, 3), 0.0)
    swell = vocoder.smooth(chance.standard_normal(len(now)), 0.5)
    return now, vocoder.smooth(gain, 0.03) + 0.6 * swell / max(1e-9, swell.std())

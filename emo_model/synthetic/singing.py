"""Speech made into singing: vowels held on the notes of a melody, with the new times of all phonemes known exactly.

The voice is analysed and synthesised by the WORLD vocoder (Morise et al. 2016; `pip install pyworld`), which is only
needed to prepare training data.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import numpy as np
import torch

from .speech import RATE, Speech, sample_speech
from .visemes import is_vowel

INSTALL = "Making sung speech needs the WORLD vocoder. Install it with 'pip install pyworld \"setuptools<81\"'."

_FRAME_SECONDS = 0.005
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), (0, 3, 5, 7, 10), (0, 2, 3, 5, 7, 9, 10))
_LOW_TONIC, _HIGH_TONIC = (82.0, 165.0), (165.0, 330.0)  # Hz
_SHORTEST, _LONGEST = 2.0, 8.0  # how many times as long a vowel is held as it was spoken
_EDGE_SECONDS = 0.03  # the beginning and the end of a vowel, where the neighbours are still heard, are hardly stretched


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
    world = _world()
    if not melody.notes:  # nothing but consonants, or nothing at all
        return replace(speech, sung=True)
    chance = np.random.default_rng(seed)
    sound = speech.waveform.double().numpy()
    period = _FRAME_SECONDS * 1000
    pitch, times = world.dio(sound, RATE, f0_floor=60.0, f0_ceil=500.0, frame_period=period)
    pitch = _voiced_vowels(world.stonemask(sound, pitch, times, RATE), times, speech)
    envelope = np.log(world.cheaptrick(sound, pitch, times, RATE) + 1e-12)
    breath = world.d4c(sound, pitch, times, RATE, threshold=0.0)

    now = np.arange(round(melody.seconds / _FRAME_SECONDS) + 1) * _FRAME_SECONDS
    place = np.interp(now, *_time_map(speech, melody)) / _FRAME_SECONDS
    place = place.clip(0, len(times) - 1.001)
    low, share = place.astype(int), (place % 1)[:, None]
    voiced = pitch[np.minimum(np.round(place).astype(int), len(pitch) - 1)] > 0
    envelope = envelope[low] * (1 - share) + envelope[low + 1] * share
    breath = breath[low] * (1 - share) + breath[low + 1] * share
    loud = np.interp(now, *_loudness(envelope, voiced, now, chance))
    sung_pitch = np.where(voiced, _contour(now, melody, style, chance), 0.0)
    sung = world.synthesize(sung_pitch, np.exp(envelope + loud[:, None]), np.clip(breath, 0.001, 1.0), RATE, period)
    sung = torch.from_numpy(sung[: round(melody.seconds * RATE)]).float()
    sung = torch.nn.functional.pad(sung, (0, round(melody.seconds * RATE) - len(sung)))
    return replace(
        speech, waveform=sung * (0.8 / sung.abs().max().clamp(min=0.05)), phonemes=melody.phonemes, sung=True
    )


def sample_singing(seed: int, seconds: float, *, held_out: bool = False) -> Speech:
    """`seconds` of one voice singing drawn sentences in one key and tempo, with pauses; see `sample_speech`."""
    style = Style.draw(random.Random(f"{seed}/{held_out}/style"))

    def perform(speech: Speech, choose: random.Random) -> Speech:
        return sing(speech, compose(speech, style, choose), style, seed=choose.getrandbits(32))

    return sample_speech(seed, seconds, held_out=held_out, perform=perform)


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


def _time_map(speech: Speech, melody: Melody) -> tuple[list[float], list[float]]:
    """Knots (sung seconds, spoken seconds), both rising."""
    sung, spoken = [0.0], [0.0]

    def knot(at: float, source: float) -> None:
        if at > sung[-1] + 1e-6:
            sung.append(at)
            spoken.append(max(source, spoken[-1]))

    for (ipa, start, end), (_, new_start, new_end) in zip(speech.phonemes, melody.phonemes, strict=True):
        knot(new_start, start)
        edge = min(_EDGE_SECONDS, (end - start) / 3)
        if is_vowel(ipa):
            knot(new_start + 1.3 * edge, start + edge)
            knot(new_end - 1.3 * edge, end - edge)
        knot(new_end, end)
    knot(melody.seconds, speech.seconds)
    return sung, spoken


def _contour(now: np.ndarray, melody: Melody, style: Style, chance: np.random.Generator) -> np.ndarray:
    """The sung pitch in Hz at each frame: notes joined by glides, vibrato where a note is held, and a little drift."""
    starts = np.array([start for start, _, _ in melody.notes])
    which = np.searchsorted(starts, now, side="right").clip(1) - 1  # a consonant keeps the note of the vowel before it
    semitones = 12 * np.log2(np.array([hertz for _, _, hertz in melody.notes])[which])
    semitones = _smooth(semitones, style.glide)
    held = now - starts[which]
    vibrato = style.vibrato * np.clip((held - 0.2) / 0.3, 0, 1) * np.sin(2 * math.pi * style.vibrato_hertz * held)
    drift = _smooth(chance.standard_normal(len(now)), 0.15)
    return 2 ** ((semitones + vibrato + style.drift * drift / max(1e-9, drift.std())) / 12)


def _loudness(envelope: np.ndarray, voiced: np.ndarray, now: np.ndarray, chance: np.random.Generator):
    """(times, gains in nepers of power): half of the ups and downs of speech are levelled, slow swells are added."""
    level = np.log(np.exp(envelope).mean(1) + 1e-12)
    usual = np.median(level[voiced]) if voiced.any() else level.mean()
    gain = np.where(voiced, 0.5 * (usual - level).clip(-3, 3), 0.0)
    swell = _smooth(chance.standard_normal(len(now)), 0.5)
    return now, _smooth(gain, 0.03) + 0.6 * swell / max(1e-9, swell.std())


def _smooth(track: np.ndarray, seconds: float) -> np.ndarray:
    """Gaussian smoothing over frames, edges repeated."""
    reach = max(1, round(4 * seconds / _FRAME_SECONDS))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * _FRAME_SECONDS / seconds) ** 2)
    return np.convolve(np.pad(track, reach, mode="edge"), kernel / kernel.sum(), mode="valid")

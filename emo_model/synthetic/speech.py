"""Synthetic speech whose phonemes and their times are known exactly: what the drawn heads say.

Free speech engines are used where they are installed (`engines`): espeak-ng (many languages and voices; formant
synthesis), flite, festival, RHVoice and Pico (fewer voices, made from recordings of people), and Kokoro (neural; fifty
voices and all between them). They are only needed to prepare training data, never to make a video.

Some voices never take part in training, so that measurements tell how well unheard voices work (`voices.HELD_OUT`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from .engines import ENGINES
from .engines.sound import INSTALL, RATE, resample
from .sentences import sentence
from .voices import HELD_OUT_VOICES, TRAINING_VOICES, language_of


@dataclass(frozen=True, eq=False)
class Speech:
    """Sound with its phonemes.

    waveform: (T,) float32 at 16 kHz; phonemes: (IPA, start, end) in seconds, in order, without overlap; what no phoneme
    covers is silence. voice: e.g. 'espeak:en-us+f2'; engine: e.g. 'espeak'; language: e.g. 'en'.
    loudness: (N,) root mean square of the voice alone, at N equal steps from the beginning to the end, where other
    sound is mixed under it (`music.mix`); None: the waveform holds nothing but the voice. sung: whether it is singing
    (`singing.sing`).
    """

    waveform: Tensor
    phonemes: tuple[tuple[str, float, float], ...]
    voice: str
    engine: str
    language: str
    loudness: Tensor | None = None
    sung: bool = False

    @property
    def seconds(self) -> float:
        return len(self.waveform) / RATE


def available_engines() -> tuple[str, ...]:
    """The engines that work here; may be empty."""
    return tuple(name for name, engine in ENGINES.items() if engine.is_installed())


@lru_cache(maxsize=1)
def available_voices() -> frozenset[str]:
    """Of the voices named in `voices`, those that are installed; asks the engines once."""
    known = {voice for _, group in TRAINING_VOICES + HELD_OUT_VOICES for voice in group}
    return frozenset(
        f"{engine}:{name}"
        for engine in available_engines()
        for name in ENGINES[engine].voices(
            {voice.partition(":")[2] for voice in known if voice.startswith(f"{engine}:")}
        )
    )


def synthesize(text: str, voice: str = "espeak:en-us", *, rate: float = 1.0, pitch: float = 1.0) -> Speech:
    """Speak `text`. rate: 1 is the engine's normal speed, 2 twice as fast; pitch: 1 is the voice's own (only for
    espeak).

    voice: 'espeak:LANGUAGE', 'espeak:LANGUAGE+VARIANT', 'kokoro:LANGUAGE+NAME', 'flite:NAME', 'festival:NAME',
    'rhvoice:NAME' or 'pico:LANGUAGE'.
    Raises RuntimeError if its engine is not installed, ValueError if the engine does not know the voice.
    """
    engine, _, name = voice.partition(":")
    if engine not in ENGINES or not name:
        raise ValueError(
            f"unknown voice '{voice}'; write 'espeak:en-us+f2', 'flite:rms' or 'festival:cmu_us_slt_arctic_hts'"
        )
    if engine not in available_engines():
        raise RuntimeError(f"The voice '{voice}' needs {engine}, which was not found. {INSTALL}")
    waveform, phonemes = ENGINES[engine].speak(text, name, rate, pitch)
    return Speech(waveform, phonemes, voice, engine, language_of(voice))


def sample_speech(
    seed: int,
    seconds: float,
    *,
    held_out: bool = False,
    perform: Callable[[Speech, random.Random], Speech] | None = None,
) -> Speech:
    """`seconds` of one voice saying drawn sentences with pauses: the same words by the same voice for the same seed and
    installed voices. espeak speaks them a few samples differently each time (its library keeps hidden state), so keep
    what was prepared.

    held_out: draw from the voices that training never hears, unchanged; otherwise rate, pitch and vocal tract vary,
    those of voices made from recordings so far that each stands for many speakers.
    perform: changes each sentence after it is spoken (`singing.singer` sings it).
    Raises RuntimeError if no engine is installed.
    """
    groups = [
        (share, [voice for voice in voices if voice in available_voices()])
        for share, voices in (HELD_OUT_VOICES if held_out else TRAINING_VOICES)
    ]
    groups = [(share, voices) for share, voices in groups if voices]
    if not groups:
        raise RuntimeError(f"No speech engine was found. {INSTALL}")
    choose = random.Random(f"{seed}/{held_out}")
    voice = choose.choice(choose.choices([voices for _, voices in groups], [share for share, _ in groups])[0])
    language = language_of(voice)
    rate, pitch = math.exp(choose.gauss(-0.05, 0.12)), math.exp(choose.gauss(0.0, 0.15))
    few = not voice.startswith(("espeak", "kokoro"))
    speed, tract = (1.0, 1.0) if held_out else _another_speaker(choose, is_one_of_few=few)
    parts, now = [], -choose.uniform(0.1, 0.6)
    while now < seconds:
        part = synthesize(sentence(choose, language), voice, rate=rate / speed, pitch=pitch)
        part = change_speed(part, speed) if speed != 1 else part
        part = part if perform is None else perform(part, choose)
        start = max(0.0, now)
        parts.append((start, part))
        now = start + part.seconds + (choose.uniform(0.9, 2.6) if choose.random() < 0.2 else choose.uniform(0.0, 0.4))
    lead = choose.uniform(0.0, 0.4)
    speech = _joined([(start + lead, part) for start, part in parts], seconds)
    speech = warp_vocal_tract(speech, tract) if tract != 1 else speech
    return replace(speech, waveform=speech.waveform * (0.8 / speech.waveform.abs().max().clamp(min=0.05)))


# What may be done to speech without losing its phoneme times


def _another_speaker(choose: random.Random, *, is_one_of_few: bool) -> tuple[float, float]:
    """(speed of a tape, by which pitch and formants rise; warp of the vocal tract, which takes most of that back).

    The voices of flite and festival are few and mostly of men, so they are moved further than the others.
    """
    speed = math.exp(min(max(choose.gauss(0.03, 0.22 if is_one_of_few else 0.08), -0.4), 0.5))
    return speed, math.exp(choose.gauss(0.0, 0.10)) * speed**-0.6


def change_speed(speech: Speech, factor: float) -> Speech:
    """Play `factor` times as fast, as a tape does: pitch and formants rise with it; phoneme times shrink."""
    length = max(1, round(len(speech.waveform) / factor))
    return replace(
        speech,
        waveform=resample(speech.waveform, length),
        phonemes=tuple((ipa, start / factor, end / factor) for ipa, start, end in speech.phonemes),
    )


def warp_vocal_tract(speech: Speech, factor: float) -> Speech:
    """Move the formants up by `factor` (a vocal tract shorter by it); pitch, rate and times stay.

    The spectral envelope (cepstrum below 2 ms) of each 32 ms frame is stretched along frequency, the fine structure
    stays.
    """
    size, hop, window = 512, 128, torch.hann_window(512)
    spectrum = torch.stft(speech.waveform, size, hop, window=window, return_complex=True)  # (257, frames)
    log_size = (spectrum.abs() + 1e-4).log()
    cepstrum = torch.fft.irfft(log_size, n=size, dim=0)
    keep = torch.zeros(size, 1)
    keep[:32], keep[-31:] = 1, 1
    envelope = torch.fft.rfft(cepstrum * keep, dim=0).real
    source = (torch.arange(size // 2 + 1) / factor).clamp(max=size // 2)
    low = source.floor().long().clamp(max=size // 2 - 1)
    warped = torch.lerp(envelope[low], envelope[low + 1], (source - low)[:, None])
    spectrum = spectrum * (warped - envelope).clamp(-6, 6).exp()
    waveform = torch.istft(spectrum, size, hop, window=window, length=len(speech.waveform))
    loud = speech.waveform.square().mean().sqrt() / waveform.square().mean().sqrt().clamp(min=1e-8)
    return replace(speech, waveform=waveform * loud)


def tilt(speech: Speech, decibels_per_octave: float) -> Speech:
    """Make the sound brighter (above 0) or duller (below 0), turning around 1 kHz; loudness is kept."""
    spectrum = torch.fft.rfft(speech.waveform)
    frequency = torch.linspace(0, RATE / 2, len(spectrum)).clamp(min=50)
    waveform = torch.fft.irfft(
        spectrum * 10 ** (decibels_per_octave * (frequency / 1000).log2() / 20), n=len(speech.waveform)
    )
    loud = speech.waveform.square().mean().sqrt() / waveform.square().mean().sqrt().clamp(min=1e-8)
    return replace(speech, waveform=waveform * loud)


def add_noise(speech: Speech, snr_decibels: float, *, seed: int, colour: float = 0.0) -> Speech:
    """Add steady noise `snr_decibels` below the speech. colour: decibels per octave, 0 white, -3 pink."""
    noise = torch.randn(len(speech.waveform), generator=torch.Generator().manual_seed(seed))
    noise = tilt(replace(speech, waveform=noise), colour).waveform
    level = speech.waveform.square().mean().sqrt() * 10 ** (-snr_decibels / 20)
    return replace(speech, waveform=speech.waveform + noise * level)


def insert_silence(speech: Speech, at_seconds: float, seconds: float) -> Speech:
    """A pause of `seconds` before the first phoneme that starts at or after `at_seconds` (or at the end)."""
    later = [start for _, start, _ in speech.phonemes if start >= at_seconds]
    at = later[0] if later else speech.seconds
    sample, added = round(at * RATE), round(seconds * RATE)
    moved = added / RATE
    waveform = torch.cat([speech.waveform[:sample], torch.zeros(added), speech.waveform[sample:]])
    loudness = speech.loudness
    if loudness is not None:
        step = round(at / speech.seconds * len(loudness))
        more = round(added * len(loudness) / len(speech.waveform))
        loudness = torch.cat([loudness[:step], loudness.new_zeros(more), loudness[step:]])
    return replace(
        speech,
        waveform=waveform,
        loudness=loudness,
        phonemes=tuple(
            (ipa, start + moved, end + moved) if start >= at else (ipa, start, min(end, at))
            for ipa, start, end in speech.phonemes
        ),
    )


def _joined(parts: list[tuple[float, Speech]], seconds: float) -> Speech:
    """Parts at their start times on one track of exactly `seconds`."""
    total = round(seconds * RATE)
    waveform = torch.zeros(total)
    phonemes: list[tuple[str, float, float]] = []
    for start, part in parts:
        begin = round(start * RATE)
        piece = part.waveform[: max(0, total - begin)]
        waveform[begin : begin + len(piece)] += piece
        phonemes += [
            (ipa, begin / RATE + early, min(begin / RATE + late, seconds))
            for ipa, early, late in part.phonemes
            if begin / RATE + early < seconds
        ]
    return replace(parts[0][1], waveform=waveform, phonemes=tuple(phonemes))

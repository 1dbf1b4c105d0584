"""Synthetic speech whose phonemes and their times are known exactly: what the drawn heads say.

Free speech engines are used where they are installed: espeak-ng (many languages and voices; formant synthesis), flite,
festival, RHVoice and Pico (fewer voices, made from recordings of people; see `rhvoice` and `pico`), and Kokoro (neural;
fifty voices and all between them; see `kokoro`). They are only needed to prepare training data, never to make a video.

Some voices never take part in training, so that measurements tell how well unheard voices work: see `HELD_OUT`.
"""

from __future__ import annotations

import ctypes
import math
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from . import kokoro, pico, rhvoice
from .sentences import sentence

RATE = 16000  # samples per second of every Speech

INSTALL = (
    "Making synthetic speech needs a speech engine. Install one with 'pip install espeakng-loader' (any "
    "system), or from your system's packages: espeak-ng, flite, festival with festvox-us-slt-hts, "
    "festvox-kdlpc16k, festvox-italp16k, festvox-itapc16k, festvox-czech-dita, festvox-czech-machac, "
    "festvox-czech-ph, festvox-ca-ona-hts, festvox-ru, festvox-hi-nsk, festvox-suopuhe-lj."
)

_VARIANTS = (
    "m1",
    "m2",
    "m3",
    "m4",
    "m5",
    "m6",
    "m7",
    "m8",
    "f1",
    "f2",
    "f3",
    "f4",
    "adam",
    "Alex",
    "Alicia",
    "Andrea",
    "Andy",
    "Annie",
    "antonio",
    "aunty",
    "belinda",
    "benjamin",
    "boris",
    "caleb",
    "david",
    "Denis",
    "Diogo",
    "ed",
    "edward",
    "edward2",
    "Gene",
    "Gene2",
    "grandma",
    "grandpa",
    "Henrique",
    "Hugo",
    "iven",
    "iven2",
    "iven3",
    "Jacky",
    "john",
    "klatt",
    "klatt2",
    "klatt3",
    "klatt4",
    "kaukovalta",
    "Lee",
    "linda",
    "marcelo",
    "Marco",
    "Mario",
    "max",
    "Michael",
    "michel",
    "miguel",
    "mike",
    "norbert",
    "pablo",
    "paul",
    "pedro",
    "quincy",
    "rob",
    "robert",
    "sandro",
    "shelby",
    "steph",
    "steph2",
    "travis",
    "victor",
    "zac",
    "croak",
    "Nguyen",
    "Reed",
    "Storm",
    "anika",
    "announcer",
    "gustave",
    "ian",
    "iven4",
    "mike2",
    "steph3",
    "whisper",
    "whisperf",
)
_LANGUAGES = {  # of espeak, and what `sentences` calls them
    "en-us": "en",
    "en-gb-x-rp": "en",
    "de": "de",
    "fr": "fr",
    "es": "es",
    "it": "it",
    "pt": "pt",
    "nl": "nl",
    "pl": "pl",
    "sv": "sv",
    "cs": "cs",
    "ca": "ca",
    "fi": "fi",
    "hu": "hu",
    "tr": "tr",
    "ru": "ru",
    "hi": "hi",
}
_FESTIVAL_LANGUAGES = {
    "kal_diphone": "en",
    "ked_diphone": "en",
    "cmu_us_slt_arctic_hts": "en",
    "lp_diphone": "it",
    "pc_diphone": "it",
    "czech_dita": "cs",
    "czech_machac": "cs",
    "czech_ph": "cs",
    "czech_krb": "cs",
    "upc_ca_ona_hts": "ca",
    "suo_fi_lj_diphone": "fi",
    "hy_fi_mv_diphone": "fi",
    "msu_ru_nsh_clunits": "ru",
    "hindi_NSK_diphone": "hi",
}

HELD_OUT = (
    "espeak:fi",
    "espeak:*+f5",
    "espeak:*+klatt6",
    "flite:slt",
    "festival:cmu_us_slt_arctic_hts",
    "festival:suo_fi_lj_diphone",
    "festival:hy_fi_mv_diphone",
    "kokoro:*+af_bella",
    "kokoro:*+bm_george",
    "kokoro:*+ff_siwis",
    "kokoro:*+am_puck",
    "rhvoice:slt",
    "piper",
)
"""Voices that training never hears: a language (Finnish) in three engines, two espeak variants in all languages, one
English speaker (slt) in three engines, four of Kokoro's voices, and every voice of piper (only measured)."""

_KOKORO = (
    "af_alloy af_aoede af_heart af_jessica af_kore af_nicole af_nova af_river af_sarah af_sky am_adam am_echo am_eric "
    "am_fenrir am_liam am_michael am_onyx am_santa bf_alice bf_emma bf_isabella bf_lily bm_daniel bm_fable bm_lewis "
    "ef_dora em_alex em_santa hf_alpha hf_beta hm_omega hm_psi if_sara im_nicola jf_alpha jf_gongitsune jf_nezumi "
    "jf_tebukuro jm_kumo pf_dora pm_alex pm_santa zf_xiaobei zf_xiaoni zf_xiaoxiao zf_xiaoyi zm_yunjian zm_yunxi "
    "zm_yunxia zm_yunyang"
).split()
_BLENDS = [*_KOKORO, *(f"{one}~{two}" for one, two in combinations(_KOKORO, 2))]  # half way between two voices

TRAINING_VOICES = (
    (0.40, tuple(f"kokoro:{language}+{voice}" for language in _LANGUAGES if language != "fi" for voice in _BLENDS)),
    (
        0.20,
        tuple(f"espeak:{language}+{variant}" for language in _LANGUAGES if language != "fi" for variant in _VARIANTS),
    ),
    (0.13, ("flite:rms", "flite:awb", "flite:kal16")),
    (0.30, tuple(f"rhvoice:{name}" for name in rhvoice.LANGUAGES)),
    (0.25, tuple(f"pico:{language}" for language in pico.PHONEMES)),
    (
        0.27,
        (
            "festival:ked_diphone",
            "festival:kal_diphone",
            "festival:lp_diphone",
            "festival:pc_diphone",
            "festival:czech_dita",
            "festival:czech_machac",
            "festival:czech_ph",
            "festival:czech_krb",
            "festival:upc_ca_ona_hts",
            "festival:msu_ru_nsh_clunits",
            "festival:hindi_NSK_diphone",
        ),
    ),
)
HELD_OUT_VOICES = (
    (
        0.35,
        (
            "espeak:fi+f2",
            "espeak:fi+m3",
            "espeak:fi+Andrea",
            "espeak:en-us+f5",
            "espeak:de+f5",
            "espeak:en-gb-x-rp+klatt6",
        ),
    ),
    (0.25, ("flite:slt",)),
    (0.40, ("festival:cmu_us_slt_arctic_hts", "festival:suo_fi_lj_diphone", "festival:hy_fi_mv_diphone")),
)
"""Shares of the engines, and the voices of each."""


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


def is_held_out(voice: str) -> bool:
    """Whether training must never hear `voice`; see `HELD_OUT`."""
    engine, _, name = voice.partition(":")
    language, _, variant = name.partition("+")
    return (
        engine == "piper"
        or voice in HELD_OUT
        or f"{engine}:{language}" in HELD_OUT
        or f"{engine}:*+{variant}" in HELD_OUT
    )


def available_engines() -> tuple[str, ...]:
    """The engines that work here, best first; may be empty."""
    found = []
    if _espeak_paths():
        found.append("espeak")
        found += ["kokoro"] if kokoro.folder() else []  # reads the phonemes that espeak finds
    found += [engine for engine in ("flite", "festival") if shutil.which(engine)]
    found += [engine for engine, program in (("rhvoice", rhvoice.program), ("pico", pico.program)) if program()]
    return tuple(found)


@lru_cache(maxsize=1)
def available_voices() -> frozenset[str]:
    """Of the voices named in this file, those that are installed; asks the engines once."""
    engines = available_engines()
    voices = {voice for _, group in TRAINING_VOICES + HELD_OUT_VOICES for voice in group}
    known = {voice for voice in voices if voice.startswith("espeak:") and "espeak" in engines}
    if "kokoro" in engines:
        installed = set(kokoro.voices())
        known |= {
            voice
            for voice in voices
            if voice.startswith("kokoro:") and installed.issuperset(voice.partition("+")[2].split("~"))
        }
    known |= {voice for voice in voices if voice.partition(":")[0] in {"rhvoice", "pico"} & set(engines)}
    if "flite" in engines:
        known |= {f"flite:{name}" for name in _run(["flite", "-lv"]).partition(":")[2].split()}
    if "festival" in engines:
        known |= {
            f"festival:{name}" for name in _run(["festival", "-b", "(print (voice.list))"]).strip("() \n").split()
        }
    return frozenset(voices & known)


def synthesize(text: str, voice: str = "espeak:en-us", *, rate: float = 1.0, pitch: float = 1.0) -> Speech:
    """Speak `text`. rate: 1 is the engine's normal speed, 2 twice as fast; pitch: 1 is the voice's own (only for
    espeak).

    voice: 'espeak:LANGUAGE', 'espeak:LANGUAGE+VARIANT', 'kokoro:LANGUAGE+NAME', 'flite:NAME', 'festival:NAME',
    'rhvoice:NAME' or 'pico:LANGUAGE'.
    Raises RuntimeError if its engine is not installed, ValueError if the engine does not know the voice.
    """
    engine, _, name = voice.partition(":")
    engines = {
        "espeak": _speak_espeak,
        "kokoro": _speak_kokoro,
        "flite": _speak_flite,
        "festival": _speak_festival,
        "rhvoice": _speak_rhvoice,
        "pico": _speak_pico,
    }
    if engine not in engines or not name:
        raise ValueError(
            f"unknown voice '{voice}'; write 'espeak:en-us+f2', 'flite:rms' or 'festival:cmu_us_slt_arctic_hts'"
        )
    if engine not in available_engines():
        raise RuntimeError(f"The voice '{voice}' needs {engine}, which was not found. {INSTALL}")
    waveform, phonemes = engines[engine](text, name, rate, pitch)
    return Speech(waveform, phonemes, voice, engine, language_of(voice))


def language_of(voice: str) -> str:
    """The language's code, e.g. 'en'."""
    engine, _, name = voice.partition(":")
    if engine in ("espeak", "kokoro", "pico"):
        return name.partition("+")[0].partition("-")[0]
    return rhvoice.LANGUAGES.get(name, "en") if engine == "rhvoice" else _FESTIVAL_LANGUAGES.get(name, "en")


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
        waveform=_resample(speech.waveform, length),
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


def _resample(waveform: Tensor, length: int) -> Tensor:
    from fractions import Fraction

    from scipy.signal import resample_poly

    ratio = Fraction(length, len(waveform)).limit_denominator(400)
    result = torch.from_numpy(resample_poly(waveform.numpy(), ratio.numerator, ratio.denominator)).float()
    return torch.nn.functional.pad(result, (0, max(0, length - len(result))))[:length].contiguous()


# espeak-ng, through its C library


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    ]


_PHONEME_EVENT = 7
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def _espeak_paths() -> tuple[str, str | None] | None:
    """(library, its data folder or None for the built-in one), or None if espeak-ng is not installed."""
    try:
        import espeakng_loader

        return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    except ImportError:
        from ctypes.util import find_library

        library = find_library("espeak-ng")
        return (library, None) if library else None


@lru_cache(maxsize=1)
def _espeak() -> tuple[ctypes.CDLL, int]:
    """The library, initialised once a process, and its sample rate."""
    path, data = _espeak_paths()
    library = ctypes.CDLL(path)
    rate = library.espeak_Initialize(
        2, 0, data.encode() if data else None, 1 | 2
    )  # synchronous; phoneme events, in IPA
    if rate <= 0:
        raise RuntimeError(f"espeak-ng at {path} did not start. {INSTALL}")
    library.espeak_Synth.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    return library, rate


def _speak_espeak(text: str, name: str, rate: float, pitch: float):
    library, sample_rate = _espeak()
    if library.espeak_SetVoiceByName(name.encode()) != 0:
        raise ValueError(f"espeak-ng knows no voice '{name}'; 'espeak-ng --voices' lists the languages")
    library.espeak_SetParameter(1, max(80, min(450, round(165 * rate))), 0)  # words per minute
    library.espeak_SetParameter(3, max(0, min(99, round(50 + 60 * math.log2(pitch)))), 0)
    sound, events = [], []

    def collect(samples, count, event):
        if samples and count > 0:
            sound.append(ctypes.string_at(samples, count * 2))
        index = 0
        while event[index].type != 0:
            if event[index].type == _PHONEME_EVENT:
                label = ctypes.string_at(ctypes.addressof(event[index]) + _Event.name.offset, 8).split(b"\0")[0]
                events.append((label.decode("utf-8", "ignore"), event[index].sample / sample_rate))
            index += 1
        return 0

    callback = _CALLBACK(collect)
    library.espeak_SetSynthCallback(callback)
    data = text.encode() + b"\0"
    library.espeak_Synth(data, len(data), 0, 0, 0, 1, None, None)  # 1: the text is UTF-8
    library.espeak_Synchronize()
    waveform = torch.frombuffer(bytearray(b"".join(sound)), dtype=torch.int16).float() / 32768
    ends = [start for _, start in events[1:]] + [len(waveform) / sample_rate]
    marks = [(label, start, end) for (label, start), end in zip(events, ends, strict=True)]
    return _resample(waveform, round(len(waveform) * RATE / sample_rate)), _clean(marks, len(waveform) / sample_rate)


def _read_aloud(text: str, language: str) -> str:
    """Text -> IPA with stress marks, spaces and its punctuation, by espeak."""
    library, _ = _espeak()
    if library.espeak_SetVoiceByName(language.encode()) != 0:
        raise ValueError(f"espeak-ng knows no language '{language}'; 'espeak-ng --voices' lists them")
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
    spoken = []
    for clause, mark in re.findall(r"([^,.;:!?]+)([,.;:!?]*)", text):
        rest = ctypes.c_char_p(clause.strip().encode())
        while rest.value:
            spoken.append(library.espeak_TextToPhonemes(ctypes.byref(rest), 1, 2).decode("utf-8", "ignore"))
        spoken[-1:] = [f"{spoken[-1]}{mark[:1]}"] if spoken else []
    return re.sub(r"\([a-z-]+\)", "", " ".join(spoken))  # a change of language is marked "(en)"


# Kokoro, through onnxruntime


def _speak_kokoro(text: str, name: str, rate: float, pitch: float):
    language, _, voice = name.partition("+")
    ipa = _read_aloud(text, language)
    waveform, marks = kokoro.speak(ipa, voice, rate=rate, english=language.startswith("en"))
    seconds = len(waveform) / kokoro.SAMPLE_RATE
    return _resample(waveform, round(seconds * RATE)), _clean(marks, seconds)


# flite and festival, as programs


def _labels(pairs: str) -> dict[str, str]:
    """'label=IPA label=IPA' -> what an engine calls a phoneme -> IPA."""
    return dict(pair.split("=", 1) for pair in pairs.split())


_ENGLISH = _labels(
    "aa=ɑː ae=æ ah=ʌ ao=ɔː aw=aʊ ax=ə axr=ɚ ay=aɪ b=b ch=tʃ d=d dh=ð dx=ɾ eh=ɛ el=əl em=əm en=ən er=ɜː ey=eɪ "
    "f=f g=ɡ hh=h hv=h ih=ɪ ix=ɪ iy=iː jh=dʒ k=k l=l m=m n=n ng=ŋ nx=n ow=oʊ oy=ɔɪ p=p r=ɹ s=s sh=ʃ t=t th=θ "
    "uh=ʊ uw=uː v=v w=w y=j z=z zh=ʒ"
)
_OTHERS = _labels(
    "tS=tʃ dZ=dʒ S=ʃ Z=ʒ L=ʎ J=ɲ E=ɛ O=ɔ ax=ə rr=r B=β D=ð G=ɣ g=ɡ ng=ŋ N=ŋ z~=ʒ s~=ʃ c~=tʃ r~=rʒ t~=c d~=ɟ "
    "n~=ɲ ch=x @=æ 7=ø #= ##= pau="
)  # Italian, Catalan, Czech, Finnish; letters not named here are their own IPA
_RUSSIAN = _labels(
    "a=ɐ aa=a ae=ɪ ay=ə e=ɪ ee=ɛ ii=i y=ɨ yy=ɨ oo=o uu=u ur=u c=ts ch=tɕ sch=ɕ sh=ʃ zh=ʒ h=x hh=x g=ɡ gg=ɡ pau="
)  # doubled vowels are stressed, doubled consonants soft
_HINDI = _labels(
    "a=ə aa=a ih=ɪ iy=i uh=ʊ uw=u eh=e ay=ɛ oh=o aw=ɔ kh=k g=ɡ gh=ɡ ch=tʃ chh=tʃ j=dʒ jh=dʒ T=ʈ Th=ʈ D=ɖ Dh=ɖ "
    "th=t dh=d ddh=d ph=f bh=b y=j v=ʋ sh=ʃ N=ɳ pau="
)


_ENCODINGS = {"cs": "iso8859-2", "ru": "utf-8", "hi": "utf-8"}  # of texts for festival


def _speak_flite(text: str, name: str, rate: float, pitch: float):
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "speech.wav"
        stretch = f"duration_stretch={1 / rate:.3f}"
        shown = _run(["flite", "-voice", name, "--setf", stretch, "-psdur", "-t", text, "-o", str(sound)])
        waveform = _read_wav(sound)
    marks = [mark.rsplit(":", 1) for mark in shown.split() if ":" in mark]
    return waveform, _clean(
        _spans([(_ENGLISH.get(label, ""), float(end)) for label, end in marks]), len(waveform) / RATE
    )


def _speak_festival(text: str, name: str, rate: float, pitch: float):
    language = _FESTIVAL_LANGUAGES.get(name, "en")
    with tempfile.TemporaryDirectory() as folder:
        sound, marks, script = (Path(folder) / file for file in ("speech.wav", "speech.lab", "speech.scm"))
        quoted = text.replace("\\", " ").replace('"', " ").replace("!", ".")  # its Russian rules do not know '!'
        orders = (
            f"(voice_{name})\n(Parameter.set 'Duration_Stretch {1 / rate:.3f})\n"
            f'(set! spoken (utt.synth (Utterance Text "{quoted}")))\n'
            f'(utt.save.wave spoken "{sound}" \'riff)\n(utt.save.segs spoken "{marks}")\n'
        )
        script.write_bytes(orders.encode(_ENCODINGS.get(language, "iso8859-1"), "ignore"))
        _run(["festival", "-b", str(script)])
        if not sound.exists():
            raise ValueError(f"festival could not speak as '{name}'; is its festvox package installed?")
        waveform = _read_wav(sound)
        rows = [line.split() for line in marks.read_text(errors="ignore").splitlines()]
    spans = [(_ipa(row[2], language), float(row[0])) for row in rows if len(row) == 3]
    return waveform, _clean(_spans(spans), len(waveform) / RATE)


def _speak_rhvoice(text: str, name: str, rate: float, pitch: float):
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "speech.wav"
        marks = rhvoice.speak(text, name, rate=rate, file=sound, labels=_ENGLISH)
        waveform = _read_wav(sound)
    return waveform, _clean(marks, len(waveform) / RATE)


def _speak_pico(text: str, name: str, rate: float, pitch: float):
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "speech.wav"
        marks = pico.speak(text, name, rate=rate, file=sound)
        waveform = _read_wav(sound)
    return waveform, _clean(marks, len(waveform) / RATE)


def _ipa(label: str, language: str) -> str:
    if language == "en":
        return _ENGLISH.get(label, "")
    if language == "hi":
        return _HINDI.get(label, label)
    if language == "ru":
        return _RUSSIAN.get(label, label[:1])
    plain = label.rstrip("0123456789:") or label  # stress and length
    return _OTHERS.get(label, _OTHERS.get(plain, plain))


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def _read_wav(path: Path) -> Tensor:
    import wave

    with wave.open(str(path)) as file:
        rate = file.getframerate()
        waveform = torch.frombuffer(bytearray(file.readframes(file.getnframes())), dtype=torch.int16).float() / 32768
    return waveform if rate == RATE else _resample(waveform, round(len(waveform) * RATE / rate))


def _spans(ends: list[tuple[str, float]]) -> list[tuple[str, float, float]]:
    starts = [0.0] + [end for _, end in ends[:-1]]
    return [(ipa, start, end) for start, (ipa, end) in zip(starts, ends, strict=True)]


def _clean(marks: list[tuple[str, float, float]], seconds: float) -> tuple[tuple[str, float, float], ...]:
    """Without pauses and stress marks, inside the sound, in order."""
    kept: list[tuple[str, float, float]] = []
    for label, start, end in marks:
        ipa = label.strip("ˈˌ ‖|_:;,'")
        start, end = max(start, kept[-1][2] if kept else 0.0), min(end, seconds)
        if ipa and "(" not in ipa and end > start:  # espeak marks a change of language as "(en)"
            kept.append((ipa, start, end))
    return tuple(kept)

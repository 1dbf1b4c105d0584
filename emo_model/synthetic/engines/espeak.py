"""espeak-ng, through its C library: many languages and voices, formant synthesis; it also reads texts for Kokoro."""

from __future__ import annotations

import ctypes
import math
import re
from functools import lru_cache

import torch

from .sound import INSTALL, RATE, clean, resample


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


def _paths() -> tuple[str, str | None] | None:
    """(library, its data folder or None for the built-in one), or None if espeak-ng is not installed."""
    try:
        import espeakng_loader

        return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    except ImportError:
        from ctypes.util import find_library

        library = find_library("espeak-ng")
        return (library, None) if library else None


@lru_cache(maxsize=1)
def _library() -> tuple[ctypes.CDLL, int]:
    """The library, initialised once a process, and its sample rate."""
    path, data = _paths()
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


def is_installed() -> bool:
    return _paths() is not None


def voices(named: set[str]) -> set[str]:
    """Of the voices 'LANGUAGE' and 'LANGUAGE+VARIANT', those that are installed: all."""
    return named


def speak(text: str, name: str, rate: float, pitch: float):
    """See the room's docstring. Raises ValueError for a voice that espeak-ng does not know."""
    library, sample_rate = _library()
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
    return resample(waveform, round(len(waveform) * RATE / sample_rate)), clean(marks, len(waveform) / sample_rate)


def read_aloud(text: str, language: str) -> str:
    """Text -> IPA with stress marks, spaces and its punctuation, by espeak."""
    library, _ = _library()
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

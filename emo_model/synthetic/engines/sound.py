"""What the engines have in common: the sound's rate, WAV files, programs, phoneme marks."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

RATE = 16000  # samples per second of every Speech

INSTALL = (
    "Making synthetic speech needs a speech engine. Install one with 'pip install espeakng-loader' (any "
    "system), or from your system's packages: espeak-ng, flite, festival with festvox-us-slt-hts, "
    "festvox-kdlpc16k, festvox-italp16k, festvox-itapc16k, festvox-czech-dita, festvox-czech-machac, "
    "festvox-czech-ph, festvox-ca-ona-hts, festvox-ru, festvox-hi-nsk, festvox-suopuhe-lj."
)


def resample(waveform: Tensor, length: int) -> Tensor:
    """(T,) -> (length,): the same sound at another rate."""
    from fractions import Fraction

    from scipy.signal import resample_poly

    ratio = Fraction(length, len(waveform)).limit_denominator(400)
    result = torch.from_numpy(resample_poly(waveform.numpy(), ratio.numerator, ratio.denominator)).float()
    return torch.nn.functional.pad(result, (0, max(0, length - len(result))))[:length].contiguous()


def read_wav(path: Path) -> Tensor:
    """A WAV file of one channel and 16 bits -> (T,) at `RATE`."""
    import wave

    with wave.open(str(path)) as file:
        rate = file.getframerate()
        waveform = torch.frombuffer(bytearray(file.readframes(file.getnframes())), dtype=torch.int16).float() / 32768
    return waveform if rate == RATE else resample(waveform, round(len(waveform) * RATE / rate))


def run(command: list[str]) -> str:
    """What a program prints. Raises RuntimeError, with the end of its complaint, if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def program(variable: str) -> str | None:
    """The path of the program that an environment variable names, or None."""
    named = os.environ.get(variable)
    return shutil.which(named) if named else None


def say(variable: str, *arguments: str) -> tuple[str, Tensor]:
    """What the program that `variable` names prints, and the sound (T,) of the WAV file that it writes: the last of its
    arguments. Raises RuntimeError if there is no such program, or if it fails."""
    found = program(variable)
    if found is None:
        raise RuntimeError(f"set {variable} to a program that speaks; docs/training.md tells how it is made")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speech.wav"
        return run([found, *arguments, str(file)]), read_wav(file)


def labels(pairs: str) -> dict[str, str]:
    """'label=IPA label=IPA' -> what an engine calls a phoneme -> IPA."""
    return dict(pair.split("=", 1) for pair in pairs.split())


ENGLISH = labels(
    "aa=ɑː ae=æ ah=ʌ ao=ɔː aw=aʊ ax=ə axr=ɚ ay=aɪ b=b ch=tʃ d=d dh=ð dx=ɾ eh=ɛ el=əl em=əm en=ən er=ɜː ey=eɪ "
    "f=f g=ɡ hh=h hv=h ih=ɪ ix=ɪ iy=iː jh=dʒ k=k l=l m=m n=n ng=ŋ nx=n ow=oʊ oy=ɔɪ p=p r=ɹ s=s sh=ʃ t=t th=θ "
    "uh=ʊ uw=uː v=v w=w y=j z=z zh=ʒ"
)
"""The names of flite, festival and RHVoice for the sounds of English."""


def spans(ends: list[tuple[str, float]]) -> list[tuple[str, float, float]]:
    """Each sound's end -> its start and end: it begins where the one before it ends."""
    starts = [0.0] + [end for _, end in ends[:-1]]
    return [(ipa, start, end) for start, (ipa, end) in zip(starts, ends, strict=True)]


def clean(marks: list[tuple[str, float, float]], seconds: float) -> tuple[tuple[str, float, float], ...]:
    """Without pauses and stress marks, inside the sound, in order."""
    kept: list[tuple[str, float, float]] = []
    for label, start, end in marks:
        ipa = label.strip("ˈˌ ‖|_:;,'")
        start, end = max(start, kept[-1][2] if kept else 0.0), min(end, seconds)
        if ipa and "(" not in ipa and end > start:  # espeak marks a change of language as "(en)"
            kept.append((ipa, start, end))
    return tuple(kept)

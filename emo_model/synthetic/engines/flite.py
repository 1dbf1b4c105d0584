"""flite, as a program: a few English voices, made from recordings of people."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from .sound import ENGLISH, RATE, clean, read_wav, run, spans


def is_installed() -> bool:
    return shutil.which("flite") is not None


def voices(named: set[str]) -> set[str]:
    """Of the voices named, those that are installed."""
    return named & set(run(["flite", "-lv"]).partition(":")[2].split())


def speak(text: str, name: str, rate: float, pitch: float):
    """See the room's docstring; the pitch is the voice's own."""
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "speech.wav"
        stretch = f"duration_stretch={1 / rate:.3f}"
        shown = run(["flite", "-voice", name, "--setf", stretch, "-psdur", "-t", text, "-o", str(sound)])
        waveform = read_wav(sound)
    marks = [mark.rsplit(":", 1) for mark in shown.split() if ":" in mark]
    return waveform, clean(spans([(ENGLISH.get(label, ""), float(end)) for label, end in marks]), len(waveform) / RATE)

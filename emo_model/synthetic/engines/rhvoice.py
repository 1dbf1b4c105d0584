"""Natural voices with exact phoneme times: RHVoice, statistical synthesis from recordings of people.

Only for preparing training data. The environment variable `EMO_RHVOICE` names a program that is called as `PROGRAM
VOICE RATE TEXT FILE.wav` and prints a line for each phoneme, `LABEL START LENGTH SAMPLES_PER_SECOND` (START and LENGTH
in samples; a START of 0 begins the next sentence); docs/training.md tells how RHVoice is made to print them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from .sound import ENGLISH, RATE, clean, labels, read_wav, run

LANGUAGES = {
    "clb": "en",
    "bdl": "en",
    "ksp": "en",
    "natan": "pl",
    "michal": "pl",
    "alicja": "pl",
    "magda": "pl",
    "mateo": "es",
}
"""The voices that are used and their languages: those whose licences allow any use (CMU ARCTIC, CC0, the Unlicense) or
ask for the names only (CC BY 4.0: alicja by Magdalena Marciniszyn, magda by Magda Roczeń)."""


_LABELS = {  # what a language's phonemes are called -> IPA
    "en": ENGLISH,
    "pl": labels(
        "a=a on=ɔ b=b c=ts ch=tʃ ci=tɕ d=d dz=dz dzi=dʑ dzh=dʒ e=ɛ en=ɛ f=f g=ɡ h=x i=i y=j k=k l=l w=w m=m n=n ni=ɲ "
        "o=ɔ p=p r=r s=s sh=ʃ si=ɕ t=t u=u v=v ih=ɨ z=z zi=ʑ zh=ʒ"
    ),
    "es": labels(
        "a=a e=e i=i o=o u=u b=b bh=β ch=tʃ c=s d=d dh=ð f=f g=ɡ gh=ɣ j=x x=x k=k l=l ll=j m=m n=n ni=ɲ p=p r=ɾ rr=r "
        "s=s sh=ʃ t=t v=v w=w y=j"
    ),
}


def program() -> str | None:
    """The program's path, or None."""
    named = os.environ.get("EMO_RHVOICE")
    return shutil.which(named) if named else None


def is_installed() -> bool:
    return program() is not None


def voices(named: set[str]) -> set[str]:
    """Of the voices named, those that this module knows."""
    return named & LANGUAGES.keys()


def speak(text: str, name: str, rate: float, pitch: float):
    """See the room's docstring; the pitch is the voice's own. Raises RuntimeError if the program fails or is not
    named."""
    found = program()
    if found is None:
        raise RuntimeError("RHVoice's voices need the program that EMO_RHVOICE names; see docs/training.md")
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "speech.wav"
        marks = read_labels(run([found, name, f"{rate:.3f}", text, str(sound)]), _LABELS[LANGUAGES.get(name, "en")])
        waveform = read_wav(sound)
    return waveform, clean(marks, len(waveform) / RATE)


def read_labels(lines: str, names: dict[str, str]) -> list[tuple[str, float, float]]:
    """What the program prints -> (IPA, or '' where it is silent, start, end) in seconds."""
    marks, begin, end = [], 0.0, 0.0
    for line in lines.splitlines():
        label, start, length, rate = line.split()
        begin = end if start == "0" else begin
        start, end = begin + int(start) / int(rate), begin + (int(start) + int(length)) / int(rate)
        marks.append((names.get(label, ""), start, end))
    return marks

"""Natural voices with exact phoneme times: RHVoice, statistical synthesis from recordings of people.

Only for preparing training data. The environment variable `EMO_RHVOICE` names a program that is called as `PROGRAM
VOICE RATE TEXT FILE.wav` and prints a line for each phoneme, `LABEL START LENGTH SAMPLES_PER_SECOND` (START and LENGTH
in samples; a START of 0 begins the next sentence); docs/training.md tells how RHVoice is made to print them.
"""

from __future__ import annotations

from .sound import ENGLISH, RATE, clean, labels, program, say

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

SILENCE = "pau"
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


def is_installed() -> bool:
    return program("EMO_RHVOICE") is not None


def voices(named: set[str]) -> set[str]:
    """Of the voices named, those that this module knows."""
    return named & LANGUAGES.keys()


def speak(text: str, name: str, rate: float, pitch: float):
    """See the room's docstring; the pitch is the voice's own.

    Raises ValueError for a voice that is not in `LANGUAGES`, RuntimeError if the program fails or is not named.
    """
    if name not in LANGUAGES:
        raise ValueError(f"RHVoice's voice '{name}' is not used here; choose from {', '.join(LANGUAGES)}")
    lines, waveform = say("EMO_RHVOICE", name, f"{rate:.3f}", text)
    return waveform, clean(read_labels(lines, _LABELS[LANGUAGES[name]]), len(waveform) / RATE)


def read_labels(lines: str, names: dict[str, str]) -> list[tuple[str, float, float]]:
    """What the program prints -> (IPA, or '' where it is silent, start, end) in seconds.

    Raises ValueError for a label that `names` does not know.
    """
    marks, begin, end = [], 0.0, 0.0
    for line in lines.splitlines():
        label, start, length, rate = line.split()
        if label not in names and label != SILENCE:
            raise ValueError(f"RHVoice's phoneme '{label}' has no name in emo_model/synthetic/engines/rhvoice.py")
        begin = end if start == "0" else begin
        start, end = begin + int(start) / int(rate), begin + (int(start) + int(length)) / int(rate)
        marks.append((names.get(label, ""), start, end))
    return marks

"""Natural voices with exact phoneme times: SVOX Pico (Apache-2.0), statistical synthesis from recordings of six women.

Only for preparing training data. The environment variable `EMO_PICO` names a program that is called as `PROGRAM
LANGUAGE TEXT FILE.wav` and prints the number of the phoneme of each frame of 4 ms, a line each; docs/training.md tells
how Pico is made to print them.
"""

from __future__ import annotations

from itertools import groupby
from xml.sax.saxutils import escape

from .sound import RATE, clean, program, say

FRAME = 0.004  # seconds
LATE = 0.024  # seconds by which the sound follows its frames: measured by when the mouth is heard to move


def _numbers(pairs: str) -> dict[str, str]:
    """'IPA=NUMBER,NUMBER IPA=NUMBER' -> number -> IPA."""
    table = {}
    for pair in pairs.split():
        ipa, _, numbers = pair.rpartition("=")
        table |= dict.fromkeys(numbers.split(","), ipa)
    return table


# A stop is two phonemes, its closure ('_', before voiceless and voiced ones) and its burst; '' is silence.
PHONEMES = {
    "en-US": _numbers(
        "=87 _=88,89 ʔ=86,96 p=72,82 b=56 t=76,83 d=57 k=67,84 ɡ=63 tʃ=77 dʒ=58 m=69 n=70 ŋ=45 f=62 v=79 θ=49 ð=42 "
        "s=75 z=81 ʃ=48 ʒ=53 h=64 l=68 j=66 w=80 ɹ=74 ɾ=95 iː=65 i=97 ɪ=43 ɛ=98 æ=73 ɑː=40 ʌ=52 ɔː=93,94 ʊ=50 uː=78 "
        "ə=39 ɜː=90 ɚ=91 aɪ=54 aʊ=55 ɔɪ=47 eɪ=92 oʊ=71 əl=37 ən=38"
    ),
    "en-GB": _numbers(
        "=92 _=94,95 ʔ=91 p=71,87 b=55 t=75,88 d=56 k=66,89 ɡ=62 tʃ=76 dʒ=57 m=68 n=69 ŋ=44 f=61 v=78 θ=48 ð=41 s=74 "
        "z=80 ʃ=47 ʒ=52 h=63 l=67 j=65 w=79 ɹ=73 iː=64 ɪ=42 ɛ=58 æ=72 ɒ=39 ɑː=40 ʌ=51 ɔː=45 ʊ=49 uː=77 ə=38,93 ɜː=36 "
        "aɪ=53 aʊ=54 ɔɪ=46 eɪ=60 əʊ=70 ɪə=43 eə=59 ʊə=50 əl=37"
    ),
    "de-DE": _numbers(
        "=104 _=99,100 ʔ=43 p=81,101 b=64 t=85,86,102 d=65 k=75,103 ɡ=70 pf=82 ts=87 m=77 n=78 ŋ=49 f=69 v=90 s=84 "
        "z=94 ʃ=52 ʒ=55 ç=45 x=91 h=71 ʁ=83 l=76 j=74 i=72 iː=73 y=92 yː=93 ɪ=48 ʏ=54 e=67 eː=68 ø=36 øː=37 ɛ=46 ɛː=47 "
        "œ=39 a=60 aː=61 o=79 oː=80 ɔ=50 u=88 uː=89 ʊ=53 ə=44 ɐ=38,56 aɪ=62 aʊ=63 ɔʏ=51 əl=40 ən=42 ɑ=97"
    ),
    "fr-FR": _numbers(
        "=82 _=83,84 p=67 b=55 t=69 d=56 k=62 ɡ=59 m=64 n=65 ɲ=46 ŋ=47 f=58 v=71 s=68 z=74 ʃ=51 ʒ=52 ʁ=50 l=63 j=61 "
        "w=72 ɥ=45 i=60 y=73 u=70 e=57 ø=38 ɛ=43,76,86 œ=40,75 a=53,85 o=66 ɔ=48,77 ə=39 ɑ=78,88"
    ),
    "es-ES": _numbers(
        "=69 _=70,71 p=58 b=45 t=62 d=46 k=53 ɡ=49 tʃ=63 m=55 n=56 ɲ=39 ŋ=41 f=48 θ=42 ð=37 β=36 ɣ=38 s=61 x=65 r=60 "
        "ɾ=59 l=54 ʎ=40 j=51 w=43 i=50 e=47 a=44 o=57 u=64"
    ),
    "it-IT": _numbers(
        "=96 _=97,98 p=77,78 b=51,52 t=83,86 d=53 k=67,68 ɡ=63 ts=85,88 tʃ=84 dʒ=54,56 dz=57 m=71,72 n=73 ɲ=38,39 ŋ=42 "
        "f=61,62 v=91,92 s=81,82 z=93 ʃ=45,46 r=80 ɾ=79 l=69,70 ʎ=40,41 j=47 w=48 i=65 iː=66 e=59 eː=60 ɛ=36 ɛː=37 "
        "a=49 aː=50 o=75 oː=76 ɔ=43,44 u=89 uː=90"
    ),
}
"""Language of Pico -> number of a phoneme -> IPA; nasal vowels as the oral ones that look like them."""

_BURSTS = frozenset("pbtdkɡʔ")  # an affricate begins with one


def is_installed() -> bool:
    return program("EMO_PICO") is not None


def voices(named: set[str]) -> set[str]:
    """Of the languages named, those of Pico; each has one voice."""
    return named & PHONEMES.keys()


def speak(text: str, name: str, rate: float, pitch: float):
    """See the room's docstring; `name` is a language, e.g. 'en-US', the pitch the voice's own.

    Raises ValueError for a language that is not in `PHONEMES`, RuntimeError if the program fails or is not named.
    """
    if name not in PHONEMES:
        raise ValueError(f"Pico does not speak '{name}'; choose from {', '.join(PHONEMES)}")
    numbers, waveform = say("EMO_PICO", name, f'<speed level="{round(100 * rate)}">{escape(text)}</speed>')
    return waveform, clean(read_frames(numbers.split(), PHONEMES[name]), len(waveform) / RATE)


def read_frames(numbers: list[str], table: dict[str, str]) -> list[tuple[str, float, float]]:
    """The number of each frame's phoneme -> (IPA, or '' where it is silent, start, end) in seconds.

    A closure belongs to the burst after it, or to the sound before it where no burst follows. Raises ValueError for a
    number that `table` does not know.
    """
    marks: list[tuple[str, float, float]] = []
    now, closed = 0, 0  # frames; how many of them are the closure before this phoneme
    for number, same in groupby(numbers):
        if number not in table:
            raise ValueError(
                f"Pico's phoneme {number} at {now * FRAME:.2f} s has no name in emo_model/synthetic/engines/pico.py"
            )
        frames, ipa = len(list(same)), table[number]
        if ipa == "_":
            closed, now = closed + frames, now + frames
            continue
        if closed and ipa[:1] not in _BURSTS and marks:
            marks[-1] = (*marks[-1][:2], now * FRAME + LATE)
            closed = 0
        marks.append((ipa, (now - closed) * FRAME + LATE, (now + frames) * FRAME + LATE))
        closed, now = 0, now + frames
    return marks

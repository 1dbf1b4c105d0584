"""Who speaks when: '0.0-3.2 A; 3.0-7.5 B' as intervals of faces, whose letters count from the left of the picture."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Span = tuple[float, float]
"""Begin and end in seconds; an end of infinity is that of the sound."""

FADE = 0.03  # seconds over which a voice comes and goes, inside its interval: outside there is silence
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WANTED = "write intervals such as '0.0-3.2 A; 3.0-7.5 B'"

_NUMBER = r"(?:(\d+):)?(\d+(?:\.\d*)?|\.\d+)"  # seconds, or minutes:seconds
_ENTRY = re.compile(
    rf"\s*{_NUMBER}\s*s?\s*[-\u2013]\s*(?:{_NUMBER}\s*s?)?\s*:?\s*([A-Za-z](?:\s*[+&,]\s*[A-Za-z])*)\s*"
)


@dataclass(frozen=True)
class VoiceSchedule:
    """entries: (letter, begin, end) in seconds, as they were written; intervals may overlap, gaps are silence."""

    entries: tuple[tuple[str, float, float], ...]

    @classmethod
    def parse(cls, text: str) -> VoiceSchedule:
        """Entries 'begin-end letters', separated by ';' or lines, in any order. Times are seconds or minutes:seconds;
        without an end the interval lasts as long as the sound. 'A+B' speak together.

        Raises ValueError that names the position of what cannot be parsed, counted from 1.
        """
        found, position = [], 0
        for part in re.split(r"([;\n])", text):
            if part not in (";", "\n") and part.strip():
                found += _entry(part, 1 + position + len(part) - len(part.lstrip()))
            position += len(part)
        if not found:
            raise ValueError(f"the schedule is empty; {WANTED}")
        return cls(tuple(found))

    @property
    def letters(self) -> tuple[str, ...]:
        """The faces that are named, in alphabetical order."""
        return tuple(sorted({letter for letter, _, _ in self.entries}))

    def spans(self, letter: str) -> tuple[Span, ...]:
        """When a face speaks: increasing, disjoint intervals; those that overlap or touch are one."""
        merged: list[Span] = []
        for begin, end in sorted((begin, end) for name, begin, end in self.entries if name == letter):
            if merged and begin <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(merged[-1][1], end)
            else:
                merged.append((begin, end))
        return tuple(merged)


def _entry(part: str, position: int) -> list[tuple[str, float, float]]:
    shown = f"'{part.strip():.40}' at position {position} of the schedule"
    match = _ENTRY.fullmatch(part)
    if match is None:
        raise ValueError(f"{shown} is no interval; {WANTED}")
    minutes, seconds, until_minutes, until_seconds, letters = match.groups()
    begin = 60 * int(minutes or 0) + float(seconds)
    end = math.inf if until_seconds is None else 60 * int(until_minutes or 0) + float(until_seconds)
    if end <= begin:
        raise ValueError(f"{shown} ends at {end:g} s, not after its begin at {begin:g} s; {WANTED}")
    return [(letter.upper(), begin, end) for letter in letters if letter.isalpha()]


def audible(spans: Sequence[Span], first: int, count: int, rate: int) -> Tensor:
    """(count,) 0..1: how much is heard of the samples from number `first` on; 0 outside the intervals, 1 inside but for
    `FADE` seconds at their ends."""
    seconds = (first + torch.arange(count, dtype=torch.float64)) / rate
    heard = torch.zeros(count, dtype=torch.float64)
    for begin, end in spans:
        if begin * rate >= first + count or end * rate <= first:
            continue
        fade = min(FADE, (end - begin) / 2)
        inside = torch.minimum(seconds - begin, end - seconds).div(fade).clamp(0, 1)
        heard = torch.maximum(heard, (1 - torch.cos(torch.pi * inside)) / 2)
    return heard.float()

"""Phonemes of a voice: from a file beside it, or by a recogniser that is installed."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from ..inputs.files import check_readable
from ..synthetic.speech import RATE, Speech

NEEDS = "needs phonemes: give --phonemes FILES, or pip install hama (a small recogniser)"
LATE_SECONDS = 0.06  # that hama's spans come after the sounds: measured on synthetic voices, see docs/evaluation.md
PIECE_SECONDS = 20.0

Phonemes = tuple[tuple[str, float, float], ...]


def read_phonemes(path: str | Path) -> Phonemes:
    """A JSON list of [IPA, start, end] in seconds. Raises OSError and ValueError."""
    path = check_readable(path, "the phonemes")
    try:
        found = tuple(
            (str(ipa), float(start), float(end)) for ipa, start, end in json.loads(path.read_text(encoding="utf-8"))
        )
    except (ValueError, TypeError):
        raise ValueError(f'{path.name} must be a JSON list such as [["m", 0.12, 0.20], ...] in seconds') from None
    if any(not 0 <= start < end for _, start, end in found) or any(
        before[2] > after[1] + 1e-6 for before, after in zip(found, found[1:], strict=False)
    ):
        raise ValueError(f"{path.name} has phonemes that overlap or end before they begin; put them in order")
    return found


def is_installed() -> bool:
    return find_spec("hama") is not None


def recognise(waveform: Tensor) -> Phonemes:
    """waveform (T,) at 16 kHz -> its phonemes by `hama`, moved by the delay of its spans. Raises ModuleNotFoundError.

    Times are good to about a video frame; some sounds are missed.
    """
    if not is_installed():
        raise ModuleNotFoundError(NEEDS)
    from hama import ASRModel

    model, found, now = ASRModel(), [], 0.0
    for piece in waveform.split(round(PIECE_SECONDS * RATE)):
        for span in model.phoneme_spans(model(piece.numpy(), RATE)):
            start = max(now, found[-1][2] if found else 0.0, now + span.start_ms / 1000 - LATE_SECONDS)
            end = now + span.end_ms / 1000 - LATE_SECONDS
            if end > start:
                found.append((span.phoneme, start, end))
        now += len(piece) / RATE
    return tuple(found)


def as_speech(waveform: Tensor, phonemes: Phonemes) -> Speech:
    return Speech(waveform, phonemes, "", "", "")

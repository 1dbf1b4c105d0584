"""Natural voices with exact phoneme times: Kokoro-82M (Apache-2.0), a neural engine that predicts how long each phoneme
lasts before it makes the sound.

Only for preparing training data. Needs `pip install onnxruntime onnx`, and a folder, named by the environment variable
`EMO_KOKORO`, with `model.onnx` (Kokoro 1.0), its `vocab.json`, and `voices/*.bin` (510 styles of 256 float32 numbers
each); docs/training.md tells where they are published.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import espeak
from .sound import RATE, clean, resample

SAMPLE_RATE = 24_000
FRAME = 600  # samples of one step of a duration
DURATIONS = "/encoder/Clip_output_0"  # the predicted durations inside the published graph, in frames
EARLY = 0.056  # seconds by which sound precedes the predicted durations: measured, see `speak_ipa`

# What espeak writes -> what Kokoro was trained on, and back
_SHORT = {"dʒ": "ʤ", "tʃ": "ʧ", "dz": "ʣ", "dʑ": "ʥ", "ts": "ʦ", "tɕ": "ʨ"}
_ENGLISH = {"eɪ": "A", "aɪ": "I", "aʊ": "W", "ɔɪ": "Y", "oʊ": "O", "əʊ": "Q"}
_LONG = {short: long for table in (_SHORT, _ENGLISH) for long, short in table.items()}
_PAUSES = frozenset(";:,.!?—…")
_STRESS, _AFTER = frozenset("ˈˌ"), frozenset("ːʰʲ̃")


def folder() -> Path | None:
    """The folder of the engine's files, or None."""
    named = os.environ.get("EMO_KOKORO")
    path = Path(named) if named else None
    return path if path and (path / "model.onnx").exists() and (path / "voices").is_dir() else None


def is_installed() -> bool:
    return folder() is not None and espeak.is_installed()  # which reads the texts


def voices(named: set[str]) -> set[str]:
    """Of the voices 'LANGUAGE+NAME' and 'LANGUAGE+NAME~NAME', those that are installed."""
    installed = set(speakers())
    return {name for name in named if installed.issuperset(name.partition("+")[2].split("~"))}


def speak(text: str, name: str, rate: float, pitch: float):
    """See the room's docstring; the pitch is the voice's own."""
    language, _, speaker = name.partition("+")
    ipa = espeak.read_aloud(text, language)
    waveform, marks = speak_ipa(ipa, speaker, rate=rate, english=language.startswith("en"))
    seconds = len(waveform) / SAMPLE_RATE
    return resample(waveform, round(seconds * RATE)), clean(marks, seconds)


def speakers() -> tuple[str, ...]:
    """Names of the installed speakers, e.g. 'af_heart'."""
    path = folder()
    return tuple(sorted(file.stem for file in (path / "voices").glob("*.bin"))) if path else ()


@lru_cache(maxsize=1)
def _session(path: Path):
    try:
        import onnx
        import onnxruntime
    except ModuleNotFoundError as error:
        raise RuntimeError(f"Kokoro's voices need {error.name}: pip install onnxruntime onnx") from None
    model = onnx.load(path / "model.onnx")
    if DURATIONS not in {value.name for value in model.graph.output}:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(DURATIONS))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    vocabulary = json.loads((path / "vocab.json").read_text(encoding="utf-8"))
    return session, vocabulary.get("vocab", vocabulary)


@lru_cache(maxsize=128)
def _style(path: Path) -> np.ndarray:
    return np.fromfile(path, np.float32).reshape(-1, 256)


def speak_ipa(ipa: str, voice: str, *, rate: float = 1.0, english: bool = True) -> tuple[Tensor, list]:
    """Speak IPA as espeak-ng writes it -> samples (T,) at 24 kHz, and [(phoneme, start, end)] in seconds.

    voice: a name, or two with '~' between them for a voice half way between both. A stress mark's time belongs to the
    vowel behind it, that of a length mark to the sound before it, a space's to both neighbours; punctuation is silence.
    The sound precedes the predicted durations by `EARLY`: with this shift the built-in audio encoder's reading agrees
    best with the phonemes. Raises RuntimeError without the engine's files.
    """
    path = folder()
    if path is None:
        raise RuntimeError("set EMO_KOKORO to a folder with model.onnx, vocab.json and voices/ (docs/training.md)")
    session, vocabulary = _session(path)
    for long, short in (_SHORT | (_ENGLISH if english else {})).items():
        ipa = ipa.replace(long, short)
    symbols = [symbol for symbol in ipa if symbol in vocabulary][:500]
    styles = [_style(path / "voices" / f"{name}.bin")[max(len(symbols) - 1, 0)] for name in voice.split("~")]
    sound, durations = session.run(
        None,
        {
            "tokens": np.array([[0, *(vocabulary[symbol] for symbol in symbols), 0]], np.int64),
            "style": np.mean(styles, axis=0, dtype=np.float32)[None],
            "speed": np.array([rate], np.float32),
        },
    )
    ends = np.cumsum(durations.ravel()) * FRAME / SAMPLE_RATE - EARLY
    times = [(float(start), float(end)) for start, end in pairwise(ends)]  # without the token at either end
    return torch.from_numpy(np.ascontiguousarray(sound.ravel())), _phonemes(symbols, times[: len(symbols)])


def _phonemes(symbols: list[str], times: list[tuple[float, float]]) -> list[tuple[str, float, float]]:
    marks: list[list] = []
    early = None  # where a stress mark, or the later half of a space, began
    for symbol, (start, end) in zip(symbols, times, strict=True):
        begin = start if early is None else early
        if symbol in _STRESS:
            early = begin
            continue
        early = None
        if symbol == " ":
            middle = (begin + end) / 2
            if marks and marks[-1][0] and abs(marks[-1][2] - begin) < 1e-6:
                marks[-1][2] = middle
            early = middle
        elif symbol in _AFTER and marks and marks[-1][0]:
            marks[-1][0] += symbol
            marks[-1][2] = end
        elif symbol in _PAUSES:
            marks.append(["", begin, end])
        elif symbol.isalpha():
            marks.append([_LONG.get(symbol, symbol), begin, end])
    return [(label, max(start, 0.0), end) for label, start, end in marks if label and end > 0]

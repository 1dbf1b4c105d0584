"""Do the lips follow their own voice more than another clip's? A permutation test on rendered clips.

Voices are spoken by a synthesiser, whose phonemes are exact, and the mouths that these phonemes ask for are what the
opening, as the face mesh reads it, is compared with: the model's own audio encoder takes no part in judging.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from .. import talk
from ..checkpoints.mediapipe import load_face_finder
from ..inputs.media import read_picture
from ..inputs.portrait import cut_square, find_mesh
from ..statistics import correlation
from ..synthetic.speech import Speech, available_voices, sample_speech
from ..synthetic.visemes import mouth_tracks
from ..synthetic.voices import HELD_OUT_VOICES
from .judges import sha256
from .stage import Stage

log = logging.getLogger(__name__)

DRAWS = 100_000
LEAST_CLIPS = 20
SEED = 7_000


@dataclass(frozen=True)
class Amount:
    clips: int = 24
    seconds: float = 2.0
    size: int = 256


@dataclass(frozen=True)
class Result:
    """own, others: mean correlation of a mouth with its own voice, and with the other clips'; p: of the permutation
    test, one-sided; clips, draws: how many."""

    own: float
    others: float
    p: float
    clips: int
    draws: int

    @property
    def summary(self) -> str:
        return (
            f"{self.clips} clips: mouth against its own voice r {self.own:.3f}, against the other clips' voices "
            f"{self.others:.3f}; p {self.p:.5f} (permutation test, {self.draws} draws, one-sided)"
        )


def run(model: Path, portraits: Sequence[Path], folder: Path, amount: Amount = Amount()) -> Result:
    """Render what is not in the folder yet, read it, and test. Raises RuntimeError without a speech engine, ValueError
    for fewer than 20 clips."""
    if amount.clips < LEAST_CLIPS:
        raise ValueError(f"{amount.clips} clips are too few for p < 0.01 to mean much; ask for at least {LEAST_CLIPS}")
    folder.mkdir(parents=True, exist_ok=True)
    about = asdict(amount) | {"model": sha256(model), "portraits": [sha256(path) for path in portraits]}
    path = folder / "shuffled.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    clips = known["clips"] if known.get("about") == about else []
    if len(clips) < amount.clips:
        bundle = talk.load(model)
        stage = Stage(bundle, load_face_finder(), bundle.sampling)
        squares = [cut_square(*_picture(stage, portrait))[0] for portrait in portraits]
    for number in range(len(clips), amount.clips):
        speech = spoken(number, amount.seconds)
        take = stage.speak(squares[number % len(squares)], speech.waveform, seed=number, long_side=amount.size)
        wanted = opening_of(speech, fps=bundle.config.fps)
        clips.append(
            {
                "voice": speech.voice,
                "portrait": portraits[number % len(portraits)].name,
                "opening": [round(value, 5) for value in take.reading.opening.tolist()],
                "wanted": [round(value, 5) for value in wanted.tolist()],
            }
        )
        log.info("%d of %d: %s, r %.2f", number + 1, amount.clips, speech.voice, _r(clips[-1], clips[-1]))
        path.write_text(json.dumps({"about": about, "clips": clips}) + "\n", encoding="utf-8")
    result = permuted(torch.tensor([[_r(mouth, voice) for voice in clips] for mouth in clips]))
    path.write_text(json.dumps({"about": about, "result": asdict(result), "clips": clips}) + "\n", encoding="utf-8")
    return result


def permuted(table: Tensor, *, draws: int = DRAWS, seed: int = 0) -> Result:
    """table (N, N): how well mouth i fits voice j. How rarely voices that are dealt out by chance fit as well.

    The statistic is the mean over the mouths; the given order counts as one of the draws, so p is never 0.
    """
    count = len(table)
    generator, rows = torch.Generator().manual_seed(seed), torch.arange(count)
    own = table.diagonal().mean()
    as_well = sum(
        int(table[rows, torch.randperm(count, generator=generator)].mean() >= own - 1e-12) for _ in range(draws)
    )
    others = (table.sum() - table.diagonal().sum()) / (count * (count - 1))
    return Result(own.item(), others.item(), (1 + as_well) / (1 + draws), count, draws)


def spoken(number: int, seconds: float) -> Speech:
    """Held-out voices where they are installed, by number: other words each time."""
    return sample_speech(SEED + number, seconds, held_out=_has_held_out())


def _has_held_out() -> bool:
    return any(voice in available_voices() for _, voices in HELD_OUT_VOICES for voice in voices)


def opening_of(speech: Speech, *, fps: float) -> Tensor:
    """(F,): how far the phonemes ask the lips to part; pressed lips show none of the opening behind them."""
    tracks = mouth_tracks(speech, fps=fps)
    return (tracks[:, 0] * (1 - 0.92 * tracks[:, 2])).clamp(0, 1)


def _picture(stage: Stage, portrait: Path) -> tuple[Tensor, Tensor]:
    picture = read_picture(portrait)
    return picture, find_mesh(stage.finder, picture)


def _r(mouth: dict, voice: dict) -> float:
    one, other = torch.tensor(mouth["opening"]), torch.tensor(voice["wanted"])
    count = min(len(one), len(other))
    found = correlation(one[:count], other[:count])
    return 0.0 if found != found else found

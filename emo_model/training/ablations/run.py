"""Train every variant with every seed, read its videos, write the page. What is done is kept and not done again.

OUT/clips.safetensors  held_out.safetensors      puppets that speak: to train on, and of other people and voices
OUT/seed0/full/image.safetensors  video  speed   weights after each stage; log.jsonl: the loss
OUT/seed0/audio_attention/video.safetensors ...  a variant's, from the stage on in which the part joins
OUT/seed0/full/readings.json                     a row for each video
OUT/ablations.md                                 the page, anew after each seed
OUT/log.jsonl                                    a line for each finished piece of work
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from ...checkpoints import native
from ...models.emo import Emo
from ...synthetic.puppet_store import PuppetStore
from ...synthetic.speech_library import SpeechLibrary
from ..builtin import device_name
from ..clips import ClipStore
from ..loop import OutOfTime, append_line
from ..prepared import train_stage
from ..stages import Stage
from .clips import speaking_puppets
from .page import page
from .readings import Reading, measure
from .variants import FULL, MODEL, SAMPLING, STAGES, WITHOUT, Variant

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Amount:
    """clips, frames: to train on; videos: held-out people to measure, `video_clips` clips each, and `pace_clips` for
    each of two head speeds; scale: multiplies the steps of every stage; steps: of the sampler."""

    clips: int = 400
    frames: int = 24
    videos: int = 16
    video_clips: int = 5
    pace_clips: int = 2
    scale: float = 1.0
    steps: int = SAMPLING.steps

    def steps_of(self, stage: Stage) -> int:
        return max(1, round(stage.steps * self.scale))


def ablate(
    out: Path,
    *,
    puppets: Path,
    speech: Path,
    held_out_speech: Path,
    seeds: int = 3,
    parts: Sequence[str] = tuple(WITHOUT),
    amount: Amount = Amount(),
    minutes: float = math.inf,
    resume: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """Returns the page. A run that was stopped ends in the same numbers as one that was not.

    puppets: a file of `PuppetStore`; speech, held_out_speech: folders of prepared speech, of voices to train on and of
    others; parts: to leave out, of `WITHOUT`. Raises OutOfTime when `minutes` are over (call again with resume=True),
    FileExistsError if `out` holds a run and `resume` is not set, ValueError for another amount than the one that the
    run began with.
    """
    if (out / "settings.json").exists() and not resume:
        raise FileExistsError(f"{out} already holds a run; add --resume to go on with it, or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    _check_settings(out / "settings.json", amount)
    run = _Run(out, amount, clock() + 60 * minutes, clock)
    training = run.clips("clips", amount.clips, amount.frames, puppets, speech)
    frames = amount.video_clips * MODEL.clip_frames
    held_out = run.clips("held_out", amount.videos, frames, puppets, held_out_speech)
    variants = (FULL, *(WITHOUT[part] for part in parts))
    found: dict[str, list[list[Reading]]] = {variant.name: [] for variant in variants}
    for seed in range(seeds):
        for variant in variants:
            found[variant.name].append(run.readings(variant, seed, training, held_out))
        parameters = sum(parameter.numel() for parameter in Emo(MODEL).parameters())
        about = {"amount": amount, "seeds": seed + 1, "machine": device_name(), "parameters": parameters}
        (out / "ablations.md").write_text(page(found, about=about), encoding="utf-8")
    return out / "ablations.md"


@dataclass
class _Run:
    out: Path
    amount: Amount
    deadline: float
    clock: Callable[[], float]

    def check_time(self, what: str) -> None:
        if self.clock() > self.deadline:
            raise OutOfTime(f"{what} is next")

    def finished(self, what: str, began: float) -> None:
        """began: `time.process_time` when it, or what was left of it after a stop, began."""
        seconds = round(time.process_time() - began, 1)
        append_line(self.out / "log.jsonl", {"finished": what, "processor_seconds_since_resume": seconds})
        log.info("finished: %s (%.1f s of processor time)", what, seconds)

    def clips(self, name: str, count: int, frames: int, puppets: Path, speech: Path) -> ClipStore:
        path = self.out / f"{name}.safetensors"
        if not path.exists():
            self.check_time(name)
            began, how = time.process_time(), {"config": MODEL, "frames": frames, "held_out": name == "held_out"}
            encoder = native.load(native.DEFAULT_WEIGHTS, dtype=torch.float32).audio_encoder
            speaking_puppets(count, PuppetStore(puppets), SpeechLibrary(speech), encoder, **how).save(path)
            self.finished(name, began)
        return ClipStore.load(path)

    def readings(self, variant: Variant, seed: int, training: ClipStore, held_out: ClipStore) -> list[Reading]:
        folder = self.out / f"seed{seed}"
        path, name = folder / variant.name / "readings.json", f"seed {seed}, {variant.name}"
        if not path.exists():
            began, amount = time.process_time(), self.amount
            emo = self.trained(variant, seed, training)
            self.check_time(f"the readings of {name}")
            how = {"steps": amount.steps, "pace_clips": amount.pace_clips, "seed": seed}
            rows = measure(emo.eval(), variant, held_out, **how)
            part = path.with_suffix(".part")
            part.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
            part.replace(path)
            self.finished(name, began)
        return [Reading(**row) for row in json.loads(path.read_text(encoding="utf-8"))]

    def trained(self, variant: Variant, seed: int, training: ClipStore) -> Emo:
        """The variant after its three stages; the seed decides its initial weights and its batches."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            emo = Emo(MODEL)
        for stage in STAGES:
            whose = variant if variant.differs(stage) else FULL
            stage = replace(whose.stage(stage), steps=self.amount.steps_of(stage))
            folder = self.out / f"seed{seed}" / whose.name
            train_stage(emo, stage, training, folder, seed=seed, deadline=self.deadline, clock=self.clock)
            emo.load_state_dict(load_file(folder / f"{stage.name}.safetensors"))
        return emo


def _check_settings(path: Path, amount: Amount) -> None:
    """Keep what a run began with; refuse to go on with another amount."""
    given = asdict(amount)
    if not path.exists():
        path.write_text(json.dumps(given) + "\n", encoding="utf-8")
        return
    began = json.loads(path.read_text(encoding="utf-8"))
    other = [f"{name} {began.get(name)}" for name in given if began.get(name) != given[name]]
    if other:
        raise ValueError(f"{path.parent} was begun with {', '.join(other)}: give the same, or choose another --out")

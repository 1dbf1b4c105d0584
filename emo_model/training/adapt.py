"""One person from minutes of video: the built-in model goes on learning on one talking person, on a CPU.

EMO's audio and temporal layers learn how this mouth moves, all else stays. The last fifth of the clips is kept
to measure what it gave.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from ..checkpoints import native
from .footage import shards
from .footage.run import prepare
from .footage.settings import Settings
from .footage.store import ShardStore
from .loop import Plan, train
from .loss import EmoTask
from .prepared import FOOTAGE_WEIGHTS, correlation, load_to_train, openings
from .stages import VIDEO

log = logging.getLogger(__name__)

HELD_OUT_SHARE = 0.2
LEAST_SECONDS = 8.0  # of usable footage
MUMBLES = 3.0  # how often as far the model's mouth may move before than the video's without a warning
NOT_WORSE = 0.02  # by which the correlation on the held-out clips may fall without a warning
STAGE = replace(
    VIDEO,
    name="adapt",
    trains=("audio_projection.*", "*.attn_audio.*", "*.norm_audio.*", "*.motion_modules.*"),
    frozen=("*.attn_speed.*", "*.norm_speed.*"),
    has_speed=True,
    frame_references=False,
    steps=300,
    batch=4,
    learning_rate=1e-4,
    warmup_steps=20,
    channel_weights=FOOTAGE_WEIGHTS,
)


@torch.no_grad()
def measure(bundle: native.Bundle, store: ShardStore, *, seed: int = 0) -> dict[str, float]:
    """On held-out clips: opening_r, opening_size: the mouth's opening as sampled for the voice against the video's,
    correlation and share of its spread."""
    tracks = [openings(bundle, store.whole(sample), seed=seed) for sample in store.samples]
    made, seen = (torch.cat(part) for part in zip(*tracks, strict=True))
    result = {"opening_r": correlation(made, seen), "opening_size": float(made.std() / seen.std().clamp(min=1e-6))}
    return {name: round(value, 3) for name, value in sorted(result.items())}


def doubts(before: dict[str, float], after: dict[str, float] | None = None) -> str:
    """A sentence if the model will hardly open its mouth, or if after adapting the mouth follows the voice less on the
    held-out clips, else ""."""
    if after is None and before["opening_size"] > MUMBLES:
        return (
            "Use a video with a larger and clearer face, if there is one: the face mesh reads this mouth as moving "
            f"{before['opening_size']:.1f} times less than the model moves it for the same voice, and the new model "
            "will hardly open it"
        )
    if after is None or after["opening_r"] >= before["opening_r"] - NOT_WORSE:
        return ""
    return (
        "Compare the new model with the one it started from before you use it: on the kept clips its mouth follows the "
        f"voice less than before (correlation {after['opening_r']:.2f}, before {before['opening_r']:.2f}). A longer "
        "video, a larger face, or fewer steps (--scale 0.3) may help"
    )


def adapt(
    video: Path,
    out: Path,
    *,
    model: str | Path = "default",
    minutes: float = 45.0,
    scale: float = 1.0,
    settings: Settings = Settings(),
    resume: bool = False,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, dict[str, float]]:
    """Write the model of the person in `video` to `out`; returns `measure` before and after.

    Work is kept in OUT's name with '.adapt' until it is done: the prepared clips, the state and the log. minutes:
    stops with OutOfTime when they are over, everything saved; call again with resume=True. Raises FileExistsError if
    there is unfinished work and `resume` is not set, ValueError if too little of the video can be used (report.html
    there says why).
    """
    work, deadline = out.with_name(f"{out.stem}.adapt"), clock() + 60 * minutes
    if (work / "log.jsonl").exists() and not resume:
        raise FileExistsError(f"{work} holds unfinished work; add --resume to go on with it, or remove it")
    bundle = load_to_train(model, device="cpu")
    config = bundle.config
    if bundle.motion_decoder is None:
        raise ValueError(f"{Path(model).name} has no motion decoder; adapt the built-in model, or one trained from it")
    report = prepare([video], work / "data", model=str(model), settings=settings)
    row = report["rows"][0]
    if row["kept_seconds"] < LEAST_SECONDS or row["clips"] < 2:
        raise ValueError(
            f"{video.name} has {row['kept_seconds']:.1f} s of use in {row['clips']} clips, at least "
            f"{LEAST_SECONDS:.0f} s in 2 are needed; {work / 'data' / 'report.html'} says what was left out and why"
        )
    samples = shards.read_index(work / "data")
    count = max(1, round(HELD_OUT_SHARE * len(samples)))
    training, kept = samples[:-count], samples[-count:]
    how = {"frames": config.motion_frames + config.clip_frames, "held_out": None}
    store, kept_store = (
        ShardStore(work / "data", config, names={one.name for one in some}, **how) for some in (training, kept)
    )
    before = measure(bundle, kept_store, seed=seed)
    log.info("before: %s", before)
    if doubt := doubts(before):
        log.warning("%s", doubt)
    stage, path = replace(STAGE, steps=max(1, round(scale * STAGE.steps))), work / f"{STAGE.name}.safetensors"
    task = EmoTask(bundle.emo, stage, store, seed=seed)
    if not path.exists():
        plan = Plan(stage.name, stage.steps, stage.learning_rate, stage.warmup_steps, ema_decay=0.99)
        average = train(task, plan, work, deadline=deadline, clock=clock)
        native.write_tensors(path, {name: value.contiguous() for name, value in average.items()})
        (work / "state" / path.name).unlink(missing_ok=True)  # not before its successor is there
    with torch.no_grad():
        for name, value in load_file(path).items():
            task.get_parameter(name).copy_(value)
    for part in bundle.parts.values():
        part.eval()
    after = measure(bundle, kept_store, seed=seed)
    log.info("after: %s", after)
    if doubt := doubts(before, after):
        log.warning("%s", doubt)
    with video.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    card = bundle.card | {
        "made_by": f"python -m emo_model.training adapt --scale {scale:g} --seed {seed}",
        "adapted": {"video_sha256": digest, "seconds": row["kept_seconds"], "before": before, "after": after},
        "permission": "likeness of one person: use it only as this person has agreed to",
    }
    native.save(out, replace(bundle, card=card))
    path.unlink()
    (work / "log.jsonl").replace(work / "finished.jsonl")
    return {"before": before, "after": after}

"""EMO's stages on prepared footage or stored clips, from any model: the built-in one, or one made of SD 1.5.

Every stage leaves OUT/STAGE.safetensors and is skipped when that is there; OUT/model.safetensors is the model.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..checkpoints import native
from ..config import ModelConfig
from ..inputs.vae import to_raw
from ..models.emo import Emo
from ..sampling.clips import ClipRenderer, generate_clips
from ..types import AudioFeatures, Conditions, FaceMask, Fit, Portrait, Speed
from .builtin import device_name
from .clips import Clips, ClipStore, face_masks
from .footage.store import open_store
from .loop import OutOfTime, Plan, append_line, gathered, is_sharded, train, training_device
from .loss import EmoTask
from .stages import RECIPES, Stage

log = logging.getLogger(__name__)

FOOTAGE_WEIGHTS = (1.0, 1.0, 3.0, 2.0, 1.0, 0.0, 0.0, 0.0)
"""Of motion latents' channels read from footage: a mesh hardly sees lids move, and no gaze, so these do not train; the
lip press is that of the voice."""
VALIDATION_CLIPS, VALIDATION_BATCHES = 4, 2
ADAM_AND_AVERAGE = 16  # bytes a trained parameter takes beside its own: gradient, two moments, average, all float32
MOST_TO_TIME = 2e8  # parameters of a model whose step is timed without a GPU


def stages_for(config: ModelConfig, *, starts_trained: bool, is_footage: bool) -> tuple[Stage, ...]:
    """The recipe of a preset. A trained built-in model skips the image stage and learns at half the rate, as
    `Recipe.continued` does. Raises ValueError for a preset without a recipe."""
    if config.name not in RECIPES:
        raise ValueError(f"there is no recipe for preset '{config.name}': train one of {', '.join(sorted(RECIPES))}")
    stages = RECIPES[config.name]
    if starts_trained and config.motion_decoder is not None:
        stages = tuple(replace(stage, learning_rate=stage.learning_rate / 2) for stage in stages[1:])
    if is_footage and config.motion_decoder is not None:
        stages = tuple(replace(stage, channel_weights=FOOTAGE_WEIGHTS) for stage in stages)
    return stages


def train_stages(
    out: Path,
    *,
    data: Path,
    model: str | Path = "default",
    only: Sequence[str] | None = None,
    batch: int | None = None,
    steps: int | None = None,
    learning_rate: float | None = None,
    accumulate: int = 1,
    minutes: float = math.inf,
    resume: bool = False,
    seed: int = 0,
    scale: float = 1.0,
    precision: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """Train a model's stages on `data`; returns the finished file.

    data: a folder of `prepare`, or a file of clips; model: a model file, or 'default'; only: names of stages; batch,
    steps, learning_rate: in place of the recipe's; accumulate: batches per step. Raises OutOfTime when `minutes` are
    over, FileExistsError if `out` holds a run and `resume` is not set, ValueError for data of another model.
    """
    if (out / "log.jsonl").exists() and not resume:
        raise FileExistsError(
            f"{out} already holds a training run; add --resume to go on with it, or choose another --out"
        )
    finished, deadline = out / "model.safetensors", clock() + 60 * minutes
    if finished.exists():
        return finished
    device = training_device()
    precision = precision or ("no" if device == "cpu" else "bf16")
    bundle = load_to_train(model, device=device)
    store = open_store(data, bundle.config, held_out=False, device=device)
    stages = chosen_stages(bundle, data, only, batch=batch, steps=steps, learning_rate=learning_rate, scale=scale)
    held_out = _held_out(data, bundle.config, device)
    names = [stage.name for stage in stages]
    done = [number for number, name in enumerate(names) if (out / f"{name}.safetensors").exists()]
    for stage in stages[max(done, default=0) :]:
        how = {"accumulate": accumulate, "precision": precision, "deadline": deadline, "clock": clock}
        train_stage(bundle.emo, stage, store, out, seed=seed, **how)
        if is_sharded(bundle.emo):
            bundle = load_to_train(model, device=device)
        bundle.emo.load_state_dict(load_file(out / f"{stage.name}.safetensors"))
        if _is_main() and held_out is not None:
            line = {"validation": stage.name, **validate(bundle, held_out, stage, seed=seed)}
            append_line(out / "log.jsonl", line)
            log.info("%s", line)
    if _is_main():
        card = {
            "made_by": f"python -m emo_model.training train --data {data.name} --model {Path(model).name}",
            "machine": device_name(),
            "steps": bundle.card.get("steps", {}) | {stage.name: stage.steps for stage in stages},
            "licence": bundle.card.get("licence", ""),
        }
        card |= {"sampling": bundle.card["sampling"]} if "sampling" in bundle.card else {}
        native.save(finished, replace(bundle, emo=bundle.emo.to("cpu").eval(), card=card))
    _wait()
    return finished


def train_stage(
    emo: Emo,
    stage: Stage,
    store: Clips,
    out: Path,
    *,
    seed: int,
    accumulate: int = 1,
    precision: str = "no",
    deadline: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Write OUT/STAGE.safetensors, all weights after the stage, trained from those of `emo`, if it is not there.

    Raises OutOfTime when `clock` reaches `deadline`, with the state saved.
    """
    path = out / f"{stage.name}.safetensors"
    if not torch.cuda.is_available():
        emo.to(memory_format=torch.channels_last)  # of finished stages, too: the order of sums decides the last bits
    if path.exists():
        return
    if clock() > deadline:
        raise OutOfTime(f"stage '{stage.name}' is next")
    task = EmoTask(emo, stage, store, seed=seed)
    plan = Plan(stage.name, stage.steps, stage.learning_rate, stage.warmup_steps, accumulate=accumulate)
    average = train(task, plan, out, deadline=deadline, mixed_precision=precision, clock=clock)
    frozen = {name: value for name, value in emo.state_dict().items() if f"emo.{name}" not in average}
    tensors = gathered(frozen, keeps=_is_main())
    if _is_main():
        tensors |= {name.removeprefix("emo."): value.cpu() for name, value in average.items()}
        native.write_tensors(path, {name: value.contiguous() for name, value in tensors.items()})
        (out / "state" / path.name).unlink(missing_ok=True)  # not before its successor is there
    _wait()


def load_to_train(model: str | Path, *, device: str) -> native.Bundle:
    """A model in float32. Raises OSError or ValueError."""
    return native.load(native.DEFAULT_WEIGHTS if model == "default" else model, dtype=torch.float32, device=device)


def chosen_stages(
    bundle: native.Bundle,
    data: Path,
    only: Sequence[str] | None,
    *,
    batch: int | None,
    steps: int | None,
    learning_rate: float | None,
    scale: float,
) -> tuple[Stage, ...]:
    """The recipe's stages with what is given in place of its own. Raises ValueError for an unknown name."""
    is_trained = bool(bundle.card.get("steps"))
    stages = stages_for(bundle.config, starts_trained=is_trained and only is None, is_footage=data.is_dir())
    if only is not None:
        names = [stage.name for stage in stages]
        unknown = sorted(set(only) - set(names))
        if unknown:
            raise ValueError(f"there is no stage {', '.join(unknown)}; choose among {', '.join(names)}")
        stages = tuple(stage for stage in stages if stage.name in only)
    given = {"batch": batch, "learning_rate": learning_rate}
    given = {name: value for name, value in given.items() if value is not None}
    return tuple(replace(stage, steps=max(1, round(scale * (steps or stage.steps))), **given) for stage in stages)


def _held_out(data: Path, config: ModelConfig, device: str) -> Clips | None:
    """The clips for validation; None, with a line in the log, where there are none."""
    try:
        store = open_store(data, config, held_out=True, device=device)
    except ValueError as reason:
        log.info("no validation: %s", reason)
        return None
    return store if len(store) else None


@torch.no_grad()
def validate(bundle: native.Bundle, store: Clips, stage: Stage, *, seed: int = 0) -> dict[str, float]:
    """What the model does on held-out clips: the loss on the same noise each time, and for motion latents how the
    mouth's opening and the head follow, after sampling by the same clip loop as at use.

    opening_r: correlation of the opening with the truth over all frames; opening_size: its spread over the truth's.
    """
    emo, config = bundle.emo, bundle.config
    was_training, needed = emo.training, [value.requires_grad for value in emo.parameters()]
    task = EmoTask(emo, replace(stage, drop_audio=0.0, drop_motion=0.0, drop_reference=0.0), store, seed=seed + 1)
    emo.eval()
    losses = [float(task(task.batch(number))[0]) for number in range(VALIDATION_BATCHES)]
    result = {"loss": round(sum(losses) / len(losses), 5)}
    if stage.is_video and config.motion_decoder is not None:
        made, truth = (torch.cat(part) for part in zip(*_sampled(bundle, store, seed), strict=True))
        result["opening_r"] = round(correlation(made, truth), 4)
        result["opening_size"] = round(float(made.std() / truth.std().clamp(min=1e-6)), 4)
    emo.train(was_training)
    for value, need in zip(emo.parameters(), needed, strict=True):
        value.requires_grad_(need)
    return result


def _sampled(bundle: native.Bundle, store: Clips, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(VALIDATION_CLIPS):
        yield openings(bundle, store.take(torch.randint(len(store), (1,), generator=generator)), seed=seed)


@torch.no_grad()
def openings(bundle: native.Bundle, clip: ClipStore, *, seed: int) -> tuple[Tensor, Tensor]:
    """The largest value of the opening's channel in each frame (F,) as sampled for the one clip's voice by the clip
    loop of use, and of the truth."""
    config = bundle.config
    conditions = conditions_of(clip, config)
    render = ClipRenderer(bundle.emo, conditions, replace(bundle.sampling, seed=seed), device=clip.latents.device)
    made = torch.cat(list(generate_clips(render)), 2)[0].transpose(0, 1)
    return tuple(to_raw(x.float(), config)[:, 2].flatten(1).amax(1).cpu() for x in (made, clip.latents[0].float()))


def conditions_of(
    clip: ClipStore, config: ModelConfig, *, whole_mask: bool = False, head_speed: float | None = None
) -> Conditions:
    """What a video like the one clip is made from: its still, its voice, the union of its face boxes (or a whole mask),
    and its mean head speed, or this one in degrees per second."""
    size, frames, device = config.image_size, clip.audio.shape[1], clip.latents.device
    portrait = Portrait(
        clip.stills[:, 0].float(), torch.zeros(1, 3, size, size, device=device), Fit(size, size, 0, 0, size, size)
    )
    mask = FaceMask(face_masks(clip.boxes, size, whole=torch.full((1,), whole_mask, device=device)))
    audio = AudioFeatures(clip.audio[0].float(), fps=config.fps, seconds=frames / config.fps)
    speed = Speed.constant(float(clip.speed.mean()) if head_speed is None else head_speed)
    return Conditions(portrait, mask, audio, speed)


def correlation(one: Tensor, other: Tensor) -> float:
    """Of two tracks (T,); 0 where one of them is constant."""
    if float(one.std()) < 1e-9 or float(other.std()) < 1e-9:
        return 0.0
    return float(torch.corrcoef(torch.stack([one.double(), other.double()]))[0, 1])


@dataclass(frozen=True)
class DryRun:
    """One stage: trained and all parameters, what trains, GB beside the activations, and seconds a step if timed."""

    stage: Stage
    trained: int
    parameters: int
    groups: tuple[str, ...]
    gigabytes: float
    seconds: float | None

    @property
    def line(self) -> str:
        timed = "time not measured: it takes a GPU" if self.seconds is None else f"{self.seconds:.2f} s a step"
        return (
            f"stage '{self.stage.name}': {self.stage.steps} steps of {self.stage.batch}, learning rate "
            f"{self.stage.learning_rate:g}; trains {self.trained / 1e6:.2f} of {self.parameters / 1e6:.2f} million "
            f"parameters ({', '.join(self.groups)}); {self.gigabytes:.2f} GB for weights, gradients, optimiser and "
            f"average, beside the activations; {timed}"
        )


def dry_run(bundle: native.Bundle, store: Clips, stages: Sequence[Stage]) -> Iterator[DryRun]:
    """What each stage trains, its memory and its time per step, measured over one step after another, on this device.

    A model of more than `MOST_TO_TIME` parameters is timed on a GPU only.
    """
    emo = bundle.emo
    count = sum(value.numel() for value in emo.parameters())
    device = next(emo.parameters()).device
    for stage in stages:
        task = EmoTask(emo, stage, store, seed=0)
        trained = [(name, value) for name, value in emo.named_parameters() if value.requires_grad]
        amount = sum(value.numel() for _, value in trained)
        seconds = None
        if device.type == "cuda" or count <= MOST_TO_TIME:
            seconds = _seconds_per_step(task)
        gigabytes = (4 * count + ADAM_AND_AVERAGE * amount) / 1e9
        yield DryRun(stage, amount, count, tuple(_groups(name for name, _ in trained)), gigabytes, seconds)


def _seconds_per_step(task: nn.Module) -> float:
    taken = []
    for number in range(2):  # the first one warms up
        began = time.perf_counter()
        task(task.batch(number))[0].backward()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
        task.zero_grad(set_to_none=True)
    return taken[-1]


def _groups(names: Iterator[str]) -> list[str]:
    """Where the parameters are: the net, and inside it the kind of layer."""
    kinds = ("motion_modules", "attn_audio", "attn_speed", "attn1", "attn2", "ff", "resnets")
    found = {}
    for name in names:
        kind = next((kind for kind in kinds if f".{kind}." in name), "")
        found[f"{name.split('.')[0]}{'.' * bool(kind)}{kind}"] = True
    return list(found)


def _is_main() -> bool:
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _wait() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()

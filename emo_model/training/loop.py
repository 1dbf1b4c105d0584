"""One loop for every stage: step, log, save, resume. What is trained is a module whose forward(batch) is its loss."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..checkpoints.native import write_tensors
from .curves import open_curves

log = logging.getLogger(__name__)


class Task(Protocol):
    """An nn.Module with `batch(step, part, parts)`; calling it on a batch gives (loss, values for the log).

    A step's batch has `parts` parts, one for each process and accumulated batch; the loss is a mean over samples.
    """

    def batch(self, step: int, part: int = 0, parts: int = 1): ...

    def __call__(self, batch) -> tuple[Tensor, dict[str, Tensor]]: ...


@dataclass(frozen=True)
class Plan:
    """How long and how fast a task trains; the rate rises over `warmup_steps`, then falls to a twentieth along a
    cosine."""

    name: str
    steps: int
    learning_rate: float
    warmup_steps: int = 100
    ema_decay: float = 0.999
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    log_every: int = 50
    save_seconds: float = 120.0
    accumulate: int = 1  # batches per step and process
    check_every: int = 0  # steps between two checks of `train`

    def rate(self, step: int, *, warm_from: int = 0) -> float:
        warm = min(1.0, (step - warm_from + 1) / max(1, self.warmup_steps))
        return self.learning_rate * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / self.steps)))


class OutOfTime(Exception):
    """The time allowed is over; the state is saved and the same command with --resume goes on."""


def train(
    task: nn.Module,
    plan: Plan,
    out: Path,
    *,
    deadline: float = math.inf,
    mixed_precision: str = "no",
    check: Callable[[int, Mapping[str, Tensor]], bool] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Tensor]:
    """Train what requires a gradient in `task`; returns the averaged (EMA) weights by name.

    check(step, average): called every `plan.check_every` steps, in one process; training ends early where it says so.

    Goes on from OUT/state/NAME.safetensors if that is there, bit-equal to a run that was never stopped; the caller
    removes that file once the weights are safe. Logs lines of JSON to OUT/log.jsonl, and curves to OUT/tensorboard
    where TensorBoard is installed. Raises OutOfTime when `clock` reaches `deadline`, with the state saved,
    FloatingPointError if the loss is not a number. EMO leaves open: whether weights are averaged.
    """
    from accelerate import Accelerator

    accelerator = Accelerator(mixed_precision=mixed_precision, cpu=not torch.cuda.is_available())
    task.to(accelerator.device)
    optimizer = torch.optim.AdamW(
        [parameter for parameter in task.parameters() if parameter.requires_grad],
        plan.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=plan.weight_decay,
    )
    model, optimizer = accelerator.prepare(task, optimizer)
    # not before: FSDP puts shards in the parameters' places
    trained = {name: parameter for name, parameter in task.named_parameters() if parameter.requires_grad}
    average = {name: parameter.detach().clone() for name, parameter in trained.items()}
    state = out / "state" / f"{plan.name}.safetensors"
    step, warm_from = _restore(state, trained, average, optimizer) if state.exists() else (0, 0)
    task.train()
    started, saved, first = clock(), clock(), step
    with open_curves(out / "tensorboard", since=step + 1, is_main=accelerator.is_main_process) as draw:
        while step < plan.steps:
            for group in optimizer.param_groups:
                group["lr"] = plan.rate(step, warm_from=warm_from)
            loss, values = _accumulate(accelerator, model, task, step, plan.accumulate)
            accelerator.clip_grad_norm_(trained.values(), plan.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            decay = min(plan.ema_decay, step / (step + 10))
            with torch.no_grad():
                torch._foreach_lerp_(list(average.values()), list(trained.values()), 1 - decay)
            over, is_due = clock() > deadline, clock() - saved > plan.save_seconds
            if accelerator.num_processes > 1:  # all or none: who went on alone would wait for the others for ever
                both = torch.tensor([float(over), float(is_due)], device=accelerator.device)
                over, is_due = (bool(some) for some in accelerator.reduce(both))
            is_told = accelerator.is_main_process and (step % plan.log_every == 0 or step == plan.steps)
            is_saved = step < plan.steps and (over or is_due)
            # before it is saved: nothing could go on from there
            if (is_told or is_saved) and not math.isfinite(loss.item()):
                raise FloatingPointError(
                    f"the loss of stage '{plan.name}' is {loss.item()} at step {step}; lower the learning rate"
                )
            if is_told:
                line = {
                    "stage": plan.name,
                    "step": step,
                    "steps": plan.steps,
                    "loss": loss.item(),
                    "rate": optimizer.param_groups[0]["lr"],
                    "seconds_per_step": (clock() - started) / (step - first),
                    **{key: float(value) for key, value in values.items()},
                }
                append_line(out / "log.jsonl", line)
                draw(step, {f"{plan.name}/{key}": line[key] for key in ("loss", "rate", "seconds_per_step", *values)})
                log.info(
                    "%s",
                    "  ".join(
                        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                        for key, value in line.items()
                    ),
                )
            if is_saved:
                _save(state, step, warm_from, trained, average, optimizer, writes=accelerator.is_main_process)
                saved = clock()
            if check is not None and step % plan.check_every == 0 and check(step, average):
                break
            if over and step < plan.steps:
                raise OutOfTime(f"stage '{plan.name}' stands at step {step} of {plan.steps}")
    accelerator.wait_for_everyone()
    return {name: _whole(value) for name, value in average.items()}


def is_sharded(network: nn.Module) -> bool:
    """Whether FSDP has put shards in the places of its parameters, so that it is of no more use outside of training."""
    return any(hasattr(value, "full_tensor") for value in network.parameters())


def gathered(tensors: Mapping[str, Tensor], *, keeps: bool) -> dict[str, Tensor]:
    """Tensors on the CPU, shards put together from all processes: each must call this, and `keeps` them or not."""
    found = {}
    for name, value in tensors.items():
        value = _whole(value.detach())
        if keeps:
            found[name] = value.cpu().contiguous()
    return found


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def _sharded_like(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor as the part of it that this process holds of `like`."""
    if not hasattr(like, "full_tensor"):
        return value.to(like)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device, like.dtype), like.device_mesh, like.placements)


def training_device() -> str:
    """Where this process trains: its own GPU under torchrun, the first one otherwise, or the CPU."""
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"


def _accumulate(accelerator, model: nn.Module, task: Task, step: int, count: int) -> tuple[Tensor, dict]:
    """Gradients of one step: of `count` batches in each process; the mean loss of this process, and the last values."""
    parts, total = count * accelerator.num_processes, 0
    for number in range(count):
        is_last = number == count - 1
        with contextlib.nullcontext() if is_last else accelerator.no_sync(model):
            with accelerator.autocast():
                loss, values = model(task.batch(step, count * accelerator.process_index + number, parts))
            accelerator.backward(loss / count)
        total = total + loss.detach() / count
    return total, values


def append_line(path: Path, values: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(values) + "\n")


def _save(
    path: Path, step: int, warm_from: int, trained: dict, average: dict, optimizer, *, writes: bool = True
) -> None:
    """Every process calls it, and the one that `writes` has the file."""
    tensors = {}
    for name, parameter in trained.items():
        tensors[f"model.{name}"] = parameter
        tensors[f"average.{name}"] = average[name]
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value
    tensors = gathered(tensors, keeps=writes)
    if writes:
        write_tensors(path, tensors, {"step": str(step), "warm_from": str(warm_from)})


def _restore(path: Path, trained: dict, average: dict, optimizer) -> tuple[int, int]:
    """(step, the step from which the rate warms up): a run carried here without its optimiser warms up again."""
    with safe_open(path, "pt") as file:
        keys = set(file.keys())
        held = {key: tuple(file.get_slice(key).get_shape()) for key in keys if key.startswith("model.")}
        if held != {f"model.{name}": tuple(parameter.shape) for name, parameter in trained.items()}:
            raise ValueError(f"{path} is of another model or stage; remove it, or choose another --out")
        for name, parameter in trained.items():
            with torch.no_grad():
                parameter.copy_(_sharded_like(file.get_tensor(f"model.{name}"), parameter))
                average[name].copy_(_sharded_like(file.get_tensor(f"average.{name}"), parameter))
            values = {
                key: file.get_tensor(f"optimizer.{key}.{name}")
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"optimizer.{key}.{name}" in keys
            }
            if values:
                optimizer.state[parameter] = {
                    key: value if key == "step" else _sharded_like(value, parameter) for key, value in values.items()
                }
        metadata = file.metadata()
        return int(metadata["step"]), int(metadata.get("warm_from", metadata["step"]))

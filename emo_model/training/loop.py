"""One loop for every stage: step, log, save, resume. What is trained is a module whose forward(batch) is its loss."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..checkpoints.native import write_tensors

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
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Tensor]:
    """Train what requires a gradient in `task`; returns the averaged (EMA) weights by name.

    Goes on from OUT/state/NAME.safetensors if that is there, bit-equal to a run that was never stopped; the caller
    removes that file once the weights are safe. Logs lines of JSON to OUT/log.jsonl. Raises OutOfTime when `clock`
    reaches `deadline`, with the state saved, FloatingPointError if the loss is not a number. EMO leaves open: whether
    weights are averaged.
    """
    from accelerate import Accelerator

    accelerator = Accelerator(mixed_precision=mixed_precision, cpu=not torch.cuda.is_available())
    task.to(accelerator.device)
    trained = {name: parameter for name, parameter in task.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW(
        trained.values(), plan.learning_rate, betas=(0.9, 0.99), weight_decay=plan.weight_decay
    )
    average = {name: parameter.detach().clone() for name, parameter in trained.items()}
    state = out / "state" / f"{plan.name}.safetensors"
    step, warm_from = _restore(state, trained, average, optimizer) if state.exists() else (0, 0)
    model, optimizer = accelerator.prepare(task, optimizer)
    task.train()
    started, saved, first = clock(), clock(), step
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
        over = clock() > deadline
        if accelerator.num_processes > 1:  # all or none: who went on alone would wait for the others for ever
            over = bool(accelerator.reduce(torch.tensor(float(over), device=accelerator.device)))
        is_told = accelerator.is_main_process and (step % plan.log_every == 0 or step == plan.steps)
        is_saved = accelerator.is_main_process and step < plan.steps and (over or clock() - saved > plan.save_seconds)
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
            log.info(
                "%s",
                "  ".join(
                    f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                    for key, value in line.items()
                ),
            )
        if is_saved:
            _save(state, step, warm_from, trained, average, optimizer)
            saved = clock()
        if over and step < plan.steps:
            raise OutOfTime(f"stage '{plan.name}' stands at step {step} of {plan.steps}")
    accelerator.wait_for_everyone()
    return average


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


def _save(path: Path, step: int, warm_from: int, trained: dict, average: dict, optimizer) -> None:
    tensors = {}
    for name, parameter in trained.items():
        tensors[f"model.{name}"] = parameter.detach()
        tensors[f"average.{name}"] = average[name]
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value
    write_tensors(
        path,
        {name: value.cpu().contiguous() for name, value in tensors.items()},
        {"step": str(step), "warm_from": str(warm_from)},
    )


def _restore(path: Path, trained: dict, average: dict, optimizer) -> tuple[int, int]:
    """(step, the step from which the rate warms up): a run carried here without its optimiser warms up again."""
    with safe_open(path, "pt") as file:
        keys = set(file.keys())
        held = {key: tuple(file.get_slice(key).get_shape()) for key in keys if key.startswith("model.")}
        if held != {f"model.{name}": tuple(parameter.shape) for name, parameter in trained.items()}:
            raise ValueError(f"{path} is of another model or stage; remove it, or choose another --out")
        for name, parameter in trained.items():
            with torch.no_grad():
                parameter.copy_(file.get_tensor(f"model.{name}"))
                average[name].copy_(file.get_tensor(f"average.{name}"))
            values = {
                key: file.get_tensor(f"optimizer.{key}.{name}")
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"optimizer.{key}.{name}" in keys
            }
            if values:
                optimizer.state[parameter] = {
                    key: value if key == "step" else value.to(parameter) for key, value in values.items()
                }
        metadata = file.metadata()
        return int(metadata["step"]), int(metadata.get("warm_from", metadata["step"]))

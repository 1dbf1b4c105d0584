"""Early stopping: training ends when the averaged weights get no better on clips of their own; the best are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..checkpoints.native import write_tensors
from .loop import Plan, train


def train_best(
    task: nn.Module, plan: Plan, out: Path, *, start: float, score: Callable[[], float], patience: int, **how
) -> tuple[int, float]:
    """Train as `loop.train` does, with its options `how`, and leave the weights of the lowest score in `task`.

    start: the score of the task as it is; score(): of the task as it is then, with the average of every
    `plan.check_every` steps in place, lower is better; patience: so many checks in a row without a new lowest score end
    the training. Returns the step whose weights were kept and their score: 0 and `start` if none was lower, and then
    the task has the weights that it came with.
    """
    own = {name: value.detach().clone() for name, value in task.named_parameters() if value.requires_grad}

    def score_of(weights: Mapping[str, Tensor]) -> float:
        with _in_place(task, weights):
            return score()

    stopper = Stopper(out / f"{plan.name}.best.safetensors", start=start, score=score_of, patience=patience)
    train(task, plan, out, check=stopper, **how)
    _put(task, own | stopper.best())
    task.eval()
    return stopper.best_step, stopper.lowest


@dataclass
class Stopper:
    """check(step, weights) for `loop.train`: scores the weights, and keeps those of the lowest score in `path`.

    Scores lie beside `path`: a run that goes on after a stop does not compute them again, and ends as one that was
    never stopped. `start`, `patience`: see `train_best`.
    """

    path: Path
    start: float
    score: Callable[[Mapping[str, Tensor]], float]
    patience: int

    def __post_init__(self):
        held = json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else {}
        self.scores: dict[int, float] = {int(step): value for step, value in held.items()}

    def __call__(self, step: int, weights: Mapping[str, Tensor]) -> bool:
        """Whether training is to end."""
        if step not in self.scores:
            found = self.score(weights)
            if found < self.lowest:
                write_tensors(self.path, {name: value.detach().cpu().contiguous() for name, value in weights.items()})
            self.scores[step] = found
            part = self._file.with_suffix(".part")
            part.write_text(json.dumps(self.scores), encoding="utf-8")
            part.replace(self._file)
        return sum(self.best_step < one <= step for one in self.scores) >= self.patience

    @property
    def _file(self) -> Path:
        return self.path.with_suffix(".json")

    @property
    def lowest(self) -> float:
        return min((self.start, *self.scores.values()))

    @property
    def best_step(self) -> int:
        """The step of the kept weights; 0 where the start was never beaten."""
        best = min(self.scores, key=lambda step: (self.scores[step], step), default=0)
        return best if best and self.scores[best] < self.start else 0

    def best(self) -> dict[str, Tensor]:
        """The kept weights by name; none where the start was never beaten."""
        return load_file(self.path) if self.best_step else {}


@contextmanager
def _in_place(task: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """The task has these weights inside, and does not train."""
    own, was_training = {name: task.get_parameter(name).detach().clone() for name in weights}, task.training
    _put(task, weights)
    task.eval()
    try:
        yield
    finally:
        _put(task, own)
        task.train(was_training)


@torch.no_grad()
def _put(task: nn.Module, weights: Mapping[str, Tensor]) -> None:
    for name, value in weights.items():
        task.get_parameter(name).copy_(value)

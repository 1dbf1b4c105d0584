"""Early stopping: which weights are left in the task, when it ends, and that a stop in between leaves no trace."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from emo_model.training.loop import OutOfTime, Plan
from emo_model.training.stopping import train_best

pytest.importorskip("accelerate")


class Climb(nn.Module):
    """Its one weight grows with every step; another never trains."""

    def __init__(self):
        super().__init__()
        self.height, self.frozen = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.ones(1), requires_grad=False)

    def batch(self, step: int, part: int = 0, parts: int = 1):
        return torch.ones(1)

    def forward(self, x):
        return (-self.height * x).mean(), {}


PLAN = Plan("climb", steps=40, learning_rate=0.1, warmup_steps=1, weight_decay=0.0, ema_decay=0.5, check_every=2)


def distance(task: Climb, goal: float, seen: list | None = None):
    """score(): how far the weight is from `goal`."""

    def score() -> float:
        if seen is not None:
            seen.append(task.height.item())
        return abs(task.height.item() - goal)

    return score


def test_the_best_averaged_weights_are_kept_and_training_ends_when_none_are_better(tmp_path):
    task, seen = Climb(), []
    step, score = train_best(task, PLAN, tmp_path, start=9.0, score=distance(task, 1.0, seen), patience=3)
    distances = [abs(height - 1.0) for height in seen]
    best = distances.index(min(distances))
    assert 0 < best and len(seen) == best + 1 + 3 < 20  # three checks after the best, of twenty
    assert step == 2 * (best + 1) and score == min(distances)
    assert task.height.item() == pytest.approx(seen[best], abs=1e-7) and not task.training


def test_a_start_that_is_never_beaten_is_left_as_it_was(tmp_path):
    task, seen = Climb(), []
    assert train_best(task, PLAN, tmp_path, start=0.0, score=distance(task, 0.0, seen), patience=3) == (0, 0.0)
    assert len(seen) == 3 and all(height > 0 for height in seen)
    assert task.height.item() == 0.0


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path):
    whole, parts, seen = Climb(), Climb(), []
    how = {"start": 9.0, "patience": 2}
    expected = train_best(whole, PLAN, tmp_path / "whole", score=distance(whole, 1.0, seen), **how)
    ticks, again, runs = itertools.count(), [], 0
    while True:
        runs += 1
        try:
            parts = Climb()
            clock = lambda: next(ticks) * 1.0  # noqa: E731
            found = train_best(
                parts,
                PLAN,
                tmp_path / "parts",
                score=distance(parts, 1.0, again),
                clock=clock,
                deadline=next(ticks) + 12.0,
                **how,
            )
            break
        except OutOfTime:
            assert runs < 30
    assert runs > 2 and found == expected and torch.equal(parts.height, whole.height)
    assert again == seen  # no check was made twice

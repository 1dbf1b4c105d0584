"""The one training loop: average, rate, log, and stopping without a trace."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from emo_model.models.emo import Emo
from emo_model.training.loop import OutOfTime, Plan, train
from emo_model.training.loss import EmoTask
from emo_model.training.stages import VIDEO

pytest.importorskip("accelerate")


class Line(nn.Module):
    """Learns 3 x + 1 from four seeded points a step; one parameter does not train. `seen`: the weights before each
    step."""

    def __init__(self, *, broken_at: int | None = None):
        super().__init__()
        self.slope, self.offset = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.broken_at, self.seen = broken_at, []

    def batch(self, step: int, part: int = 0, parts: int = 1):
        self.seen.append({"slope": self.slope.detach().clone(), "offset": self.offset.detach().clone()})
        x = torch.randn(4, generator=torch.Generator().manual_seed(step))
        return x / 0 if step == self.broken_at else x

    def forward(self, x):
        error = self.slope * x + self.offset * self.frozen - (3 * x + 1)
        return error.square().mean(), {"worst": error.abs().max().detach()}


PLAN = Plan("line", steps=12, learning_rate=0.1, warmup_steps=3, weight_decay=0.0, log_every=5)


def ticking(seconds: float = 1.0):
    """A clock that moves on by `seconds` whenever it is read."""
    ticks = itertools.count()
    return lambda: next(ticks) * seconds


def lines(out) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_the_rate_rises_over_the_warmup_and_falls_to_a_twentieth():
    plan = Plan("x", steps=1000, learning_rate=2.0, warmup_steps=10)
    assert [plan.rate(step) for step in (0, 4)] == pytest.approx([0.2, 1.0], rel=1e-3)
    assert plan.rate(500) == pytest.approx(2 * (0.05 + 0.95 / 2)) and plan.rate(999) == pytest.approx(0.1, rel=1e-3)
    rates = [plan.rate(step) for step in range(10, 1000)]
    assert rates == sorted(rates, reverse=True)


def test_a_run_carried_elsewhere_warms_up_again():
    plan = Plan("x", steps=1000, learning_rate=2.0, warmup_steps=10)
    assert plan.rate(500, warm_from=500) == pytest.approx(plan.rate(500) / 10) and plan.rate(
        509, warm_from=500
    ) == plan.rate(509)


def test_the_average_follows_the_weights_with_the_plans_decay(tmp_path):
    task = Line()
    average = train(task, replace(PLAN, ema_decay=0.6), tmp_path)
    weights = [*task.seen[1:], {"slope": task.slope.detach(), "offset": task.offset.detach()}]  # after each step
    for name in ("slope", "offset"):
        expected = task.seen[0][name]
        for step, weight in enumerate(weights, start=1):
            decay = min(0.6, step / (step + 10))  # young averages forget faster
            expected = decay * expected + (1 - decay) * weight[name]
        torch.testing.assert_close(average[name], expected)
        assert not torch.allclose(average[name], weights[-1][name], atol=1e-3)


def test_only_what_requires_a_gradient_is_trained_and_averaged(tmp_path):
    task = Line()
    assert train(task, PLAN, tmp_path).keys() == {"slope", "offset"}
    assert task.frozen.item() == 1 and task.slope.item() != 0


def test_training_learns(tmp_path):
    task = Line()
    train(task, replace(PLAN, steps=300, clip_norm=10.0), tmp_path)
    assert abs(task.slope.item() - 3) < 0.05 and abs(task.offset.item() - 1) < 0.05


def test_a_line_is_logged_every_so_many_steps_and_at_the_end(tmp_path):
    train(Line(), PLAN, tmp_path)
    assert [line["step"] for line in lines(tmp_path)] == [5, 10, 12]
    last = lines(tmp_path)[-1]
    assert last["stage"] == "line" and last["steps"] == 12 and last["loss"] > 0 and last["worst"] > 0
    assert last["rate"] == pytest.approx(PLAN.rate(11))


def test_a_loss_that_is_no_number_stops_the_run_with_a_remedy(tmp_path):
    with pytest.raises(
        FloatingPointError, match="the loss of stage 'line' is (nan|inf) at step 5; lower the learning rate"
    ):
        train(Line(broken_at=4), PLAN, tmp_path)


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    """The run would go on from them, and stop again, for ever."""
    plan = replace(PLAN, save_seconds=0)
    with pytest.raises(FloatingPointError, match="at step 3"):
        train(Line(broken_at=2), plan, tmp_path)
    state = load_file(tmp_path / "state" / "line.safetensors")
    assert all(value.isfinite().all() for value in state.values())
    assert train(Line(), plan, tmp_path)["slope"].isfinite()


ONE_OF_TWO = """
import os, pathlib, sys
from test_loop import PLAN, Line, OutOfTime, ticking, train
try:
    train(Line(), PLAN, pathlib.Path(sys.argv[1]), deadline=6 if os.environ["RANK"] == "1" else 1000, clock=ticking())
except OutOfTime as error:
    print(error)
"""


def test_processes_that_train_together_stop_together(tmp_path):
    """Their clocks differ, and who went on alone would wait for the others."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "ACCELERATE_USE_CPU": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), str(Path(__file__).parent)]),
    }
    running = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_OF_TWO, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**together, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in "01"
    ]
    said = [process.communicate(timeout=120)[0] for process in running]
    assert said[0] == said[1] and re.fullmatch(r"stage 'line' stands at step [3-6] of 12\n", said[0])
    assert (tmp_path / "state" / "line.safetensors").exists()


def test_a_state_of_other_shapes_is_refused(tmp_path):
    with pytest.raises(OutOfTime):
        train(Line(), PLAN, tmp_path, deadline=5, clock=ticking())
    wider = Line()
    wider.slope = nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match="line.safetensors is of another model or stage"):
        train(wider, PLAN, tmp_path)


def test_time_that_is_over_ends_the_run_with_its_state_saved(tmp_path):
    with pytest.raises(OutOfTime, match=r"stage 'line' stands at step \d+ of 12"):
        train(Line(), PLAN, tmp_path, deadline=10, clock=ticking())
    assert (tmp_path / "state" / "line.safetensors").exists()


def stop_and_go(make, plan: Plan, out, *, deadline: float) -> tuple[nn.Module, dict, int]:
    """Train, stopped whenever `deadline` ticks of the clock are over, each time with a new task; how often it was
    stopped."""
    for stops in itertools.count():
        task = make()
        try:
            return task, train(task, plan, out, deadline=deadline, clock=ticking()), stops
        except OutOfTime:
            continue


def test_a_stopped_run_goes_on_to_the_same_weights_bit_for_bit(tmp_path):
    whole = train(Line(), PLAN, tmp_path / "whole")
    _, average, stops = stop_and_go(Line, PLAN, tmp_path / "stopped", deadline=9)
    assert stops >= 2
    assert all(torch.equal(average[name], whole[name]) for name in whole)
    assert [(line["step"], line["loss"]) for line in lines(tmp_path / "stopped")] == [
        (line["step"], line["loss"]) for line in lines(tmp_path / "whole")
    ]


def test_a_killed_run_goes_on_from_its_last_saved_state(tmp_path):
    class Killed(Line):
        def batch(self, step, part=0, parts=1):
            if step == 9:
                raise KeyboardInterrupt
            return super().batch(step, part, parts)

    plan = replace(PLAN, save_seconds=4)
    whole = train(Line(), plan, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(Killed(), plan, tmp_path / "killed", clock=ticking())
    assert (tmp_path / "killed" / "state" / "line.safetensors").exists()
    task = Line()
    average = train(task, plan, tmp_path / "killed")
    assert 0 < len(task.seen) < 12  # not from the beginning
    assert all(torch.equal(average[name], whole[name]) for name in whole)


def test_a_state_of_another_model_is_refused(tmp_path):
    with pytest.raises(OutOfTime):
        train(Line(), PLAN, tmp_path, deadline=5, clock=ticking())

    class Curve(Line):
        def __init__(self):
            super().__init__()
            self.bend = nn.Parameter(torch.zeros(1))

    with pytest.raises(
        ValueError, match="line.safetensors is of another model or stage; remove it, or choose another --out"
    ):
        train(Curve(), PLAN, tmp_path)


@pytest.fixture
def another_precision():
    """accelerate settles on one precision per process."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_in_bf16_the_weights_and_their_average_stay_in_full_precision(
    another_precision, tmp_path, config, awake, store
):
    task = EmoTask(awake(Emo(config)), replace(VIDEO, batch=2), store(), seed=0)
    losses = []
    task.register_forward_hook(lambda task, given, answer: losses.append(answer[0].item()))
    with torch.no_grad():
        task(task.batch(0))  # what the first step sees, in full precision
    average = train(task, Plan("video", steps=2, learning_rate=1e-3), tmp_path, mixed_precision="bf16")
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in average.values())
    assert losses[1] != losses[0] and losses[1] == pytest.approx(losses[0], rel=0.05)


def test_one_tiny_clip_is_overfitted(tmp_path, config, store):
    torch.manual_seed(0)
    clips = store(people=1, length=6)  # one window of two motion frames and four frames
    stage = replace(VIDEO, batch=4, drop_audio=0, drop_motion=0, motion_noise=0, drop_reference=0)
    task = EmoTask(Emo(config), stage, clips, seed=0)

    def loss() -> float:
        with torch.no_grad():
            return sum(task(task.batch(step))[0].item() for step in range(10_000, 10_004)) / 4  # noise it never saw

    before = loss()
    train(task, Plan("video", steps=60, learning_rate=1e-2, warmup_steps=10), tmp_path)
    assert before < 2 and loss() < 0.6 * before


def test_the_state_holds_no_pickles(tmp_path):
    with pytest.raises(OutOfTime):
        train(Line(), PLAN, tmp_path, deadline=5, clock=ticking())
    state = load_file(tmp_path / "state" / "line.safetensors")
    assert {"model.slope", "average.slope", "optimizer.exp_avg.slope", "optimizer.step.slope"} <= state.keys()


def test_tensorboard_shows_what_the_log_has_also_after_a_stop(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(OutOfTime):
        train(Line(), replace(PLAN, save_seconds=0), tmp_path, deadline=14, clock=ticking())
    train(Line(), PLAN, tmp_path)
    curves = EventAccumulator(str(tmp_path / "tensorboard"))
    curves.Reload()
    drawn = [(point.step, pytest.approx(point.value, rel=1e-6)) for point in curves.Scalars("line/loss")]
    assert drawn == [(line["step"], line["loss"]) for line in lines(tmp_path)]
    assert {"line/worst", "line/rate"} <= set(curves.Tags()["scalars"])

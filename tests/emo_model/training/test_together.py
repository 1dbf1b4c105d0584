"""Processes that train together, and batches that are accumulated, learn what one process learns from all at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from emo_model.config import PRESETS
from emo_model.models.emo import Emo
from emo_model.training.clips import ClipStore
from emo_model.training.loop import Plan, train
from emo_model.training.loss import EmoTask
from emo_model.training.stages import TEST

pytest.importorskip("accelerate")

STAGES = {stage.name: stage for stage in TEST}
STEPS = 3


def learn(clips: Path, out: Path, name: str, *, batch: int, accumulate: int = 1) -> dict[str, torch.Tensor]:
    """The averaged weights after a few steps of a stage of the test preset, from the same beginning."""
    torch.manual_seed(0)
    emo = Emo(PRESETS["test"])
    with torch.no_grad():
        for value in emo.parameters():  # some layers begin at zero
            value.add_(0.02 * torch.randn(value.shape))
    task = EmoTask(emo, replace(STAGES[name], batch=batch), ClipStore.load(clips), seed=0)
    return train(task, Plan(name, STEPS, 1e-3, warmup_steps=1, accumulate=accumulate), out)


ONE_OF_TWO = """
import os, pathlib, sys
from safetensors.torch import save_file
from test_together import learn
clips, out, names = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:]
for name in names:
    weights = learn(clips, out, name, batch=2)
    if os.environ["RANK"] == "0":
        save_file({key: value.contiguous() for key, value in weights.items()}, out / f"{name}.safetensors")
"""


def two_processes(clips: Path, out: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of each stage that two processes learn together."""
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
    out.mkdir(exist_ok=True)
    command = [sys.executable, "-c", ONE_OF_TWO, str(clips), str(out), *STAGES]
    running = [subprocess.Popen(command, env={**together, "RANK": rank, "LOCAL_RANK": rank}) for rank in "01"]
    assert [process.wait(timeout=300) for process in running] == [0, 0]
    return {name: load_file(out / f"{name}.safetensors") for name in STAGES}


def test_two_processes_and_two_accumulated_batches_learn_what_a_batch_of_twice_the_size_does(store, tmp_path):
    clips = tmp_path / "clips.safetensors"
    store(people=5, length=12).save(clips)
    together = two_processes(clips, tmp_path / "two")
    for name in STAGES:
        whole = learn(clips, tmp_path / "whole", name, batch=4)
        half = learn(clips, tmp_path / "half", name, batch=2)
        for weights in (together[name], learn(clips, tmp_path / "parts", name, batch=2, accumulate=2)):
            assert weights.keys() == whole.keys()
            away = torch.cat([(weights[key] - whole[key]).abs().flatten() for key in whole])
            # Adam takes a full step of 1e-3 where a gradient is as small as its rounding
            assert float(away.quantile(0.999)) < 1e-6 and float(away.max()) < 5e-3, name
        apart = torch.cat([(half[key] - whole[key]).abs().flatten() for key in whole])
        assert float(apart.quantile(0.5)) > 1e-6, "half the batch must not do as well"

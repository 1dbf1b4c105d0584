"""From videos to a trained model to a judged video, with a kill and a resume between."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from emo_model import talk
from emo_model.checkpoints import native
from emo_model.config import SamplingConfig
from emo_model.evaluation.__main__ import main as judge
from emo_model.training.__main__ import main
from emo_model.training.footage import shards

from .conftest import write

ROOT = Path(__file__).parents[4]
OPTIONS = "--crop 192 --shortest 0.8 --face-height 60".split()


def prepare(videos, out, *more) -> list[str]:
    return ["prepare", *map(str, videos), "--out", str(out), *OPTIONS, *more]


def contents(folder: Path) -> dict[str, str]:
    """The digest of each file, and of each member of the tars: a difference is named, not printed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".tar", ".json", ".jsonl", ".md"):
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.suffix == ".tar":
            with tarfile.open(path) as tar:
                found |= {one.name: hashlib.sha256(tar.extractfile(one).read()).hexdigest() for one in tar}
    return found


@pytest.fixture(scope="module")
def data(talking, tmp_path_factory) -> Path:
    """Two videos, prepared by a process that was killed after the first, and then by another."""
    videos = [talking(0).path, talking(2).path]
    out = tmp_path_factory.mktemp("prepared") / "data"
    command = [sys.executable, "-m", "emo_model.training", *prepare(videos, out)]
    running = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    until = time.monotonic() + 300
    while not list(out.glob("videos/*.json")) and running.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL, "it was to be killed between the two videos"
    finished = list(out.glob("videos/*.json"))
    assert len(finished) == 1 and not (out / shards.INDEX).exists()
    (first,) = out.glob("clips/*.tar")
    made = first.stat().st_mtime_ns
    assert main(prepare(videos, out)) == 0
    assert first.stat().st_mtime_ns == made, "the first video was prepared again"
    return out


@pytest.fixture(scope="module")
def both(talking, tmp_path_factory) -> Path:
    """The two videos in one folder."""
    folder = tmp_path_factory.mktemp("both")
    for number in (0, 2):
        shutil.copy(talking(number).path, folder / f"talking-{number}.mp4")
    return folder


def test_a_killed_preparation_goes_on_to_the_same_bytes_in_any_parts(data, both, tmp_path, monkeypatch):
    """A job of an array does one video, a worker the other; the data are those of one process that was killed."""

    def pool(count: int, mp_context) -> concurrent.futures.Executor:
        assert count == 2 and mp_context.get_start_method() == "spawn"
        return concurrent.futures.ThreadPoolExecutor(1)  # starting processes takes longer than all they do

    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", pool)
    assert main(prepare([both], tmp_path / "parts", "--shard", "2/2")) == 0
    assert main(prepare([both], tmp_path / "parts", "--workers", "2")) == 0
    assert contents(tmp_path / "parts") == contents(data)
    assert len(shards.read_index(data)) == 2 and json.loads((data / "report.json").read_text())["prepared"] == 2


def test_ray_prepares_the_same_bytes(data, both, tmp_path):
    pytest.importorskip("ray.data")
    assert main(prepare([both], tmp_path / "spread", "--ray", "--workers", "2")) == 0
    assert contents(tmp_path / "spread") == contents(data)


def test_other_settings_in_the_same_folder_are_refused(data, talking, caplog):
    assert main([*prepare([talking(0).path], data), "--yaw", "20"]) == 2
    assert "was prepared with other settings: limits.yaw 35.0 (now 20.0)" in caplog.text


def test_prepared_footage_trains_a_model_that_speaks_and_is_judged(data, talking, photograph, tmp_path):
    run = tmp_path / "run"
    command = f"train --data {data} --out {run} --stages video --batch 2 --steps 2".split()
    assert main([*command, "--minutes", "0"]) == 3
    assert main([*command, "--resume"]) == 0
    model = run / "model.safetensors"
    before, after = native.load(dtype=torch.float32), talk.load(model)
    moved = [
        float((one - other).detach().abs().max())
        for one, other in zip(before.emo.parameters(), after.emo.parameters(), strict=True)
    ]
    assert 0 < max(moved) < 0.05 and after.sampling == before.sampling
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "step" in line] == [2]  # validation has lines of its own
    video = talking(0)
    frames = np.concatenate(
        list(
            talk.speak(
                after,
                photograph.picture,
                (video.sound[None], 16000),
                sampling=SamplingConfig(**{**vars(after.sampling), "steps": 2}),
            )
        )
    )
    made = write(tmp_path / "speaks.mp4", frames, video.sound)
    assert judge(["run", str(made), "--out", str(tmp_path / "judged")]) == 0
    (judgement,) = json.loads((tmp_path / "judged" / "results.json").read_text())["sets"]["videos"]["videos"]
    assert judgement["about"]["frames"] == len(video.opening)
    assert judgement["values"]["sync"] > 0.5 and judgement["values"]["sync_control"] < 0.3
    opening = torch.tensor(judgement["tracks"]["opening"])[: len(video.opening)]
    assert torch.corrcoef(torch.stack([opening, video.opening[: len(opening)]]))[0, 1] > 0.5


def test_a_dry_run_tells_what_each_stage_trains(data, caplog, tmp_path):
    caplog.set_level("INFO")
    assert main(f"train --data {data} --out {tmp_path} --stages speed --batch 1 --dry-run".split()) == 0
    assert "stage 'speed': 200 steps of 1" in caplog.text and "backbone.motion_modules" in caplog.text
    assert "attn_audio" not in caplog.text and "s a step" in caplog.text and not list(tmp_path.iterdir())

"""The farm with two real ComfyUIs: one is killed in the middle of a video, then the farm is, and then it goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import wave
from contextlib import ExitStack

import av
import pytest
from comfyui_server import ROOT, ComfyServer, comfyui_or_skip

from emo_model.farm.journal import read_events

INPUTS = ROOT / "workflows" / "inputs"
JOBS = 6


@pytest.fixture
def folder(tmp_path):
    """A small portrait, a second of the shipped voice, and a table of six seeds."""
    from PIL import Image

    with Image.open(INPUTS / "emo_portrait.jpg") as picture:
        picture.resize((192, 192 * picture.height // picture.width)).save(tmp_path / "small.jpg")
    with wave.open(str(INPUTS / "emo_voice.wav")) as source, wave.open(str(tmp_path / "short.wav"), "wb") as target:
        target.setparams(source.getparams())
        target.writeframes(source.readframes(source.getframerate()))
    rows = "".join(f"small.jpg,short.wav,v{seed}.mp4,{seed},built-in fast\n" for seed in range(JOBS))
    (tmp_path / "jobs.csv").write_text("portrait,voice,out,seed,model\n" + rows)
    return tmp_path


def start(folder, servers) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "emo_model.farm", folder / "jobs.csv", "--out", folder / "out"]
        + ["--patience", "3", "--servers", *(server.url for server in servers)],
        cwd=ROOT,
        env={**os.environ, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition, process, what: str, timeout: float = 300) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, f"not {what} in {timeout} s"
        time.sleep(0.05)


def is_running(server) -> bool:
    return bool(server.get("/queue")["queue_running"])


def test_each_video_is_made_once_though_a_server_and_the_farm_are_killed(folder):
    comfyui, journal = comfyui_or_skip(), folder / "out" / "farm.jsonl"

    def outs(kind: str) -> list[str]:
        return [event.get("out", event.get("job")) for event in read_events(journal) if event["event"] == kind]

    with ExitStack() as stack:
        servers = [ComfyServer(comfyui, folder / name) for name in ("one", "two")]
        for server in servers:
            stack.enter_context(server)
        farm = start(folder, servers)
        try:
            wait_for(lambda: outs("done") and is_running(servers[1]), farm, "one done, and the second server rendering")
            servers[1].process.send_signal(signal.SIGKILL)
            servers[1].process.wait()
            count = len(outs("done"))
            wait_for(lambda: outs("released") and len(outs("done")) > count, farm, "its jobs given to the other")
            wait_for(lambda: is_running(servers[0]), farm, "the first server rendering")
        finally:
            farm.kill()
            farm.communicate()
        before = outs("done")
        assert 0 < len(before) < JOBS
        stamps = {out: (folder / "out" / out).stat().st_mtime_ns for out in before}
        stack.enter_context(servers[1])  # it comes back, with an empty queue and history
        farm = start(folder, servers)
        try:
            said, _ = farm.communicate(timeout=500)
        finally:
            farm.kill()
        assert farm.returncode == 0, said
        assert f"{len(before)} of {JOBS} videos are there from earlier runs" in said
        assert sorted(outs("done")) == [f"v{seed}.mp4" for seed in range(JOBS)]  # each exactly once
        assert stamps == {out: (folder / "out" / out).stat().st_mtime_ns for out in before}
        # the prompts that the first server was working on when the farm died were fetched, not sent again
        sent = [event["prompt"] for event in read_events(journal) if event["event"] == "sent"]
        ends = [event["prompt"] for event in read_events(journal) if event["event"] in ("done", "released", "lost")]
        assert len(sent) == len(set(sent)) and set(sent) - set(ends) == set()

    contents = set()
    for seed in range(JOBS):
        path = folder / "out" / f"v{seed}.mp4"
        contents.add(path.read_bytes())
        with av.open(str(path)) as container:
            assert 20 < sum(1 for _ in container.decode(video=0)) < 30 and container.streams.audio
    assert len(contents) == JOBS
    assert {path.suffix for path in (folder / "out").iterdir()} == {".mp4", ".jsonl", ".lock"}


def test_what_a_real_comfyui_refuses_is_said_and_equal_rows_give_equal_videos(server, folder):
    from PIL import Image

    Image.new("RGB", (200, 200), (90, 90, 90)).save(folder / "grey.png")
    (folder / "notes.jpg").write_text("no picture")
    (folder / "jobs.csv").write_text(
        "portrait;voice;out;seed;model\n"
        "grey.png;short.wav;grey;0;built-in fast\n"
        "notes.jpg;short.wav;notes;0;built-in fast\n"
        f"small.jpg;short.wav;seed;{2**64};built-in fast\n"
        "small.jpg;short.wav;model;0;nope.safetensors\n"
        "small.jpg;short.wav;v0;0;built-in fast\n"
        "small.jpg;short.wav;v1;0;built-in fast\n"
    )
    farm = start(folder, [server])
    said, _ = farm.communicate(timeout=500)
    assert farm.returncode == 1, said
    for row in (
        "  2  grey.mp4   .*No face found",
        "  3  notes.mp4  .*cannot identify image file '.*/notes.jpg'",
        "  4  seed.mp4   .*bigger than max",
        "  5  model.mp4  .*There is no model 'nope.safetensors'",
    ):
        assert re.search(row, said), said
    events = read_events(folder / "out" / "farm.jsonl")
    assert sum(event["event"] == "sent" for event in events) <= 8  # the six, and v1 once more past the cache
    frames = []
    for name in ("v0.mp4", "v1.mp4"):
        with av.open(str(folder / "out" / name)) as container:
            frames.append([frame.to_ndarray(format="rgb24").tobytes() for frame in container.decode(video=0)])
    assert len(frames[0]) == 25 and frames[0] == frames[1]

"""The client of README, against a real ComfyUI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import av
import pytest
from comfyui_server import ROOT
from videos import shorten_sound

INPUTS = ROOT / "workflows" / "inputs"


def begun(*arguments) -> subprocess.Popen:
    environment = {**os.environ, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "workflows" / "client.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def run(*arguments) -> subprocess.CompletedProcess:
    with begun(*arguments) as client:
        said = client.communicate(timeout=600)
    return subprocess.CompletedProcess(client.args, client.returncode, *said)


@pytest.fixture
def short_voice(tmp_path):
    """The first second of the shipped voice."""
    path = tmp_path / "short.wav"
    shorten_sound(INPUTS / "emo_voice.wav", path, seconds=1.0)
    return path


def test_it_uploads_queues_and_saves_a_video_that_plays(server, tmp_path, short_voice):
    done = run(INPUTS / "emo_portrait.jpg", short_voice, tmp_path / "talk.mp4", server.url)
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / "talk.mp4")) as container:
        assert 20 < sum(1 for _ in container.decode(video=0)) < 30 and container.streams.audio
    assert (server.base / "input" / "emo_portrait.jpg").exists()


def test_the_same_again_saves_the_video_that_is_there(server, tmp_path, short_voice):
    """ComfyUI computes nothing then, and shows what it showed before."""
    for out in ("one.mp4", "two.mp4"):
        done = run(INPUTS / "emo_portrait.jpg", short_voice, tmp_path / out, server.url)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_a_run_that_is_taken_out_of_the_queue_is_not_waited_for(server, tmp_path, short_voice):
    prompt = json.loads((ROOT / "workflows" / "api" / "talking_portrait.json").read_text(encoding="utf-8"))
    _, before = server.post("/prompt", {"prompt": prompt})  # 6.5 seconds of voice: the client's run waits behind it
    with begun(INPUTS / "emo_portrait.jpg", short_voice, tmp_path / "talk.mp4", server.url) as client:
        deadline = time.monotonic() + 60
        # not the first one, which is pending for a moment, too
        while all(one[1] == before["prompt_id"] for one in server.get("/queue")["queue_pending"]):
            assert time.monotonic() < deadline and client.poll() is None
            time.sleep(0.2)
        server.post("/queue", {"clear": True})
        said = client.communicate(timeout=60)[1]
    assert client.returncode != 0 and said.endswith("the run was taken out of ComfyUI's queue\n")
    server.post("/interrupt", {"prompt_id": before["prompt_id"]})


def test_what_comfyui_refuses_is_said(server, tmp_path):
    (tmp_path / "no.jpg").write_bytes(b"not a picture")
    done = run(tmp_path / "no.jpg", INPUTS / "emo_voice.wav", tmp_path / "talk.mp4", server.url)
    assert done.returncode != 0 and done.stderr.strip() and "Traceback" not in done.stderr
    assert not (tmp_path / "talk.mp4").exists()

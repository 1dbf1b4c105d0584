"""The client of README, against a real ComfyUI."""

from __future__ import annotations

import os
import subprocess
import sys
import wave

import av
import pytest
from comfyui_server import ROOT

INPUTS = ROOT / "workflows" / "inputs"


def run(*arguments):
    environment = {**os.environ, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, str(ROOT / "workflows" / "client.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        env=environment,
    )


@pytest.fixture
def short_voice(tmp_path):
    """The first second of the shipped voice."""
    path = tmp_path / "short.wav"
    with wave.open(str(INPUTS / "emo_voice.wav")) as source, wave.open(str(path), "wb") as target:
        target.setparams(source.getparams())
        target.writeframes(source.readframes(source.getframerate()))
    return path


def test_it_uploads_queues_and_saves_a_video_that_plays(server, tmp_path, short_voice):
    done = run(INPUTS / "emo_portrait.jpg", short_voice, tmp_path / "talk.mp4", server.url)
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / "talk.mp4")) as container:
        assert 20 < sum(1 for _ in container.decode(video=0)) < 30 and container.streams.audio
    assert (server.base / "input" / "emo_portrait.jpg").exists()


def test_what_comfyui_refuses_is_said(server, tmp_path):
    (tmp_path / "no.jpg").write_bytes(b"not a picture")
    done = run(tmp_path / "no.jpg", INPUTS / "emo_voice.wav", tmp_path / "talk.mp4", server.url)
    assert done.returncode != 0 and done.stderr.strip() and "Traceback" not in done.stderr
    assert not (tmp_path / "talk.mp4").exists()

"""`python -m emo_model`: a picture and a recording go in, a talking video comes out."""

from __future__ import annotations

import json
import subprocess
import sys
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from emo_model.__main__ import main, peak_rss_mb
from emo_model.checkpoints import native
from emo_model.config import SamplingConfig
from emo_model.inputs import vae
from emo_model.inputs.audio import read_audio
from emo_model.inputs.media import read_video

ROOT = Path(__file__).parents[2]


def write_wav(path: Path, seconds: float, *, rate: int = 16_000, channels: int = 1) -> None:
    time = np.arange(round(seconds * rate)) / rate
    sound = (8_000 * np.sin(2 * np.pi * 220 * time)).astype("<i2").repeat(channels)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(sound.tobytes())


@pytest.fixture
def folder(tmp_path, bundle, monkeypatch):
    """A tiny model, a wide portrait and 0.37 s of stereo sound, in the current folder."""
    native.save(tmp_path / "tiny.safetensors", bundle)
    Image.linear_gradient("L").resize((90, 61)).save(tmp_path / "face.png")
    write_wav(tmp_path / "voice.wav", 0.37, rate=44_100, channels=2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMAND = ("face.png", "voice.wav", "-o", "talk.mp4", "--model", "tiny.safetensors", "--steps", "2", "--device", "cpu")


def talk(*arguments: str) -> int:
    return main([*COMMAND, *arguments])  # of an option given twice the last counts


def test_the_command_prints_one_json_line_and_writes_the_video(folder):
    done = subprocess.run([sys.executable, "-m", "emo_model", *COMMAND], cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": ""},
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert len(done.stdout.splitlines()) == 1 and "Warning" not in done.stderr
    assert said["frames"] == 9 and said["fps"] == 25 and said["out"] == "talk.mp4"  # 0.37 s * 25
    assert said["seconds_per_frame"] == pytest.approx(said["seconds"] / 9, abs=0.01) and 50 < said["peak_rss_mb"] < 5_000
    assert "Portrait 90x61 cut to a square of 61 pixels at (14, 0), scaled to 32x32." in done.stderr
    frames, fps = read_video(folder / "talk.mp4")
    assert frames.shape == (9, 32, 32, 3) and fps == 25


def test_the_video_has_the_sound_of_the_recording(folder):
    assert talk() == 0
    sound, rate = read_audio("talk.mp4")
    assert len(sound) == 2 and rate == 44_100 and abs(sound.shape[1] - 0.36 * rate) <= 1024  # cut where the 9 frames end
    assert sound[:, 4_000:12_000].std() > 0.1


def test_a_model_is_sampled_as_its_card_says_unless_told_otherwise(folder, bundle, monkeypatch):
    native.save(folder / "quick.safetensors", replace(bundle, card={"sampling": {"steps": 3, "audio_guidance": 1.0}}))
    monkeypatch.setattr(native, "FAST_WEIGHTS", folder / "quick.safetensors")
    heard = []
    monkeypatch.setattr("emo_model.__main__.talk",
                        lambda *media, sampling, model, **how: heard.append((model.name, sampling)) or {})
    for more in (["--model", "tiny.safetensors"], ["--fast"], ["--fast", "--steps", "5", "--guidance", "1.5", "--seed", "7"]):
        assert main(["face.png", "voice.wav", *more]) == 0
    assert heard == [("tiny.safetensors", SamplingConfig()), ("quick.safetensors", SamplingConfig(steps=3, audio_guidance=1.0)),
                     ("quick.safetensors", SamplingConfig(steps=5, audio_guidance=1.5, seed=7))]


def test_a_seed_makes_the_same_video_again(folder):
    videos = []
    for seed in ("1", "1", "2"):
        assert talk("--seed", seed) == 0
        videos.append(read_video("talk.mp4")[0])
    assert np.array_equal(videos[0], videos[1]) and not np.array_equal(videos[0], videos[2])


def test_every_option_changes_the_video(folder):
    write_wav(folder / "voice.wav", 0.16)  # one clip

    def video(*arguments: str):
        assert talk(*arguments) == 0
        return read_video("talk.mp4")[0].tobytes()

    options = [("--steps", "3"), ("--sampler", "dpmpp_2m"), ("--guidance", "3"), ("--reference-guidance", "2"),
               ("--head-speed", "60"), ("--fit", "pad")]
    videos = {(): video("--steps", "4")} | {option: video("--steps", "4", *option) for option in options}
    assert len(set(videos.values())) == 1 + len(options)


def test_another_frame_rate_makes_as_many_frames_as_the_sound_needs(folder, capsys):
    assert talk("--fps", "10") == 0
    frames, fps = read_video("talk.mp4")
    assert (len(frames), fps) == (4, 10) and json.loads(capsys.readouterr().out)["frames"] == 4


def test_the_shortest_sound_makes_one_frame(folder):
    write_wav(folder / "voice.wav", 0.005)
    assert talk() == 0 and len(read_video("talk.mp4")[0]) == 1


@pytest.mark.parametrize(("arguments", "says"), [
    (["nobody.png", "voice.wav"], "nobody.png"),
    (["face.png", "nobody.wav"], "nobody.wav"),
    (["voice.wav", "voice.wav"], "voice.wav is not a picture that Pillow can read"),
    (["face.png", "tiny.safetensors"], "tiny.safetensors is not a sound file that PyAV can read"),
    (["face.png", "empty.wav"], "empty.wav holds no sound"),
    (["face.png", "voice.wav", "--model", "nobody.safetensors"], "there is no model file nobody.safetensors"),
    (["face.png", "voice.wav", "--model", "lean.safetensors"], "lean.safetensors has no autoencoder and audio encoder of its"),
    (["face.png", "voice.wav", "--steps", "0"], "steps must be at least 1, got 0"),
    (["face.png", "voice.wav", "--steps", "2000"], "steps must be 1 to 1000, got 2000"),
    (["face.png", "voice.wav", "--guidance", "nan"], "audio_guidance must be a number >= 0, got nan"),
    (["face.png", "voice.wav", "--fps", "0"], "--fps must be 1 to 120, got 0"),
    (["face.png", "voice.wav", "--device", "cuda:7"], "device 'cuda:7' cannot be used here"),
    (["face.png", "voice.wav", "--device", "toaster"], "device 'toaster' cannot be used here"),
    (["face.png", "voice.wav", "-o", "talk.docx"], "talk.docx"),
])
def test_errors_are_sentences_with_exit_status_2(folder, config, capsys, caplog, arguments, says):
    if arguments[0:2] == ["face.png", "empty.wav"]:
        write_wav(folder / "empty.wav", 0)
    if "lean.safetensors" in arguments:
        native.save("lean.safetensors", native.build(replace(config, autoencoder=None, audio_encoder=None)))
    assert main([*arguments[:2], *COMMAND[2:], *arguments[2:]]) == 2
    assert says in caplog.records[-1].getMessage() and len(caplog.records[-1].getMessage()) < 300
    assert capsys.readouterr().out == "" and not (folder / "talk.mp4").exists()


def test_memory_is_measured_in_megabytes():
    assert 50 < peak_rss_mb() < 50_000


def test_gradients_are_not_kept(folder, monkeypatch):
    kept, decode = [], vae.decode
    monkeypatch.setattr(vae, "decode", lambda *given: kept.append(decode(*given)) or kept[-1])
    assert talk() == 0
    assert len(kept) == 3 and not any(pixels.requires_grad for pixels in kept) and isinstance(kept[0], torch.Tensor)

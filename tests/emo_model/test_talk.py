"""`python -m emo_model` and `emo_model.speak`: a picture and a recording go in, a talking video comes out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import wave
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from videos import read_video

import emo_model
from emo_model import talk as way_in
from emo_model.__main__ import EXAMPLES, main
from emo_model.checkpoints import native
from emo_model.config import SamplingConfig
from emo_model.inputs.audio import read_audio
from emo_model.inputs.media import read_picture
from emo_model.outputs.embedded_latents import read_latents
from emo_model.rendering import peak_rss_mb

ROOT = Path(__file__).parents[2]


def write_wav(path: Path, seconds: float, *, rate: int = 16_000, channels: int = 1) -> None:
    time = np.arange(round(seconds * rate)) / rate
    sound = (8_000 * np.sin(2 * np.pi * 220 * time)).astype("<i2").repeat(channels)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(sound.tobytes())


def picture_of(places: list[tuple[int, int]], size: tuple[int, int], side: int = 96) -> Image.Image:
    """The shipped photograph, `side` pixels large, at these places of a grey picture."""
    face = Image.open(EXAMPLES / "emo_portrait.jpg").resize((side, side), Image.Resampling.LANCZOS)
    picture = Image.new("RGB", size, (120, 130, 110))
    for place in places:
        picture.paste(face, place)
    return picture


@pytest.fixture
def folder(tmp_path, bundle, monkeypatch):
    """A tiny model, a wide picture with a face at its right and 0.37 s of stereo sound, in the current folder."""
    native.save(tmp_path / "tiny.safetensors", bundle)
    picture_of([(60, 3)], (161, 101)).save(tmp_path / "face.png")
    write_wav(tmp_path / "voice.wav", 0.37, rate=44_100, channels=2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two videos show about the same."""
    return one.shape == other.shape and np.abs(one.astype(int) - other).mean() < 4  # of 255


COMMAND = (
    "face.png",
    "voice.wav",
    "-o",
    "talk.mp4",
    "--model",
    "tiny.safetensors",
    "--steps",
    "2",
    "--device",
    "cpu",
    "--clips",
    "clips",
)


def talk(*arguments: str) -> int:
    return main([*COMMAND, *arguments])  # of an option given twice the last counts


def test_the_command_prints_one_json_line_and_writes_the_video(folder):
    done = subprocess.run(
        [sys.executable, "-m", "emo_model", *COMMAND],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert len(done.stdout.splitlines()) == 1 and "Warning" not in done.stderr
    assert said["frames"] == 9 and said["fps"] == 25 and said["out"] == "talk.mp4"  # 0.37 s * 25
    assert 0 < said["first_clip_seconds"] < said["seconds"]
    assert (
        said["seconds_per_frame"] == pytest.approx(said["seconds"] / 9, abs=0.01) and 50 < said["peak_rss_mb"] < 5_000
    )
    assert "Frames of 162x102; head square of" in done.stderr
    assert (said["width"], said["height"]) == (162, 102)
    frames, fps = read_video(folder / "talk.mp4")
    assert frames.shape == (9, 102, 162, 3) and fps == 25


def test_the_video_has_the_sound_of_the_recording(folder):
    assert talk() == 0
    sound, rate = read_audio("talk.mp4")
    assert (
        len(sound) == 2 and rate == 44_100 and 0 <= sound.shape[1] - 0.37 * rate < 1024
    )  # all of it, in whole frames of AAC
    assert sound[:, 4_000:12_000].std() > 0.1


def test_a_model_is_sampled_as_its_card_says_unless_told_otherwise(folder, bundle, monkeypatch):
    native.save(folder / "quick.safetensors", replace(bundle, card={"sampling": {"steps": 3, "audio_guidance": 1.0}}))
    monkeypatch.setattr(native, "FAST_WEIGHTS", folder / "quick.safetensors")
    heard = []
    monkeypatch.setattr(
        "emo_model.__main__.make_video",
        lambda *media, sampling, model, **how: heard.append((model.name, sampling)) or {},
    )
    for more in (
        ["--model", "tiny.safetensors"],
        ["--fast"],
        ["--fast", "--steps", "5", "--guidance", "1.5", "--seed", "7"],
    ):
        assert main(["face.png", "voice.wav", *more]) == 0
    assert heard == [
        ("tiny.safetensors", SamplingConfig()),
        ("quick.safetensors", SamplingConfig(steps=3, audio_guidance=1.0)),
        ("quick.safetensors", SamplingConfig(steps=5, audio_guidance=1.5, seed=7)),
    ]


def test_a_seed_makes_the_same_video_again(folder):
    videos = []
    for seed in ("1", "1", "2"):
        assert talk("--seed", seed) == 0
        videos.append(read_video("talk.mp4")[0])
    assert np.array_equal(videos[0], videos[1]) and not alike(videos[0], videos[2])


def test_every_option_changes_the_video(folder):
    write_wav(folder / "voice.wav", 0.16)  # one clip

    def video(*arguments: str):
        assert talk(*arguments) == 0
        return read_video("talk.mp4")[0].tobytes()

    options = [
        ("--audio-guidance-end", "0.5"),
        ("--steps", "3"),
        ("--sampler", "dpmpp_2m"),
        ("--guidance", "3"),
        ("--reference-guidance", "2"),
        ("--head-speed", "60"),
        ("--long-side", "100"),
        ("--face", "0.5", "0.3", "0.8", "0.9"),
        ("--square",),
    ]
    videos = {(): video("--steps", "4")} | {option: video("--steps", "4", *option) for option in options}
    assert len(set(videos.values())) == 1 + len(options)


@pytest.mark.parametrize(
    ("seconds", "carried"), [(0.37, 2), (0.02, 1)]
)  # 9 frames: the last clip has only one of the two
def test_the_video_carries_the_latents_of_its_last_frames(folder, bundle, seconds, carried):
    write_wav(folder / "voice.wav", seconds)
    assert talk() == 0
    latents = read_latents("talk.mp4")
    assert latents.shape == (1, 8, carried, 4, 4)
    shown = way_in.prepare(way_in.load("tiny.safetensors"), "face.png", "voice.wav").decoder.decode(
        latents[0].transpose(0, 1)
    )
    frames = read_video("talk.mp4")[0]
    for picture, number in zip(shown, range(len(frames) - carried, len(frames)), strict=True):
        off = np.abs(frames.astype(int) - picture).mean((1, 2, 3))  # the codec blurs what random weights draw
        assert off.argmin() == number


def test_the_whole_picture_is_shown_and_only_the_head_moves(folder):
    picture_of([(150, 40)], (300, 180)).save("large.png")
    assert main(["large.png", *COMMAND[1:]]) == 0
    frames = read_video("talk.mp4")[0].astype(int)
    assert frames.shape[1:] == (180, 300, 3)
    moves = np.abs(frames - np.asarray(Image.open("large.png"))).mean((0, 3))
    assert (
        moves[60:120, 170:230].mean() > 10 * moves[:, :100].mean() and moves[:, :100].mean() < 2
    )  # what a codec changes


def test_a_large_picture_is_made_smaller_and_never_squashed(folder, capsys):
    picture_of([(150, 40)], (300, 181)).save("large.png")
    for arguments, size in (
        ([], (300, 182)),
        (["--long-side", "200"], (200, 120)),
        (["--long-side", "4000"], (300, 182)),
    ):
        assert main(["large.png", *COMMAND[1:], *arguments]) == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["width"], said["height"]) == size


def test_the_square_shows_the_head_alone_at_the_pictures_own_resolution(folder, capsys):
    assert talk("--square") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["width"] == said["height"] and 96 < said["width"] < 160  # 1.8 faces of 71 pixels


def test_of_several_faces_the_chosen_one_moves(folder, capsys, caplog):
    picture_of([(0, 0), (130, 0), (260, 0)], (356, 100)).save("three.png")
    still = np.asarray(Image.open("three.png")).astype(int)
    for choice, which in (("leftmost", 0), ("2", 1), ("rightmost", 2)):
        assert main(["three.png", *COMMAND[1:], "--which-face", choice]) == 0
        moves = np.abs(read_video("talk.mp4")[0] - still).mean((0, 3))
        by_face = [moves[30:70, left + 30 : left + 66].mean() for left in (0, 130, 260)]
        assert int(np.argmax(by_face)) == which and sorted(by_face)[1] < 3
    assert main(["three.png", *COMMAND[1:], "--which-face", "4"]) == 2
    assert "there are 3 faces in the picture, but face 4 was selected" in caplog.records[-1].getMessage()


def test_a_box_may_be_in_parts_of_the_picture_or_in_pixels(folder, bundle):
    meshes = [
        way_in.prepare(bundle, "face.png", "voice.wav", face=face).conditions.portrait.mesh
        for face in ((0.47, 0.2, 0.87, 0.95), (0.47 * 161, 0.2 * 101, 0.87 * 161, 0.95 * 101))
    ]
    torch.testing.assert_close(*meshes)


def test_the_video_says_that_it_is_generated(folder):
    assert talk() == 0
    with av.open("talk.mp4") as container:
        assert container.metadata["comment"] == "Generated with ComfyUI-EMO from a still picture and a voice"


def test_speak_yields_the_frames_that_the_command_writes(folder, bundle):
    blocks = list(
        emo_model.speak(emo_model.load("tiny.safetensors"), "face.png", "voice.wav", sampling=SamplingConfig(steps=2))
    )
    assert talk() == 0
    shown = read_video("talk.mp4")[0]
    assert [len(block) for block in blocks] == [4, 4, 1] and all(block.dtype == np.uint8 for block in blocks)
    assert alike(np.concatenate(blocks), shown)


def test_speak_takes_pixels_and_a_waveform_too(folder, bundle):
    waveform, rate = read_audio("voice.wav")
    sampling = SamplingConfig(steps=1)
    given, read = (
        np.concatenate(list(emo_model.speak(bundle, *media, sampling=sampling)))
        for media in ((read_picture("face.png"), (waveform, rate)), ("face.png", "voice.wav"))
    )
    assert np.array_equal(given, read)


def test_importing_the_package_imports_no_torch():
    code = "import sys, emo_model; assert 'torch' not in sys.modules; emo_model.speak; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


@pytest.mark.parametrize(
    ("option", "says"), [("--fit", "the head square is found automatically"), ("--whole-picture", "it is the default")]
)
def test_options_of_earlier_versions_say_what_there_is_instead(folder, capsys, option, says):
    with pytest.raises(SystemExit, match="2"):
        talk(option)
    assert f"{option} was removed: {says}" in capsys.readouterr().err


def test_another_frame_rate_makes_as_many_frames_as_the_sound_needs(folder, capsys):
    assert talk("--fps", "10") == 0
    frames, fps = read_video("talk.mp4")
    assert (len(frames), fps) == (4, 10) and json.loads(capsys.readouterr().out)["frames"] == 4


def test_the_shortest_sound_makes_one_frame(folder):
    write_wav(folder / "voice.wav", 0.005)
    assert talk() == 0 and len(read_video("talk.mp4")[0]) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nobody.png", "voice.wav"], "nobody.png"),
        (["face.png", "nobody.wav"], "nobody.wav"),
        (["voice.wav", "voice.wav"], "voice.wav is not a picture that Pillow can read"),
        (["wall.png", "voice.wav"], "No face found in the picture (90x61)"),
        (
            ["face.png", "voice.wav", "--which-face", "middle"],
            "the face must be one of largest, leftmost, rightmost or a number",
        ),
        (["face.png", "voice.wav", "--long-side", "5"], "--long-side must be 64 to 8192 pixels, got 5"),
        (["face.png", "tiny.safetensors"], "tiny.safetensors is not a sound file that PyAV can read, or is damaged"),
        (["face.png", "empty.wav"], "empty.wav contains no sound"),
        (
            ["face.png", "voice.wav", "--model", "nobody.safetensors"],
            "there is no file nobody.safetensors; check the name of the model",
        ),
        (
            ["face.png", "voice.wav", "--model", "lean.safetensors"],
            "lean.safetensors contains no motion decoder and audio encoder",
        ),
        (["face.png", "voice.wav", "--steps", "0"], "steps must be at least 1, got 0"),
        (["face.png", "voice.wav", "--steps", "2000"], "steps must be 1 to 1000, got 2000"),
        (["face.png", "voice.wav", "--guidance", "nan"], "audio_guidance must be a number >= 0, got nan"),
        (["face.png", "voice.wav", "--fps", "0"], "--fps must be 1 to 120, got 0"),
        (
            ["face.png", "voice.wav", "--face", "0.5", "0", "0.4", "1"],
            "the face box (80, 0, 64, 101) is empty or outside",
        ),
        (["face.png", "voice.wav", "--device", "cuda:7"], "device 'cuda:7' cannot be used here"),
        (["face.png", "voice.wav", "--device", "toaster"], "device 'toaster' cannot be used here"),
        (["face.png", "voice.wav", "-o", "talk.docx"], "talk.docx"),
        (["face.png", "talk.wav.mp4", "-o", "./talk.wav.mp4"], "is the same file as talk.wav.mp4, which this"),
        (["face.png", "voice.wav", "--seed", str(2**64)], "seed must be a number of up to 64 bits"),
        (["face.png", "voice.wav", "--finished-only"], "no clip of this video is cached in clips"),
        (["face.png", "voice.wav", "--finished-only", "--no-clips"], "remove one of them"),
    ],
)
def test_errors_are_sentences_with_exit_status_2(folder, config, capsys, caplog, arguments, says):
    if arguments[0:2] == ["face.png", "empty.wav"]:
        write_wav(folder / "empty.wav", 0)
    if "lean.safetensors" in arguments:
        native.save("lean.safetensors", native.build(replace(config, motion_decoder=None, audio_encoder=None)))
    Image.linear_gradient("L").resize((90, 61)).save("wall.png")
    if "talk.wav.mp4" in arguments:
        shutil.copy("voice.wav", "talk.wav.mp4")
    assert main([*arguments[:2], *COMMAND[2:], *arguments[2:]]) == 2
    assert says in caplog.records[-1].getMessage() and len(caplog.records[-1].getMessage()) < 300
    assert capsys.readouterr().out == "" and not (folder / "talk.mp4").exists()


def test_what_cannot_be_written_is_said_before_the_model_is_loaded(folder, monkeypatch, caplog):
    monkeypatch.setattr(way_in, "load", lambda *_: pytest.fail("the model was loaded"))
    (folder / "folder.mp4").mkdir()
    for out, says in (
        ("folder.mp4", "is a folder"),
        (f"{'a' * 300}.mp4", "the name is too long"),
        ("face.png/talk.mp4", "is not a folder"),
    ):
        assert talk("-o", out) == 2 and says in caplog.records[-1].getMessage()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("emo_model.outputs.disk.shutil.disk_usage", lambda _: usage(10**9, 10**9, 1000))
    assert talk() == 2 and "1 kB are free: 9 frames" in caplog.records[-1].getMessage()


def test_a_run_that_is_stopped_before_its_first_clip_leaves_no_empty_video(folder, monkeypatch):
    from emo_model.sampling import clips

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(clips, "sample", stopped)
    assert talk() == 130 and not list(folder.glob("*.mp4"))


def kept(folder: Path) -> int:
    return len(list((folder / "clips").glob("*.safetensors")))


def test_the_same_command_again_renders_nothing_and_writes_the_same_video(folder, capsys):
    made = []
    for _ in range(2):
        assert talk() == 0
        made.append((json.loads(capsys.readouterr().out)["rendered"], read_video("talk.mp4")[0]))
    assert [rendered for rendered, _ in made] == [3, 0] and np.array_equal(made[0][1], made[1][1]) and kept(folder) == 3
    assert talk("--no-clips") == 0
    assert json.loads(capsys.readouterr().out)["rendered"] == 3 and np.array_equal(
        read_video("talk.mp4")[0], made[0][1]
    )


def test_another_end_renders_only_the_end(folder, capsys):
    write_wav(folder / "voice.wav", 8.0)
    assert talk() == 0
    write_wav(folder / "voice.wav", 8.2)
    assert talk() == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (
        first["rendered"] == 50 and second["clips"] == 52 and 2 <= second["rendered"] < 30
    )  # the encoder hears 3 s around


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_a_playable_part_and_goes_on(folder, capsys, caplog, monkeypatch, request, stop):
    from emo_model.sampling import clips

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where pytest runs in the background
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    write_wav(folder / "voice.wav", 0.8)
    assert talk() == 0
    whole = read_video("talk.mp4")[0]
    shutil.rmtree(folder / "clips")
    (folder / "talk.mp4").unlink()
    caplog.set_level("INFO")
    with monkeypatch.context() as patch:
        calls, sample = [], clips.sample

        def stopped(*given, **how):
            calls.append(given)
            if len(calls) == 4:
                os.kill(os.getpid(), stop)
            return sample(*given, **how)

        patch.setattr(clips, "sample", stopped)
        assert talk() == 130
    assert "3 of 5 clips are cached in clips; run the same command to resume" in caplog.text
    (left,) = folder.glob("talk.*.part.mp4")
    assert f"{left.name} contains the first 0.48 s" in caplog.text and not (folder / "talk.mp4").exists()
    part = read_video(left)[0]
    assert (
        len(part) == 12 and np.abs(part.astype(int) - whole[:12]).mean() < 10 and kept(folder) == 3
    )  # x264 looks ahead
    capsys.readouterr()
    assert talk("--finished-only") == 0 and len(read_video("talk.mp4")[0]) == 12
    assert (
        talk() == 0
        and alike(read_video("talk.mp4")[0], whole)
        and set(folder.glob("talk*.mp4")) == {folder / "talk.mp4", left}
    )
    assert [json.loads(line)["rendered"] for line in capsys.readouterr().out.splitlines()] == [0, 2]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_clips_are_kept_in_the_users_cache_by_default(folder, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(folder / "cache"))
    assert main([*COMMAND[:-2]]) == 0
    assert (
        len(list((folder / "cache" / "comfyui-emo" / "clips").glob("*.safetensors"))) == 3
        and not (folder / "clips").exists()
    )
    (folder / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "file"))
    monkeypatch.setenv("LOCALAPPDATA", str(folder / "file"))
    assert main([*COMMAND[:-2]]) == 0 and "an interrupted run will start over" in caplog.text


def test_a_cache_that_another_user_made_is_no_reason_not_to_run(folder, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(folder / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert main([*COMMAND[:-2]]) == 0 and "an interrupted run will start over" in caplog.text
    assert not list((folder / "cache").rglob("*.safetensors"))


def test_the_sound_can_be_kept_to_the_bit(folder):
    assert talk("--sound", "flac") == 0
    assert torch.equal(read_audio("talk.mp4")[0], read_audio("voice.wav")[0])


def test_memory_is_measured_in_megabytes():
    assert 50 < peak_rss_mb() < 50_000


def test_the_command_makes_an_idle_loop_with_dials_and_a_report(folder, capsys):
    idle = ("--idle", "1", "--smile", "0: 0; 0.5: 1", "--report", "report.json")
    assert talk("-o", "idle.mp4", "--no-clips", *idle) == 0
    frames, fps = read_video(folder / "idle.mp4")
    assert len(frames) == fps == 25
    report = json.loads((folder / "report.json").read_text())
    assert report["changed_outside"] == 0 and report["frames"] == 25
    assert report["faces"]["A"]["mouth_r"].startswith("skipped: ")
    with av.open(str(folder / "idle.mp4")) as file:
        assert not file.streams.audio
    assert talk("-o", "idle.mp4", "--smile", "7") == 2

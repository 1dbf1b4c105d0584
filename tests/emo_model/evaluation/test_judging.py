"""Videos whose judgement is known: one that the shipped decoder made; frozen, trembling ones, and another person."""

import itertools
import json
import math
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

from emo_model import talk
from emo_model.__main__ import EXAMPLES
from emo_model.checkpoints import native
from emo_model.checkpoints.mediapipe import load_face_finder
from emo_model.evaluation import judged, judging
from emo_model.evaluation.__main__ import main
from emo_model.evaluation.hearing import load_encoder
from emo_model.evaluation.judges import Judges, Weights
from emo_model.evaluation.judging import Bench, Judgement, Pair, pairs
from emo_model.inputs.audio import read_audio, resample
from emo_model.inputs.media import read_picture, to_uint8
from emo_model.inputs.portrait import cut_square, find_mesh
from emo_model.outputs.likeness import Likeness
from emo_model.outputs.video import VideoWriter

RATE, FPS, SIDE, SECONDS = 16000, 25, 144, 2.6
HAS_DLIB = find_spec("dlib") is not None and find_spec("face_recognition_models") is not None


def _write(path, frames, sound=None, *, fps=FPS):
    audio = None if sound is None else (sound[None], RATE)
    high, wide = frames.shape[1:3]
    with VideoWriter(path, fps=fps, width=wide, height=high, audio=audio, crf=4, preset="ultrafast") as video:
        video.write(frames)
    return path


def _write_voice(path, sound):
    np_sound = (sound.clamp(-1, 1) * 32767).round().short().numpy()
    import wave

    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np_sound.tobytes())
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("judged")


@pytest.fixture(scope="session")
def finder():
    return load_face_finder()


@pytest.fixture(scope="session")
def square(finder):
    """The shipped portrait's head, (1, 3, 144, 144)."""
    picture = read_picture(EXAMPLES / "emo_portrait.jpg")
    head, _ = cut_square(picture, find_mesh(finder, picture))
    return torch.nn.functional.interpolate(head, (SIDE, SIDE), mode="bilinear", antialias=True)


@pytest.fixture(scope="session")
def voice():
    return resample(*read_audio(EXAMPLES / "emo_voice.wav"))[: round(SECONDS * RATE)]


@pytest.fixture(scope="session")
def frames(square, voice):
    """The fast variant speaks it."""
    bundle = talk.load("fast")
    sampling = replace(bundle.sampling, seed=1)
    return np.concatenate(list(talk.speak(bundle, square, (voice[None], RATE), sampling=sampling)))


@pytest.fixture(scope="session")
def bench(finder):
    likeness = Likeness() if HAS_DLIB else None
    return Bench(finder, Judges(Weights()), encoder=load_encoder(native.FAST_WEIGHTS), likeness=likeness)


@pytest.fixture(scope="session")
def talking(bench, frames, voice, folder):
    return bench.judge(Pair(_write(folder / "talking.mp4", frames, voice)))


@pytest.fixture(scope="session")
def frozen(bench, square, voice, folder):
    still = np.repeat(to_uint8(square), 24, 0)
    Image.fromarray(still[0]).save(folder / "own.png")
    return bench.judge(Pair(_write(folder / "frozen.mp4", still, voice[:RATE]), portrait=folder / "own.png"))


def test_a_talking_video_follows_its_voice_and_not_the_shifted_one(talking):
    values = talking.values
    assert values["sync"] > 0.5 and values["sync"] > values["sync_control"] + 0.4
    assert abs(values["delay"]) < 1000 / FPS
    assert values["loud"] > values["loud_control"]


def test_a_planted_lag_of_120_ms_is_found_to_within_a_frame(bench, talking, voice, folder):
    early = torch.cat([voice[round(0.12 * RATE) :], torch.zeros(round(0.12 * RATE))])  # so the mouth comes later
    found = bench.judge(Pair(folder / "talking.mp4", voice=_write_voice(folder / "early.wav", early)))
    assert found.values["delay"] == pytest.approx(120, abs=1000 / FPS)
    assert found.values["delay"] - talking.values["delay"] == pytest.approx(120, abs=1000 / FPS)
    assert found.values["sync"] < talking.values["sync"]


def test_a_frozen_video_does_not_move_blink_or_drift(frozen):
    values = frozen.values
    assert values["blinks"] == 0 and values["shut"] == 0 and values["lids"] == 1
    assert values["trembling"] < 0.02 and values["speed"] < 0.2 and values["amplitude"] < 0.002
    assert values["colour"] < 0.2
    assert "sync" not in values or abs(values["sync"]) < 0.6


def test_a_trembling_video_trembles_and_a_brighter_one_drifts(bench, frozen, square, folder):
    shaken = np.stack([np.roll(to_uint8(square)[0], 2 * (k % 2), 1) for k in range(24)])
    shaken = np.clip(shaken + np.arange(24)[:, None, None, None] * 1.5, 0, 255).astype(np.uint8)
    values = bench.judge(Pair(_write(folder / "shaken.mp4", shaken))).values
    assert values["trembling"] > 1 and values["trembling"] > 20 * frozen.values["trembling"]
    assert values["colour"] > 4


def test_lips_without_a_voice_are_skipped_with_the_reason(bench, square, folder):
    made = bench.judge(Pair(_write(folder / "mute.mp4", np.repeat(to_uint8(square), 3, 0))))
    assert made.skipped["sync"] == judging.NO_SOUND and "sync" not in made.values


@pytest.mark.skipif(not HAS_DLIB, reason="needs dlib: pip install --no-deps dlib-bin face-recognition-models")
def test_another_person_is_far_and_the_same_is_near(bench, frozen, folder):
    other = bench.judge(Pair(folder / "frozen.mp4", portrait=EXAMPLES / "emo_drawn.png"))
    assert frozen.values["identity"] < 0.15 and frozen.values["identity_worst"] < 0.2
    assert other.values["identity"] > 0.5


def test_a_video_against_itself_has_no_error_and_against_its_still_a_known_one(bench, square, folder):
    still = np.repeat(to_uint8(square), 8, 0)
    darker = np.clip(still.astype(int) - 10, 0, 255).astype(np.uint8)
    path = _lossless(folder / "still.mkv", still)
    same = bench.judge(Pair(path, reference=path)).values
    assert same["psnr"] == math.inf and same["ssim"] == pytest.approx(1)
    other = bench.judge(Pair(path, reference=_lossless(folder / "darker.mkv", darker))).values
    error = np.square(still.astype(float) - darker).mean()
    assert other["psnr"] == pytest.approx(10 * math.log10(255**2 / error), abs=0.01)


def _lossless(path, frames):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "bgr0"
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_video_without_a_face_is_a_row_with_the_reason(bench, folder):
    made = bench.judge(Pair(_write(folder / "grey.mp4", np.full((4, 96, 96, 3), 90, np.uint8))))
    assert not made.values and "no face was found in grey.mp4" in made.skipped["trembling"]
    assert "there is no file" in bench.judge(Pair(folder / "missing.mp4")).skipped["sync"]


def test_what_needs_weights_is_skipped_with_the_file_and_never_0(talking):
    for key in ("lpips", "syncnet_confidence", "syncnet_distance", "fsim"):
        assert key not in talking.values
        assert talking.skipped[key].startswith("needs --") and "(" in talking.skipped[key]


def test_every_metric_has_a_value_or_a_reason(talking, frozen):
    for made, key in itertools.product((talking, frozen), judging.METRICS):
        assert (key in made.values) != (key in made.skipped), key


def test_closures_are_counted_where_phonemes_are_known(bench, talking, folder):
    known = [["m", 0.1, 0.2], ["a", 0.2, 0.5], ["p", 0.9, 1.0], ["a", 1.0, 1.4], ["b", 1.8, 1.9], ["o", 1.9, 2.3]]
    (folder / "talking.json").write_text(json.dumps(known))
    made = bench.judge(Pair(folder / "talking.mp4", phonemes=folder / "talking.json"))
    assert made.values["closures"] * 3 == pytest.approx(round(made.values["closures"] * 3))
    assert made.values["closures_counted"] == 3
    assert 0 <= made.values["closures_control"] <= 1 and "viseme" in made.values
    (folder / "bad.json").write_text("[1, 2]")
    bad = bench.judge(Pair(folder / "talking.mp4", phonemes=folder / "bad.json"))
    assert "must be a JSON list" in bad.skipped["sync"]


def test_files_belong_to_the_video_whose_name_holds_theirs(tmp_path):
    videos = [tmp_path / name for name in ("anna--hello.mp4", "anna_2--hello.mp4", "joanna--bye.mp4")]
    portraits = [tmp_path / f"{name}.png" for name in ("anna", "anna_2", "bob")]
    found = pairs(videos, portrait=portraits, voice=[tmp_path / "one.wav"])
    assert [pair.portrait and pair.portrait.stem for pair in found] == ["anna", "anna_2", None]
    assert {pair.voice.stem for pair in found} == {"one"}


def test_the_command_writes_a_table_of_every_set_with_checksums(folder, talking, capsys):
    one, two = folder / "ours", folder / "theirs"
    one.mkdir()
    (one / "talking.mp4").write_bytes((folder / "talking.mp4").read_bytes())
    _write(two / "grey.mp4", np.full((4, 96, 96, 3), 90, np.uint8))
    main(
        [
            "run",
            str(one),
            str(two),
            "--out",
            str(folder / "out"),
            "--seconds",
            "0.4",
            "--encoder",
            str(native.FAST_WEIGHTS),
        ]
    )
    text, made = capsys.readouterr().out, json.loads((folder / "out" / "results.json").read_text())
    assert "| what | better | ours | theirs |" in text
    assert text.count("skipped: needs --syncnet FILE") == 3  # once a row, not once a set
    assert len(made["sets"]["ours"]["videos"][0]["about"]["sha256"]) == 64
    assert made["sets"]["ours"]["videos"][0]["about"]["frames"] == 10
    assert "no face" in made["sets"]["theirs"]["videos"][0]["skipped"]["sync"]
    assert Image.open(folder / "out" / "contact.jpg").width > 100


class _Colour(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().mean((2, 3))


def test_identical_sets_are_at_distance_0_and_darker_ones_at_the_known_one(finder, square, folder):
    torch.jit.script(_Colour()).save(str(folder / "colour.pt"))
    judges = Judges(Weights(inception=folder / "colour.pt"))
    bench = Bench(finder, judges, encoder=None, likeness=None)
    still = np.repeat(to_uint8(square), 4, 0).clip(10)
    one, other = _lossless(folder / "one.mkv", still), _lossless(folder / "other.mkv", still - 10)
    _, same, why = bench.judge_set([Pair(one, reference=one)])
    assert same["fid"] == pytest.approx(0, abs=1e-6) and same["fid_count"] == 4
    assert "needs --i3d FILE" in why["fvd"] and "fvd" not in same
    _, apart, _ = bench.judge_set([Pair(one, reference=other)])
    assert apart["fid"] == pytest.approx(3 * 10**2, rel=1e-3)


def test_small_sets_are_warned_of_and_missing_ones_skipped():
    row = {row.key: row for row in judged.rows(([Judgement()], {"fid": 3.0, "fid_count": 900}, {"fvd": "needs it"}))}
    assert "only 900 frames: below 2048" in row["fid"].note
    assert math.isnan(row["fvd"].value) and row["fvd"].note == "skipped: needs it"
    enough = {row.key: row for row in judged.rows(([], {"fid": 3.0, "fid_count": 2048}, {}))}
    assert not enough["fid"].note

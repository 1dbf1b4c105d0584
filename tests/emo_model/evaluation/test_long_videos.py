"""Minutes, pauses and seams on a tiny model with random weights, and on videos whose drift was planted."""

import copy
import json
import weakref

import pytest
import torch

from emo_model.checkpoints import native
from emo_model.config import SamplingConfig
from emo_model.evaluation import __main__ as command
from emo_model.evaluation import drawn, long_report, long_videos
from emo_model.evaluation.instruments import Instruments
from emo_model.types import MotionFrames


@pytest.fixture(scope="module")
def bench(speech, model):
    bundle = native.load(model, dtype=torch.float32)
    amount = long_videos.Amount(runs=1, minutes=0.2, window_seconds=2.0)
    return long_videos.Bench(bundle, Instruments.load(), drawn.held_out_speech(speech), SamplingConfig(steps=1), amount=amount)


def test_the_command_fills_every_row(speech, model, tmp_path):
    out = tmp_path / "long.json"
    small = ("--device cpu --steps 1 --runs 1 --minutes 0.05 --window-seconds 1 --paused 1 --pause-seconds 2 --joined 1 "
             "--joined-clips 1").split()
    assert command.main(["long", "--model", str(model), "--json", str(out), "--data", str(speech), *small]) == 0
    made = json.loads(out.read_text())
    rows = {row["key"]: row["value"] for row in made["rows"]}
    assert {"slope_lightness", "slope_identity_error", "last_colour", "ratio_sharpness", "opening_pause_silent",
            "speed_speech_noisy", "border_picture", "latents_latents", "pixels_head", "alone_opening",
            "nothing_colour"} <= set(rows)
    assert None not in rows.values()
    run, = made["records"]["drift"]
    assert len(run["generated"]["lab"]) == len(run["ceiling"]["lab"]) == 3
    assert made["amount"]["window_seconds"] == 1 and made["sampling"]["steps"] == 1


def planted(by_frame):
    """In place of a model: the portrait, changed more with every frame, in clips of twelve."""
    def clips_of(bundle, portrait, waveform, sampling, *, device, motion=None):
        frames = round(len(waveform) / drawn.RATE * bundle.config.fps)
        for start in range(0, frames, 12):
            now = torch.arange(start, min(start + 12, frames))
            pictures = by_frame(portrait.cpu(), now[:, None, None, None].float())
            yield torch.zeros(len(now), 4, 8, 8), pictures.expand(len(now), -1, -1, -1)
    return clips_of


def test_a_constant_video_drifts_nowhere(bench, monkeypatch):
    monkeypatch.setattr(long_videos, "clips_of", planted(lambda portrait, now: portrait + 0 * now))
    rows = {row.key: row for row in long_report.rows(bench.measure(("drift",)))}
    for name in ("lightness", "face_a", "from_portrait", "identity_error", "sharpness", "background", "head_speed"):
        assert rows[f"slope_{name}"].value == pytest.approx(0, abs=1e-3)
    assert rows["last_colour"].value == pytest.approx(0, abs=1e-4)


def test_a_planted_fading_gives_its_slope_over_whole_windows(bench, monkeypatch):
    grey = -0.5  # fades to a lighter grey, by 6 levels of 255 a second
    monkeypatch.setattr(long_videos, "clips_of", planted(lambda portrait, now: 0 * portrait + grey + now * 6 / 25 / 127.5))
    run, = bench.measure(("drift",))["drift"]
    lightness = [lab[0] for lab in run["generated"]["lab"]]
    steps = torch.tensor(lightness).diff()
    assert (steps - steps.mean()).abs().max() < 0.3 and 4 < steps.mean() < 6  # two seconds: 12 levels, about 5 of L*
    row, = (row for row in long_report.rows({"drift": [run]}) if row.key == "slope_lightness")
    assert row.value == pytest.approx(30 * steps.mean().item(), rel=0.05) and row.low > 0


def test_frames_are_read_as_they_come_and_not_kept(bench):
    alive = []

    def shown():
        for _ in range(5):
            latents, pictures = torch.zeros(12, 4, 8, 8), torch.zeros(12, 3, 64, 64)
            alive.append(weakref.ref(pictures))
            yield latents, pictures
            assert sum(picture() is not None for picture in alive) <= 2  # these, and those before them

    scene, = drawn.scenes(bench.library, 1, seconds=1, size=64, fps=25)
    assert len(bench.watch(shown(), scene.box).lab) == 60 and len(alive) == 5


def test_the_second_half_of_a_joined_video_follows_the_frames_it_is_given(bench):
    bundle = copy.deepcopy(bench.bundle)
    generator = torch.Generator().manual_seed(0)
    for parameter in bundle.emo.parameters():  # untrained, temporal modules say nothing
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    scene, = drawn.scenes(bench.library, 1, seconds=12 / 25, size=64, fps=25)
    first, other, alone = ((latents for latents, _ in long_videos.clips_of(
        bundle, scene.portrait, scene.waveform, SamplingConfig(steps=1), motion=motion))
        for motion in (MotionFrames(torch.zeros(1, 4, 2, 8, 8)), MotionFrames(torch.ones(1, 4, 2, 8, 8)), MotionFrames()))
    first, other, alone = next(first), next(other), next(alone)
    assert not torch.allclose(first, other, atol=1e-4) and not torch.allclose(first, alone, atol=1e-4)


def test_pauses_lie_in_silence_and_the_lips_are_shut_there(speech):
    library = drawn.held_out_speech(speech)
    for (scene, silent), (noisy, same) in zip(drawn.paused_scenes(library, 2, pause_seconds=2.0, size=64, fps=25),
                                              drawn.paused_scenes(library, 2, pause_seconds=2.0, size=64, fps=25,
                                                                  noise_decibels=40), strict=True):
        assert len(scene) == 25 * 8 and 25 < silent.sum() < 25 * 4 and torch.equal(silent, same)
        loud = scene.waveform.unflatten(0, (len(scene), -1)).abs().amax(1)
        assert not loud[silent].any() and loud[~silent].any()
        assert drawn.visible_opening(scene.motion)[silent].max() < 0.02
        assert noisy.waveform.unflatten(0, (len(scene), -1)).abs().amax(1)[silent].min() > 0


def test_a_group_that_does_not_exist_is_named(bench):
    with pytest.raises(ValueError, match="'colour'; choose from: drift, pauses, seams"):
        bench.measure(("colour",))


def test_minutes_too_short_for_two_windows_are_refused():
    with pytest.raises(ValueError, match="at least two windows.*got 0.1 minutes in windows of 10"):
        long_videos.Amount(minutes=0.1, window_seconds=10)

"""The whole measurement on a tiny model with random weights: it must find no lip sync where there is none."""

import json
import math
from dataclasses import replace

import pytest
import torch

from emo_model.checkpoints import native
from emo_model.config import SamplingConfig
from emo_model.evaluation import __main__ as command
from emo_model.evaluation import builtin, drawn
from emo_model.evaluation.instruments import Instruments
from emo_model.synthetic import speech_library
from emo_model.synthetic.speech import RATE


@pytest.fixture(scope="module")
def results(speech, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "results.json"
    small = "--device cpu --steps 1 --clips 4 --seconds 1.2 --long-clips 1 --long-seconds 4 --stills 4".split()
    assert command.main(["builtin", "--model", str(model), "--json", str(out), "--data", str(speech), *small]) == 0
    return json.loads(out.read_text())


def test_a_model_that_hears_nothing_shows_no_lip_sync(results):
    rows = {row["key"]: row for row in results["rows"]}
    assert abs(rows["opening_r"]["value"]) < 0.35
    assert abs(rows["control_r"]["value"]) < 0.35
    assert rows["above_control"]["low"] < 0.3


def test_every_group_has_its_rows(results):
    keys = {row["key"] for row in results["rows"]}
    assert {"opening_r", "opening_r_worst", "width_r", "closure_r", "opening_gain", "lag", "control_r", "control_other_r",
            "identity", "sharpness", "sharpness_eyes", "disagreeing_eyes", "blink_left_right_r", "gaze_left_right_r", "blinks",
            "flicker", "shimmer", "joins", "speed_range", "long_opening", "long_identity", "long_sharpness", "style_painted",
            "autoencoder_whole", "autoencoder_eyes", "few_steps", "seconds_per_frame", "first_second_opening_r"} <= keys


def test_the_truth_itself_is_read_well_through_the_same_pipe(results):
    for clip in results["records"]["main"]:
        assert clip["truth"]["opening_r"] > 0.8
        assert clip["truth"]["opening_r"] >= clip["ceiling"]["opening_r"] - 0.05


def test_results_say_what_was_measured_with_what(results, model):
    import hashlib

    assert results["model"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert results["model"]["config"]["image_size"] == 64
    assert results["sampling"]["steps"] == 1 and results["sampling"]["audio_guidance"] == SamplingConfig().audio_guidance
    assert [len(clip["tracks"]["generated"]["opening"]) for clip in results["records"]["main"]] == [30] * 4


def test_quick_measures_lips_and_control_alone():
    chosen = command._parser().parse_args(["builtin", "--quick"])
    assert chosen.quick and chosen.clips is None and builtin.QUICK == ("main", "control")


def test_no_clip_is_made_twice(speech, model, monkeypatch):
    bundle = native.load(model, dtype=torch.float32)
    made = []

    def speak(bundle, portrait, waveform, sampling, *, device):
        made.append((portrait.sum().item(), waveform.sum().item(), sampling))
        return torch.zeros(round(len(waveform) / RATE * 25), 3, 64, 64), 1.0

    monkeypatch.setattr(builtin, "speak", speak)
    sampling = SamplingConfig(steps=4)
    bench = builtin.Bench(bundle, Instruments.load(), drawn.held_out_speech(speech), sampling,
                          amount=builtin.Amount(clips=2, seconds=1.2, long_clips=1, long_seconds=4, stills=2))
    bench.measure()
    assert len(made) == len(set(made))
    # 2 main, 2 control, 2 at 10 steps (4 are the main ones), 2 at each speed but the default's, 1 long
    assert len(made) == 2 + 2 + 2 + 2 * (len(bundle.config.speed_centres) - 1) + 1


def test_a_still_video_reads_as_no_correlation_and_not_as_an_error(speech, model, monkeypatch):
    bundle = native.load(model, dtype=torch.float32)
    monkeypatch.setattr(builtin, "speak", lambda bundle, portrait, waveform, sampling, device: (
        portrait.expand(round(len(waveform) / RATE * 25), -1, -1, -1), 1.0))
    bench = builtin.Bench(bundle, Instruments.load(), drawn.held_out_speech(speech), SamplingConfig(),
                          amount=builtin.Amount(clips=2, seconds=1.2))
    for clip in bench.measure(("main",))["main"]:
        assert abs(clip["generated"]["opening_r"]) < 1e-3 or math.isnan(clip["generated"]["opening_r"])
        assert clip["generated"]["shimmer"] == 0


def test_speech_that_training_may_have_heard_is_refused(tmp_path, monkeypatch, murmur):
    monkeypatch.setattr(speech_library, "sample_speech",
                        lambda seed, seconds, held_out: replace(murmur(seed, seconds), voice="flite:rms"))
    folder = speech_library.prepare_speech(tmp_path, minutes=0.07, clip_seconds=4)
    with pytest.raises(ValueError, match="flite:rms"):
        drawn.held_out_speech(folder)


def test_a_group_that_does_not_exist_is_named(speech, model):
    bundle = native.load(model, dtype=torch.float32)
    bench = builtin.Bench(bundle, Instruments.load(), drawn.held_out_speech(speech), SamplingConfig(),
                          amount=builtin.Amount(clips=2, seconds=1.2))
    with pytest.raises(ValueError, match="'lips'; choose from: main"):
        bench.measure(("lips",))

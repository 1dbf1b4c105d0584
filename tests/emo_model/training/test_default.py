"""`python -m emo_model.training default` with the test preset, from prepared speech to a file that talks."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from emo_model.checkpoints import native
from emo_model.checkpoints.pieces import join
from emo_model.config import PRESETS, SamplingConfig
from emo_model.sampling.clips import generate_clips
from emo_model.training.__main__ import main
from emo_model.training.default import make_default
from emo_model.training.loop import OutOfTime

pytest.importorskip("accelerate")
STEPS = ["autoencoder", "decoder", "audio_encoder", "clips", "image", "video", "speed"]


@pytest.fixture(scope="module")
def made(tmp_path_factory, speech_folder):
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("run")
    assert make_default(out, preset="test", data=speech_folder) == out / "default.safetensors"
    return out


def log(out) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def contents(path) -> dict[str, str | bytes]:
    """Config, card and weights of a model file; the file's own bytes differ in the order of its metadata."""
    with safe_open(path, "pt") as file:
        return file.metadata() | {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}


def different(one, two) -> list[str]:
    """What is not the same in two model files."""
    first, second = contents(one), contents(two)
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def ticking():
    """A clock that moves on by a second whenever it is read."""
    ticks = itertools.count()
    return lambda: float(next(ticks))


def test_one_command_makes_a_model_that_loads_and_talks(made, conditions):
    model = native.load(made / "default.safetensors", dtype=torch.float32)
    frames = torch.cat(list(generate_clips(model.emo, conditions(model.config, frames=6), config=SamplingConfig(steps=2))), dim=2)
    assert frames.shape == (1, 4, 6, 4, 4) and frames.isfinite().all()


def test_the_file_says_how_it_was_made(made):
    card = native.load(made / "default.safetensors").card
    assert card["made_by"] == "python -m emo_model.training default --preset test --seed 0 --scale 1.0"
    assert card["steps"] == {"image": 3, "video": 3, "speed": 3} and card["people"] == 3 and card["machine"] and card["licence"]


def test_latents_of_the_finished_model_have_about_unit_variance_and_colours(made):
    config, clips = native.read_config(made / "default.safetensors"), load_file(made / "clips.safetensors")
    assert config.latent_scale != PRESETS["test"].latent_scale and len(config.latent_rgb) == config.latent_channels + 1
    assert 0.5 < clips["latents"].float().std() < 2


def test_every_step_is_done_once_in_its_order(made):
    assert [line["finished"] for line in log(made) if "finished" in line] == STEPS
    assert all((made / f"{name}.safetensors").exists() for name in STEPS) and not any(made.glob("state/*"))


def test_the_decoder_that_stands_noise_reads_the_latents_that_the_clips_hold(made):
    before, after = (load_file(made / f"{name}.safetensors") for name in ("autoencoder", "decoder"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys() and changed and all(name.startswith(("decoder.", "linear_out.")) for name in changed)
    model = native.load(made / "default.safetensors").autoencoder.state_dict()
    assert all(torch.equal(model[name], value.half()) for name, value in after.items())


def test_each_stage_leaves_what_it_does_not_train_as_it_was(made):
    image, video, speed = (load_file(made / f"{name}.safetensors") for name in ("image", "video", "speed"))
    changed = {name for name in video if not torch.equal(video[name], speed[name])}
    assert changed and all(".motion_modules." in name or name.startswith("speed_layers.") for name in changed)
    assert all(torch.equal(image[name], video[name]) for name in video if name.startswith("speed_layers."))
    assert not torch.equal(image["reference_net.conv_in.weight"], video["reference_net.conv_in.weight"])


def test_the_pieces_join_to_the_model(made, tmp_path):
    assert join(made / "default.safetensors", tmp_path / "joined").read_bytes() == (made / "default.safetensors").read_bytes()


def test_a_run_that_is_stopped_again_and_again_ends_in_the_same_file(made, speech_folder, tmp_path):
    stops = 0
    while not (tmp_path / "default.safetensors").exists():
        try:
            make_default(tmp_path, preset="test", data=speech_folder, minutes=25 / 60, resume=True, clock=ticking())
        except OutOfTime:
            stops += 1
            assert (tmp_path / "progress.safetensors.001").exists()
    assert stops >= 2
    assert different(tmp_path / "default.safetensors", made / "default.safetensors") == []
    assert not list(tmp_path.glob("progress.*"))


def test_finished_steps_are_not_done_again(made, speech_folder, tmp_path):
    for name in STEPS:
        shutil.copy(made / f"{name}.safetensors", tmp_path)
    make_default(tmp_path, preset="test", data=speech_folder)
    assert not (tmp_path / "log.jsonl").exists()
    assert different(tmp_path / "default.safetensors", made / "default.safetensors") == []


def test_what_another_preset_began_is_not_gone_on_with(made, speech_folder, tmp_path, monkeypatch):
    shutil.copy(made / "autoencoder.safetensors", tmp_path)
    wider = replace(PRESETS["test"], autoencoder=replace(PRESETS["test"].autoencoder, decoder_channels=(24, 16)))
    monkeypatch.setitem(PRESETS, "test", wider)
    with pytest.raises(ValueError, match=r"autoencoder.safetensors is not of preset 'test': .* another --out"):
        make_default(tmp_path, preset="test", data=speech_folder, resume=True)


def test_another_machine_goes_on_from_the_pieces_of_a_stopped_run(speech_folder, made, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    for name in STEPS[:STEPS.index("video")]:
        shutil.copy(made / f"{name}.safetensors", here)
    with pytest.raises(OutOfTime, match="stage 'video' stands at step 1 of 3"):
        make_default(here, preset="test", data=speech_folder, minutes=0.02, resume=True, clock=ticking())
    there.mkdir()
    for piece in here.glob("progress.safetensors.*"):
        shutil.copy(piece, there)
    make_default(there, preset="test", data=speech_folder)
    assert [line["finished"] for line in log(there) if "finished" in line] == ["clips", "video", "speed"]
    half = load_file(there / "audio_encoder.safetensors")
    assert all(torch.equal(value, half[name].half().float()) for name, value in half.items())


def test_a_folder_with_a_run_is_not_trained_over(made, speech_folder):
    assert main(["default", "--preset", "test", "--data", str(speech_folder), "--out", str(made)]) == 2


def test_the_command_leaves_with_status_3_when_its_minutes_are_over_and_0_when_it_is_done(made, speech_folder, tmp_path):
    command = ["default", "--preset", "test", "--data", str(speech_folder), "--out", str(tmp_path)]
    assert main([*command, "--minutes", "0"]) == 3 and not (tmp_path / "default.safetensors").exists()
    for name in STEPS:
        shutil.copy(made / f"{name}.safetensors", tmp_path)
    assert main([*command, "--resume"]) == 0 and (tmp_path / "default.safetensors").exists()

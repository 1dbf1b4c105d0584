"""`python -m emo_model.training builtin` with the test preset: from puppets and prepared speech to a model file."""

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
from emo_model.config import PRESETS, SamplingConfig
from emo_model.sampling.clips import ClipRenderer, generate_clips
from emo_model.training import builtin
from emo_model.training.__main__ import main
from emo_model.training.builtin import make_builtin
from emo_model.training.loop import OutOfTime

pytest.importorskip("accelerate")
pytest.importorskip("numba")
DECODER, EMO = ("motion_decoder",), ("audio_encoder", "clips", "image", "video", "speed")


@pytest.fixture(scope="module", autouse=True)
def small():
    """Statistics of six clips instead of 120."""
    with pytest.MonkeyPatch.context() as patch:
        whole = builtin.motion_statistics
        patch.setattr(builtin, "motion_statistics", lambda *given, **how: whole(*given, **(how | {"clips": 6})))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, puppets, speech_folder):
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("run")
    assert make_builtin(out, puppets=puppets, speech=speech_folder, preset="test") == out / "builtin.safetensors"
    return out


def finished(out) -> list[str]:
    return [
        line["finished"] for line in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "finished" in line
    ]


def different(one, two) -> list[str]:
    """What is not the same in two model files, config and card among it."""
    contents = []
    for path in (one, two):
        with safe_open(path, "pt") as file:
            contents.append(file.metadata() | {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()})
    first, second = contents
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def ticking():
    """A clock that moves on by a second whenever it is read."""
    ticks = itertools.count()
    return lambda: float(next(ticks))


def test_one_command_makes_a_model_that_loads_and_talks(made, conditions):
    model = native.load(made / "builtin.safetensors", dtype=torch.float32)
    render = ClipRenderer(model.emo, conditions(model.config, frames=6), SamplingConfig(steps=2))
    frames = torch.cat(list(generate_clips(render)), dim=2)
    assert frames.shape == (1, 8, 6, 4, 4) and frames.isfinite().all()
    assert model.parts.keys() == {"emo", "motion_decoder", "audio_encoder"} and model.emo.noise_shapes.any()


def test_the_file_says_how_it_was_made(made):
    card = native.load(made / "builtin.safetensors").card
    assert card["made_by"] == "python -m emo_model.training builtin --preset test --seed 0 --scale 1.0"
    assert (
        {"image": 3, "video": 3, "speed": 3}.items() <= card["steps"].items() and card["pictures"] and card["machine"]
    )
    assert card["licence"]


def test_what_moves_in_the_latents_has_about_unit_variance(made):
    config, clips = native.read_config(made / "builtin.safetensors"), load_file(made / "clips.safetensors")
    assert config.latent_scale != PRESETS["test"].latent_scale and config.noise_frames != PRESETS["test"].noise_frames
    moved = clips["latents"].float() - clips["stills"].float()
    assert 0.3 < moved.square().mean() < 3


def test_every_step_is_done_once(made):
    steps = finished(made)
    assert set(DECODER + EMO) <= set(steps) and len(steps) == len(set(steps)) and not any(made.glob("state/*"))
    assert [step for step in steps if step in EMO[2:]] == ["image", "video", "speed"]


def test_each_stage_leaves_what_it_does_not_train_as_it_was(made):
    image, video, speed = (load_file(made / f"{name}.safetensors") for name in ("image", "video", "speed"))
    changed = {name for name in video if not torch.equal(video[name], speed[name])}
    assert changed and all(".motion_modules." in name or name.startswith("speed_layers.") for name in changed)
    assert all(torch.equal(image[name], video[name]) for name in video if name.startswith("speed_layers."))
    assert not torch.equal(image["reference_net.conv_in.weight"], video["reference_net.conv_in.weight"])


def test_a_run_that_is_stopped_again_and_again_ends_in_the_same_file(made, puppets, speech_folder, tmp_path):
    stops = 0
    while not (tmp_path / "builtin.safetensors").exists():
        try:
            make_builtin(
                tmp_path,
                puppets=puppets,
                speech=speech_folder,
                preset="test",
                minutes=25 / 60,
                resume=True,
                clock=ticking(),
            )
        except OutOfTime:
            stops += 1
    assert stops >= 2
    assert different(tmp_path / "builtin.safetensors", made / "builtin.safetensors") == []


def test_decoder_and_emo_may_be_trained_apart(made, puppets, speech_folder, tmp_path):
    given = {"puppets": puppets, "speech": speech_folder, "preset": "test", "resume": True}
    assert make_builtin(tmp_path, part="decoder", **given) is None
    assert set(DECODER) <= set(finished(tmp_path)) and "image" not in finished(tmp_path)
    assert make_builtin(tmp_path, part="emo", **given) == tmp_path / "builtin.safetensors"
    assert different(tmp_path / "builtin.safetensors", made / "builtin.safetensors") == []


def test_what_another_preset_began_is_not_gone_on_with(made, puppets, speech_folder, tmp_path, monkeypatch):
    for file in made.glob("*.safetensors"):
        if file.stem != "builtin":
            shutil.copy(file, tmp_path)
    parts = replace(PRESETS["test"].motion_decoder, mouth_channels=16)
    monkeypatch.setitem(PRESETS, "test", replace(PRESETS["test"], motion_decoder=parts))
    with pytest.raises(ValueError, match=r"motion_decoder.safetensors is not of preset 'test': .* another --out"):
        make_builtin(tmp_path, puppets=puppets, speech=speech_folder, preset="test", resume=True)


def command_of(puppets, speech, out) -> list[str]:
    return [*"builtin --preset test --puppets".split(), str(puppets), "--speech", str(speech), "--out", str(out)]


def test_the_command_leaves_with_status_3_when_its_minutes_are_over_and_0_when_it_is_done(
    made, puppets, speech_folder, tmp_path
):
    command = command_of(puppets, speech_folder, tmp_path)
    assert main([*command, "--minutes", "0"]) == 3 and not (tmp_path / "builtin.safetensors").exists()
    for file in made.glob("*.safetensors"):
        shutil.copy(file, tmp_path)
    assert main([*command, "--resume"]) == 0 and (tmp_path / "builtin.safetensors").exists()


def test_a_trained_model_is_gone_on_with_under_its_own_scales(made, puppets, speech_folder, tmp_path):
    command = command_of(puppets, speech_folder, tmp_path)
    assert main([*command, "--start", str(made / "builtin.safetensors")]) == 0
    before, after = (native.load(folder / "builtin.safetensors") for folder in (made, tmp_path))
    assert (
        after.config == before.config and "image" not in finished(tmp_path) and "statistics" not in finished(tmp_path)
    )
    for name, part in before.parts.items():
        own = after.parts[name].state_dict()
        moved = [(value.float() - own[key].float()).abs().max() for key, value in part.state_dict().items()]
        assert 0 < max(moved) < 0.1, name  # a few small steps from where it was


def test_a_model_of_another_preset_is_not_gone_on_with(puppets, speech_folder, tmp_path):
    with pytest.raises(
        ValueError, match="of preset 'builtin' .* training 'test' continues from a whole model of that preset"
    ):
        make_builtin(tmp_path, puppets=puppets, speech=speech_folder, start=native.DEFAULT_WEIGHTS, preset="test")


def test_a_folder_with_a_run_is_not_trained_over(made, puppets, speech_folder):
    command = command_of(puppets, speech_folder, made)
    assert main(command) == 2

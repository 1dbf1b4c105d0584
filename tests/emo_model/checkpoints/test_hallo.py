"""Hallo's net.pth: every key has its use, files go there and back, wrong ones are refused with the reason."""

from __future__ import annotations

import json
from math import prod

import pytest
import torch
from safetensors.torch import load_file, save_file

from emo_model.checkpoints import hallo, native
from emo_model.checkpoints.load import load_model
from emo_model.checkpoints.sources import bare
from emo_model.config import HALLO


@pytest.fixture(scope="module")
def manifest(data):
    return {key: tuple(shape) for key, shape in json.loads((data / "hallo_net_keys.json").read_text()).items()}


@pytest.fixture
def net(tiny_hallo, tmp_path):
    torch.save(tiny_hallo.net, tmp_path / "net.pth")
    return tmp_path / "net.pth"


def same(emo, other) -> bool:
    ours, theirs = emo.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_every_key_of_the_published_net_is_used_once_and_none_is_missing(manifest):
    parts = hallo.layout(bare(HALLO))
    assert sorted([*parts.runs, *parts.idle, *parts.codes]) == sorted(manifest)
    assert parts.shapes == manifest
    assert len(manifest) == 2656


def test_the_published_net_has_the_published_number_of_parameters():
    parts = hallo.layout(bare(HALLO))
    numbers = {name: sum(prod(shape) for shape in getattr(parts, name).values()) for name in ("runs", "idle", "codes")}
    assert round((numbers["runs"] + numbers["idle"]) / 1e6, 1) == 2423.6
    assert round(numbers["codes"] / 1e6, 1) == 1.2


def test_the_shapes_of_the_published_net_speak_of_the_preset(manifest):
    assert hallo.config_of(manifest) == HALLO


def test_names_go_there_and_back(manifest):
    ours = {key: hallo.TABLE.to_ours(key) for key in manifest}
    assert len(set(ours.values())) == len(manifest)
    assert all(hallo.TABLE.to_theirs(name) == key for key, name in ours.items())


def test_net_pth_loads_with_every_weight_in_its_place(net, tiny_hallo):
    bundle = load_model(net)
    assert bundle.config.channels == tiny_hallo.config.channels
    assert same(bundle.emo, tiny_hallo.emo)


def test_a_net_in_half_precision_loads_in_the_type_asked_for(tiny_hallo, tmp_path):
    save_file({key: value.half() for key, value in tiny_hallo.net.items()}, tmp_path / "net.safetensors")
    assert {value.dtype for value in load_model(tmp_path / "net.safetensors").emo.state_dict().values()} == {
        torch.float16
    }
    assert {
        value.dtype for value in load_model(tmp_path / "net.safetensors", dtype=torch.float32).emo.state_dict().values()
    } == {torch.float32}


def test_converted_and_back_is_the_same_file(net, tiny_hallo, tmp_path):
    config = hallo.to_native(net, tmp_path / "native.safetensors", image_size=64)
    assert (config.image_size, config.name) == (64, "hallo")
    bundle = native.load(tmp_path / "native.safetensors")
    assert bundle.config == config and same(bundle.emo, tiny_hallo.emo)
    hallo.from_native(tmp_path / "native.safetensors", tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == tiny_hallo.net.keys()
    assert all(torch.equal(back[key], value) for key, value in tiny_hallo.net.items())


def test_a_net_saved_after_training_can_be_written_in_hallos_layout(tiny_hallo, tmp_path):
    native.save(tmp_path / "trained.safetensors", native.Bundle(tiny_hallo.config, tiny_hallo.emo), dtype=torch.float32)
    hallo.from_native(tmp_path / "trained.safetensors", tmp_path / "back.safetensors")
    assert same(hallo.load(tmp_path / "back.safetensors"), tiny_hallo.emo)


def test_what_nothing_runs_is_not_loaded_and_changes_nothing(tiny_hallo, tmp_path):
    assert any(".up_blocks.0.motion_modules." in key for key in tiny_hallo.layout.idle)
    assert any(".down_blocks.3.motion_modules." in key for key in tiny_hallo.layout.idle)
    other = {key: value + 1 if key in tiny_hallo.layout.idle else value for key, value in tiny_hallo.net.items()}
    torch.save(other, tmp_path / "net.pth")
    assert same(load_model(tmp_path / "net.pth").emo, tiny_hallo.emo)


@pytest.mark.parametrize(
    "changed, said",
    [
        (lambda net: net.pop("audioproj.norm.bias"), "1 missing (audioproj.norm.bias)"),
        (
            lambda net: net.pop("denoising_unet.up_blocks.0.motion_modules.1.temporal_transformer.norm.bias"),
            "1 missing",
        ),
        (lambda net: net.update({"denoising_unet.extra": torch.zeros(1)}), "1 left over (denoising_unet.extra)"),
        (
            lambda net: net.update({"face_locator.conv_out.bias": torch.zeros(5)}),
            "(face_locator.conv_out.bias 5 for 32)",
        ),
        (lambda net: [net.pop(key) for key in list(net) if "down_blocks.0.attentions" in key], "left over"),
        (
            lambda net: [net.pop(key) for key in list(net) if key.startswith("imageproj.proj")],
            "a part of Hallo's net only",
        ),
    ],
)
def test_a_net_that_does_not_fit_is_refused_by_key(tiny_hallo, tmp_path, changed, said):
    net = dict(tiny_hallo.net)
    changed(net)
    torch.save(net, tmp_path / "net.pth")
    with pytest.raises(ValueError) as raised:
        load_model(tmp_path / "net.pth")
    assert said in str(raised.value) and "net.pth" in str(raised.value)


def test_a_net_with_trained_frame_codes_is_refused(tiny_hallo, tmp_path):
    key = next(iter(tiny_hallo.layout.codes))
    torch.save(tiny_hallo.net | {key: tiny_hallo.net[key] + 0.1}, tmp_path / "net.pth")
    with pytest.raises(ValueError, match="positional encodings .* differ from AnimateDiff's by 0.1"):
        load_model(tmp_path / "net.pth")


def test_a_motion_module_is_named_and_not_taken_for_the_net(tiny_hallo, tmp_path):
    torch.save(
        {
            key.removeprefix("denoising_unet."): value
            for key, value in tiny_hallo.net.items()
            if ".motion_modules." in key
        },
        tmp_path / "net.pth",
    )
    with pytest.raises(ValueError, match="net.pth is not .*: this is an AnimateDiff motion module; "):
        load_model(tmp_path / "net.pth")
    with pytest.raises(ValueError, match="net.pth is not Hallo's net: this is an AnimateDiff motion module; "):
        hallo.load(tmp_path / "net.pth")


def test_a_model_of_another_design_is_not_written_in_hallos_layout(tmp_path):
    from emo_model.config import PRESETS

    native.save(tmp_path / "m.safetensors", native.build(PRESETS["test"]))
    with pytest.raises(ValueError, match="is an EMO 'test', whose parts Hallo's net does not have"):
        hallo.from_native(tmp_path / "m.safetensors", tmp_path / "net.safetensors")

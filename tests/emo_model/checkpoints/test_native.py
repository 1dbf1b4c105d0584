"""The project's own files: saved, loaded, and refused."""

from __future__ import annotations

import copy
import json
import os
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from emo_model import talk
from emo_model.checkpoints import native
from emo_model.config import PRESETS, SAMPLING, SamplingConfig
from emo_model.sampling.clips import ClipRenderer, generate_clips

INPUTS = Path(__file__).parents[3] / "workflows" / "inputs"


@pytest.fixture
def file(tmp_path, bundle):
    path = tmp_path / "models" / "tiny.safetensors"  # the folder is made
    native.save(path, bundle)
    return path


def rewrite(path, *, tensors=lambda tensors: tensors, metadata=lambda metadata: metadata) -> None:
    with safe_open(path, "pt") as opened:
        kept = opened.metadata()
    held = {
        name: value.clone() for name, value in load_file(path).items()
    }  # the file is mapped: it must not be written over
    path.unlink()
    save_file(tensors(held), path, metadata=metadata(kept))


def test_a_loaded_model_is_the_saved_one_bit_for_bit_in_half_precision(file, bundle):
    loaded = native.load(file)
    assert loaded.parts.keys() == bundle.parts.keys() == {"emo", "motion_decoder", "audio_encoder"}
    for name, part in bundle.parts.items():
        state = loaded.parts[name].state_dict()
        assert state.keys() == part.state_dict().keys() and len(state) > 5
        for key, value in part.state_dict().items():
            assert torch.equal(state[key], value.half()), f"{name}.{key}"


def test_config_and_card_travel_inside_the_file(file, bundle):
    loaded = native.load(file)
    assert loaded.config == native.read_config(file) == bundle.config and loaded.card == {"made_by": "a test"}


def test_a_model_is_sampled_as_its_card_says_else_as_its_preset_else_by_default(tmp_path, bundle):
    def sampling(name: str, card: dict) -> SamplingConfig:
        native.save(tmp_path / "a.safetensors", replace(bundle, config=replace(bundle.config, name=name), card=card))
        assert native.load(tmp_path / "a.safetensors").sampling == native.read_sampling(tmp_path / "a.safetensors")
        return native.read_sampling(tmp_path / "a.safetensors")

    said = {"sampling": {"steps": 2, "audio_guidance": 1.0}}
    assert sampling("test", {}) == SamplingConfig() and sampling("hallo", {}) == SAMPLING["hallo"]
    assert sampling("emo", {}).steps == 40  # the paper's
    assert sampling("test", said) == SamplingConfig(steps=2, audio_guidance=1.0)
    assert sampling("hallo", said) == replace(SAMPLING["hallo"], steps=2, audio_guidance=1.0)
    with pytest.raises(ValueError, match="sampling settings that this version does not know: hurry"):
        sampling("test", {"sampling": {"hurry": 1}})


def test_a_loaded_model_makes_the_video_that_the_saved_one_makes(tmp_path, bundle, config, conditions):
    native.save(tmp_path / "a.safetensors", bundle, dtype=torch.float32)
    emo, whole = native.load(tmp_path / "a.safetensors").emo, conditions(config, frames=3)
    one, two = (
        next(generate_clips(ClipRenderer(model, whole, SamplingConfig(steps=2)))) for model in (bundle.emo, emo)
    )
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_model_is_loaded_in_the_dtype_asked_for_and_ready_to_run(file, dtype):
    loaded = native.load(file, dtype=dtype)
    for part in loaded.parts.values():
        assert {value.dtype for value in part.parameters()} == {dtype} and not part.training
        assert not any(value.is_meta for value in [*part.parameters(), *part.buffers()])


def test_loading_imports_no_compiler_which_would_take_a_second(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)
    native.load(file)


def test_a_model_without_its_own_decoder_is_a_whole_file_too(tmp_path, config):
    lean = replace(config, motion_decoder=None, audio_encoder=None)
    native.save(tmp_path / "a.safetensors", native.build(lean))
    loaded = native.load(tmp_path / "a.safetensors")
    assert loaded.config == lean and loaded.motion_decoder is None and loaded.audio_encoder is None


def test_others_may_read_a_saved_file_as_the_umask_allows(tmp_path, bundle):
    before = os.umask(0o022)
    try:
        native.save(tmp_path / "a.safetensors", bundle)
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]  # nothing is left beside it


def test_the_papers_size_builds_on_the_meta_device_in_seconds():
    began = time.process_time()
    emo = native.build(PRESETS["emo"], device="meta").emo
    assert time.process_time() - began < 10
    assert all(value.is_meta for value in emo.parameters()) and sum(value.numel() for value in emo.parameters()) > 1.5e9


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*nobody.safetensors"):
        native.load(tmp_path / "nobody.safetensors")


def test_a_file_of_something_else_is_refused_with_some_of_its_tensors(tmp_path):
    save_file({"model.diffusion_model.out.2.bias": torch.zeros(4)}, tmp_path / "sd.safetensors")
    with pytest.raises(
        ValueError, match=r"sd.safetensors is not an EMO model of this pack: .*model.diffusion_model.out.2.bias"
    ):
        native.load(tmp_path / "sd.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 100, -7])
def test_a_file_that_was_cut_off_is_refused(file, keep):
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(
        ValueError, match="tiny.safetensors is not a complete safetensors file .*; download or copy it again"
    ):
        native.load(file)


def test_missing_and_unknown_tensors_are_counted_and_named(file):
    def swap(tensors):
        del tensors["emo.backbone.conv_in.weight"]
        return tensors | {"emo.backbone.flux": torch.zeros(1)}

    rewrite(file, tensors=swap)
    says = r"1 tensors missing \['emo.backbone.conv_in.weight'\], 1 unknown \['emo.backbone.flux'\]"
    with pytest.raises(ValueError, match=says):
        native.load(file)


def test_a_tensor_of_another_shape_is_refused_by_name(file):
    rewrite(file, tensors=lambda tensors: tensors | {"emo.backbone.conv_in.bias": torch.zeros(7)})
    with pytest.raises(ValueError, match=r"1 of another shape \['emo.backbone.conv_in.bias'\]"):
        native.load(file)


def test_a_file_of_a_newer_version_asks_for_an_update(file):
    def newer(metadata):
        return metadata | {"config": json.dumps(json.loads(metadata["config"]) | {"hands": True})}

    rewrite(file, metadata=newer)
    with pytest.raises(ValueError, match="does not know: hands; update ComfyUI-EMO"):
        native.load(file)


@pytest.fixture
def variant(file, bundle):
    """A file with what differs, in one weight of the backbone, from the whole model beside it."""
    emo = copy.deepcopy(bundle.emo)
    with torch.no_grad():
        emo.backbone.conv_in.weight.add_(1)
    native.save(
        file.with_name("fast.safetensors"), replace(bundle, emo=emo, card={"made_by": "another test"}), base=file
    )
    return file.with_name("fast.safetensors")


def test_a_variant_holds_only_what_differs_from_its_base_and_is_loaded_whole(file, variant, bundle):
    assert set(load_file(variant)) == {"emo.backbone.conv_in.weight"}
    loaded, usual = native.load(variant), native.load(file)
    assert loaded.parts.keys() == usual.parts.keys() and loaded.card["base"] == "tiny.safetensors"
    for name, part in usual.parts.items():
        for key, value in part.state_dict().items():
            is_other = f"{name}.{key}" == "emo.backbone.conv_in.weight"
            expected = (bundle.emo.backbone.conv_in.weight + 1).half() if is_other else value
            assert torch.equal(loaded.parts[name].state_dict()[key], expected)


def test_the_base_of_a_variant_may_get_another_card(file, variant, bundle):
    native.save(file, replace(bundle, card={"made_by": "the same test", "measured": {"opening": 0.9}}))
    assert native.load(variant).config == bundle.config


def test_a_variant_without_its_base_says_what_is_missing_and_where(file, variant):
    file.unlink()
    with pytest.raises(
        FileNotFoundError, match="only the tensors that differ from tiny.safetensors, which must be in .*models"
    ):
        native.load(variant)


def test_a_base_with_other_weights_is_not_taken(file, variant, bundle, awake):
    native.save(file, replace(bundle, emo=awake(copy.deepcopy(bundle.emo), seed=9)))
    with pytest.raises(FileNotFoundError, match="the tiny.safetensors there has other weights"):
        native.load(variant)


def test_the_fast_variant_is_the_built_in_model_with_another_backbone_for_two_steps_without_guidance(shipped):
    usual, fast = native.load(), native.load(native.FAST_WEIGHTS)
    assert fast.config == usual.config
    assert (fast.sampling.steps, fast.sampling.audio_guidance) == (2, 1.0)
    with safe_open(native.FAST_WEIGHTS, "pt") as file:
        assert all(key.startswith("emo.backbone.") for key in file.keys())


def test_the_fast_variant_makes_nearly_what_the_built_in_model_makes_with_guidance(shipped):
    """What the built-in model itself makes without guidance, of the same voice and noise, is further away."""
    usual, fast = talk.load(), talk.load(native.FAST_WEIGHTS)

    def made(bundle: native.Bundle, sampling: SamplingConfig) -> torch.Tensor:
        scene = talk.prepare(bundle, INPUTS / "emo_portrait.jpg", INPUTS / "emo_voice.wav", sampling=sampling)
        return torch.cat(list(islice(scene.generate(), 2)), dim=2).float()

    wanted = made(usual, usual.sampling)
    off = (made(fast, fast.sampling) - wanted).square().mean()
    before = (made(usual, fast.sampling) - wanted).square().mean()
    assert off < 0.4 * before

"""`python -m emo_model.checkpoints`."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch

from emo_model.checkpoints import native
from emo_model.checkpoints.__main__ import main
from emo_model.config import PRESETS


def other_backbone(bundle: native.Bundle) -> native.Bundle:
    """The same but for one weight of the backbone."""
    emo = copy.deepcopy(bundle.emo)
    with torch.no_grad():
        emo.backbone.conv_in.weight.add_(1)
    return replace(bundle, emo=emo)


def test_parameters_prints_a_line_for_each_part_and_their_sum(capsys):
    assert main(["parameters"]) == 0
    lines = capsys.readouterr().out.splitlines()
    counts = {line[:90].strip(): int(line.split()[-1].replace(",", "")) for line in lines}
    emo = native.build(PRESETS["emo"], device="meta").emo
    parts = {name: sum(value.numel() for value in part.parameters()) for name, part in emo.named_children()}
    assert parts.items() <= counts.items() and len(parts) == 5
    assert counts["all of emo"] == sum(parts.values())
    assert 0 < counts["of these in temporal modules"] < parts["backbone"]


def test_parameters_all_prints_a_line_for_each_tensor(capsys):
    assert main(["parameters", "test", "--all"]) == 0
    out = capsys.readouterr().out
    tensors = dict(native.build(PRESETS["test"], device="meta").emo.named_parameters())
    assert all(name in out for name in tensors) and len(out.splitlines()) > len(tensors)


def test_inspect_prints_config_and_card_as_json(tmp_path, bundle, capsys):
    native.save(tmp_path / "a.safetensors", bundle)
    assert main(["inspect", str(tmp_path / "a.safetensors")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["config"] == json.loads(bundle.config.to_json()) and said["card"] == {"made_by": "a test"}


def test_inspect_counts_the_weights_of_each_part_and_names_the_base_of_a_variant(tmp_path, bundle, capsys):
    native.save(tmp_path / "a.safetensors", bundle)
    native.save(tmp_path / "b.safetensors", other_backbone(bundle), base=tmp_path / "a.safetensors")
    said = []
    for name in ("a", "b"):
        assert main(["inspect", str(tmp_path / f"{name}.safetensors")]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0]["parts"] == {
        name: sum(value.numel() for value in part.state_dict().values()) for name, part in bundle.parts.items()
    }
    assert said[1]["parts"] == {"emo": bundle.emo.backbone.conv_in.weight.numel()}
    assert said[1]["holds"] == "only tensors that differ from a.safetensors, which must be in the same folder"


def test_a_random_model_of_a_preset_loads_and_no_weight_of_it_is_zero(tmp_path, capsys):
    assert main(["random", "test", str(tmp_path / "a.safetensors")]) == 0
    assert "its output is noise" in capsys.readouterr().out
    bundle = native.load(tmp_path / "a.safetensors")
    assert bundle.parts.keys() == {"emo", "motion_decoder", "audio_encoder"}
    assert all(value.any() for part in bundle.parts.values() for value in part.parameters())


@pytest.mark.parametrize("arguments", [["inspect", "nobody.safetensors"]])
def test_errors_are_sentences_with_exit_status_2(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("there ") and len(said.err.splitlines()) == 1

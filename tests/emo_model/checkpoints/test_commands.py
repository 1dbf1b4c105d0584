"""`python -m emo_model.checkpoints`."""

from __future__ import annotations

import json

import pytest

from emo_model.checkpoints import native
from emo_model.checkpoints.__main__ import main
from emo_model.checkpoints.pieces import split
from emo_model.config import PRESETS


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


def test_join_makes_a_file_that_loads(tmp_path, bundle, capsys):
    native.save(tmp_path / "a.safetensors", bundle)
    split(tmp_path / "a.safetensors", piece_bytes=50_000)
    assert main(["join", str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")]) == 0
    assert "b.safetensors is whole" in capsys.readouterr().out and native.load(tmp_path / "b.safetensors").config == bundle.config


@pytest.mark.parametrize("arguments", [["inspect", "nobody.safetensors"], ["join", "nobody.safetensors", "out"]])
def test_errors_are_sentences_with_exit_status_2(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("there ") and len(said.err.splitlines()) == 1

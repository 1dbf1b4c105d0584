"""The commands, as the shell calls them."""

from __future__ import annotations

import json
from math import prod

import pytest
import torch
from safetensors.torch import load_file, save_file

from emo_model.checkpoints import native
from emo_model.checkpoints.__main__ import main
from emo_model.config import PRESETS


def test_inspect_says_what_our_own_file_is(tmp_path, capsys):
    native.save(tmp_path / "m.safetensors", native.build(PRESETS["test"], card={"licence": "MIT"}))
    assert main(["inspect", str(tmp_path / "m.safetensors")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["kind"], said["config"]["name"], said["card"]) == ("emo", "test", {"licence": "MIT"})


def test_inspect_checks_hallos_net_key_by_key(tmp_path, capsys, tiny_hallo):
    torch.save(tiny_hallo.net, tmp_path / "net.pth")
    assert main(["inspect", str(tmp_path / "net.pth")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["kind"] == "hallo" and not said["is_of_the_published_size"]
    assert said["tensors"] == said["tensors_that_run"] + said["tensors_that_nothing_runs"] + said["frame_codes"]
    assert said["tensors"] == len(tiny_hallo.net)


def test_inspect_names_a_foreign_file(tmp_path, capsys):
    save_file({"first_stage_model.decoder.conv_in.weight": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert main(["inspect", str(tmp_path / "x.safetensors")]) == 0
    assert "this is a VAE" in json.loads(capsys.readouterr().out)["description"]


def test_convert_goes_there_and_back(tmp_path, capsys, tiny_hallo):
    torch.save(tiny_hallo.net, tmp_path / "net.pth")
    assert main(["convert", str(tmp_path / "net.pth"), str(tmp_path / "h.safetensors"), "--image-size", "64"]) == 0
    assert main(["convert", str(tmp_path / "h.safetensors"), str(tmp_path / "back.safetensors")]) == 0
    assert load_file(tmp_path / "back.safetensors").keys() == tiny_hallo.net.keys()
    assert "keys of Hallo's net.pth" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["inspect", "nowhere.pth"], "there is no file nowhere.pth"),
        (["convert", "a.pth", "b.pth"], "must end in .safetensors"),
    ],
)
def test_an_error_is_a_sentence_and_not_a_trace(arguments, said, capsys):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_parameters_of_hallo_count_what_nothing_runs(data, capsys):
    assert main(["parameters", "hallo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    manifest = json.loads((data / "hallo_net_keys.json").read_text())
    published = sum(prod(shape) for key, shape in manifest.items() if not key.endswith(".pe"))
    assert sum(int(line.split()[-1].replace(",", "")) for line in lines[-2:]) == published

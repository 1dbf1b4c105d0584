"""Stand-ins with random weights: in the layouts of the real files, by the same seed the same."""

from __future__ import annotations

import json
from math import prod

import pytest
import torch
from safetensors.torch import load_file

from emo_model.checkpoints.__main__ import main
from emo_model.checkpoints.files import open_tensors
from emo_model.checkpoints.kinds import recognise
from emo_model.checkpoints.load import load_model
from emo_model.checkpoints.random_files import SMALL_HALLO, hallo_shapes, vae_shapes, wav2vec2_shapes, write_random


def test_the_layouts_are_as_large_as_the_real_files(data):
    assert hallo_shapes() == {
        key: tuple(shape) for key, shape in json.loads((data / "hallo_net_keys.json").read_text()).items()
    }
    assert sum(map(prod, vae_shapes().values())) == 83_653_863
    assert sum(map(prod, wav2vec2_shapes().values())) == 94_371_712


@pytest.mark.parametrize(("shapes", "kind"), [(vae_shapes, "vae"), (wav2vec2_shapes, "wav2vec2")])
def test_a_file_is_taken_for_what_it_stands_for(tmp_path, shapes, kind):
    some = {key: (1,) * len(shape) for key, shape in shapes().items()}
    write_random(tmp_path / "x.safetensors", some)
    assert recognise(open_tensors(tmp_path / "x.safetensors")).name == kind


def test_a_small_net_loads_with_the_size_of_its_picture_and_its_seed_decides(tmp_path, capsys):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        assert main(["random", "small-hallo", str(tmp_path / f"{name}.safetensors"), "--seed", str(seed)]) == 0
    assert "random weights" in capsys.readouterr().out
    bundle = load_model(tmp_path / "one.safetensors")
    assert (bundle.config.image_size, bundle.config.channels) == (SMALL_HALLO.image_size, SMALL_HALLO.channels)
    one, same, other = (load_file(tmp_path / f"{name}.safetensors") for name in ("one", "same", "other"))
    key = "audioproj.proj1.weight"
    assert torch.equal(one[key], same[key]) and not torch.equal(one[key], other[key])


def test_a_pickle_has_no_room_for_another_size(tmp_path):
    with pytest.raises(ValueError, match="write a .safetensors file"):
        write_random(tmp_path / "net.pth", {"a": (1,)}, image_size=64)

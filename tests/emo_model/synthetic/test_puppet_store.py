from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

pytest.importorskip("numba", reason="puppets are drawn with numba: pip install numba")

from emo_model.inputs import face_geometry as geometry
from emo_model.synthetic.puppet_store import (
    PuppetStore,
    is_held_out_face,
    is_usable,
    load_people,
    with_looks,
    write_store,
)


@pytest.fixture
def face() -> torch.Tensor:
    return (geometry.mean_face().double() * 40 + torch.tensor([60.0, 50.0, 0.0])).float()


@pytest.fixture
def folder(tmp_path, face):
    """Two pictures of 120 pixels: one good, one whose mesh is unsure."""
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 255, (120, 120, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
    save_file(
        {"meshes": torch.stack([face, face]), "presence": torch.tensor([1.0, 0.5])},
        tmp_path / "meshes.safetensors",
        metadata={"names": json.dumps(["0.png", "1.png"])},
    )
    return tmp_path


def test_one_face_in_ten_is_held_out_by_its_name():
    share = sum(is_held_out_face(f"{number:05d}.jpg") for number in range(4000)) / 4000
    assert 0.08 < share < 0.12
    assert is_held_out_face("00013.jpg") == is_held_out_face("00013.png")


def test_uncertain_faces_are_left_out(folder):
    assert [person.name for person in load_people(folder, folder / "meshes.safetensors", size=64)] == ["0.png"]


def test_a_face_turned_away_or_with_its_mouth_wide_open_is_not_usable(face):
    assert is_usable(face)
    turn = torch.tensor(0.6)
    turned = face.clone()
    turned[:, 0] = face[:, 0] * turn.cos() - face[:, 2] * turn.sin()
    turned[:, 2] = face[:, 0] * turn.sin() + face[:, 2] * turn.cos()
    assert not is_usable(turned)
    gaping = face.clone()
    gaping[14, 1] += 12
    assert not is_usable(gaping)


def test_the_mesh_is_cut_with_the_picture(folder, face):
    person = next(load_people(folder, folder / "meshes.safetensors", size=64))
    assert person.picture.shape == (64, 64, 3)
    assert (person.mesh[:, :2].amin(0) > 0).all() and (person.mesh[:, :2].amax(0) < 64).all()
    assert (person.mesh[10] - person.mesh[152]).norm().item() == pytest.approx(64 / 1.8, rel=0.02)


def test_a_store_gives_back_what_was_packed(folder):
    people = list(with_looks(load_people(folder, folder / "meshes.safetensors", size=64)))
    assert [person.look == "plain" for person in people] == [True, False]
    assert write_store(folder / "people.safetensors", people) == 2
    store = PuppetStore(folder / "people.safetensors")
    for packed, person in zip(store, people, strict=True):
        assert np.array_equal(packed.picture, person.picture) and torch.equal(packed.mesh, person.mesh)
        assert (packed.name, packed.look, packed.seed) == (person.name, person.look, person.seed)
    held = is_held_out_face("0.png")
    assert store.indices(held_out=held) == [0, 1] and store.indices(held_out=not held) == []

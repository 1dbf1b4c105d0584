from __future__ import annotations

import numpy as np
import pytest
import torch

from emo_model.inputs import face_geometry as geometry
from emo_model.synthetic.looks import LOOKS, Sight, change_look, mirror, move_in_square

SIZE = 96


@pytest.fixture
def sight() -> Sight:
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    mesh = geometry.mean_face().double() * 33 + torch.tensor([48.0, 34.0, 0.0])
    return Sight(np.stack([0.5 + 0.3 * np.sin(9 * x), 0.3 + 0.5 * y, 0.4 + 0.2 * np.cos(7 * y)], -1), mesh.numpy())


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_keeps_size_and_mesh_and_comes_from_its_seed(sight, name):
    one, again, other = (LOOKS[name](sight, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.picture.shape == (SIZE, SIZE, 3) and 0 <= one.picture.min() and one.picture.max() <= 1
    assert np.array_equal(one.picture, again.picture) and np.array_equal(one.mesh, sight.mesh)
    assert name == "moved" or not np.array_equal(one.picture, other.picture) or name == "grey"


def test_the_mesh_goes_where_the_picture_goes(sight):
    mark = sight.mesh[4, :2]
    y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    spot = np.exp(-((x - mark[0]) ** 2 + (y - mark[1]) ** 2) / 8)[..., None].repeat(3, -1)
    for seed in range(4):
        for change in (lambda seen, seed=seed: move_in_square(seen, np.random.default_rng(seed)), mirror):
            moved = change(Sight(spot, sight.mesh))
            light = moved.picture[..., 0]
            centre = np.array([(light * x).sum(), (light * y).sum()]) / light.sum()
            assert np.abs(centre - moved.mesh[4, :2]).max() < 0.35


def test_mirrored_twice_is_as_before(sight):
    back = mirror(mirror(sight))
    assert np.array_equal(back.picture, sight.picture)
    np.testing.assert_allclose(back.mesh, sight.mesh)


def test_a_mirrored_mesh_has_its_left_eye_at_the_left(sight):
    assert mirror(sight).mesh[33, 0] < mirror(sight).mesh[263, 0]


def test_looks_by_seed_are_the_same_and_of_many_kinds(sight):
    picture, mesh = (sight.picture * 255).astype(np.uint8), torch.from_numpy(sight.mesh).float()
    first, again = change_look(picture, mesh, 7), change_look(picture, mesh, 7)
    assert np.array_equal(first[0], again[0]) and torch.equal(first[1], again[1]) and first[2] == again[2]
    assert len({change_look(picture, mesh, seed)[2] for seed in range(30)}) > 7

"""A face embedding where insightface and its models are there, and a sentence where they are not."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from emo_model.inputs.identity import NoFaceError, find_face

PIXELS = torch.zeros(1, 3, 40, 60)
SMALL = {"bbox": np.array([0.0, 0, 10, 10]), "embedding": np.zeros(512), "kps": np.zeros((5, 2))}
LARGE = {
    "bbox": np.array([20.0, 5, 50, 35]),
    "embedding": np.arange(512),
    "kps": np.array([[0.0, 0]] * 3 + [[30.0, 25], [40.0, 25]]),
}


@pytest.fixture
def insightface(monkeypatch):
    """A stand-in for the package; `faces` is what it finds, `given` what it was asked for."""

    class FaceAnalysis:
        faces, given = [SMALL, LARGE], {}

        def __init__(self, **options):
            self.given.update(options)

        def prepare(self, **options):
            self.given.update(options)

        def get(self, picture):
            self.given["picture"] = picture
            return self.faces

    module, app = ModuleType("insightface"), ModuleType("insightface.app")
    app.FaceAnalysis = FaceAnalysis
    monkeypatch.setitem(sys.modules, "insightface", module)
    monkeypatch.setitem(sys.modules, "insightface.app", app)
    return FaceAnalysis


@pytest.fixture
def folder(tmp_path):
    models = tmp_path / "models" / "antelopev2"
    models.mkdir(parents=True)
    (models / "glintr100.onnx").touch()
    return tmp_path


def test_the_largest_face_is_taken(insightface, folder):
    found = find_face(PIXELS, folder=folder)
    assert found.embedding.shape == (1, 512) and found.embedding[0, 7] == 7
    assert found.box == (20, 5, 50, 35)
    assert insightface.given["name"] == "antelopev2" and insightface.given["root"] == str(folder)


def test_lips_lie_around_the_corners_of_the_mouth(insightface, folder):
    assert find_face(PIXELS, folder=folder).lip_box == (25, 20.5, 45, 29.5)


def test_the_picture_comes_blue_first_in_bytes(insightface, folder):
    red = torch.full((1, 3, 8, 8), -1.0)
    red[:, 0] = 1
    find_face(red, folder=folder)
    picture = insightface.given["picture"]
    assert picture.dtype == np.uint8 and picture.shape == (8, 8, 3) and picture[0, 0].tolist() == [0, 0, 255]


def test_a_picture_without_a_face_is_told_by_its_size(insightface, folder, monkeypatch):
    monkeypatch.setattr(insightface, "faces", [])
    with pytest.raises(NoFaceError, match=r"detects no face in the picture \(60x40\)\.$"):
        find_face(PIXELS, folder=folder)


def test_without_models_nothing_is_downloaded_and_their_place_is_named(insightface, tmp_path):
    insightface.given.clear()
    with pytest.raises(NoFaceError) as raised:
        find_face(PIXELS, folder=tmp_path)
    assert str(tmp_path / "models" / "antelopev2") in str(raised.value) and not insightface.given


def test_without_the_package_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "insightface", None)
    with pytest.raises(NoFaceError, match="pip install insightface"):
        find_face(PIXELS, folder=tmp_path)

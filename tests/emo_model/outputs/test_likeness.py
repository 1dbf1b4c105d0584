from importlib.util import find_spec
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emo_model.inputs.face_geometry import LEFT_BROW, OVAL, RIGHT_BROW, mean_face
from emo_model.outputs.likeness import AROUND, FINE, NEEDS, TEN_VIEWS, Likeness, detector_box


def test_the_box_is_a_square_from_the_brows_to_the_chin():
    mesh = mean_face() * 70 + torch.tensor([128.0, 115.0, 0.0])
    left, top, right, bottom = detector_box(mesh)
    assert right - left == pytest.approx(bottom - top)
    assert top < mesh[70, 1] and bottom > mesh[152, 1] - 1
    assert (left + right) / 2 == pytest.approx(128, abs=3)


def test_landmarks_that_a_few_boxes_miss_do_not_count_and_views_are_averaged():
    """A stand-in for dlib, whose predictor is off where the box lies far to the left, and whose network says one thing
    of a face and another of its mirror image."""

    class Box(tuple):
        def parts(self):
            return [SimpleNamespace(x=40 + 4 * n if self[0] < 24 else 70 + 4 * n, y=60 + n) for n in range(5)]

    asked = []

    def describe(picture, landmarks):
        asked.append(landmarks)
        return [2.0, 0.0] if len(asked) % 2 else [0.0, 2.0]

    likeness = object.__new__(Likeness)
    likeness.views = TEN_VIEWS
    likeness._rectangle, likeness._point = (lambda *edges: Box(edges)), (lambda x, y: (x, y))
    likeness._points, likeness._found = (lambda picture, box: box), (lambda box, landmarks: landmarks)
    likeness._network = SimpleNamespace(compute_face_descriptor=describe)
    mesh = torch.zeros(468, 3)
    mesh[list(OVAL), 0] = torch.linspace(30.0, 110.0, len(OVAL))
    mesh[list(OVAL), 1] = 120.0
    mesh[[*LEFT_BROW, *RIGHT_BROW], 1] = 40.0
    left, top, right, _ = detector_box(mesh)
    assert (left, right) == pytest.approx((28, 112))  # so three of the 18 boxes are off

    described = likeness.describe(np.zeros((160, 160, 3), np.uint8), mesh)
    assert described == pytest.approx([2**0.5, 2**0.5])  # as long as its parts
    assert len(asked) == 10
    scale = FINE / (right - left)
    corner = np.maximum(np.array([left, top]) - (AROUND - 0.5) * (right - left), 0)  # of what lies in the picture
    expected = (np.array([[70.5 + 4 * n, 60.5 + n] for n in range(5)]) - corner) * scale - 0.5
    assert np.abs(np.array(asked[0]) - expected).max() <= 1
    other = np.array(asked[1])
    assert np.array_equal(other[:, 1], np.array(asked[0])[[2, 3, 0, 1, 4], 1])
    assert np.ptp(other[:, 0] + np.array(asked[0])[[2, 3, 0, 1, 4], 0]) <= 1
    middles, sizes = zip(*((np.mean(one, 0), np.std(one)) for one in asked[::2]), strict=True)
    assert min(np.abs(one - another).max() for one, another in combinations(middles, 2)) > 0.01 * FINE
    assert np.allclose(np.mean(middles, axis=0), middles[0], atol=1)
    assert max(sizes) / min(sizes) > 1.05


@pytest.mark.skipif(not (find_spec("dlib") and find_spec("face_recognition_models")), reason=NEEDS)
def test_a_mirrored_picture_is_the_same_person(photograph):
    picture = ((photograph.picture[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    mirrored = photograph.mesh.clone()
    mirrored[:, 0] = picture.shape[1] - photograph.mesh[:, 0]
    frames = np.stack([picture, picture[:, ::-1]])
    own, other = Likeness(TEN_VIEWS[:2]).distances(
        frames, torch.stack([photograph.mesh, mirrored]), picture, photograph.mesh
    )
    assert own == 0
    assert 0 < other < 0.1

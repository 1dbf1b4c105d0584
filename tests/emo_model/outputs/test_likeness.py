from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emo_model.inputs.face_geometry import LEFT_BROW, OVAL, RIGHT_BROW, mean_face
from emo_model.outputs.likeness import Likeness, detector_box


def test_the_box_is_a_square_from_the_brows_to_the_chin():
    mesh = mean_face() * 70 + torch.tensor([128.0, 115.0, 0.0])
    left, top, right, bottom = detector_box(mesh)
    assert right - left == pytest.approx(bottom - top)
    assert top < mesh[70, 1] and bottom > mesh[152, 1] - 1
    assert (left + right) / 2 == pytest.approx(128, abs=3)


def test_landmarks_that_a_few_boxes_miss_do_not_count():
    """A stand-in for dlib, whose predictor is off where the box lies far to the left, and whose network tells the
    landmarks that it was given."""

    class Box(tuple):
        def parts(self):
            return [SimpleNamespace(x=40 if self[0] < 24 else 70, y=60 + number) for number in range(5)]

    likeness = object.__new__(Likeness)
    likeness._rectangle, likeness._point = (lambda *edges: Box(edges)), (lambda x, y: (x, y))
    likeness._points, likeness._found = (lambda picture, box: box), (lambda box, landmarks: landmarks)
    likeness._network = SimpleNamespace(compute_face_descriptor=lambda picture, landmarks: landmarks)
    mesh = torch.zeros(468, 3)
    mesh[list(OVAL), 0] = torch.linspace(30.0, 110.0, len(OVAL))
    mesh[list(OVAL), 1] = 120.0
    mesh[[*LEFT_BROW, *RIGHT_BROW], 1] = 40.0
    left, _, right, _ = detector_box(mesh)
    assert (left, right) == pytest.approx((28, 112))  # so three of the 18 boxes are off
    assert likeness.describe(np.zeros((160, 160, 3), np.uint8), mesh).tolist() == [[70, 60 + n] for n in range(5)]

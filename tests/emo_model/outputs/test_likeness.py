import pytest
import torch

from emo_model.inputs.face_geometry import mean_face
from emo_model.outputs.likeness import detector_box


def test_the_box_is_a_square_from_the_brows_to_the_chin():
    mesh = mean_face() * 70 + torch.tensor([128.0, 115.0, 0.0])
    left, top, right, bottom = detector_box(mesh)
    assert right - left == pytest.approx(bottom - top)
    assert top < mesh[70, 1] and bottom > mesh[152, 1] - 1
    assert (left + right) / 2 == pytest.approx(128, abs=3)

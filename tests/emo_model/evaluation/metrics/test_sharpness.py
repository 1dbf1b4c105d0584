import math

import numpy as np
import pytest
import torch

from emo_model.evaluation.metrics.picture import against
from emo_model.evaluation.metrics.sharpness import area, of_face, slope
from emo_model.inputs.face_geometry import mean_face


def _noise(size=128):
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)


def test_a_blurred_face_is_less_sharp():
    mesh = mean_face() * 35 + torch.tensor([64.0, 60.0, 0.0])
    sharp = _noise()
    soft = ((sharp.astype(np.float32) + np.roll(sharp, 1, 0) + np.roll(sharp, 1, 1)) / 3).astype(np.uint8)
    assert of_face(soft, mesh) < 0.8 * of_face(sharp, mesh)


def test_a_slope_of_known_steepness():
    ramp = np.repeat((np.arange(60) * 4)[None, :, None], 60, 0).repeat(3, 2).astype(np.uint8)
    where = np.zeros((60, 60), bool)
    where[10:40, 10:40] = True
    assert slope(ramp, where) == pytest.approx(4.0)
    assert math.isnan(slope(ramp, np.zeros((60, 60), bool)))


def test_areas_outside_of_the_picture_are_empty():
    mesh = mean_face() * 35 + torch.tensor([500.0, 500.0, 0.0])
    assert not area(mesh, range(0, 40), (64, 64)).any()


def test_frames_like_the_truths_have_no_error():
    mesh = mean_face() * 35 + torch.tensor([64.0, 60.0, 0.0])
    frames = np.stack([_noise(), _noise()])
    assert against(frames, frames, mesh.expand(2, -1, -1))["psnr"] == math.inf

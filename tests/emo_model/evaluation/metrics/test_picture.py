import math

import numpy as np
import pytest

from emo_model.evaluation.metrics.picture import decibels, lab, ssim


def _noise(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (48, 40, 3), dtype=np.uint8)


def test_identical_pictures_are_alike_and_have_no_error():
    assert ssim(_noise(), _noise()) == pytest.approx(1) and decibels(0.0) == math.inf


def test_flat_pictures_have_the_known_similarity():
    one, other = np.full((20, 20, 3), 100, np.uint8), np.full((20, 20, 3), 150, np.uint8)
    light = (0.01 * 255) ** 2
    assert ssim(one, other) == pytest.approx((2 * 100 * 150 + light) / (100**2 + 150**2 + light), rel=1e-6)


def test_other_noise_is_not_alike():
    assert abs(ssim(_noise(0), _noise(1))) < 0.05


def test_an_error_of_one_level_is_48_decibels():
    assert decibels(1.0) == pytest.approx(48.13, abs=0.01)


def test_colours_have_their_known_values():
    assert lab(np.array([255, 255, 255])) == pytest.approx([100, 0, 0], abs=0.02)
    assert lab(np.array([255, 0, 0])) == pytest.approx([53.24, 80.09, 67.20], abs=0.05)

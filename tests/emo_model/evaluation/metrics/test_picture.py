import math

import pytest
import torch

from emo_model.evaluation.metrics import picture


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_identical_pictures_have_no_error_and_endless_decibels():
    pictures, marks = noise(2, 3, 64, 64), torch.full((2, 3, 2), 0.5)
    off = picture.squared_errors(pictures, pictures, marks)
    assert {name: values.tolist() for name, values in off.items()} == {"whole": [0, 0], "mouth": [0, 0], "eyes": [0, 0]}
    assert picture.decibels(0.0) == math.inf


def test_one_level_in_ten_of_the_range_is_twenty_decibels():
    assert picture.decibels(0.2**2) == pytest.approx(20)


def test_an_error_at_the_mouth_counts_there_and_not_at_the_eyes():
    true, marks = torch.zeros(1, 3, 100, 100), torch.tensor([[[0.5, 0.8], [0.3, 0.4], [0.7, 0.4]]])
    said = true.clone()
    said[..., 78:82, 48:52] = 1
    off = picture.squared_errors(said, true, marks)
    assert off["eyes"].item() == 0
    assert off["mouth"].item() == pytest.approx(16 / 24**2, rel=1e-4)  # a square of 24 pixels
    assert off["whole"].item() == pytest.approx(16 / 100**2, rel=1e-4)


def test_squares_around_marks_are_the_pictures_own_pixels():
    pictures = noise(1, 3, 64, 64)
    square = picture.around(pictures, torch.tensor([[0.5, 0.5]]), 0.25)
    torch.testing.assert_close(square, pictures[..., 24:40, 24:40], atol=1e-5, rtol=0)


def test_blurred_pictures_are_less_sharp():
    pictures = noise(2, 3, 64, 64)
    blurred = torch.nn.functional.avg_pool2d(pictures, 3, stride=1, padding=1)
    assert (picture.sharpness(blurred) < 0.5 * picture.sharpness(pictures)).all()


def test_a_still_video_neither_flickers_nor_shimmers():
    still = noise(1, 3, 64, 64).expand(5, -1, -1, -1)
    assert picture.flicker(still) == 0 and picture.shimmer(still) == 0


def test_flicker_is_in_grey_levels_and_sees_the_upper_corners_alone():
    pictures = torch.zeros(4, 3, 64, 64)
    pictures[1::2, :, 20:, 20:40] = 1
    assert picture.flicker(pictures) == 0
    pictures[1::2] += 2 / 255
    assert picture.flicker(pictures) == pytest.approx(1, abs=1e-3)


def test_steady_movement_does_not_shimmer_but_trembling_does():
    ramp = torch.linspace(-1, 1, 8)[:, None, None, None].expand(-1, 3, 8, 8)
    assert picture.shimmer(ramp) == pytest.approx(0, abs=1e-3)
    assert picture.shimmer(ramp + 0.1 * (torch.arange(8) % 2)[:, None, None, None]) > 10


def test_a_jump_of_the_picture_between_clips_shows_at_the_joins_alone(still_readings):
    pictures = torch.zeros(8, 3, 64, 64)
    pictures[4:] = 10 / 127.5
    found = picture.measure(pictures, still_readings(8, marks=torch.full((8, 3, 2), 0.5)), clip_frames=4)
    assert found["change_joins"] == pytest.approx(10, rel=1e-4) and found["change_inside"] == 0

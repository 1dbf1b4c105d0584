import pytest
import torch

from emo_model.evaluation.instruments import FaceBox
from emo_model.evaluation.metrics import mouth


def test_the_truth_measured_against_itself_is_perfect(still_readings):
    tracks = torch.rand(3, 60, generator=torch.Generator().manual_seed(0))
    true = still_readings(60, opening=tracks[0], width=tracks[1], closure=tracks[2])
    assert mouth.measure(true, true) == pytest.approx(
        {"opening_r": 1, "width_r": 1, "closure_r": 1, "opening_gain": 1, "lag": 0}, abs=0.05)


def test_each_track_is_compared_with_its_own_truth(still_readings):
    opening, width = torch.rand(2, 60, generator=torch.Generator().manual_seed(1))
    true = still_readings(60, opening=opening, width=width, closure=width)
    found = mouth.measure(still_readings(60, opening=2 * opening, width=-width, closure=width), true)
    assert found["opening_gain"] == pytest.approx(2)
    assert (found["width_r"], found["closure_r"]) == pytest.approx((-1, 1))


def test_correlation_by_part_sees_where_a_video_goes_wrong():
    true = torch.rand(75, generator=torch.Generator().manual_seed(2))
    said = torch.cat([true[:50], -true[50:]])
    assert mouth.opening_by_part(said, true, 25) == pytest.approx([1, 1, -1])


def test_a_dark_hole_at_the_references_mouth_is_seen_without_an_instrument():
    pictures = torch.zeros(3, 3, 100, 100)
    pictures[1, :, 60:68, 44:56], pictures[2, :, 10:18, 44:56] = -1, -1  # at the mouth; on the forehead
    dark = mouth.darkness(pictures, FaceBox(0.5, 0.5, 0.2))
    assert dark[1] > 0.5 and dark[0] == dark[2] == 0

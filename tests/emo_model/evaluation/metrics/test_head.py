import math

import pytest
import torch

from emo_model.evaluation.metrics import head


def test_a_head_that_turns_one_degree_a_frame_turns_25_degrees_a_second(still_readings):
    said = still_readings(30, yaw=torch.arange(30) * math.radians(1))
    found = head.measure(said, clip_frames=12, fps=25)
    assert found["speed"] == pytest.approx(25, rel=1e-3)
    assert found["joins"] / found["inside"] == pytest.approx(1, rel=1e-3)


def test_a_jump_between_clips_shows_at_the_joins_alone(still_readings):
    yaw = torch.arange(36) * math.radians(0.1) + (torch.arange(36) // 12) * math.radians(2)
    found = head.measure(still_readings(36, yaw=yaw), clip_frames=12, fps=25)
    assert found["inside"] == pytest.approx(2.5, rel=1e-2)
    assert found["joins"] == pytest.approx(52.5, rel=1e-2)


def test_a_video_of_one_clip_has_no_joins(still_readings):
    assert math.isnan(head.measure(still_readings(12), clip_frames=12, fps=25)["joins"])

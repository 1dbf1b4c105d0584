import math

import pytest
import torch

from emo_model.evaluation.metrics import pauses


def test_a_mouth_that_shuts_in_pauses_and_a_head_that_stops_there_are_told(still_readings):
    silent = torch.zeros(60, dtype=torch.bool)
    silent[20:40] = True
    opening = torch.where(silent, 0.02, 0.5)
    yaw = torch.cat([torch.arange(20), torch.full((20,), 20), torch.arange(20, 40)]) * math.radians(1)
    found = pauses.measure(still_readings(60, opening=opening, yaw=yaw), silent=silent, fps=25)
    assert found["opening_pause"] == pytest.approx(0.02) and found["opening_speech"] == pytest.approx(0.5)
    assert found["shut_pause"] == 1 and found["shut_speech"] == 0
    assert found["speed_pause"] == pytest.approx(0, abs=1.5) and found["speed_speech"] == pytest.approx(25, rel=0.1)


def test_a_video_without_pauses_says_nothing_about_them(still_readings):
    found = pauses.measure(still_readings(20), silent=torch.zeros(20, dtype=torch.bool), fps=25)
    assert math.isnan(found["opening_pause"]) and found["opening_speech"] == 0

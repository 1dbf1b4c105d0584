import math

import pytest
import torch

from emo_model.evaluation.metrics.mouth import closures, limit


def test_a_closure_is_reached_where_the_lips_meet_in_it_or_a_frame_beside_it():
    closure, opening = torch.zeros(30), torch.full((30,), 0.2)
    closure[[5, 6, 14, 15, 25]] = 1.0
    opening[7] = 0.01  # a frame late
    opening[18] = 0.01  # three frames late
    assert closures(opening, closure, limit=0.03) == [True, False, False]


def test_lips_count_as_shut_where_they_are_as_near_as_the_puppets():
    opening, where = torch.full((50,), 0.2), torch.zeros(50, dtype=torch.bool)
    opening[10:20], where[10:20] = 0.03, True
    assert limit(opening, where) == pytest.approx(0.04)
    assert math.isnan(limit(opening, torch.zeros(50, dtype=torch.bool)))

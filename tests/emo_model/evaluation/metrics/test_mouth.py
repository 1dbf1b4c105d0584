import torch

from emo_model.evaluation.metrics.mouth import closures, shut_below


def test_a_closure_is_reached_where_the_lips_meet_in_it_or_a_frame_beside_it():
    closure, opening = torch.zeros(30), torch.full((30,), 0.2)
    closure[[5, 6, 14, 15, 25]] = 1.0
    opening[7] = 0.01  # a frame late
    opening[18] = 0.01  # three frames late
    assert closures(opening, closure, limit=0.03) == [True, False, False]


def test_lips_count_as_shut_a_little_above_what_the_portrait_shows():
    opening = torch.linspace(0.0, 0.3, 50)
    assert 0.01 < shut_below(0.01, opening) <= 0.05
    assert shut_below(0.2, opening) < 0.1  # a portrait whose mouth is open says nothing

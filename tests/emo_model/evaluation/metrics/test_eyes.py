import pytest
import torch

from emo_model.evaluation.metrics.eyes import agreement, blinks, shut_share


def test_blinks_are_counted_over_what_the_eyes_usually_look_like():
    eyes = torch.full((100, 2), 0.07)
    eyes[40:45] = 0.4
    assert shut_share(eyes) == pytest.approx(0.05)
    assert agreement(eyes) == 1


def test_an_eye_that_shuts_alone_disagrees():
    eyes = torch.full((100, 2), 0.07)
    eyes[40:45, 0] = 0.4
    assert agreement(eyes) == pytest.approx(0.95)


def test_eyes_that_never_change_never_blink():
    assert shut_share(torch.zeros(50, 2)) == 0


def test_blinks_are_counted_by_when_they_begin():
    eyes = torch.full((100, 2), 0.07)
    eyes[20:24], eyes[60:63] = 0.4, 0.5
    assert blinks(eyes) == 2 and blinks(torch.zeros(50, 2)) == 0

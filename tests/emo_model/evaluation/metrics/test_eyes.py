import pytest
import torch

from emo_model.evaluation.metrics import eyes


def test_eyes_that_move_together_agree(still_readings):
    blink, gaze = torch.rand(40, generator=torch.Generator().manual_seed(0)), torch.linspace(-1, 1, 40)
    true = still_readings(40, blink_left=blink, blink_right=blink, gaze_x_left=gaze, gaze_x_right=gaze)
    found = eyes.measure(true, true)
    assert (found["disagreeing"], found["blink_apart"], found["gaze_apart"], found["iris_error"]) == (0, 0, 0, 0)


def test_a_wink_and_a_squint_disagree_but_what_shut_eyes_look_at_does_not_count(still_readings):
    left = torch.tensor([0.0, 1.0, 0.0, 1.0])
    right = torch.tensor([0.0, 0.2, 0.0, 1.0])
    looks = torch.tensor([0.0, 0.0, 0.9, 0.9])
    said = still_readings(4, blink_left=left, blink_right=right, gaze_x_left=looks)
    assert eyes.disagreeing(said).tolist() == [False, True, True, False]


def test_blink_share_counts_frames_with_shut_lids(still_readings):
    blink = torch.tensor([0.0] * 15 + [1.0] * 5)
    true = still_readings(20, blink_left=blink, blink_right=blink)
    assert eyes.measure(true, true)["blink_share"] == pytest.approx(0.25)


def test_iris_colours_are_compared_where_the_eyes_are_open(still_readings):
    blink, iris = torch.tensor([0.0, 1.0]), torch.zeros(2, 2, 3)
    iris[0], iris[1] = 0.1, 0.9
    said = still_readings(2, blink_left=blink, blink_right=blink, iris=iris)
    assert eyes.measure(said, still_readings(2))["iris_error"] == pytest.approx(0.1)


def clip(left, right):
    zeros = [0.0] * len(left)
    return {"blink_left": zeros, "blink_right": zeros, "gaze_x_left": left, "gaze_x_right": right, "gaze_y_left": zeros,
            "gaze_y_right": zeros}


def test_left_and_right_gaze_correlate_only_where_they_move_together():
    track = torch.randn(200, generator=torch.Generator().manual_seed(1))
    other = torch.randn(200, generator=torch.Generator().manual_seed(2))
    assert eyes.together([clip(track.tolist(), track.tolist())])["gaze_r"] == pytest.approx(1)
    assert abs(eyes.together([clip(track.tolist(), other.tolist())])["gaze_r"]) < 0.2


def test_two_people_who_look_to_different_sides_do_not_make_eyes_that_move_together():
    noise = 0.01 * torch.randn(4, 100, generator=torch.Generator().manual_seed(3))
    clips = [clip((noise[0] + 1).tolist(), (noise[1] + 1).tolist()), clip((noise[2] - 1).tolist(), (noise[3] - 1).tolist())]
    assert abs(eyes.together(clips)["gaze_r"]) < 0.25

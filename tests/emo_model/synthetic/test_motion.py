from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from emo_model.synthetic.motion import FaceMotion, head_speed_degrees, sample_motion, sample_still_motion

FPS = 25.0


def spoken(frames: int) -> torch.Tensor:
    return torch.rand(frames, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("axis", ["yaw", "pitch", "roll"])
def test_head_speed_is_the_angle_between_frames_times_the_frame_rate(axis):
    turning = dataclasses.replace(FaceMotion.neutral(6), **{axis: torch.arange(6) * math.radians(0.8)})
    torch.testing.assert_close(head_speed_degrees(turning, FPS), torch.full((6,), 20.0), rtol=1e-4, atol=1e-4)


def test_head_speed_counts_rotations_about_all_axes_as_one_angle():
    motion = dataclasses.replace(FaceMotion.neutral(2), yaw=torch.tensor([0.0, 0.03]), pitch=torch.tensor([0.0, 0.04]))
    torch.testing.assert_close(
        head_speed_degrees(motion, FPS)[1], torch.tensor(math.degrees(0.05) * FPS), rtol=1e-3, atol=0
    )


def test_head_speed_of_many_clips_is_that_of_each():
    clips = [sample_motion(seed, 20, FPS, mouth=spoken(20)) for seed in range(3)]
    together = head_speed_degrees(FaceMotion.stack(clips), FPS)
    torch.testing.assert_close(together, torch.stack([head_speed_degrees(clip, FPS) for clip in clips]))


@pytest.mark.parametrize("wanted", [2.0, 12.0, 40.0])
def test_a_clip_turns_at_about_the_head_speed_it_is_asked_for(wanted):
    motion = sample_motion(4, 200, FPS, mouth=spoken(200), head_speed=wanted)
    assert head_speed_degrees(motion, FPS).mean().item() == pytest.approx(wanted, rel=0.2)


def test_clips_differ_widely_in_head_speed():
    speeds = torch.tensor(
        [head_speed_degrees(sample_motion(seed, 60, FPS, mouth=spoken(60)), FPS).mean() for seed in range(60)]
    )
    assert torch.quantile(speeds, 0.1) < 5 and torch.quantile(speeds, 0.9) > 14


def test_the_same_seed_gives_the_same_motion_and_another_seed_another():
    once, again, other = (sample_motion(seed, 50, FPS, mouth=spoken(50)) for seed in (7, 7, 8))
    assert torch.equal(once.yaw, again.yaw) and torch.equal(once.blink_left, again.blink_left)
    assert not torch.equal(once.yaw, other.yaw)


def test_the_mouth_is_what_was_spoken():
    mouth = spoken(30)
    torch.testing.assert_close(sample_motion(0, 30, FPS, mouth=mouth).mouth, mouth)


def test_a_mouth_of_another_length_is_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\(30, 4\), got \(29, 4\)"):
        sample_motion(0, 30, FPS, mouth=spoken(29))


def test_the_head_nods_with_the_voice():
    voiced = (torch.sin(torch.arange(200) / FPS * 2 * math.pi * 0.9) > 0).float()
    still = sample_motion(3, 200, FPS, mouth=spoken(200), head_speed=8.0)
    moved = sample_motion(3, 200, FPS, mouth=spoken(200), voiced=voiced, head_speed=8.0)

    def correlation(track):
        return torch.corrcoef(torch.stack((track, voiced)))[0, 1]

    assert correlation(moved.pitch) > 0.25 > correlation(still.pitch).abs()


def test_lids_are_shut_about_a_twentieth_of_the_time_for_some_frames_each():
    lids = torch.cat([sample_motion(seed, 500, FPS, mouth=spoken(500)).blink_left for seed in range(30)])
    assert 0.03 < (lids > 0.5).float().mean() < 0.08
    starts = ((lids[1:] > 0) & (lids[:-1] == 0)).sum()
    assert 6 < (lids > 0).sum() / starts < 10


def test_both_eyes_blink_together():
    motion = sample_motion(5, 300, FPS, mouth=spoken(300))
    assert motion.blink_left.max() > 0.9
    torch.testing.assert_close(motion.blink_left, motion.blink_right, rtol=0.06, atol=0)


def test_gaze_makes_up_for_half_of_the_yaw():
    motions = FaceMotion.stack([sample_motion(seed, 100, FPS, mouth=spoken(100)) for seed in range(40)])
    free = motions.gaze_x + 0.5 * motions.yaw
    assert 0.04 < free.std() < 0.09
    assert sample_still_motion(range(300)).gaze_x.std() < 0.16


def test_motion_is_smooth():
    motion = sample_motion(2, 250, FPS, mouth=spoken(250), head_speed=12.0)
    for track in (motion.yaw, motion.pitch, motion.roll, motion.x, motion.y):
        assert track.diff().diff().abs().max() < 0.35 * track.diff().abs().max() + 1e-4


def test_a_still_moment_belongs_to_its_seed_alone():
    many, one = sample_still_motion(range(20)), sample_still_motion([13])
    assert torch.equal(many.yaw[13:14], one.yaw) and torch.equal(many.opening[13:14], one.opening)


def test_still_mouths_are_of_all_kinds():
    motion = sample_still_motion(range(500))
    for track in (motion.opening, motion.closure, motion.tuck):
        assert (track > 0.7).sum() >= 10 and (track < 0.1).sum() >= 50
    assert motion.width.min() < -0.8 and motion.width.max() > 0.8
    assert 0.02 < (motion.blink_left > 0.5).float().mean() < 0.12

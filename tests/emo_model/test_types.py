from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emo_model.types import AudioFeatures, FaceMask, FaceMasks, Fit, MotionFrames, Speed


def test_speed_is_straight_between_knots_and_constant_beyond():
    speed = Speed((1.0, 2.0, 4.0), (10.0, 20.0, 0.0))
    frames = torch.tensor([0, 10, 15, 20, 30, 40, 99])  # at 10 fps: 0, 1, 1.5, 2, 3, 4, 9.9 s
    torch.testing.assert_close(speed.at(frames, 10.0), torch.tensor([10.0, 10.0, 15.0, 20.0, 10.0, 0.0, 0.0]))


def test_a_constant_speed_is_the_same_at_every_frame():
    frames = torch.arange(-3, 9).view(3, 4)
    assert torch.equal(Speed.constant(7.5).at(frames, 25.0), torch.full((3, 4), 7.5))


def test_speed_keeps_the_shape_of_the_frames():
    assert Speed((0.0, 1.0), (0.0, 5.0)).at(torch.zeros(2, 3, 5, dtype=torch.long), 25.0).shape == (2, 3, 5)


@pytest.mark.parametrize(
    ("seconds", "speeds", "says"),
    [
        ((), (), "at least one; got 0 and 0"),
        ((0.0, 1.0), (1.0,), "got 2 and 1"),
        ((0.0, 1.0, 1.0), (1.0, 2.0, 3.0), "must increase"),
    ],
)
def test_knots_that_make_no_curve_are_refused(seconds, speeds, says):
    with pytest.raises(ValueError, match=says):
        Speed(seconds, speeds)


def test_windows_reach_m_frames_to_both_sides_and_repeat_the_ends(config, conditions):
    whole = conditions(config, frames=10)
    voice = whole.audio.frames
    clip = whole.clip(4, clip_frames=4, margin_frames=2)
    assert clip.audio.shape == (1, 4, 5, *voice.shape[1:])
    for frame in range(4):
        assert torch.equal(clip.audio[0, frame], voice[4 + frame - 2 : 4 + frame + 3])
    first = whole.clip(0, clip_frames=4, margin_frames=2)
    assert torch.equal(first.audio[0, 0], voice[[0, 0, 0, 1, 2]])
    last = whole.clip(8, clip_frames=4, margin_frames=2)
    assert torch.equal(last.audio[0, 1], voice[[7, 8, 9, 9, 9]])


def test_the_last_clip_says_how_many_of_its_frames_belong_to_the_video(config, conditions):
    whole = conditions(config, frames=10)
    clips = [whole.clip(start, clip_frames=4, margin_frames=2) for start in (0, 4, 8)]
    assert [clip.frames for clip in clips] == [4, 4, 2]
    # padded: the networks see whole clips
    assert all(clip.audio.shape[1] == clip.speed.shape[1] == 4 for clip in clips)


def test_clips_together_hold_the_windows_of_the_whole(config, conditions):
    whole = conditions(config, frames=12, speed=Speed((0.0, 0.4), (0.0, 40.0)))
    together = whole.clip(0, clip_frames=12, margin_frames=2)
    clips = [whole.clip(start, clip_frames=4, margin_frames=2) for start in (0, 4, 8)]
    assert torch.equal(torch.cat([clip.audio for clip in clips], dim=1), together.audio)
    assert torch.equal(torch.cat([clip.speed for clip in clips], dim=1), together.speed)


def test_motion_frames_are_the_last_of_a_clip_in_order(seeded):
    latents = seeded(1, 4, 6, 2, 2)
    assert torch.equal(MotionFrames.last_of(latents, 2).latents, latents[:, :, [4, 5]])
    assert torch.equal(MotionFrames.after(latents[:, :, :5], latents[:, :, 5:], 2), latents[:, :, [4, 5]])
    assert torch.equal(MotionFrames.after(None, latents[:, :, :1], 2), latents[:, :, :1])
    assert MotionFrames.after(latents, latents, 0).shape[2] == 0
    assert MotionFrames.last_of(latents, 0).latents.shape[2] == 0  # not all of them, as [-0:] would be
    with pytest.raises(ValueError, match="a clip of 6 frames has no 7 motion frames"):
        MotionFrames.last_of(latents, 7)


def mask_of(*columns: int, regions: bool = False) -> FaceMask:
    """White in `columns` of 8; regions as a blur would make them: pose outside, lips in the first of the columns."""
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., list(columns)] = 1
    lips = torch.zeros(1, 1, 8, 8)
    lips[..., columns[0]] = 1
    return FaceMask(mask, torch.cat([1 - mask, mask - lips, lips], dim=1) if regions else None)


@pytest.mark.parametrize(
    ("first", "last", "held"),
    [
        (0, 1.96, (0,)),
        (1.96, 1.99, (0,)),
        (1.5, 2.0, (0, 1)),
        (2.0, 2.5, (1,)),
        (2.9, 3.0, (1, 2)),
        (0, 9, (0, 1, 2)),
        (9, 9, (2,)),
    ],
)
def test_a_clip_may_have_the_face_wherever_a_mask_says_that_holds_in_it(first, last, held):
    masks = [mask_of(0, 1), mask_of(3), mask_of(6, 7)]
    over_time = FaceMasks.of(masks[0]).then(2.0, masks[1]).then(3.0, masks[2])
    found = over_time.between(first, last)
    assert torch.equal(found.mask, sum(masks[number].mask for number in held))
    assert len(held) > 1 or found is masks[held[0]]  # the same object: so a run sees that nothing changed


def test_one_mask_over_time_is_that_mask():
    mask = mask_of(2)
    assert mask.between(3, 5) is mask is FaceMasks.of(mask).between(3, 5)


def test_the_regions_of_two_masks_leave_pose_what_is_in_neither():
    found = FaceMasks.of(mask_of(0, 1, regions=True)).then(1.0, mask_of(1, 2, regions=True)).between(0, 1)
    pose, face, lips = found.regions[0, :, 0]
    assert pose.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert lips.tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert face.tolist() == [0, 0, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("seconds", "masks", "says"),
    [
        ((0.0, 5.0, 5.0), [mask_of(1)] * 3, "must increase, but 5 s follows 5 s"),
        ((0.0, float("nan")), [mask_of(1)] * 2, "must increase"),
        ((1.0,), [mask_of(1)], "the first of them 0"),
        ((0.0, 1.0), [mask_of(1)], "a time for each mask"),
        ((0.0, 1.0), [mask_of(1), FaceMask(torch.ones(1, 1, 4, 4))], "must have one shape"),
        ((0.0, 1.0), [mask_of(1), mask_of(1, regions=True)], "must have one shape"),
    ],
)
def test_masks_that_do_not_follow_each_other_are_refused(seconds, masks, says):
    with pytest.raises(ValueError, match=says):
        FaceMasks(seconds, tuple(masks))


def test_clips_know_the_mask_of_their_own_seconds(config, conditions):
    whole = conditions(config, frames=11)
    late = FaceMask(torch.zeros_like(whole.face_mask.mask))
    changed = replace(whole, face_mask=FaceMasks.of(whole.face_mask).then(4 / whole.audio.fps, late))
    clips = [changed.clip(start, clip_frames=4, margin_frames=2) for start in (0, 4, 8)]
    assert clips[0].face_mask is whole.face_mask.mask and clips[1].face_mask is clips[2].face_mask is late.mask
    behind = replace(whole, face_mask=FaceMasks.of(whole.face_mask).then(11 / whole.audio.fps, late))
    # its padding is not in the video
    assert behind.clip(8, clip_frames=4, margin_frames=2).face_mask is whole.face_mask.mask


def test_wrong_shapes_are_refused_with_the_right_ones():
    with pytest.raises(ValueError, match=r"must be \(B, 1, H, W\), got \(1, 3, 8, 8\)"):
        FaceMask(torch.ones(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"must be \(F, L, D\), got \(5, 8\)"):
        AudioFeatures(torch.ones(5, 8), 25.0, 0.2)


def test_a_fit_says_what_was_done_to_the_portrait():
    assert Fit(64, 64, 0, 0, 64, 64).summary == "Portrait 64x64, unchanged."
    cropped, padded = Fit(100, 60, 20, 0, 60, 32), Fit(100, 60, 0, -20, 100, 32)
    assert cropped.summary == "Portrait 100x60 cropped to a square of 60 pixels, scaled to 32x32."
    assert padded.summary == "Portrait 100x60 padded to a square of 100 pixels by repeating its edges, scaled to 32x32."

"""Who hears and sees whom in the backbone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emo_model.models.blocks import per_frame
from emo_model.models.emo import Emo
from emo_model.models.unet import ReferenceAddition
from emo_model.types import AudioFeatures, MotionFrames, Speed

FRAMES = 12


@pytest.fixture
def long(config, awake) -> Emo:
    """The test model with clips of twelve frames and the paper's m = 2."""
    return awake(Emo(replace(config, clip_frames=FRAMES, audio_margin_frames=2)))


def changed(before, after) -> list[int]:
    """Frames of (1, C, F, h, w) that differ at all."""
    return [frame for frame in range(before.shape[2]) if not torch.equal(before[:, :, frame], after[:, :, frame])]


def predict(emo: Emo, noisy, conditions, *, start: int = 0, motion: MotionFrames | None = None):
    """The prediction for the clip at `start`; without temporal modules if motion is None."""
    with torch.no_grad():
        reference = emo.encode_reference(conditions.portrait.latents)
        clip = conditions.clip(start, clip_frames=emo.config.clip_frames, margin_frames=emo.config.audio_margin_frames)
        heard = None if motion is None else emo.encode_motion(motion, like=reference)
        return emo.predict(noisy, torch.tensor([500]), emo.prepare(reference, heard, clip))


def other_voice(conditions, frame: int):
    """The same conditions, but for another sound at one video frame."""
    frames = conditions.audio.frames.clone()
    frames[frame] = -2 * frames[frame]
    return replace(conditions, audio=AudioFeatures(frames, conditions.audio.fps, conditions.audio.seconds))


@pytest.mark.parametrize("frame", [0, 1, 5, 11])
def test_a_change_of_the_voice_reaches_exactly_the_frames_within_its_window(long, conditions, seeded, frame):
    noisy, calm = seeded(1, 8, FRAMES, 4, 4), conditions(long.config, frames=FRAMES)
    before, after = predict(long, noisy, calm), predict(long, noisy, other_voice(calm, frame))
    reached = [number for number in range(FRAMES) if abs(number - frame) <= 2]
    assert changed(before, after) == reached
    assert (before - after).abs().amax((0, 1, 3, 4))[reached].min() > 1e-4


def test_the_voice_of_the_next_clip_reaches_the_last_m_frames_of_this_one(long, conditions, seeded):
    noisy, calm = seeded(1, 8, FRAMES, 4, 4), conditions(long.config, frames=2 * FRAMES)
    other = other_voice(calm, FRAMES)  # the first frame of the second clip
    assert changed(predict(long, noisy, calm), predict(long, noisy, other)) == [10, 11]
    assert changed(predict(long, noisy, calm, start=FRAMES), predict(long, noisy, other, start=FRAMES)) == [0, 1, 2]


def test_frames_hear_each_other_only_through_the_temporal_modules(long, conditions, seeded):
    noisy, calm = seeded(1, 8, FRAMES, 4, 4), conditions(long.config, frames=FRAMES)
    other = noisy.clone()
    other[:, :, 7] += 1
    assert changed(predict(long, noisy, calm), predict(long, other, calm)) == [7]
    first = MotionFrames()
    assert changed(predict(long, noisy, calm, motion=first), predict(long, other, calm, motion=first)) == list(
        range(FRAMES)
    )


def test_motion_frames_reach_every_frame_of_the_clip(long, conditions, seeded):
    noisy, calm = seeded(1, 8, FRAMES, 4, 4), conditions(long.config, frames=FRAMES)
    some, others = (MotionFrames(seeded(1, 8, 2, 4, 4, seed=seed)) for seed in (8, 9))
    before = predict(long, noisy, calm, motion=some)
    assert before.shape == noisy.shape  # the motion frames themselves are dropped
    assert changed(before, predict(long, noisy, calm, motion=others)) == list(range(FRAMES))


def test_head_speed_reaches_the_prediction_only_through_the_temporal_modules(long, conditions, seeded):
    noisy = seeded(1, 8, FRAMES, 4, 4)
    slow, fast = (conditions(long.config, frames=FRAMES, speed=Speed.constant(degrees)) for degrees in (0, 60))
    assert torch.equal(predict(long, noisy, slow), predict(long, noisy, fast))
    first = MotionFrames()
    assert changed(predict(long, noisy, slow, motion=first), predict(long, noisy, fast, motion=first)) == list(
        range(FRAMES)
    )


def with_addition(config, awake) -> Emo:
    return awake(Emo(replace(config, attention_levels=(False, True), reference_addition=True)))


def test_at_levels_without_attention_a_fresh_reference_addition_changes_nothing(config, awake, seeded):
    backbone, width = with_addition(config, awake).backbone, config.channels[0]
    places = ["down_blocks_0_resnets_0", "up_blocks_1_resnets_0", "up_blocks_1_resnets_1"]
    assert list(backbone.reference_additions) == places
    assert not ReferenceAddition(width)(seeded(2, 16, width, seed=1)).any()


def test_a_cell_of_the_portrait_is_added_to_the_same_cell_of_every_frame_of_its_video(awake, seeded):
    addition, reference = awake(ReferenceAddition(8)), seeded(2, 16, 8, seed=1)
    other = reference.clone()
    other[1, 6] += 1  # second row, third column
    before, after = (per_frame(addition(features), 6) for features in (reference, other))  # three frames a video
    assert (before - after).abs().amax(1).nonzero().tolist() == [[frame, 1, 2] for frame in (3, 4, 5)]


@pytest.mark.parametrize("adds", [False, True])
def test_levels_without_attention_see_the_portrait_only_by_addition(config, awake, conditions, seeded, adds):
    emo = awake(Emo(replace(config, attention_levels=(False, True), reference_addition=adds)))
    noisy, whole = seeded(1, 8, config.clip_frames, 4, 4), conditions(config, frames=config.clip_frames)
    before = predict(emo, noisy, whole)
    with torch.no_grad():
        features = emo.reference_net(whole.portrait.latents)
    emo.reference_net.forward = lambda latents: (
        features | {name: x + 1 for name, x in features.items() if "resnets" in name}
    )
    assert torch.equal(before, predict(emo, noisy, whole)) is not adds

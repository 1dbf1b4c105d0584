"""Batches that a stage draws from the clips."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from emo_model.training.clips import ClipStore, draw_batch, face_masks, loss_weight
from emo_model.training.stages import IMAGE, SPEED, VIDEO

CALM = replace(SPEED, batch=16, motion_noise=0.0, drop_audio=0.0, drop_motion=0.0, drop_reference=0.0)


def draw(store, stage, config, seed: int = 0):
    return draw_batch(store, stage, config, torch.Generator().manual_seed(seed))


def where(batch) -> list[tuple[int, int]]:
    """(person, first frame of the clip) of each sample, read from the audio, which counts frames (and hundreds of
    persons)."""
    centre = batch.audio[:, 0, batch.audio.shape[2] // 2, 0, 0].int()
    return [(value // 100, value % 100) for value in centre.tolist()]


def test_motion_frames_are_the_frames_just_before_the_clip(config, store):
    clips = store()
    batch = draw(clips, CALM, config)
    for index, (person, first) in enumerate(where(batch)):
        together = torch.cat([batch.motion[index], batch.clean[index]], dim=1).transpose(0, 1)  # (n + F, C, h, w)
        begin, end = first - config.motion_frames, first + config.clip_frames
        assert torch.equal(together, clips.latents[person, begin:end].float())
    assert len(set(where(batch))) > 5


def test_every_window_of_the_clips_is_drawn(config, store):
    seen = {place for seed in range(12) for place in where(draw(store(people=2, length=9), CALM, config, seed))}
    # 2 motion frames before, 4 frames to 9
    assert seen == {(person, first) for person in (0, 1) for first in range(2, 6)}


def test_each_frame_hears_m_frames_to_both_sides_and_the_ends_repeat(config, store):
    batch = draw(store(length=10), CALM, config)
    for index, (person, first) in enumerate(where(batch)):
        for frame in range(config.clip_frames):
            expected = [min(max(first + frame + step, 0), 9) + 100 * person for step in (-2, -1, 0, 1, 2)]
            assert batch.audio[index, frame, :, 0, 0].tolist() == expected


def test_the_speed_of_a_clip_is_its_mean_at_every_frame(config, store):
    batch = draw(store(), CALM, config)
    for index, (_, first) in enumerate(where(batch)):
        assert torch.equal(batch.speed[index], torch.full((4, 5), 10 * (first + 1.5)))


def test_the_image_stage_draws_single_frames_with_another_moment_as_reference(config, store):
    clips = store()
    batch = draw(clips, replace(IMAGE, batch=32), config)
    assert batch.clean.shape == (32, 8, 1, 4, 4) and batch.motion.shape == (32, 8, 0, 4, 4)
    for index, (person, _) in enumerate(where(batch)):
        moments = torch.cat([clips.stills[person], clips.latents[person]]).float()
        assert (moments == batch.reference[index]).flatten(1).all(1).any()  # of the same person
    assert sum(torch.equal(a, b) for a, b in zip(batch.reference, batch.clean[:, :, 0], strict=True)) < 8


def test_batches_are_the_same_for_the_same_seed_and_no_other(config, store):
    one, same, other = (draw(store(), VIDEO, config, seed) for seed in (1, 1, 2))
    for field in fields(one):
        assert torch.equal(getattr(one, field.name), getattr(same, field.name)), field.name
    assert not torch.equal(one.noise, other.noise)


@pytest.mark.parametrize("name", ["reference", "audio", "motion"])
def test_a_drop_out_drops_its_share_of_samples(config, store, name):
    clips = store()
    for share in (0.0, 0.3, 1.0):
        stage = replace(CALM, batch=400, **{f"drop_{name}": share})
        batch = draw(clips, stage, config)
        assert abs(getattr(batch, f"keeps_{name}").mean() - (1 - share)) < 0.08
        others = [getattr(batch, f"keeps_{other}") for other in ("reference", "audio", "motion") if other != name]
        assert all(keeps.all() for keeps in others)


def test_noise_is_added_to_motion_frames_and_references_only_where_the_stage_says_so(config, store):
    clips = store()
    calm = draw(clips, CALM, config)
    shaken = draw(clips, replace(CALM, motion_noise=0.4, reference_noise=0.2), config)
    assert torch.equal(calm.clean, shaken.clean) and where(calm) == where(shaken)
    for name, most in (("motion", 0.4), ("reference", 0.2)):
        spread = (getattr(shaken, name) - getattr(calm, name)).flatten(1).std(1)
        assert 0 < spread.max() < 1.5 * most and spread.std() > 0  # each sample has a strength of its own


def test_every_batch_sees_all_noise_levels(config, store):
    steps = draw(store(), replace(CALM, batch=20), config).timestep
    assert (steps // 50).tolist() == list(range(20))  # one in each twentieth of the schedule


@pytest.mark.parametrize("batch", [1, 4, 32, 128])
def test_the_noisiest_draw_there_is_stays_inside_the_schedule(config, store, monkeypatch, batch):
    largest = 1 - 2**-24  # of torch.rand; (batch - 1 + largest) is batch in float32
    monkeypatch.setattr(torch, "rand", lambda shape, generator: torch.full(shape, largest))
    timestep = draw(store(), replace(CALM, batch=batch), config).timestep
    assert timestep.max() == config.train_timesteps - 1


def test_a_mask_is_the_box_or_the_whole_picture():
    boxes = torch.tensor([[0.25, 0.5, 0.75, 1.0], [0.25, 0.5, 0.75, 1.0]])
    masks = face_masks(boxes, 8, whole=torch.tensor([False, True]))
    assert masks[0].sum() == 4 * 4 and masks[0, 0, 4:, 2:6].all() and masks[1].all()


def test_the_loss_weighs_most_at_the_mouth_and_the_eyes_and_one_far_away():
    marks = torch.tensor([[0.5, 0.75], [0.35, 0.4], [0.65, 0.4]]).view(1, 1, 3, 2)
    weight = loss_weight(marks, 40)[0, 0]
    assert all(weight[round(40 * y), round(40 * x)] > 5.5 for x, y in marks[0, 0].tolist())
    assert abs(weight[0, 0] - 1) < 1e-3 and weight.min() >= 1 and weight.max() < 8


def test_clips_too_short_for_the_model_are_refused_with_the_numbers(config, store):
    with pytest.raises(ValueError, match="clips of 5 frames are too short for 2 motion frames and 4 frames"):
        draw(store(length=5), CALM, config)


def test_stored_clips_come_back_and_join(store, tmp_path):
    clips = store()
    clips.save(tmp_path / "clips.safetensors")
    twice = ClipStore.join([ClipStore.load(tmp_path / "clips.safetensors"), clips])
    assert len(twice) == 2 * len(clips)
    for field in fields(clips):
        value, doubled = getattr(clips, field.name), getattr(twice, field.name)
        assert torch.equal(doubled, torch.cat([value, value])) and doubled.dtype == value.dtype


def test_two_thirds_of_the_samples_train_the_favoured_timesteps(config, store):
    favoured = {999, 499}
    stage = replace(CALM, batch=600, favoured=(999, 499))
    steps = draw(store(), stage, config).timestep.tolist()
    assert 0.60 < sum(step in favoured for step in steps) / 600 < 0.74
    assert len(set(steps) - favoured) > 150  # the others are spread over all noise levels
    assert sum(step in favoured for step in draw(store(), replace(stage, favoured=()), config).timestep.tolist()) < 10

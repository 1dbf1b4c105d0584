"""One batch's loss: what it hears, and whom it teaches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emo_model.models.emo import Emo
from emo_model.training.loss import EmoTask
from emo_model.training.stages import IMAGE, SPEED, VIDEO

STAGES = {stage.name: replace(stage, batch=3) for stage in (IMAGE, VIDEO, SPEED)}


@pytest.fixture
def task(emo, store):
    """task("video"): the stage on a model in which nothing is zero."""
    return lambda name: EmoTask(emo, STAGES[name], store(), seed=0)


@pytest.mark.parametrize(
    "levels",
    [
        {"attention_levels": (True, True)},
        {"attention_levels": (True, False)},
        {"attention_levels": (False, True), "reference_addition": True},
    ],
    ids=["test", "emo", "cpu"],
)
@pytest.mark.parametrize("name", STAGES)
def test_gradients_reach_exactly_what_the_stage_trains(config, awake, store, name, levels):
    task = EmoTask(awake(Emo(replace(config, **levels))), STAGES[name], store(), seed=0).train()
    loss, _ = task(task.batch(0))
    loss.backward()
    reached = {key for key, value in task.emo.named_parameters() if value.grad is not None and value.grad.any()}
    assert reached == {key for key, _ in task.emo.named_parameters() if task.stage.trains_parameter(key)}
    assert all(value.grad is None for key, value in task.emo.named_parameters() if key not in reached)


def weighted(error, weight):
    """The mean over the samples of each one's weighted mean."""
    means = [(one * share).sum() / share.sum() for one, share in zip(error, weight, strict=True)]
    return torch.stack(means).mean()


def test_the_next_stage_wakes_what_the_one_before_froze(emo, store):
    EmoTask(emo, STAGES["image"], store(), seed=0)
    frozen = {name for name, value in emo.named_parameters() if not value.requires_grad}
    EmoTask(emo, STAGES["video"], store(), seed=0)
    assert any("motion_modules" in name for name in frozen)
    assert all(
        value.requires_grad
        for name, value in emo.named_parameters()
        if "motion_modules" in name and "_speed" not in name
    )


@pytest.mark.parametrize("name", STAGES)
def test_the_loss_is_the_weighted_squared_error_of_the_prediction(task, name):
    task = task(name).eval()
    batch, said = task.batch(0), []
    predict = task.emo.predict
    task.emo.predict = lambda noisy, timestep, context: (
        said.append((noisy, predict(noisy, timestep, context))) or said[-1][1]
    )
    with torch.no_grad():
        loss, values = task(batch)
    alpha, sigma = (scale.view(-1, 1, 1, 1, 1) for scale in task.schedule.scales(batch.timestep))
    noisy, prediction = said[0]
    torch.testing.assert_close(noisy, alpha * batch.clean + sigma * batch.noise)
    error = (prediction - (alpha * batch.noise - sigma * batch.clean)).square().mean(1)
    torch.testing.assert_close(loss, weighted(error, batch.weight))
    torch.testing.assert_close(values["plain"], error.mean())
    near = batch.weight > 3
    assert near.any() and not near.all()
    torch.testing.assert_close(values["mouth_and_eyes"], error[near].mean())


HEARD = {
    "image": {"reference", "face_mask"},
    "video": {"reference", "face_mask", "audio", "motion"},
    "speed": {"reference", "face_mask", "audio", "motion", "speed"},
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_hears_exactly_what_it_should(task, name, seeded):
    task = task(name).eval()
    batch = task.batch(0)
    batch = replace(batch, **{f"keeps_{part}": torch.ones(3) for part in ("reference", "audio", "motion")})
    others = {
        "reference": seeded(*batch.reference.shape, seed=9),
        "face_mask": 1 - batch.face_mask,
        "audio": -batch.audio,
        "motion": seeded(*batch.motion.shape, seed=8),
        "speed": batch.speed + 30,
    }
    with torch.no_grad():
        loss, _ = task(batch)
        heard = {
            part for part, other in others.items() if not torch.equal(task(replace(batch, **{part: other}))[0], loss)
        }
    assert heard == HEARD[name]


@pytest.mark.parametrize("part", ["reference", "audio", "motion"])
def test_a_dropped_part_is_not_heard(task, seeded, part):
    task = task("speed").eval()
    batch = replace(task.batch(0), **{f"keeps_{part}": torch.zeros(3)})
    other = replace(batch, **{part: seeded(*getattr(batch, part).shape, seed=9)})
    kept = {f"keeps_{part}": torch.ones(3)}
    with torch.no_grad():
        assert torch.equal(task(batch)[0], task(other)[0])
        assert not torch.equal(task(replace(batch, **kept))[0], task(replace(other, **kept))[0])


def test_dropped_parts_are_what_guidance_and_first_clips_show_the_model(task):
    task = task("speed").eval()
    batch = replace(task.batch(0), **{f"keeps_{part}": torch.zeros(3) for part in ("reference", "audio", "motion")})
    seen = []
    predict = task.emo.predict
    task.emo.predict = lambda noisy, timestep, context: seen.append(context) or predict(noisy, timestep, context)
    with torch.no_grad():
        task(batch)
    assert not seen[0].audio.any()  # Context.without_audio
    assert not any(x.any() for features in (seen[0].reference, seen[0].motion) for x in features.features.values())


def test_a_batch_is_the_same_for_the_same_seed_stage_step_and_part(emo, store):
    def noise(seed=0, stage="video", step=5, part=0):
        return EmoTask(emo, STAGES[stage], store(), seed=seed).batch(step, part, 2).noise

    assert torch.equal(noise(), noise())
    for other in ({"seed": 1}, {"stage": "speed"}, {"step": 6}, {"part": 1}):
        assert not torch.equal(noise(), noise(**other)), other


def test_channels_weigh_in_the_loss_as_the_stage_says(emo, store):
    plain, even, first = (
        EmoTask(emo, replace(STAGES["video"], channel_weights=weights), store(), seed=0).eval()
        for weights in ((), (2.0,) * 8, (1.0,) + (0.0,) * 7)
    )
    batch, said = plain.batch(0), []
    predict = emo.predict
    emo.predict = lambda *given: said.append(predict(*given)) or said[-1]
    with torch.no_grad():
        losses = [task(batch)[0] for task in (plain, even, first)]
    torch.testing.assert_close(losses[0], losses[1])
    error = (said[0] - plain.schedule.target(batch.clean, batch.noise, batch.timestep)).square()[:, 0]
    torch.testing.assert_close(losses[2], weighted(error, batch.weight))

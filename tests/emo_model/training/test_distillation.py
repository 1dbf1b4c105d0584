"""The fourth stage: where a step of the student should land, what the student and its teacher see, and a run as a
whole."""

from __future__ import annotations

import copy
import itertools
import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from emo_model.checkpoints import native
from emo_model.config import PRESETS, SamplingConfig
from emo_model.models.emo import Emo
from emo_model.sampling.clips import ClipRenderer, generate_clips
from emo_model.sampling.samplers import guided, sample_ddim
from emo_model.sampling.schedule import NoiseSchedule
from emo_model.training.__main__ import main
from emo_model.training.distillation import (
    DistillationBatch,
    DistillationTask,
    distill,
    land,
    landing_prediction,
    paths,
    walk,
)
from emo_model.training.loop import OutOfTime
from emo_model.training.stages import DISTILLATIONS

pytest.importorskip("accelerate")

HOW = replace(DISTILLATIONS["test"], teacher_steps=4)


@pytest.fixture
def task(emo, store):
    """task(audio_guidance=1.0): a student of a model in which nothing is zero, and its teacher."""
    return lambda **changes: DistillationTask(emo, replace(HOW, **changes), store(), seed=0)


def schedule(**changes) -> NoiseSchedule:
    return NoiseSchedule(replace(PRESETS["test"], **changes))


SCHEDULES = {"velocity": schedule(), "noise": schedule(prediction="epsilon", zero_terminal_snr=False)}


# the algebra


def test_the_teacher_passes_by_every_timestep_of_the_student():
    assert paths(schedule(), 2, 10) == [[999, 899, 799, 699, 599, 499], [499, 399, 299, 199, 99, -1]]
    assert paths(schedule(), 1, 1) == [[999, -1]]
    for steps, teacher_steps in ((2, 4), (3, 9), (4, 20), (7, 21)):
        assert [path[0] for path in paths(schedule(), steps, teacher_steps)] == schedule().timesteps(steps)


def test_a_teacher_that_does_not_stop_where_the_student_does_is_refused():
    with pytest.raises(ValueError, match="a teacher of 5 steps does not stop where a student of 2 steps does"):
        paths(schedule(), 2, 5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_walking_is_the_sampler(name, seeded):
    noise, timesteps = seeded(2, 4, 3, 4, 4), SCHEDULES[name].timesteps(5)

    def predict(x, timestep):
        return torch.sin(3 * x) + timestep / 1000

    sampled = sample_ddim(predict, noise, SCHEDULES[name], timesteps, lambda done, clean: None)
    torch.testing.assert_close(walk(predict, noise, SCHEDULES[name], [*timesteps, -1]), sampled)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("now, after", [(999, 499), (499, -1), (749, 249), (30, -1)])
def test_saying_what_lands_there_lands_there(name, now, after, seeded):
    x, there = seeded(2, 4, 3, 4, 4), seeded(2, 4, 3, 4, 4, seed=1)
    prediction = landing_prediction(SCHEDULES[name], x, there, now, after)
    torch.testing.assert_close(land(SCHEDULES[name], x, prediction, now, after), there, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_teacher_that_knows_the_picture_is_its_own_student(name, seeded):
    """All of its steps point at the same picture, so several land where one does."""
    made, clean, noise = SCHEDULES[name], *seeded(2, 1, 4, 3, 4, 4)
    x = made.add_noise(clean, noise, torch.tensor([749]))

    def oracle(x, timestep):
        alpha, sigma = made.scales(timestep)
        return made.target(clean, (x - alpha * clean) / sigma, torch.tensor([timestep]))

    there = walk(oracle, x, made, [749, 600, 400, 249])
    torch.testing.assert_close(landing_prediction(made, x, there, 749, 249), oracle(x, 749), rtol=1e-4, atol=1e-4)


# what student and teacher see


def test_a_student_that_is_its_teacher_and_takes_as_many_steps_has_no_loss(task):
    task = task(audio_guidance=1.0, teacher_steps=2).eval()
    for step in (0, 1):
        with torch.no_grad():
            loss, _ = task(task.batch(step))
        assert loss < 1e-9


@pytest.mark.parametrize("change", [{"audio_guidance": 2.0}, {"teacher_steps": 6}, {"reference_guidance": 2.0}])
def test_guidance_and_more_steps_are_what_it_has_to_learn(task, change):
    task = task(**({"audio_guidance": 1.0, "teacher_steps": 2} | change)).eval()
    with torch.no_grad():
        assert task(task.batch(0))[0] > 1e-5


def test_the_loss_is_the_weighted_squared_error_at_every_point_of_the_students_own_way(task):
    task = task().eval()
    with torch.no_grad():
        stir(task.emo.backbone)
        batch = task.batch(0).clip
        loss, values = task(DistillationBatch(batch, None))
        context = task._context(batch, task.emo.encode_reference(batch.reference))
        teach, x, losses = guided(task.teacher, context, SamplingConfig(audio_guidance=2.5)), batch.noise, []
        for now, after, path in ((999, 499, [999, 749, 499]), (499, -1, [499, 249, -1])):
            prediction = task.emo.predict(x, torch.full((2,), now), context)
            target = landing_prediction(task.schedule, x, walk(teach, x, task.schedule, path), now, after)
            error = (prediction - target).square().mean(1)
            losses.append((error * batch.weight).sum() / batch.weight.sum())
            torch.testing.assert_close(values[f"plain_{now}"], error.mean())
            x = land(task.schedule, x, prediction, now, after)
    torch.testing.assert_close(loss, (losses[0] + losses[1]) / 2)


def stir(module):
    """The module is no longer what it was."""
    generator = torch.Generator().manual_seed(5)
    for parameter in module.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def test_every_other_batch_begins_where_the_students_own_clip_ended(task):
    task, given = task().eval(), []
    encode = task.emo.encode_motion
    task.emo.encode_motion = lambda motion, *, like: given.append(motion.latents) or encode(motion, like=like)
    first, second = task.batch(0), task.batch(1)
    assert first.before is None and second.before is not None
    with torch.no_grad():
        stir(task.emo.backbone)
        task(first)
        assert len(given) == 1 and torch.equal(given[0], first.clip.motion)
        task(second)
        before = task._context(second.before, task.emo.encode_reference(second.clip.reference))
        own = walk(
            lambda x, t: task.emo.predict(x, torch.full((2,), t), before),
            second.before.noise,
            task.schedule,
            [999, 499, -1],
        )
    assert torch.equal(given[1], second.before.motion)
    torch.testing.assert_close(given[2], own[:, :, -task.emo.config.motion_frames :])


def test_the_clip_before_ends_where_the_clip_begins(task):
    batch = task().batch(1)
    middle = PRESETS["test"].audio_margin_frames
    # counts the frames
    heard = torch.cat([part.audio[:, :, middle, 0, 0] for part in (batch.before, batch.clip)], dim=1)
    assert torch.equal(heard.diff(dim=1), torch.ones(2, 7))


def test_only_the_students_backbone_trains_and_the_teacher_stays_as_it_was(task):
    task = task().train()
    teacher = copy.deepcopy(task.teacher.state_dict())
    optimiser = torch.optim.SGD([value for value in task.parameters() if value.requires_grad], lr=0.1)
    task(task.batch(1))[0].backward()
    reached = {name for name, value in task.named_parameters() if value.grad is not None and value.grad.any()}
    assert reached == {f"emo.{name}" for name, _ in task.emo.named_parameters() if name.startswith("backbone.")}
    optimiser.step()
    assert all(torch.equal(value, task.teacher.state_dict()[name]) for name, value in teacher.items())
    assert not torch.equal(task.emo.backbone.conv_in.weight, task.teacher.backbone.conv_in.weight)


def test_what_reads_portrait_and_voice_is_in_memory_once(task):
    teacher, student = task().teacher, task().emo
    assert teacher.reference_net is student.reference_net and teacher.audio_projection is student.audio_projection
    assert teacher.backbone is not student.backbone


def test_a_student_learns_one_tiny_clip(config, awake, store):
    how = replace(HOW, stage=replace(HOW.stage, drop_motion=0.0, motion_noise=0.0, batch=1))
    task = DistillationTask(awake(Emo(config)), how, store(people=1), seed=0).train()
    batch = task.batch(0)
    optimiser = torch.optim.Adam([value for value in task.parameters() if value.requires_grad], lr=3e-3)
    losses = []
    for _ in range(20):
        loss, _ = task(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0], losses


# a run


@pytest.fixture(scope="module")
def model(tmp_path_factory, bundle):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    native.save(path, bundle)
    return path


@pytest.fixture
def clips(tmp_path, store):
    store().save(tmp_path / "clips.safetensors")
    return tmp_path / "clips.safetensors"


def ticking():
    """A clock that moves on by a second whenever it is read."""
    ticks = itertools.count()
    return lambda: float(next(ticks))


def weights(path) -> dict[str, torch.Tensor]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def test_a_run_makes_a_file_that_differs_in_the_backbone_only_and_says_how_to_sample_it(
    model, clips, tmp_path, conditions
):
    made = distill(tmp_path / "run", model=model, how=HOW, clips=clips)
    before, after = weights(model), weights(made)
    assert after and all(name.startswith("emo.backbone.") for name in after)
    assert not any(torch.equal(before[name], value) for name, value in after.items())
    student = native.load(shutil.copy(made, model.parent), dtype=torch.float32)  # beside its base
    assert student.card["sampling"] == {"steps": 2, "audio_guidance": 1.0, "reference_guidance": 1.0}
    assert student.card["teacher"]["steps"] == 4 and len(student.card["teacher"]["sha256"]) == 64
    assert student.sampling == SamplingConfig(steps=2, audio_guidance=1.0)
    render = ClipRenderer(student.emo, conditions(student.config, frames=6), student.sampling)
    frames = torch.cat(list(generate_clips(render)), dim=2)
    assert frames.shape == (1, 8, 6, 4, 4) and frames.isfinite().all()


def test_a_stopped_run_goes_on_to_the_same_weights_bit_for_bit(model, clips, tmp_path):
    whole, stopped, stops = distill(tmp_path / "whole", model=model, how=HOW, clips=clips), tmp_path / "stopped", 0
    while not (stopped / "fast.safetensors").exists():
        try:
            distill(stopped, model=model, how=HOW, clips=clips, minutes=4 / 60, resume=True, clock=ticking())
        except OutOfTime:
            stops += 1
    ours, theirs = weights(whole), weights(stopped / "fast.safetensors")
    assert stops >= 1 and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not any((stopped / "state").iterdir())


def test_a_folder_with_a_run_is_not_trained_over(model, clips, tmp_path, caplog):
    (tmp_path / "log.jsonl").touch()
    assert main(["distill", "--model", str(model), "--clips", str(clips), "--out", str(tmp_path)]) == 2
    assert "already holds a training run; add --resume" in caplog.text


def test_files_that_hold_no_clips_are_refused_by_name(model, tmp_path, caplog):
    (tmp_path / "clips.txt").write_text("nothing to learn from, but more than a few bytes of it")
    for file, says in (
        (tmp_path / "clips.txt", "clips.txt contains no weights: it is a text"),
        (tmp_path / "gone", "there is no file"),
        (model, "is not a file of training clips: this is an EMO model of this pack"),
    ):
        assert main(["distill", "--model", str(model), "--clips", str(file), "--out", str(tmp_path / "run")]) == 2
        assert says in caplog.records[-1].getMessage()


def test_clips_of_another_kind_of_model_are_refused(model, tmp_path, store):
    replace(store(), latents=torch.zeros(3, 10, 4, 8, 8)).save(tmp_path / "clips.safetensors")
    with pytest.raises(ValueError, match=r"latents of \(4, 8, 8\), model 'test' needs \(8, 4, 4\)"):
        distill(tmp_path / "run", model=model, how=HOW, clips=tmp_path / "clips.safetensors")


def test_the_command_stops_when_its_minutes_are_over_and_goes_on(model, clips, tmp_path):
    out = model.parent / "run"  # beside its base
    command = ["distill", "--model", str(model), "--out", str(out), "--clips", str(clips)]
    command += "--teacher-steps 2 --audio-guidance 1.5 --scale 0.5".split()
    assert main([*command, "--minutes", "0"]) == 3 and not (out / "fast.safetensors").exists()
    assert main([*command, "--resume"]) == 0
    shutil.copy(out / "fast.safetensors", model.parent)
    card = native.load(model.parent / "fast.safetensors").card
    assert (card["teacher"]["steps"], card["teacher"]["audio_guidance"], card["steps"]["distill"]) == (2, 1.5, 2)
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps[-1] == 2


def test_a_model_without_a_recipe_is_refused_with_the_names_of_all(bundle, tmp_path, caplog):
    native.save(tmp_path / "odd.safetensors", replace(bundle, config=replace(bundle.config, name="odd")))
    out = ["--out", str(tmp_path / "run"), "--clips", "x"]
    assert main(["distill", "--model", str(tmp_path / "odd.safetensors"), *out]) == 2
    assert "of preset 'odd', for which there is no recipe; choose --preset of: emo, builtin, test" in caplog.text

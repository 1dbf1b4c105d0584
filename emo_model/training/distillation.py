"""Few steps without guidance: each step of a student ends where several guided steps of its teacher end.

Progressive distillation (arXiv 2202.00512) of a guided model (arXiv 2210.03142), on the student's own samples: the
noisy latents of its later steps, and half of the time the motion frames, are its own output, so that it learns to
correct its errors. Differs from EMO: the paper has no such stage.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoints import native
from ..config import SamplingConfig
from ..models.context import Context
from ..models.emo import Emo
from ..sampling.noise import draw_noise
from ..sampling.samplers import Predict, guided
from ..sampling.schedule import NoiseSchedule
from ..types import ClipConditions, MotionFrames, ReferenceFeatures
from .clips import Clips, TrainingBatch, draw_batch
from .footage.store import open_store
from .loop import Plan, train, training_device
from .loss import weighted_error
from .stages import Distillation


@dataclass(frozen=True, eq=False)
class DistillationBatch:
    """One step's clip; before: the clip that ends where it begins, or None."""

    clip: TrainingBatch
    before: TrainingBatch | None


class DistillationTask(nn.Module):
    """The student's training on a store of clips; `forward(batch)` is the loss.

    Only the student's backbone trains. The encoders of portrait, motion frames, audio, speed and mask are shared with
    the teacher, and run once for both. `emo` becomes the student; the teacher is a copy of it as it is now.
    """

    def __init__(self, emo: Emo, how: Distillation, clips: Clips, *, seed: int):
        super().__init__()
        shared = {id(part): part for name, part in emo.named_children() if name != "backbone"}
        self.emo, self.teacher = emo, copy.deepcopy(emo, shared)
        self.how, self.clips, self.seed = how, clips, seed
        self.guidance = {"audio_guidance": how.audio_guidance, "reference_guidance": how.reference_guidance}
        self.schedule = NoiseSchedule(emo.config)
        self.paths = paths(self.schedule, how.steps, how.teacher_steps)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name.startswith("emo.") and how.stage.trains_parameter(name.removeprefix("emo.")))

    def batch(self, step: int, part: int = 0, parts: int = 1) -> DistillationBatch:
        """The same for the same (seed, step), and this part of it. Every other one has a clip before.

        The student makes that one first, and its last frames are the motion frames; without, they are the data's.
        """
        stage, frames = self.how.stage, self.emo.config.clip_frames
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {stage.name} {step} 0".encode()))
        how = {"noise_shapes": self.emo.noise_shapes, "part": part, "parts": parts}
        both = draw_batch(self.clips, stage, self.emo.config, generator, consecutive=2, **how)
        shape, shapes = (stage.batch * parts, *both.noise.shape[1:]), self.emo.noise_shapes
        noise = draw_noise(self.emo.config, shape, generator, shapes=shapes, is_start=True)
        noise = noise[stage.batch * part : stage.batch * (part + 1)]
        both = replace(both, noise=noise.to(both.noise))  # the initial noise of clips
        first, second = both.cut(0, frames), both.cut(frames, 2 * frames)
        return DistillationBatch(second, first) if step % 2 else DistillationBatch(first, None)

    def forward(self, batch: DistillationBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted squared error against the predictions that end where the teacher ends, mean over the steps."""
        clip, before = batch.clip, batch.before
        with torch.no_grad():
            reference = self.emo.encode_reference(clip.reference)
            if before is not None:
                made = self._sample(before.noise, self._context(before, reference))
                motion = MotionFrames.last_of(made, self.emo.config.motion_frames).latents
                clip = replace(clip, motion=motion, keeps_motion=torch.ones_like(clip.keeps_motion))
            context = self._context(clip, reference)
        teach = guided(self.teacher, context, SamplingConfig(**self.guidance))
        x, losses, values = clip.noise, [], {}
        for path in self.paths:
            now, after = path[0], path[-1]
            with torch.no_grad():
                there = walk(teach, x, self.schedule, path)
                target = landing_prediction(self.schedule, x, there, now, after)
            prediction = self._predict(x, now, context)
            error = (prediction - target).square().mean(1)  # (B, F, h, w)
            losses.append(weighted_error(error, clip.weight))
            near = clip.weight > 3
            values[f"plain_{now}"] = error.mean().detach()
            values[f"mouth_and_eyes_{now}"] = (error * near).sum().detach() / near.sum().clamp(min=1)
            x = land(self.schedule, x, prediction, now, after).detach()
        return torch.stack(losses).mean(), values

    def _predict(self, x: Tensor, timestep: int, context: Context) -> Tensor:
        noisy = x.clone()
        if self.training and torch.is_grad_enabled():
            noisy.requires_grad_()  # torch's CPU group norm crashes where only its weight requires a gradient
        return self.emo.predict(noisy, torch.full((len(x),), timestep, device=x.device), context).float()

    def _sample(self, noise: Tensor, context: Context) -> Tensor:
        """The student's current sample from the noise."""
        timesteps = [*(path[0] for path in self.paths), -1]
        return walk(lambda x, timestep: self._predict(x, timestep, context), noise, self.schedule, timesteps)

    def _context(self, clip: TrainingBatch, reference: ReferenceFeatures) -> Context:
        emo = self.emo
        motion = emo.encode_motion(MotionFrames(clip.motion), like=reference)
        motion = motion.map(lambda x: x * clip.keeps_motion.view(-1, 1, 1, 1).to(x))
        conditions = ClipConditions(clip.audio, clip.speed, clip.face_mask, clip.clean.shape[2])
        return emo.prepare(reference, motion, conditions)


def paths(schedule: NoiseSchedule, steps: int, teacher_steps: int) -> list[list[int]]:
    """For each step of the student, the timesteps of its teacher from where it starts to where it lands (-1: clean).

    Raises ValueError if the teacher does not pass by every timestep of the student.
    """
    if teacher_steps % steps:
        raise ValueError(
            f"a teacher of {teacher_steps} steps does not stop where a student of {steps} steps does; "
            f"its steps must be a multiple of {steps}"
        )
    all_steps, each = [*schedule.timesteps(teacher_steps), -1], teacher_steps // steps
    return [all_steps[first : first + each + 1] for first in range(0, teacher_steps, each)]


def land(schedule: NoiseSchedule, x: Tensor, prediction: Tensor, now: int, after: int) -> Tensor:
    """Where one step of DDIM from `now` to `after` ends."""
    clean, noise = schedule.clean_and_noise(x, prediction, now)
    alpha, sigma = (scale.to(x.device) for scale in schedule.scales(after))
    return alpha * clean + sigma * noise


def walk(predict: Predict, x: Tensor, schedule: NoiseSchedule, timesteps: list[int]) -> Tensor:
    """DDIM along `timesteps`, the last of which is where it ends."""
    for now, after in zip(timesteps, timesteps[1:], strict=False):
        x = land(schedule, x, predict(x, now), now, after)
    return x


def landing_prediction(schedule: NoiseSchedule, x: Tensor, there: Tensor, now: int, after: int) -> Tensor:
    """The prediction at x with which one step of DDIM from `now` to `after` ends at `there`.

    A step is affine in the prediction p, for velocity and for noise: land(x, p) = land(x, 0) + p * land(0, 1).
    """
    nothing = torch.zeros((), device=x.device)
    return (there - land(schedule, x, nothing, now, after)) / land(schedule, nothing, nothing + 1, now, after)


def distill(
    out: Path,
    *,
    model: Path,
    how: Distillation,
    clips: Path,
    minutes: float = math.inf,
    resume: bool = False,
    seed: int = 0,
    precision: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """Train the fast variant of a model file into OUT/fast.safetensors; its card contains its sampling settings.

    clips: a saved ClipStore of latents of this model's kind, or a folder of `prepare`. The file holds only what differs
    from `model`, which must be found where the file is loaded. Raises OutOfTime when `minutes` are over, with the state
    saved (call again with resume=True), FileExistsError if `out` holds a run and `resume` is not set, ValueError if the
    clips are none of this model's.
    """
    if (out / "log.jsonl").exists() and not resume:
        raise FileExistsError(
            f"{out} already holds a training run; add --resume to go on with it, or choose another --out"
        )
    finished, deadline, stage = out / "fast.safetensors", clock() + 60 * minutes, how.stage
    if finished.exists():
        return finished
    device = training_device()
    bundle = native.load(model, dtype=torch.float32, device=device)
    config = bundle.config
    frames = config.motion_frames + 2 * config.clip_frames
    store = open_store(clips, config, held_out=None, device=device, frames=frames)
    task = DistillationTask(bundle.emo, how, store, seed=seed)
    if device == "cpu":
        task.to(memory_format=torch.channels_last)
    plan = Plan(stage.name, stage.steps, stage.learning_rate, stage.warmup_steps, ema_decay=how.ema_decay)
    precision = precision or ("no" if device == "cpu" else "bf16")
    average = train(task, plan, out, deadline=deadline, clock=clock, mixed_precision=precision)
    with torch.no_grad():
        for name, value in average.items():
            bundle.emo.get_parameter(name.removeprefix("emo.")).copy_(value)
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    card = {
        "made_by": f"python -m emo_model.training distill --model {model.name} --seed {seed}",
        "sampling": {"steps": how.steps, "audio_guidance": 1.0, "reference_guidance": 1.0},
        "teacher": {"file": model.name, "sha256": sha256, "steps": how.teacher_steps, **task.guidance},
        "steps": bundle.card.get("steps", {}) | {stage.name: stage.steps},
        "licence": bundle.card.get("licence", ""),
    }
    native.save(finished, replace(bundle, config=config, card=card), base=model)
    (out / "state" / f"{stage.name}.safetensors").unlink(missing_ok=True)  # not before its successor is there
    return finished

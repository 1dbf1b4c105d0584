"""The noise loss of one batch, with the schedule and the `Emo.predict` of sampling."""

from __future__ import annotations

import zlib
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..models.emo import Emo
from ..sampling.schedule import NoiseSchedule
from ..types import ClipConditions, MotionFrames
from .clips import Clips, TrainingBatch, draw_batch
from .stages import Stage


class EmoTask(nn.Module):
    """One stage of EMO on a store of clips; `forward(batch)` is the loss. Freezes what the stage does not train."""

    def __init__(self, emo: Emo, stage: Stage, clips: Clips, *, seed: int):
        super().__init__()
        self.emo, self.stage, self.clips, self.seed = emo, stage, clips, seed
        self.schedule = NoiseSchedule(emo.config)
        for name, parameter in emo.named_parameters():
            parameter.requires_grad_(stage.trains_parameter(name))

    def batch(self, step: int, part: int = 0, parts: int = 1) -> TrainingBatch:
        """The batch of a step: the same for the same (seed, stage, step), and this part of it (`draw_batch`)."""
        # the 0 is of older runs, which go on with the batches that they would have had
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {self.stage.name} {step} 0".encode()))
        how = {"noise_shapes": self.emo.noise_shapes, "part": part, "parts": parts}
        return draw_batch(self.clips, self.stage, self.emo.config, generator, **how)

    def forward(self, batch: TrainingBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted mean squared error of the prediction, the mean over the samples, and the error near the mouth for
        the log.

        Differs from EMO: cells near the mouth and the eyes weigh more.
        """
        emo, stage = self.emo, self.stage
        reference = emo.encode_reference(batch.reference)
        reference = reference.map(lambda x: x * batch.keeps_reference.view(-1, 1, 1).to(x))
        motion = None
        if stage.is_video:
            motion = emo.encode_motion(MotionFrames(batch.motion), like=reference)
            motion = motion.map(lambda x: x * batch.keeps_motion.view(-1, 1, 1, 1).to(x))
        clip = ClipConditions(batch.audio, batch.speed, batch.face_mask, batch.clean.shape[2])
        context = emo.prepare(reference, motion, clip)
        if not stage.has_speed:
            context = replace(context, speed=None)
        if stage.is_video:
            context = replace(context, audio=context.audio * batch.keeps_audio.view(-1, 1, 1, 1).to(context.audio))
        else:
            context = replace(context, audio=None)
        noisy = self.schedule.add_noise(batch.clean, batch.noise, batch.timestep)
        if self.training:
            noisy.requires_grad_()  # torch's CPU group norm crashes where only its weight requires a gradient
        prediction = emo.predict(noisy, batch.timestep, context)
        target = self.schedule.target(batch.clean, batch.noise, batch.timestep)
        error = (prediction.float() - target).square()  # (B, C, F, h, w)
        if stage.channel_weights:
            weights = error.new_tensor(stage.channel_weights)
            error = error * (weights / weights.mean()).view(-1, 1, 1, 1)
        error = error.mean(1)
        loss = weighted_error(error, batch.weight)
        near = batch.weight > 3
        mouth_and_eyes = (error * near).sum().detach() / near.sum().clamp(min=1)
        return loss, {"plain": error.mean().detach(), "mouth_and_eyes": mouth_and_eyes}


def weighted_error(error: Tensor, weight: Tensor) -> Tensor:
    """error, weight (B, F, h, w) -> the mean over the samples of each one's weighted mean: so the mean over processes
    is that of one process with all samples."""
    return ((error * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))).mean()

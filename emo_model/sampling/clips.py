"""A video of any length, clip by clip: the last frames of a clip are the motion frames of the next (EMO, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..config import ModelConfig, SamplingConfig
from ..models.emo import Emo
from ..types import ClipConditions, Conditions, FaceMask, MotionFrames, ReferenceFeatures
from .finish import finish_clip
from .guidance import guided_by
from .noise import draw_noise
from .samplers import sample
from .schedule import NoiseSchedule

SAMPLING_VERSION = 1  # of what `generate_clips` computes; raise it with any change that a recorded output shows (test_version.py)


@dataclass(frozen=True, eq=False)
class Video:
    """What is asked for, cut into clips of `model.clip_frames` frames."""

    model: ModelConfig
    conditions: Conditions

    @property
    def clips(self) -> int:
        return -(-self.conditions.frames // self.model.clip_frames)

    def clip(self, number: int) -> ClipConditions:
        """The conditions of clip `number`, from 0."""
        size = self.model.clip_frames
        return self.conditions.clip(number * size, clip_frames=size, margin_frames=self.model.audio_margin_frames)


class RenderClip(Protocol):
    """(clip number, motion frames before it) -> scaled latents (1, C, F, h, w), or None, which ends the video before it."""

    video: Video

    def __call__(self, number: int, motion: MotionFrames) -> Tensor | None: ...


def generate_clips(render: RenderClip, *, motion: MotionFrames = MotionFrames()) -> Iterator[Tensor]:  # noqa: B008
    """Yield scaled latents (1, C, F, h, w), float32, clip by clip; the last clip is cut to the frames of the audio.

    motion: the last frames of a video that this one continues.
    """
    video = render.video
    for number in range(video.clips):
        latents = render(number, motion)
        if latents is None:
            return
        motion = MotionFrames.last_of(latents, video.model.motion_frames)
        yield latents[:, :, :video.clip(number).frames]


@dataclass(frozen=True, eq=False)
class StepReport:
    """Progress: `step` of `steps` in clip `clip` of `clips`, counted from 1; denoised: the clean estimate (B, C, F, h, w).

    is_cached: the clip comes from a cache; reported once, with its last step.
    """

    clip: int
    clips: int
    step: int
    steps: int
    denoised: Tensor
    is_cached: bool = False


def ignore(report: StepReport) -> None:
    """Default callback: does nothing."""


class ClipRenderer:
    """Renders one clip from its number and the motion frames before it; keeps what stays the same over a video.

    emo: on `device`, in `dtype`; the noise is drawn on the CPU, so a seed means the same on every device. reference: the
    portrait's features, if they are known already. reencode: applied to motion frames (1, C, n, h, w) before they are read; Hallo
    sends them through the VAE to pixels and back (`inputs.vae.through_pixels`). batch_branches: see `guided_by`. on_step: called
    after each step; it may raise to stop the run.
    """

    def __init__(self, emo: Emo, conditions: Conditions, sampling: SamplingConfig, *, reference: ReferenceFeatures | None = None,
                 device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32,
                 reencode: Callable[[Tensor], Tensor] = lambda latents: latents, batch_branches: bool = True,
                 on_step: Callable[[StepReport], None] = ignore):
        self.emo, self.video, self.sampling = emo, Video(emo.config, conditions), sampling
        self.given_reference, self.device, self.dtype = reference, torch.device(device), dtype
        self.reencode, self.batch_branches, self.on_step = reencode, batch_branches, on_step
        self.schedule, self.generator = NoiseSchedule(emo.config), torch.Generator().manual_seed(sampling.seed)
        self.noise_number, self.noise = -1, None
        self.reference = self.scene = self.mask = self.times = None

    def __call__(self, number: int, motion: MotionFrames) -> Tensor:
        """Scaled latents (1, C, F, h, w), float32, of the whole clip, frames beyond the end of the audio too."""
        model, sampling = self.emo.config, self.sampling
        noise = self._draw_noise(number)
        with torch.no_grad():
            if motion.latents is not None:
                motion = MotionFrames(motion.latents.to(self.device))
            clip = self.video.clip(number)
            scene = self._prepare_video(clip)
            read = motion if motion.latents is None else MotionFrames(self.reencode(motion.latents).to(self.dtype))
            context = self.emo.prepare(scene, self.emo.encode_motion(read, like=self.reference), clip)
        predict = guided_by(self.emo, context, sampling, self.schedule.timesteps(sampling.steps), times=self.times,
                            together=self.batch_branches)
        latents = sample(predict, noise, self.schedule, sampler=sampling.sampler, steps=sampling.steps,
                         generator=_sampler_generator(sampling.seed, number),
                         on_step=lambda step, clean: self.report(number, step, clean))
        return finish_clip(latents, motion.latents, model, sampling, first_frame=number * model.clip_frames,
                           fps=self.video.conditions.audio.fps)

    def report(self, number: int, step: int, denoised: Tensor, *, is_cached: bool = False) -> None:
        self.on_step(StepReport(number + 1, self.video.clips, step, self.sampling.steps, denoised, is_cached))

    def _prepare_video(self, clip: ClipConditions):
        """What stays the same over a video, or as long as its face mask does."""
        face = FaceMask(clip.face_mask, clip.regions)
        if self.reference is None:
            portrait = self.video.conditions.portrait
            self.reference = (self.emo.encode_reference(portrait.latents.to(self.device, self.dtype), portrait.identity)
                              if self.given_reference is None else
                              self.given_reference.map(lambda x: x.to(self.device, self.dtype)))
            self.scene = self.emo.settle(self.reference, face)
            self.times = self.emo.project_time(self.schedule.timesteps(self.sampling.steps), self.scene)
        elif clip.face_mask is not self.mask:
            self.scene = self.emo.move_face(self.scene, face)
        self.mask = clip.face_mask
        return self.scene

    def _draw_noise(self, number: int) -> Tensor:
        """Clip k has the seed's k-th draw, whether the clips before it were rendered or found."""
        model = self.emo.config
        shape = (1, model.latent_channels, model.clip_frames, model.latent_size, model.latent_size)
        while self.noise_number < number:
            self.noise = draw_noise(model, shape, self.generator, shapes=self.emo.noise_shapes, is_start=True)
            self.noise_number += 1
        return (self.sampling.noise_scale * self.noise).to(self.device)


def _sampler_generator(seed: int, number: int) -> torch.Generator:
    """For what a sampler draws on its way: the same for clip `number`, whether the clips before it were rendered or found."""
    return torch.Generator().manual_seed((seed + (number + 1) * 0x9E37_79B9_7F4A_7C15) % 2**64)

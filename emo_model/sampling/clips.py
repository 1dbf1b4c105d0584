"""A video of any length, clip by clip: the last frames of a clip are the motion frames of the next (EMO, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import SamplingConfig
from ..models.emo import Emo
from ..types import Conditions, MotionFrames, ReferenceFeatures
from .guidance import guided
from .samplers import sample
from .schedule import NoiseSchedule


@dataclass(frozen=True, eq=False)
class StepReport:
    """Where a run is: `step` of `steps` in clip `clip` of `clips`, counted from 1; denoised (B, C, F, h, w) is the clean estimate."""

    clip: int
    clips: int
    step: int
    steps: int
    denoised: Tensor


def ignore(report: StepReport) -> None:
    """No one listens."""


def count_clips(frames: int, clip_frames: int) -> int:
    return -(-frames // clip_frames)


def generate_clips(emo: Emo, conditions: Conditions, *, config: SamplingConfig, reference: ReferenceFeatures | None = None,
                   device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32,
                   renew: Callable[[Tensor], Tensor] | None = None, together: bool = True,
                   on_step: Callable[[StepReport], None] = ignore) -> Iterator[Tensor]:
    """Yield scaled latents (1, C, F, h, w), float32, clip by clip; the last is cut to the frames of the voice.

    emo: anything with config, encode_reference, settle, encode_motion, prepare, project and predict, on `device` in `dtype`;
    reference: its features of the portrait if they exist already. Noise is drawn on the CPU, so a seed means the same on every
    device.
    renew: what becomes of motion frames (1, C, n, h, w) before they are read; Hallo sends them through the VAE to pixels and
    back (`inputs.vae.through_pixels`), without it they are handed on as they are. together: see `guided`. `on_step` is
    called after each step and may raise to stop the run.
    """
    model = emo.config
    schedule = NoiseSchedule(model)
    generator = torch.Generator().manual_seed(config.seed)
    shape = (1, model.latent_channels, model.clip_frames, model.latent_size, model.latent_size)
    clips = count_clips(conditions.frames, model.clip_frames)
    motion = MotionFrames()
    with torch.no_grad():
        if reference is None:
            portrait = conditions.portrait.latents.to(device, dtype)
            reference = emo.encode_reference(portrait, conditions.portrait.identity)
        else:
            reference = reference.map(lambda x: x.to(device, dtype))
        scene = emo.settle(reference, conditions.face_mask)
    for number in range(clips):
        clip = conditions.clip(number * model.clip_frames, clip_frames=model.clip_frames, margin_frames=model.audio_margin_frames)
        with torch.no_grad():
            context = emo.prepare(scene, emo.encode_motion(motion, like=reference), clip)
        noise = torch.randn(shape, generator=generator).to(device)
        latents = sample(
            guided(emo, context, audio=config.audio_guidance, reference=config.reference_guidance,
                   mixed_identity=config.mixed_identity, together=together),
            noise, schedule, sampler=config.sampler, steps=config.steps,
            on_step=lambda step, clean: on_step(StepReport(number + 1, clips, step, config.steps, clean)))  # noqa: B023
        last = MotionFrames.last_of(latents, model.motion_frames).latents
        motion = MotionFrames((last if renew is None else renew(last)).to(dtype))
        yield latents[:, :, :clip.frames]

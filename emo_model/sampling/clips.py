"""A video of any length, clip by clip: the last frames of a clip are the motion frames of the next (EMO, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import SamplingConfig
from ..models.emo import Emo
from ..types import Conditions, FaceMask, MotionFrames, ReferenceFeatures
from .finish import finish_clip
from .guidance import guided_by
from .noise import draw_noise
from .samplers import sample
from .schedule import NoiseSchedule
from .spool import ClipKeys, SpoolRun, weights_of
from .voice import Voice


@dataclass(frozen=True, eq=False)
class StepReport:
    """Where a run is: `step` of `steps` in clip `clip` of `clips`, counted from 1; denoised: the clean estimate.

    denoised: (B, C, F, h, w); is_found: the clip is an earlier run's, told once with its last step.
    """

    clip: int
    clips: int
    step: int
    steps: int
    denoised: Tensor
    is_found: bool = False


def ignore(report: StepReport) -> None:
    """No one listens."""


def generate_clips(emo: Emo, conditions: Conditions, *, config: SamplingConfig, reference: ReferenceFeatures | None = None,
                   device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32,
                   renew: Callable[[Tensor], Tensor] | None = None, motion: MotionFrames = MotionFrames(),  # noqa: B008
                   keep: SpoolRun | None = None, finished_only: bool = False, together: bool = True,
                   on_step: Callable[[StepReport], None] = ignore) -> Iterator[Tensor]:
    """Yield scaled latents (1, C, F, h, w), float32, clip by clip; the last is cut to the frames of the voice.

    emo: anything with config, noise_shapes, encode_reference, settle, move_face, hear, encode_motion, prepare, project,
    project_time and predict, on `device` in `dtype`; reference: its features of the portrait if they exist already. Noise is
    drawn on the CPU, so a seed means the same on every device.
    motion: the last frames of a video that this one continues.
    renew: what becomes of motion frames (1, C, n, h, w) before they are read; Hallo sends them through the VAE to pixels and
    back (`inputs.vae.through_pixels`), without it they are handed on as they are. `on_step` is called after each step and may
    raise to stop the run.
    keep: a run on a spool. Clips that lie there are taken from it, each new one is on the disk before it is yielded. With
    `finished_only` nothing is rendered, and the video ends before the first clip that is missing.
    together: see `guided_by`; clips count as kept only if they were guided so, for rounding differs.
    """
    model = emo.config
    schedule = NoiseSchedule(model)
    generator = torch.Generator().manual_seed(config.seed)
    shape = (1, model.latent_channels, model.clip_frames, model.latent_size, model.latent_size)
    voice = Voice(emo, conditions, device=device, dtype=dtype)
    timesteps, times = schedule.timesteps(config.steps), None
    before, read = motion.latents, None  # the motion frames of the next clip; what the reference net saw in the portrait
    scene = located = None  # what stays the same over the video, as long as the face mask does; that mask
    if keep is not None:
        keep.start()
        keys = ClipKeys(model, conditions.portrait, config, weights=keep.weights or weights_of(emo), reference=reference,
                        device=device, dtype=dtype, renewal="" if renew is None else keep.renewal, together=together)
    for number in range(voice.clips):
        clip = voice.clip(number)
        # drawn for a clip that is found, too: clip k has the seed's k-th draw
        noise = config.noise_scale * draw_noise(model, shape, generator, shapes=emo.noise_shapes, is_start=True)
        key = None if keep is None else keys.of(number, clip, before)
        latents = None if keep is None else keep.find(key)
        if latents is not None:
            on_step(StepReport(number + 1, voice.clips, config.steps, config.steps, latents, is_found=True))
        elif finished_only:
            return
        else:
            with torch.no_grad():
                face = FaceMask(clip.face_mask, clip.regions)
                if read is None:
                    read = _read_portrait(emo, conditions, reference, device, dtype)
                    scene = emo.settle(read, face)
                    times = emo.project_time(timesteps, scene)
                elif clip.face_mask is not located:
                    scene = emo.move_face(scene, face)
                located = clip.face_mask
                if before is not None:
                    before = before.to(device)
                motion = MotionFrames(None if before is None else (before if renew is None else renew(before)).to(dtype))
                context = emo.prepare(scene, emo.encode_motion(motion, like=read), clip, tokens=voice.tokens_of(number))
            latents = sample(
                guided_by(emo, context, config, timesteps, times=times, together=together),
                noise.to(device), schedule, sampler=config.sampler, steps=config.steps, generator=_clips_own(config.seed, number),
                on_step=lambda step, clean: on_step(StepReport(number + 1, voice.clips, step, config.steps, clean)))  # noqa: B023
            latents = finish_clip(latents, before, model, config, first_frame=number * model.clip_frames,
                                  fps=conditions.audio.fps)
            if keep is not None:
                keep.save(key, latents)
        before = MotionFrames.last_of(latents, model.motion_frames).latents
        yield latents[:, :, :clip.frames]


def _clips_own(seed: int, number: int) -> torch.Generator:
    """For what a sampler draws on its way: the same for clip `number`, whether the clips before it were rendered or found."""
    return torch.Generator().manual_seed((seed + (number + 1) * 0x9E37_79B9_7F4A_7C15) % 2**64)


def _read_portrait(emo: Emo, conditions: Conditions, reference: ReferenceFeatures | None, device: torch.device | str,
                   dtype: torch.dtype) -> ReferenceFeatures:
    if reference is not None:
        return reference.map(lambda x: x.to(device, dtype))
    return emo.encode_reference(conditions.portrait.latents.to(device, dtype), conditions.portrait.identity)

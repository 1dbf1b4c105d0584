"""A video of any length, clip by clip: the last frames of a clip are the motion frames of the next (EMO, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import torch
from torch import Tensor

from ..config import ModelConfig, SamplingConfig
from ..models.emo import Emo
from ..types import ClipConditions, Conditions, MotionFrames, ReferenceFeatures, is_finite
from .finish import finish_clip
from .noise import draw_noise, head_pace
from .progress import StepReport, ignore
from .samplers import PredictCached, guided, sample
from .schedule import NoiseSchedule

SAMPLING_VERSION = 3  # of what is computed here; raise it where recorded outputs change (test_version.py)


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
    """(clip number, motion frames before it) -> scaled latents (1, C, F, h, w), or None, which ends the video before
    it."""

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
        yield latents[:, :, : video.clip(number).frames]


def unchanged(latents: Tensor) -> Tensor:
    """Motion frames as they are: no re-encoding."""
    return latents


class ClipRenderer:
    """Renders one clip from its number and the motion frames before it; keeps what stays the same over a video.

    emo: on `device`, in `dtype`; noise is drawn on the CPU, so a seed means the same on every device. reference: the
    portrait's features, if known. reencode: applied to motion frames (1, C, n, h, w) before they are read; Hallo sends
    them through the VAE (`inputs.vae.through_pixels`). batch_branches, predict: see `guided`. on_step: called after
    each step; may raise to stop.
    """

    def __init__(
        self,
        emo: Emo,
        conditions: Conditions,
        sampling: SamplingConfig,
        *,
        reference: ReferenceFeatures | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        reencode: Callable[[Tensor], Tensor] = unchanged,
        batch_branches: bool = True,
        predict: PredictCached | None = None,
        on_step: Callable[[StepReport], None] = ignore,
    ):
        self.emo, self.video, self.sampling, self.given_reference = (
            emo,
            Video(emo.config, conditions),
            sampling,
            reference,
        )
        self.device, self.dtype, self.reencode, self.on_step = torch.device(device), dtype, reencode, on_step
        self.batch_branches, self.predict, self.schedule = batch_branches, predict, NoiseSchedule(emo.config)
        self.noises = self._draw_noises(torch.Generator().manual_seed(sampling.seed))
        self.reference = self.times = self.mask = self.face = None

    def __call__(self, number: int, motion: MotionFrames) -> Tensor:
        """Scaled latents (1, C, F, h, w), float32, of the whole clip, frames beyond the end of the audio too.

        Raises ValueError for NaN or infinity in what is given, and in what comes out.
        """
        sampling, clip, timesteps = self.sampling, self.video.clip(number), self.schedule.timesteps(self.sampling.steps)
        noise = next(
            noise for index, noise in self.noises if index == number
        )  # clip k has the seed's k-th, rendered or cached
        given = {
            "the audio features": clip.audio,
            "the face mask": clip.face_mask,
            "the portrait's latents": self.video.conditions.portrait.latents,
            "the motion frames": motion.latents,
        }
        for what, values in given.items():
            if values is not None and not is_finite(values):
                raise ValueError(f"{what} of clip {number + 1} have NaN or infinite values; make them again")
        before = None if motion.latents is None else motion.latents.to(self.device)
        with torch.no_grad():
            self._prepare_video(clip, timesteps)
            read = MotionFrames(None if before is None else self.reencode(before).to(self.dtype))
            features = self.emo.encode_motion(read, like=self.reference)
            context = self.emo.prepare(
                self.reference, features, clip, face=self.face, region_weights=sampling.region_weights
            )
            predict = guided(
                self.emo,
                context,
                sampling,
                timesteps,
                times=self.times,
                batch_branches=self.batch_branches,
                predict=self.predict,
            )
            latents = sample(
                predict,
                noise.to(self.device),
                self.schedule,
                sampler=sampling.sampler,
                steps=sampling.steps,
                on_step=lambda step, clean: self.report(number, step, clean),
            )
        if not is_finite(latents):
            raise ValueError(
                f"the model made NaN or infinite values in clip {number + 1} (computed in {self.dtype}, audio guidance "
                f"{sampling.audio_guidance:g}). Compute in float32 (ComfyUI: --force-fp32), lower the guidance, or "
                "copy the model file again"
            )
        return finish_clip(
            latents,
            before,
            self.emo.config,
            sampling,
            first_frame=number * self.emo.config.clip_frames,
            fps=self.video.conditions.audio.fps,
        )

    def report(self, number: int, step: int, denoised: Tensor, *, is_cached: bool = False) -> None:
        self.on_step(StepReport(number + 1, self.video.clips, step, self.sampling.steps, denoised, is_cached))

    def _prepare_video(self, clip: ClipConditions, timesteps: Sequence[int]) -> None:
        """The portrait's features and the embedded timesteps, once; the face, as often as its mask changes."""
        if self.reference is None:
            portrait = self.video.conditions.portrait
            self.reference = self.given_reference or self.emo.encode_reference(
                portrait.latents.to(self.device, self.dtype), portrait.identity
            )
            self.reference = self.reference.map(lambda x: x.to(self.device, self.dtype))
        if clip.face_mask is not self.mask:
            self.mask, self.face = (
                clip.face_mask,
                self.emo.locate_face(clip.face_mask, clip.regions, like=self.reference),
            )
        if self.times is None:
            self.times = self.emo.embed_timesteps(timesteps, self.face.features)

    def _draw_noises(self, generator: torch.Generator) -> Iterator[tuple[int, Tensor]]:
        model = self.emo.config
        shape = (1, model.latent_channels, model.clip_frames, model.latent_size, model.latent_size)
        for number in count():
            frames = number * model.clip_frames + torch.arange(model.clip_frames)
            pace = head_pace(self.video.conditions.speed.at(frames, self.video.conditions.audio.fps).mean().item())
            noise = draw_noise(model, shape, generator, shapes=self.emo.noise_shapes, is_start=True, pace=pace)
            yield number, self.sampling.noise_scale * noise

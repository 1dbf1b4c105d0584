"""A video of any length, clip by clip: a clip's last frames are the motion frames of the next (EMO, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from functools import partial
from itertools import count
from typing import Protocol

import torch
from torch import Tensor

from ..config import SamplingConfig
from ..finite import check_conditions, check_rendered
from ..models.emo import Emo
from ..types import ClipConditions, Conditions, MotionFrames, ReferenceFeatures
from .finish import finish_clip
from .heard_mouth import blend_with_heard, clip_opening
from .noise import draw_noise, head_pace
from .progress import StepReport, ignore, unchanged
from .samplers import Evaluate, PredictCached, guided, sample
from .schedule import NoiseSchedule
from .video import Video

SAMPLING_VERSION = 5  # of what is computed here; raise it where recorded outputs change (test_version.py)


class RenderClip(Protocol):
    """(clip number, motion frames before it) -> scaled latents (1, C, F, h, w); None ends the video before the clip."""

    video: Video

    def __call__(self, number: int, motion: MotionFrames) -> Tensor | None: ...


def generate_clips(render: RenderClip, *, motion: MotionFrames = MotionFrames()) -> Iterator[Tensor]:
    """Yield scaled latents (1, C, F, h, w), float32, clip by clip; the last clip is cut to the frames of the audio.

    motion: the last frames of the video to continue.
    """
    video = render.video
    for number in range(video.clips):
        latents = render(number, motion)
        if latents is None:
            return
        motion = MotionFrames.last_of(latents, video.model.motion_frames)
        yield latents[:, :, : video.clip(number).frames]


@dataclass(eq=False)
class ClipRenderer:
    """Renders one clip from its number and the motion frames before it; keeps what stays the same over a video.

    emo: on `device`, in `dtype`; noise is drawn on the CPU, so a seed means the same on every device. reference: the
    portrait's features, if known. reencode: applied to motion frames (1, C, n, h, w) before they are encoded; Hallo
    decodes and encodes them again. batch_branches, predict, evaluate: see `guided`. on_step: called after each step;
    may raise to stop. Raises ValueError for NaN or infinity.
    """

    emo: Emo
    conditions: Conditions
    sampling: SamplingConfig
    _: KW_ONLY
    reference: ReferenceFeatures | None = None
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32
    reencode: Callable[[Tensor], Tensor] = unchanged
    batch_branches: bool = True
    predict: PredictCached | None = None
    evaluate: Evaluate = map
    on_step: Callable[[StepReport], None] = ignore

    def __post_init__(self):
        self.video, self.schedule = Video(self.emo.config, self.conditions), NoiseSchedule(self.emo.config)
        self.given_reference, self.reference, self.mask = self.reference, None, None
        self.timesteps = self.schedule.timesteps(self.sampling.steps)
        self.noises = self._draw_noises(torch.Generator().manual_seed(self.sampling.seed))

    def __call__(self, number: int, motion: MotionFrames) -> Tensor:
        """Scaled latents (1, C, F, h, w), float32, of the whole clip, frames beyond the end of the audio too."""
        emo, sampling, clip = self.emo, self.sampling, self.video.clip(number)
        check_conditions(number, clip, self.conditions.portrait, motion)
        noise = next(noise for index, noise in self.noises if index == number).to(self.device)
        before = None if motion.latents is None else motion.latents.to(self.device)
        with torch.no_grad():
            self._prepare_video(clip)
            read = MotionFrames(None if before is None else self.reencode(before).to(self.dtype))
            features = emo.encode_motion(read, like=self.reference)
            weights = sampling.region_weights
            context = emo.prepare(self.reference, features, clip, face=self.face, region_weights=weights)
            options = {"batch_branches": self.batch_branches, "predict": self.predict, "evaluate": self.evaluate}
            predict = guided(emo, context, sampling, self.timesteps, times=self.times, **options)
            steps = {"sampler": sampling.sampler, "steps": sampling.steps, "on_step": partial(self.report, number)}
            latents = sample(predict, noise, self.schedule, **steps)
        check_rendered(number, latents, self.dtype, sampling)
        first, mesh = number * emo.config.clip_frames, self.conditions.portrait.mesh
        latents = finish_clip(latents, before, emo.config, sampling, first_frame=first, fps=self.conditions.audio.fps)
        opening = clip_opening(self.conditions, first, latents.shape[2], emo.config)
        return latents if opening is None else blend_with_heard(latents, opening, mesh, emo.config)

    def report(self, number: int, step: int, denoised: Tensor, *, is_cached: bool = False) -> None:
        self.on_step(StepReport(number + 1, self.video.clips, step, self.sampling.steps, denoised, is_cached))

    def _prepare_video(self, clip: ClipConditions) -> None:
        """Encode the portrait and the timesteps once, and the face mask whenever it changes."""
        emo, portrait = self.emo, self.conditions.portrait
        if self.reference is None:
            latents = portrait.latents.to(self.device, self.dtype)
            reference = self.given_reference or emo.encode_reference(latents, portrait.identity)
            self.reference = reference.map(lambda x: x.to(self.device, self.dtype))
            self.times = emo.embed_timesteps(self.timesteps, latents)
        if clip.face_mask is not self.mask:
            self.mask, self.face = clip.face_mask, emo.locate_face(clip.face_mask, clip.regions, like=self.reference)

    def _draw_noises(self, generator: torch.Generator) -> Iterator[tuple[int, Tensor]]:
        """Clip numbers and their noise; clip k has the seed's k-th, whether the clips before it are cached or not."""
        model, conditions = self.emo.config, self.conditions
        shape = (1, model.latent_channels, model.clip_frames, model.latent_size, model.latent_size)
        for number in count():
            frames = number * model.clip_frames + torch.arange(model.clip_frames)
            pace = head_pace(conditions.speed.at(frames, conditions.audio.fps).mean().item())
            noise = draw_noise(model, shape, generator, shapes=self.emo.noise_shapes, is_start=True, pace=pace)
            yield number, self.sampling.noise_scale * noise

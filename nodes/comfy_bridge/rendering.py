"""Runs the sampler in ComfyUI: an estimate, progress, and clips that are kept and resumed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from torch import Tensor

from ...emo_model.cache.folder import CachedClips
from ...emo_model.cache.renderer import CachedRenderer
from ...emo_model.config import ModelConfig, SamplingConfig
from ...emo_model.estimate import count_clips, estimate, frames_at_once, minutes_and_seconds
from ...emo_model.inputs.audio import heard_opening
from ...emo_model.models.emo import Emo
from ...emo_model.outputs.disk import grain_of
from ...emo_model.sampling.clips import ClipRenderer, generate_clips
from ...emo_model.sampling.direction import Direction
from ...emo_model.sampling.progress import StepReport
from ...emo_model.sampling.samplers import evaluations
from ...emo_model.types import Conditions, MotionFrames, ReferenceFeatures
from .clip_cache import clip_cache, output_folder, vae_fingerprint
from .management import stop_if_cancelled
from .parts import EmoModel
from .portraits import is_bound
from .previews import previewer_of, still_previewer_of
from .running import Progress, show, tell


def render(
    model: EmoModel,
    conditions: Conditions,
    config: SamplingConfig,
    *,
    reference: ReferenceFeatures,
    motion: MotionFrames,
    vae,
    shown_by,
    picture: np.ndarray,
    finished_only: bool,
    hidden,
    direction: Direction = Direction(),
) -> CachedClips:
    """Render the clips that are not there yet; with `finished_only`, none.

    vae: motion frames go through it, or None; shown_by: the VAE of the reference, for previews; picture: the
    whole one (H, W, 3) uint8, as which the video will show it; direction: what is done to the clips when they are read.
    However the run ends,
    the node and the log say how many clips are kept. Raises ValueError where there is no finished clip, OSError where
    the disk is too small.
    """
    cache = clip_cache()
    run = cache.run()
    cached = {"weights": model.fingerprint, "reencoding": "" if vae is None else vae_fingerprint(vae)}
    clips = count_clips(conditions.frames, model.config.clip_frames)
    frames = frames_at_once(model.config, config)
    one_by_one = -(-(model.config.clip_frames + model.config.motion_frames) // 2) if evaluations(config) > 1 else None
    size = None if is_bound(shown_by) else model.config.image_size
    grain, finished, began = grain_of(picture), 0, time.monotonic()

    def renderer(emo: Emo, batch_branches: bool, on_step, room: int = frames) -> ClipRenderer:
        reencode = {} if vae is None else {"reencode": model.reencoding(vae, frames=room)}
        return ClipRenderer(
            emo,
            conditions,
            config,
            reference=reference,
            device=model.device,
            dtype=model.compute,
            batch_branches=batch_branches,
            predict=model.graphs,
            on_step=on_step,
            **reencode,
        )

    def count_finished(batch_branches: bool) -> int:
        render = renderer(model.patcher.model, batch_branches, stop_if_cancelled)
        return sum(1 for _ in generate_clips(CachedRenderer(render, run, finished_only=True, **cached), motion=motion))

    def plan(seconds_per_step: float | None = None):
        return estimate(
            model.config,
            config,
            frames=conditions.frames,
            fps=conditions.audio.fps,
            finished=finished,
            weights_bytes=model.weight_bytes,
            compute_bytes=model.compute.itemsize,
            seconds_per_step=seconds_per_step,
            feature_bytes=conditions.audio.frames.nbytes,
            picture=picture.shape[:2],
            grain=grain,
        )

    try:
        # cached clips are valid only with branches batched as they were: that decides, not the memory that is free now
        one_by_one_finished = count_finished(batch_branches=False) if one_by_one else 0
        finished = count_finished(batch_branches=True)
        batch_branches = finished >= one_by_one_finished
        if not batch_branches:
            finished = count_finished(batch_branches=False)
        if finished_only and not finished:
            raise _NothingFinishedError(
                f"Set 'render' to 'all clips': no clip of this video is finished yet in {cache.folder}."
            )
        if finished < clips and not finished_only:
            tell(hidden, plan().length, f"{plan().needs} {cache.summary}")
            plan().refuse_what_cannot_fit(cache.folder, output_folder())
            previewer = previewer_of(model.config, model.device, shown_by)
            still = None if previewer else still_previewer_of(model.config, shown_by)
            with Progress(clips * config.steps, previewer=previewer, size=size) as progress:
                shown = _Countdown(
                    progress, hidden, plan, still, partial(_dialled, direction, conditions, model.config)
                )

                def work(emo: Emo, is_short: bool, room: int) -> None:
                    nonlocal batch_branches
                    if not finished and not run.rendered:
                        batch_branches = not is_short
                    render = renderer(emo, batch_branches, shown.on_step, room)
                    for _ in generate_clips(CachedRenderer(render, run, **cached), motion=motion):
                        pass

                model.run(work, frames=frames if batch_branches else one_by_one, fewer=None if finished else one_by_one)
    except _NothingFinishedError as error:
        logging.warning("EMO: %s", error)
        show(hidden, str(error))
        run.lease.close()
        raise
    except BaseException as error:
        kept = max(finished, len(run.keys))
        message = f"{kept} of {clips} clips are kept; queue again to continue" + (
            "; set 'render' to 'finished clips only' for a video of what is done." if kept else "."
        )
        logging.warning("EMO: %s They are in %s.", message, cache.folder)
        show(hidden, message)
        if kept and len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (f"{error.args[0]}\n{message}",)
        run.lease.close()
        raise
    made = run.clips(
        wanted=conditions.frames,
        fps=conditions.audio.fps,
        config=model.config,
        direction=direction,
        heard=heard_opening(conditions.audio, model.config.audio_encoder),
    )
    seconds = time.monotonic() - began
    if run.rendered:
        tell(
            hidden,
            f"{made.frames} frames; {run.rendered} of {clips} clips rendered in {seconds:.1f} s: {settings(config)}.",
            f"{seconds / (run.rendered * model.config.clip_frames):.2f} s per frame. {cache.summary}",
        )
    else:
        tell(
            hidden,
            f"{made.frames} of {made.wanted} frames were finished before; nothing was rendered.",
            f"They were made with {settings(config)}. {cache.summary}",
        )
    return made


class _NothingFinishedError(ValueError):
    """'finished clips only' without any; reported once, in log and error alike."""


def _dialled(direction: Direction, conditions: Conditions, config: ModelConfig, latents: Tensor, clip: int) -> Tensor:
    """A clip's latents with the dials that it will have, for previews."""
    first, total = (clip - 1) * config.clip_frames - direction.fade, conditions.frames - direction.fade
    return direction.dialled(latents, first, total=total)


def settings(config: SamplingConfig) -> str:
    """'3 steps of ddim, audio guidance 1.3'; a scale of 1 guides nothing and is left out."""
    scales = {"audio": config.audio_guidance, "reference": config.reference_guidance}
    guided = [f", {name} guidance {scale:g}" for name, scale in scales.items() if scale != 1]
    return f"{config.steps} step{'s' * (config.steps > 1)} of {config.sampler}{''.join(guided)}"


class _Countdown:
    """The bar, the picture and, once a second, the time that is left; still: shows a frame of each clip, or None;
    shown: (latents, clip number from 1) -> what is shown of them."""

    def __init__(self, progress: Progress, hidden, plan, still, shown: Callable[[Tensor, int], Tensor]):
        self.progress, self.hidden, self.plan, self.still, self.shown = progress, hidden, plan, still, shown
        self.shown_at, self.is_timed = 0.0, False
        progress.begin()

    def on_step(self, report: StepReport) -> None:
        progress, done = self.progress, (report.clip - 1) * report.steps + report.step
        denoised = self.shown(report.denoised, report.clip)
        progress.update(done, denoised)
        if report.is_cached:
            progress.begin()
            return
        if self.still is not None and report.step == report.steps:
            progress.show_still(self.still, denoised)
        if not self.is_timed:
            self.is_timed = True
            plan = self.plan(progress.seconds_per_step)
            tell(self.hidden, plan.length, plan.needs)
        elif time.monotonic() - self.shown_at >= 1:
            self.shown_at = time.monotonic()
            left = minutes_and_seconds(progress.seconds_per_step * (progress.total - done))
            show(
                self.hidden, f"Clip {report.clip} of {report.clips}, step {report.step} of {report.steps}; {left} left."
            )

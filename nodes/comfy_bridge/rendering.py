"""A sampling run: told beforehand, shown while it lasts, and kept clip by clip."""

from __future__ import annotations

import logging
import time

from ...emo_model.config import SamplingConfig
from ...emo_model.models.emo import Emo
from ...emo_model.sampling.clips import StepReport, generate_clips
from ...emo_model.sampling.estimate import count_clips, estimate, frames_at_once, minutes_and_seconds
from ...emo_model.sampling.guidance import evaluations
from ...emo_model.sampling.spool import SpooledClips
from ...emo_model.types import Conditions, MotionFrames, ReferenceFeatures
from .management import stop_if_cancelled
from .parts import EmoModel
from .portraits import is_bound
from .previews import previewer_of
from .running import Progress, show, tell
from .spools import clips_spool, output_folder, way_through


def render(model: EmoModel, conditions: Conditions, config: SamplingConfig, *, reference: ReferenceFeatures, motion: MotionFrames,
           vae, shown_by, finished_only: bool, hidden) -> SpooledClips:
    """Render the clips that are not there yet; with `finished_only`, none.

    vae: motion frames go through it, or None; shown_by: the VAE of the reference, for previews. However the run ends, the node
    and the log say how many clips are kept. Raises ValueError where there is no finished clip, OSError where the disk is too
    small.
    """
    spool = clips_spool()
    keep = spool.run(weights=model.fingerprint, renewal="" if vae is None else way_through(vae))
    clips = count_clips(conditions.frames, model.config.clip_frames)
    frames = frames_at_once(model.config, config)
    one_by_one = -(-(model.config.clip_frames + model.config.motion_frames) // 2) if evaluations(config) > 1 else None
    how = {"config": config, "reference": reference, "device": model.device, "dtype": model.compute, "motion": motion,
           "keep": keep, "renew": None if vae is None else model.renewing(vae, frames=frames)}
    is_whole, fit = is_bound(shown_by), conditions.portrait.fit
    picture, size = ((fit.height, fit.width), None) if is_whole else (None, model.config.image_size)
    finished, began = 0, time.monotonic()

    def find(together: bool) -> int:
        return sum(1 for _ in generate_clips(model.patcher.model, conditions, finished_only=True, on_step=stop_if_cancelled,
                                             together=together, **how))

    def plan(seconds_per_step: float | None = None):
        return estimate(model.config, config, frames=conditions.frames, fps=conditions.audio.fps, finished=finished,
                        weights_bytes=model.weight_bytes, compute_bytes=model.compute.itemsize, seconds_per_step=seconds_per_step,
                        feature_bytes=conditions.audio.frames.nbytes, picture=picture)

    try:
        # clips count only for a run that guides as they were guided; how much memory is free now must not decide on that again
        apart = find(together=False) if one_by_one else 0
        finished = find(together=True)
        is_together = finished >= apart
        if not is_together:
            finished = find(together=False)
        if finished_only and not finished:
            raise ValueError(f"No clip of this video is finished yet in {spool.folder}. Set 'render' to 'all clips'.")
        if finished < clips and not finished_only:
            tell(hidden, f"{plan().says} {spool.says}")
            plan().refuse_what_cannot_fit(spool.folder, output_folder())
            previewer = previewer_of(model.config, model.device, shown_by)
            with Progress(clips * config.steps, previewer=previewer, size=size) as progress:
                shown = _Countdown(progress, hidden, plan)

                def work(emo: Emo, is_short: bool, room: int) -> None:
                    nonlocal is_together
                    if not finished and not keep.rendered:
                        is_together = not is_short
                    renew = None if vae is None else model.renewing(vae, frames=room)
                    for _ in generate_clips(emo, conditions, on_step=shown.on_step, together=is_together,
                                            **{**how, "renew": renew}):
                        pass

                model.run(work, frames=frames if is_together else one_by_one, fewer=None if finished else one_by_one)
    except BaseException as error:
        kept = max(finished, len(keep.keys))
        said = (f"{kept} of {clips} clips are kept in {spool.folder}; queue again to continue" + (
            "; set 'render' to 'finished clips only' for a video of what is done." if kept else "."))
        logging.warning("EMO: %s", said)
        show(hidden, said)
        if kept and len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (f"{error.args[0]}\n{said}",)
        keep.lease.close()
        raise
    made = keep.clips(wanted=conditions.frames, fps=conditions.audio.fps, config=model.config)
    seconds = time.monotonic() - began
    if keep.rendered:
        tell(hidden, f"{made.frames} frames; {keep.rendered} of {clips} clips rendered in {seconds:.1f} s "
                     f"({seconds / (keep.rendered * model.config.clip_frames):.2f} s per frame). {spool.says}")
    else:
        tell(hidden, f"{made.frames} of {made.wanted} frames were finished before; nothing was rendered. {spool.says}")
    return made


class _Countdown:
    """The bar, the picture and, once a second, the time that is left."""

    def __init__(self, progress: Progress, hidden, plan):
        self.progress, self.hidden, self.plan = progress, hidden, plan
        self.said, self.is_timed = 0.0, False
        progress.begin()

    def on_step(self, report: StepReport) -> None:
        progress, done = self.progress, (report.clip - 1) * report.steps + report.step
        progress.update(done, report.denoised)
        if report.is_found:
            progress.begin()
            return
        if not self.is_timed:
            self.is_timed = True
            tell(self.hidden, self.plan(progress.seconds_per_step).says)
        elif time.monotonic() - self.said >= 1:
            self.said = time.monotonic()
            left = minutes_and_seconds(progress.seconds_per_step * (progress.total - done))
            show(self.hidden, f"Clip {report.clip} of {report.clips}, step {report.step} of {report.steps}; {left} left.")

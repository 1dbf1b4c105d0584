"""The clip renderer with a cache around it: a look-up before, a save behind."""

from __future__ import annotations

from torch import Tensor

from ..sampling.clips import ClipRenderer
from ..sampling.progress import unchanged
from ..types import MotionFrames
from .folder import CacheRun
from .keys import ClipKeys, weights_of


class CachedRenderer:
    """A `ClipRenderer` whose clips are on the disk before anybody sees them; those that are there already are not
    rendered.

    weights: a fingerprint of the model, by default `weights_of` it; reencoding: a name for what `render.reencode` does,
    "" for nothing. finished_only: nothing is rendered, and the video ends before the first clip that is missing.
    """

    def __init__(
        self,
        render: ClipRenderer,
        run: CacheRun,
        *,
        weights: str | None = None,
        reencoding: str = "",
        finished_only: bool = False,
    ):
        if render.reencode is not unchanged and not reencoding:
            raise ValueError(
                "clips whose motion frames are re-encoded need a name for how: set 'reencoding', or clips of another "
                "encoder would be taken for these"
            )
        self.render, self.run, self.finished_only, self.video = render, run, finished_only, render.video
        self.keys = ClipKeys(
            render.emo.config,
            self.video.conditions.portrait,
            render.sampling,
            weights=weights or weights_of(render.emo),
            reference=render.given_reference,
            device=render.device,
            dtype=render.dtype,
            reencoding=reencoding,
            batch_branches=render.batch_branches,
        )

    def __call__(self, number: int, motion: MotionFrames) -> Tensor | None:
        if number == 0:
            self.run.restart()
        key = self.keys.of(number, self.video.clip(number), motion.latents)
        model = self.video.model
        latents = self.run.find(
            key, (1, model.latent_channels, model.clip_frames, model.latent_size, model.latent_size)
        )
        if latents is not None:
            self.render.report(number, self.render.sampling.steps, latents, is_cached=True)
        elif not self.finished_only:
            latents = self.render(number, motion)
            self.run.save(key, latents)
        return latents

"""Classifier-free guidance, apart for the voice and for the portrait (arXiv 2207.12598; two scales: arXiv 2211.09800, eq. 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..config import SamplingConfig
from ..models.context import Context, Projected
from ..models.emo import Emo
from ..models.unet import Inner
from .mixed_identity import mix_identity
from .samplers import Predict


def guided(emo: Emo, context: Context, *, audio: float, reference: float, mixed_identity: bool = True,
           together: bool = True) -> Predict:
    """`guided_by` with the same scales in all steps."""
    config = SamplingConfig(audio_guidance=audio, reference_guidance=reference, mixed_identity=mixed_identity)
    return guided_by(emo, context, config, together=together)


def guided_by(emo: Emo, context: Context, config: SamplingConfig, timesteps: Sequence[int] = (), *,
              times: Tensor | None = None, together: bool = True) -> Predict:
    """A callable (noisy, timestep) -> guided prediction; scale 1 is the model as trained and costs no evaluation of its own.

    With e(portrait, voice):  e(0, 0) + reference * (e(p, 0) - e(0, 0)) + audio * (e(p, v) - e(p, 0)). Two equal scales guide
    portrait and voice as one, as Hallo does: e(p, 0) falls out. mixed_identity: see there; only Hallo has identity tokens.
    timesteps: those of the steps, by which intervals of guidance and the deep cache are counted; a clip needs a call of its own.
    times: these as `Emo.project_time` has them, if that was done before, for all clips.
    together: evaluate the halves as one batch, if it is of one portrait (B = 1): that takes more memory, and less time, because
    they share layers and fill a GPU better.
    """
    if config.reference_guidance != 1 and config.mixed_identity:
        context = mix_identity(context)
    order = {timestep: step for step, timestep in enumerate(timesteps)}
    if times is None and order:
        with torch.no_grad():
            times = emo.project_time(timesteps, context)
    silent = context.without_audio()
    everyone = {"said": context, "silent": silent, "nobody": silent.without_reference()}
    together = together and len(context.audio) == 1
    batches: dict[tuple[str, ...], list[_Batch]] = {}

    def predict(noisy: Tensor, timestep: int) -> Tensor:
        step = order.get(timestep, 0)
        audio, reference = config.guidance_at(step)
        wanted = _wanted(audio, reference)
        if wanted not in batches:
            contexts = [everyone[name] for name in wanted]
            batches[wanted] = [_Batch(emo.project(*some)) for some in ([contexts] if together else [[one] for one in contexts])]
        t = times[step:step + 1] if timestep in order else torch.full((len(noisy),), timestep, device=noisy.device)
        noisy = noisy.to(context.face.dtype)  # the model may calculate in half precision, the sampler never does
        answers = [answer for batch in batches[wanted]
                   for answer in batch.ask(emo, noisy, t, step, config.deep_cache).float().split(len(noisy))]
        if len(answers) == 1:
            return answers[0]
        said, *middle, least = answers
        if not middle:
            return least + audio * (said - least)
        return middle[0] + audio * (said - middle[0]) + (reference - 1) * (middle[0] - least)

    return predict


def evaluations(config: SamplingConfig) -> int:
    """How many answers of the model the dearest step needs."""
    return max(len(_wanted(*config.guidance_at(step))) for step in range(config.steps))


def _wanted(audio: float, reference: float) -> tuple[str, ...]:
    """Whom these scales ask."""
    if audio == reference == 1:
        return ("said",)
    if audio == reference:
        return ("said", "nobody")
    return ("said", "silent") if reference == 1 else ("said", "silent", "nobody")


class _Batch:
    """Contexts evaluated together over the steps of a clip, and what the coarser levels said of them."""

    def __init__(self, ready: Projected):
        self.ready, self.inner, self.asked = ready, Inner(), -1

    def ask(self, emo: Emo, noisy: Tensor, timestep: Tensor, step: int, every: int) -> Tensor:
        """Asks the coarser levels in the first step and in each `every` steps after."""
        if every == 1:
            return emo.predict(noisy, timestep, self.ready)
        self.inner.repeats = self.asked >= 0 and step - self.asked < every
        if not self.inner.repeats:
            self.asked = step
        return emo.predict(noisy, timestep, self.ready, inner=self.inner)

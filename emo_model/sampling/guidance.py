"""Classifier-free guidance, apart for the voice and for the portrait (arXiv 2207.12598; two scales as in arXiv 2211.09800, eq. 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.context import Context
from ..models.emo import Emo
from .mixed_identity import mix_identity
from .samplers import Predict


def guided(emo: Emo, context: Context, *, audio: float, reference: float, mixed_identity: bool = True,
           together: bool = True) -> Predict:
    """A callable (noisy, timestep) -> guided prediction; scale 1 is the model as trained and costs no evaluation of its own.

    With e(portrait, voice):  e(0, 0) + reference * (e(p, 0) - e(0, 0)) + audio * (e(p, v) - e(p, 0)). Two equal scales guide
    portrait and voice as one, as Hallo does: e(p, 0) falls out. mixed_identity: see there; only Hallo has identity tokens.
    together: evaluate them as one batch, if it is of one portrait (B = 1): that takes more memory, and less time, because they
    share layers and fill a GPU better.
    """
    if reference != 1 and mixed_identity:
        context = mix_identity(context)
    contexts = [context]
    if audio != 1 or reference != 1:
        silent = context.without_audio()
        middle = [] if reference == 1 or audio == reference else [silent]
        contexts += [*middle, silent if reference == 1 else silent.without_reference()]
    with torch.no_grad():
        batches = [emo.project(*contexts)] if together and len(context.audio) == 1 else [emo.project(one) for one in contexts]

    def predict(noisy: Tensor, timestep: int) -> Tensor:
        t = torch.full((len(noisy),), timestep, device=noisy.device)
        noisy = noisy.to(context.face.dtype)  # the model may calculate in half precision, the sampler never does
        answers = [answer for batch in batches for answer in emo.predict(noisy, t, batch).float().split(len(noisy))]
        if len(answers) == 1:
            return answers[0]
        said, *middle, least = answers
        if not middle:
            return least + audio * (said - least)
        return middle[0] + audio * (said - middle[0]) + (reference - 1) * (middle[0] - least)

    return predict

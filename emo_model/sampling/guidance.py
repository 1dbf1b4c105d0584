"""Classifier-free guidance, apart for the voice and for the portrait (arXiv 2207.12598; two scales as in arXiv 2211.09800, eq. 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.emo import Context, Emo
from .mixed_identity import mix_identity
from .samplers import Predict


def guided(emo: Emo, context: Context, *, audio: float, reference: float, mixed_identity: bool = True) -> Predict:
    """A callable (noisy, timestep) -> guided prediction; scale 1 is the model as trained and costs no evaluation of its own.

    With e(portrait, voice):  e(0, 0) + reference * (e(p, 0) - e(0, 0)) + audio * (e(p, v) - e(p, 0)). Two equal scales guide
    portrait and voice as one, as Hallo does: e(p, 0) falls out. mixed_identity: see there; only Hallo has identity tokens.
    """
    if reference != 1 and mixed_identity:
        context = mix_identity(context)
    silent = context.without_audio() if audio != 1 or reference != 1 else None
    nobody = silent.without_reference() if reference != 1 else None

    def predict(noisy: Tensor, timestep: int) -> Tensor:
        t = torch.full((len(noisy),), timestep, device=noisy.device)
        noisy = noisy.to(context.face.dtype)  # the model may calculate in half precision, the sampler never does
        said = emo.predict(noisy, t, context).float()
        if nobody is not None and audio == reference:
            nothing = emo.predict(noisy, t, nobody).float()
            return nothing + audio * (said - nothing)
        if silent is not None:
            without_voice = emo.predict(noisy, t, silent).float()
            said = without_voice + audio * (said - without_voice)
        if nobody is not None:
            without_portrait = emo.predict(noisy, t, nobody).float()
            said = said + (reference - 1) * (without_voice - without_portrait)
        return said

    return predict

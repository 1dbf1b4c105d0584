"""The mouth that the audio encoder hears, as a guide for the sampled one.

Differs from EMO: there the voice acts through attention alone. The built-in audio encoder was trained to say how open
the mouth is, and in voices that no training heard it is nearer to the truth than what is sampled from its features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..auxiliary.audio_encoder import mouth_in
from ..config import ModelConfig
from ..inputs.motion_latents import blend_opening
from ..inputs.vae import to_raw, to_scaled
from ..types import Conditions


def clip_opening(conditions: Conditions, first: int, frames: int, model: ModelConfig) -> Tensor | None:
    """(F,) 0 shut .. 1 wide open, for frames first, first + 1, ... of the video; None: the model does not use it, or
    there is no mesh of the portrait."""
    encoder = model.audio_encoder
    if not model.heard_mouth or encoder is None or not encoder.mouth_tracks or model.motion_decoder is None:
        return None
    if conditions.portrait.mesh is None:
        return None
    audio = conditions.audio.frames
    numbers = torch.arange(first, first + frames).clamp(max=len(audio) - 1)
    return mouth_in(audio[numbers].float(), encoder)[:, 0].clamp(0, 1)


def blend_with_heard(latents: Tensor, opening: Tensor, mesh: Tensor, model: ModelConfig) -> Tensor:
    """latents (1, C, F, h, w) scaled, opening (F,), mesh (468, 3) of the portrait in pixels of its square -> the clip
    with its mouth moved `model.heard_mouth` of the way to the opening."""
    raw = to_raw(latents[0].transpose(0, 1), model)
    moved = blend_opening(raw, mesh, opening, share=model.heard_mouth, size=model.image_size)
    return to_scaled(moved, model).transpose(0, 1)[None]

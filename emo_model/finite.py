"""NaN and infinity are refused before and after a clip is rendered, so that no clip with them is ever kept."""

from __future__ import annotations

import torch
from torch import Tensor

from .config import SamplingConfig
from .types import ClipConditions, MotionFrames, Portrait, is_finite


def check_conditions(number: int, clip: ClipConditions, portrait: Portrait, motion: MotionFrames) -> None:
    """Raises ValueError, naming what is not finite of the conditions of clip `number`, from 0."""
    given = {
        "the audio features": clip.audio,
        "the face mask": clip.face_mask,
        "the portrait's latents": portrait.latents,
        "the motion frames": motion.latents,
    }
    for what, values in given.items():
        if values is not None and not is_finite(values):
            raise ValueError(f"{what} of clip {number + 1} have NaN or infinite values; make them again")


def check_rendered(number: int, latents: Tensor, dtype: torch.dtype, sampling: SamplingConfig) -> None:
    """Raises ValueError, with what to do, if they are not finite."""
    if not is_finite(latents):
        raise ValueError(
            f"the model made NaN or infinite values in clip {number + 1} (computed in {dtype}, audio guidance "
            f"{sampling.audio_guidance:g}). Compute in float32 (ComfyUI: --force-fp32), lower the guidance, or copy "
            "the model file again"
        )

"""The types on the wires between EMO's nodes, each beside the value it carries."""

from __future__ import annotations

from dataclasses import dataclass

from comfy_api.latest import io

from ..emo_model.inputs.whole import WholePicture
from ..emo_model.types import Portrait, ReferenceFeatures

EmoModelType = io.Custom("EMO_MODEL")
"""comfy_bridge.EmoModel"""

ReferenceType = io.Custom("EMO_REFERENCE")
"""Reference, below"""

AudioFeaturesType = io.Custom("EMO_AUDIO")
"""emo_model.types.AudioFeatures"""

FaceMaskType = io.Custom("EMO_FACE_MASK")
"""emo_model.types.FaceMask, or FaceMasks over time"""

SpeedType = io.Custom("EMO_SPEED")
"""emo_model.types.Speed"""

ClipsType = io.Custom("EMO_CLIPS")
"""emo_model.cache.folder.CachedClips"""

MotionType = io.Custom("EMO_MOTION")
"""emo_model.types.MotionFrames"""

OptionsType = io.Custom("EMO_OPTIONS")
"""emo_model.config.SamplingConfig, of which EMO Sampler's own widgets are not read"""

BoundingBoxType = io.Custom("BOUNDING_BOX")
"""Core's {x, y, width, height} in pixels, or lists of them; named here because ComfyUI 0.3 has no class for it."""


@dataclass(frozen=True, eq=False)
class Reference:
    """The portrait and what the reference net read in it.

    whole: the picture that it was cut from; vae: the VAE to decode with, which knows the portrait where the model wants that;
    shrink: pixels of the given picture per pixel of `whole`.
    """

    portrait: Portrait
    features: ReferenceFeatures
    whole: WholePicture
    vae: object
    shrink: float = 1.0

"""The custom types of links between EMO's nodes, each with the value it carries."""

from __future__ import annotations

from dataclasses import dataclass

from comfy_api.latest import io

from ..emo_model.cache.folder import CachedClips
from ..emo_model.outputs.paste_back import PasteBack
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

ExpressionType = io.Custom("EMO_EXPRESSION")
"""emo_model.sampling.expression.Expression"""

ClipsType = io.Custom("EMO_CLIPS")
"""emo_model.cache.folder.CachedClips"""

FacesType = io.Custom("EMO_FACES")
"""tuple[FaceClips, ...], below"""

MotionType = io.Custom("EMO_MOTION")
"""emo_model.types.MotionFrames"""

OptionsType = io.Custom("EMO_OPTIONS")
"""emo_model.config.SamplingConfig; fields with a widget in EMO Sampler are overridden by it"""

CurveType = io.Custom("CURVE")
"""Core's curve over 0..1, `comfy_api.input.CurveInput`, or its points; ComfyUI 0.3 has no class for it."""

BoundingBoxType = io.Custom("BOUNDING_BOX")
"""Core's {x, y, width, height} in pixels, or lists of them; ComfyUI 0.3 has no class for it."""


@dataclass(frozen=True, eq=False)
class Reference:
    """The portrait and its reference features.

    whole: the picture it was cropped from; vae: the VAE to decode with, bound to the portrait for models with motion
    latents; shrink: pixels of the given picture per pixel of `whole`; number: of the face among those of the picture,
    from 0.
    """

    portrait: Portrait
    features: ReferenceFeatures
    whole: PasteBack
    vae: object
    shrink: float = 1.0
    number: int = 0


@dataclass(frozen=True, eq=False)
class FaceClips:
    """The clips of one of the faces that move in a picture."""

    clips: CachedClips
    reference: Reference

"""The nodes of ComfyUI-EMO, in menu order."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import comfy_bridge, shipped
from .audio import EmoAudioEncoder
from .clips import EmoClipsToLatent, EmoContinueFrom
from .dub import EmoDubVideo
from .expression import EmoExpression, EmoIdle
from .face_mask import EmoFaceMaskBuilder
from .load import EmoLoadModel
from .reference import EmoReferenceEncoder
from .sampler import EmoSampler
from .sampling_options import EmoSamplingOptions
from .several_faces import EmoCombineFaces, EmoSeveralFaces
from .speed import EmoHeadSpeed
from .talking_faces import EmoTalkingFaces
from .talking_portrait import EmoExample, EmoTalkingPortrait
from .video import EmoVideoCombine

NODES = [
    EmoTalkingPortrait,
    EmoTalkingFaces,
    EmoDubVideo,
    EmoLoadModel,
    EmoReferenceEncoder,
    EmoSeveralFaces,
    EmoAudioEncoder,
    EmoFaceMaskBuilder,
    EmoHeadSpeed,
    EmoExpression,
    EmoIdle,
    EmoSampler,
    EmoCombineFaces,
    EmoVideoCombine,
    EmoClipsToLatent,
    EmoContinueFrom,
    EmoSamplingOptions,
    EmoExample,
]


class EmoExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        together = shipped.PORTRAITS["two people"], *shipped.VOICES
        comfy_bridge.offer_as_inputs([shipped.PORTRAITS["photograph"], shipped.VOICE, shipped.VIDEO, *together])
        return list(NODES)

"""The nodes of ComfyUI-EMO, in menu order."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .audio import EmoAudioEncoder
from .clips import EmoClipsToLatent, EmoContinueFrom
from .face_mask import EmoFaceMaskBuilder
from .load import EmoLoadModel
from .reference import EmoReferenceEncoder
from .sampler import EmoSampler
from .sampling_options import EmoSamplingOptions
from .speed import EmoHeadSpeed
from .video import EmoVideoCombine

NODES = [
    EmoLoadModel,
    EmoReferenceEncoder,
    EmoAudioEncoder,
    EmoFaceMaskBuilder,
    EmoHeadSpeed,
    EmoSampler,
    EmoVideoCombine,
    EmoClipsToLatent,
    EmoContinueFrom,
    EmoSamplingOptions,
]


class EmoExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)

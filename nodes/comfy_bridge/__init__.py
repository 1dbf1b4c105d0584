"""The one adapter to ComfyUI's engine; nothing else in this pack imports it. What the nodes use of it:"""

from comfy_execution.graph_utils import GraphBuilder

from .audio import BuiltInAudioEncoder, audio_layers, encode_audio
from .clip_cache import clip_cache, clips_folder, clips_revision, output_folder, vae_fingerprint
from .dubbing import read_face
from .files import (
    BUILT_IN,
    file_names,
    find_face,
    fingerprint,
    missing_files,
    model_names,
    model_path,
    offer_as_inputs,
    register_model_folder,
)
from .management import managed, patcher_of, to_intermediate
from .parts import (
    EmoModel,
    decode,
    decode_blocks,
    encode_decoded_frames,
    encode_picture,
    latents_of_frames,
    load_model,
    own_audio_encoder,
    own_vae,
)
from .portraits import (
    PortraitVAE,
    bind,
    decode_together,
    face_of,
    faces_of,
    framing,
    is_bound,
    last_together,
    mesh_of,
    resolve_vae,
    watch,
)
from .rendering import render
from .running import Progress, is_part, show, tell, workflow_of, write_video

__all__ = [
    "BUILT_IN",
    "BuiltInAudioEncoder",
    "EmoModel",
    "GraphBuilder",
    "PortraitVAE",
    "Progress",
    "audio_layers",
    "bind",
    "clip_cache",
    "clips_folder",
    "clips_revision",
    "decode",
    "decode_blocks",
    "decode_together",
    "encode_audio",
    "encode_decoded_frames",
    "encode_picture",
    "face_of",
    "faces_of",
    "file_names",
    "find_face",
    "fingerprint",
    "framing",
    "is_bound",
    "is_part",
    "last_together",
    "latents_of_frames",
    "load_model",
    "managed",
    "mesh_of",
    "missing_files",
    "model_names",
    "model_path",
    "offer_as_inputs",
    "output_folder",
    "own_audio_encoder",
    "own_vae",
    "patcher_of",
    "read_face",
    "register_model_folder",
    "render",
    "resolve_vae",
    "show",
    "tell",
    "to_intermediate",
    "vae_fingerprint",
    "watch",
    "workflow_of",
    "write_video",
]

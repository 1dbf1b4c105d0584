"""The one adapter to ComfyUI's engine; nothing else in this pack imports it. What the nodes use of it:"""

from .audio import BuiltInAudioEncoder, audio_layers, hear
from .clip_cache import clip_cache, clips_folder, clips_revision, output_folder, vae_fingerprint
from .files import BUILT_IN, find_face, fingerprint, model_names, model_path, register_model_folder
from .management import keep, managed, patcher_of, unmanaged
from .parts import EmoModel, decode, encode_picture, latents_of_frames, load_model, pictures, shows
from .portraits import PortraitVAE, bind, bound_to, face_of, framing, knows_portrait, mesh_of
from .rendering import render
from .running import Progress, show, tell, workflow_of, write_video

__all__ = ["BUILT_IN", "BuiltInAudioEncoder", "EmoModel", "PortraitVAE", "Progress", "audio_layers", "bind", "bound_to",
           "clip_cache", "clips_folder", "clips_revision", "decode", "encode_picture", "face_of", "find_face", "fingerprint",
           "framing", "hear", "keep", "knows_portrait", "latents_of_frames", "load_model", "managed", "mesh_of", "model_names",
           "model_path", "output_folder", "patcher_of", "pictures", "register_model_folder", "render", "show", "shows", "tell",
           "unmanaged", "vae_fingerprint", "workflow_of", "write_video"]

"""The one adapter to ComfyUI's engine; nothing else in this pack imports it. What the nodes use of it:"""

from .audio import BuiltInAudioEncoder, audio_layers, hear
from .files import BUILT_IN, find_face, fingerprint, model_names, model_path, register_model_folder
from .management import keep, managed, patcher_of, unmanaged
from .parts import EmoModel, decode, encode_picture, latents_of_frames, load_model, pictures, shows
from .portraits import PortraitVAE, bind, bound_to, face_of, framing, knows_portrait, mesh_of
from .rendering import render
from .running import Progress, show, tell, workflow_of, write_video
from .spools import clips_folder, clips_mark, clips_spool, output_folder, way_through

__all__ = ["BUILT_IN", "BuiltInAudioEncoder", "EmoModel", "PortraitVAE", "Progress", "audio_layers", "bind", "bound_to",
           "clips_folder", "clips_mark", "clips_spool", "decode", "encode_picture", "face_of", "find_face", "fingerprint",
           "framing", "hear", "keep", "knows_portrait", "latents_of_frames", "load_model", "managed", "mesh_of", "model_names",
           "model_path", "output_folder", "patcher_of", "pictures", "register_model_folder", "render", "show", "shows", "tell",
           "unmanaged", "way_through", "workflow_of", "write_video"]

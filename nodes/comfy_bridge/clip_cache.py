"""Where finished clips are kept between runs."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ...emo_model.cache.folder import CacheLimits, ClipCache
from ...emo_model.cache.keys import weights_of
from .files import without_paths

FOLDER = "emo_clips"


def clips_folder() -> Path:
    """The folder that extra_model_paths.yaml names as 'emo_clips', or one of ComfyUI's user folder.

    Not the temporary folder, which ComfyUI empties when it starts; nor the output folder, all of whose files newer ones
    list.
    """
    named = folder_paths.folder_names_and_paths.get(FOLDER, ([], set()))[0]
    return Path(named[0] if named else Path(folder_paths.get_user_directory()) / FOLDER)


def clip_cache() -> ClipCache:
    return ClipCache(clips_folder(), CacheLimits.from_environment())


def clips_revision() -> str:
    """Changes when clips are gone from the disk; see `ClipCache.revision`. It names no folder of this machine."""
    return without_paths(clip_cache().revision)


def output_folder() -> Path:
    return Path(folder_paths.get_output_directory())


def vae_fingerprint(vae) -> str:
    """Changes with what a VAE makes of motion frames: with its weights, and with the portrait it is bound to."""
    network = getattr(vae, "first_stage_model", None)
    return (type(vae).__name__ if network is None else weights_of(network)) + getattr(vae, "content", "")

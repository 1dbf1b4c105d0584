"""Whether what is connected was made for the same model, picture and frame rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...emo_model.cache.folder import CachedClips
from ...emo_model.config import ModelConfig
from ...emo_model.types import AudioFeatures, FaceMask, FaceMasks, Portrait


def check_faces(faces: Sequence) -> None:
    """Raises ValueError unless these `FaceClips` can be in one video: of one picture, at one frame rate, each once."""
    first = faces[0]
    for face in faces:
        if getattr(face.reference.portrait, "mesh", None) is None:
            raise ValueError(
                "Connect clips of a model that detects faces, such as the built-in one: others have no place "
                "in the whole picture."
            )
        if not np.array_equal(face.reference.whole.still, first.reference.whole.still):
            raise ValueError(
                "Make all references from the same 'image', with the same 'long_side': these show different pictures."
            )
        if face.clips.fps != first.clips.fps:
            raise ValueError(
                f"Encode all voices with the same 'fps': there are {first.clips.fps:g} and {face.clips.fps:g} frames "
                "per second."
            )
    fits = [face.reference.portrait.fit for face in faces]
    if len(set(fits)) < len(fits):
        raise ValueError("Connect each face once: two references are of the same face.")


def check_same_latents(clips: CachedClips, config: ModelConfig) -> None:
    """Raises ValueError if the model of `config` has other latents than the clips."""
    theirs, ours = ((one.latent_channels, one.latent_size, one.latent_scale) for one in (clips.config, config))
    if theirs != ours:
        raise ValueError(
            f"The clips were made with EMO '{clips.config.name}', whose latents differ from those of EMO "
            f"'{config.name}'. Connect the video instead, with 'vae'."
        )


def check_match(
    config: ModelConfig, portrait: Portrait, audio: AudioFeatures, face_mask: FaceMask | FaceMasks | None
) -> None:
    """Raises ValueError if portrait, audio features or mask were made for another model than that of `config`."""
    wanted = (config.latent_channels, config.latent_size, config.latent_size)
    if tuple(portrait.latents.shape[1:]) != wanted:
        raise ValueError(
            "The reference was made for another model: its latents are "
            f"{tuple(portrait.latents.shape[1:])}, EMO '{config.name}' needs {wanted}. Connect the same "
            "'Load EMO Model' to 'EMO Reference Encoder' and 'EMO Sampler'."
        )
    layers, width = audio.frames.shape[1:]
    if (layers, width) != (config.audio_layers, config.audio_width):
        remedy = (
            "the 'audio_encoder' of the same 'Load EMO Model'"
            if config.audio_encoder
            else "core's audio encoder loader with the wav2vec2 model that it was trained with"
        )
        raise ValueError(
            f"The audio features have {layers} layers of width {width}, but EMO '{config.name}' needs "
            f"{config.audio_layers} of width {config.audio_width}. Connect {remedy} to 'EMO Audio "
            "Encoder'."
        )
    if audio.resampling != config.audio_resampling:
        raise ValueError(
            "The audio features were resampled for another kind of model. "
            + (
                f"EMO '{config.name}' resamples inside the audio encoder: connect 'model' of 'Load EMO Model' to 'EMO "
                "Audio Encoder'."
                if config.audio_resampling == "convolutions"
                else f"Connect the 'Load EMO Model' of '{config.name}' to 'model' of 'EMO Audio Encoder', or "
                "disconnect it."
            )
        )
    if config.hallo and (face_mask is None or face_mask.between(0, 0).regions is None):
        raise ValueError(
            f"EMO '{config.name}' needs region masks for pose, face and lips. Connect 'EMO Face Mask "
            "Builder' to 'face_mask'."
        )
    if not len(audio.frames):
        raise ValueError(
            f"The sound lasts {audio.seconds:.3f} s, less than one frame at {audio.fps:g} frames per "
            "second. Connect a longer recording."
        )

"""AUDIO {"waveform": (B, C, T), "sample_rate"} to sound (C, T)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...emo_model.inputs.audio import as_waveform, check_rate

MOST_CHANNELS = 64
"""Of a recording; a waveform with more has its axes exchanged."""


def one_sound(audio: dict, *, name: str = "audio") -> tuple[Tensor, int]:
    """AUDIO -> (waveform (C, T) float32 on the CPU, sample rate). name: of the input, for errors.

    Two axes, numpy arrays and whole numbers, which other packs make, are accepted.
    """
    if not isinstance(audio, dict) or not {"waveform", "sample_rate"} <= audio.keys():
        raise ValueError(
            f"'{name}' carries {type(audio).__name__} without 'waveform' and 'sample_rate', which is no AUDIO. Connect "
            "a recording, for example from 'Load Audio'."
        )
    waveform, rate = torch.as_tensor(audio["waveform"]), int(audio["sample_rate"])
    if waveform.ndim < 3:  # (C, T) or (T,), as some packs make it
        waveform = waveform.reshape(1, -1, waveform.shape[-1]) if waveform.ndim else waveform.reshape(1, 1, 1)
    if waveform.ndim != 3:
        raise ValueError(
            f"'{name}' has {waveform.ndim} axes {tuple(waveform.shape)}, but AUDIO has three: batch, channels and "
            "samples. Connect a recording, for example from 'Load Audio'."
        )
    if len(waveform) != 1:
        raise ValueError(f"'{name}' contains {len(waveform)} recordings, but a video has one. Run them one by one.")
    if not waveform.numel() or rate < 1:
        raise ValueError(
            f"'{name}' is empty ({waveform.shape[-1]} samples at {rate} Hz). Connect a recording, for "
            "example from 'Load Audio'."
        )
    if waveform.shape[1] > waveform.shape[2] and waveform.shape[1] > MOST_CHANNELS:
        raise ValueError(
            f"'{name}' has {waveform.shape[1]} channels of {waveform.shape[2]} samples: its axes are exchanged. "
            "Connect the output of 'Load Audio'."
        )
    check_rate(rate, f"'{name}'")
    return as_waveform(waveform[0], name=f"'{name}'"), rate


def several_sounds(voices: dict[str, object]) -> list[tuple[Tensor, int] | None]:
    """AUDIO by input -> (waveform (C, T), rate) each, None for what is not connected, without such at the end."""
    sounds = [None if voice is None else one_sound(voice, name=name) for name, voice in voices.items()]
    while sounds and sounds[-1] is None:
        sounds.pop()
    return sounds


def length_mismatch(sound: tuple[Tensor, int] | None, frames: int, fps: float) -> str | None:
    """A sentence if the durations of sound and frames differ by more than one frame, else None."""
    if sound is None:
        return None
    audio, video = sound[0].shape[-1] / sound[1], frames / fps
    if abs(audio - video) * fps <= 1 + 1e-6:
        return None
    then = "the sound is trimmed" if audio > video else "the rest is silent"
    return f"The sound lasts {audio:.2f} s and the frames {video:.2f} s: {then}."

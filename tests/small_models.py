"""Configs of small models with all kinds of layers: two temporal attentions, levels without attention, positions."""

from __future__ import annotations

from dataclasses import replace

from emo_model.config import PRESETS

EMO = replace(
    PRESETS["emo"],
    image_size=64,
    channels=(32, 32, 64, 64),
    clip_frames=4,
    motion_frames=2,
    audio_layers=3,
    audio_width=16,
    audio_context_width=24,
    speed_width=16,
)
BUILTIN = replace(PRESETS["builtin"], image_size=128, channels=(16, 32, 48), clip_frames=4, motion_frames=2)

"""The portrait and the voice that ship with the pack: defaults of unconnected inputs."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..emo_model.inputs.audio import read_audio
from ..emo_model.inputs.media import read_picture

FOLDER = Path(__file__).parent.parent / "workflows" / "inputs"
PORTRAITS = {"photograph": FOLDER / "emo_portrait.jpg", "drawing": FOLDER / "emo_drawn.png"}
VOICE = FOLDER / "emo_voice.wav"
UNCONNECTED = object()
"""Default of such an input. Not None, which a link can carry: the audio of a silent video."""


def portrait(name: str = "photograph") -> Tensor:
    """Pixels (1, 3, H, W) in [-1, 1]."""
    return read_picture(PORTRAITS[name])


def voice() -> dict:
    """AUDIO."""
    waveform, rate = read_audio(VOICE)
    return {"waveform": waveform[None], "sample_rate": rate}

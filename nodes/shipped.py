"""The portrait and the voice that ship with the pack: defaults of unconnected inputs."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..emo_model.inputs.audio import read_audio
from ..emo_model.inputs.media import read_picture

FOLDER = Path(__file__).parent.parent / "workflows" / "inputs"
PORTRAITS = {"photograph": FOLDER / "emo_portrait.jpg", "drawing": FOLDER / "emo_drawn.png"}
PORTRAITS["two people"] = FOLDER / "emo_two_people.jpg"
VOICE = FOLDER / "emo_voice.wav"
VOICES = FOLDER / "emo_voice_a.wav", FOLDER / "emo_voice_b.wav"
"""Of the two people: a question and its answer."""
VIDEO = FOLDER / "emo_video.mp4"  # to dub
UNCONNECTED = object()
"""Default of such an input. Not None, which a link can carry: the audio of a silent video."""


def portrait(name: str = "photograph") -> Tensor:
    """Pixels (1, 3, H, W) in [-1, 1]."""
    return read_picture(PORTRAITS[name])


def voice(file: Path = VOICE) -> dict:
    """AUDIO."""
    waveform, rate = read_audio(file)
    return {"waveform": waveform[None], "sample_rate": rate}

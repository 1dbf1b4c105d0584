"""Short videos of a puppet that speaks the shipped voice: what its mouth does is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from emo_model.checkpoints import native
from emo_model.inputs.audio import features_per_frame, read_audio, resample
from emo_model.inputs.media import to_uint8
from emo_model.outputs.video import VideoWriter
from emo_model.synthetic.motion import sample_motion
from emo_model.synthetic.puppet_store import cut_person
from emo_model.training.footage.networks import load_networks
from emo_model.training.footage.preparing import Preparer
from emo_model.training.footage.settings import Limits, Settings

VOICE = Path(__file__).parents[4] / "workflows" / "inputs" / "emo_voice.wav"
FPS, FRAMES, SIZE = 25.0, 52, 192
SETTINGS = Settings(crop=192, limits=Limits(shortest=0.8, face_height=60))


@dataclass(frozen=True, eq=False)
class Talking:
    """A video file, and the truth: frames (F, S, S, 3) uint8, opening (F,), sound (T,) at 16 kHz."""

    path: Path
    frames: np.ndarray
    opening: torch.Tensor
    sound: torch.Tensor


@pytest.fixture(scope="session")
def networks():
    return load_networks("default")


@pytest.fixture(scope="session")
def talking(tmp_path_factory, photograph):
    """talking(seed): a puppet of 192 pixels that says another part of the shipped voice, in its own folder."""
    pytest.importorskip("numba")
    encoder, made = native.load(dtype=torch.float32).audio_encoder, {}
    voice = resample(*read_audio(VOICE))
    person = cut_person("somebody.jpg", Image.fromarray(to_uint8(photograph.picture)[0]), photograph.mesh, size=SIZE)

    def make(seed: int) -> Talking:
        if seed not in made:
            count = round(FRAMES / FPS * 16000)
            begin = (seed * 24_000) % (len(voice) - count)
            sound = voice[begin : begin + count]
            with torch.no_grad():
                heard = encoder.mouth(encoder(voice[None]))[0, :, None]
            tracks = features_per_frame(heard, fps=FPS, seconds=len(voice) / 16000).frames[:, 0]
            first = round(begin / 16000 * FPS)
            tracks = tracks[first : first + FRAMES].clamp(min=0)
            motion = sample_motion(seed, FRAMES, FPS, mouth=tracks, head_speed=8.0)
            frames = np.stack([frame.picture for frame in person.puppet().frames(motion)])
            path = tmp_path_factory.mktemp("videos") / f"talking-{seed}.mp4"
            write(path, frames, sound)
            made[seed] = Talking(path, frames, tracks[:, 0], sound)
        return made[seed]

    return make


def write(path: Path, frames: np.ndarray, sound: torch.Tensor | None) -> Path:
    audio = None if sound is None else (sound[None], 16000)
    with VideoWriter(path, fps=FPS, width=frames.shape[2], height=frames.shape[1], audio=audio, preset="fast") as video:
        video.write(frames)
    return path


@pytest.fixture
def prepared(tmp_path, networks):
    """prepared(path, **limits): the row and the folder of one video."""

    def make(path: Path, **limits) -> tuple[dict, Path]:
        settings = replace(SETTINGS, limits=replace(SETTINGS.limits, **limits))
        return Preparer(networks, settings, tmp_path / "data")(path), tmp_path / "data"

    return make


@pytest.fixture(scope="session")
def first(talking, networks, tmp_path_factory) -> tuple[dict, Path]:
    """The row and the folder of the first video, prepared."""
    folder = tmp_path_factory.mktemp("first") / "data"
    return Preparer(networks, SETTINGS, folder)(talking(0).path), folder

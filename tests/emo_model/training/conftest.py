"""Clips of seeded latents, tiny puppets, and prepared speech that needs no speech engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from emo_model.inputs.media import to_uint8
from emo_model.synthetic import speech_library
from emo_model.synthetic.puppet_store import cut_person, is_held_out_face, write_store
from emo_model.synthetic.speech import RATE, Speech
from emo_model.training.clips import ClipStore


@pytest.fixture
def store(config, seeded) -> Callable[..., ClipStore]:
    """store(people=3, length=10): clips whose audio and speed count the frames, so that a batch shows its place."""

    def make(people: int = 3, length: int = 10) -> ClipStore:
        cells = config.latent_size
        frames = torch.arange(length).view(1, length, 1, 1) + 100 * torch.arange(people).view(people, 1, 1, 1)
        return ClipStore(
            latents=seeded(people, length, config.latent_channels, cells, cells, seed=31).half(),
            stills=seeded(people, 2, config.latent_channels, cells, cells, seed=32).half(),
            audio=frames.expand(people, length, config.audio_layers, config.audio_width).half(),
            speed=10.0 * torch.arange(length).expand(people, length),
            landmarks=torch.tensor([[0.5, 0.75], [0.35, 0.4], [0.65, 0.4]]).expand(people, length, 3, 2).half(),
            boxes=torch.tensor([0.25, 0.25, 0.75, 1.0]).expand(people, 4).clone(),
        )

    return make


@pytest.fixture(scope="session")
def puppets(tmp_path_factory, photograph) -> Path:
    """A file of three puppets of 64 pixels, made of one photograph; their teeth differ."""
    picture = Image.fromarray(to_uint8(photograph.picture)[0])
    names = [name for name in (f"{number}.jpg" for number in range(20)) if not is_held_out_face(name)][:3]
    path = tmp_path_factory.mktemp("puppets") / "puppets.safetensors"
    write_store(path, [cut_person(name, picture, photograph.mesh, size=64) for name in names])
    return path


@pytest.fixture(scope="session")
def speech_folder(tmp_path_factory) -> Path:
    """A quarter of a minute of prepared 'speech': a hum that is loud in each vowel and gone in each p, with its
    phonemes."""

    def hum(index: int, seconds: float, *, held_out: bool = False, perform=None) -> Speech:
        steps = round(seconds / 0.2)
        sounds = ["aipu"[(step * step + index) % 4] for step in range(steps)]
        time = torch.arange(round(seconds * RATE)) / RATE
        loud = torch.tensor([0.0 if sound == "p" else 0.3 for sound in sounds]).repeat_interleave(round(0.2 * RATE))
        waveform = (
            loud
            * torch.sin(2 * torch.pi * (110 + 20 * index) * time)
            * (1 + 0.5 * torch.sin(2 * torch.pi * 900 * time))
        )
        phonemes = tuple((sound, 0.2 * step, 0.2 * (step + 1)) for step, sound in enumerate(sounds))
        return Speech(waveform, phonemes, "hum:low", "hum", "en")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speech_library, "sample_speech", hum)
        patch.setattr(speech_library, "available_voices", lambda: ("hum:low",))
        return speech_library.prepare_speech(tmp_path_factory.mktemp("speech"), minutes=0.27, clip_seconds=5.4)

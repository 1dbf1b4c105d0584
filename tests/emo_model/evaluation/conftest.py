import dataclasses

import pytest
import torch

from emo_model.checkpoints import native
from emo_model.config import PRESETS
from emo_model.evaluation.instruments import Readings
from emo_model.synthetic import speech_library
from emo_model.synthetic.speech import RATE, Speech


@pytest.fixture
def still_readings():
    """A function: T frames of a calm face with two traits, some tracks replaced."""
    def make(frames, **tracks):
        shapes = {"iris": (frames, 2, 3), "traits": (frames, 2), "marks": (frames, 3, 2)}
        zeros = {field.name: torch.zeros(shapes.get(field.name, (frames,))) for field in dataclasses.fields(Readings)}
        return Readings(**(zeros | tracks))
    return make


def _murmur(seed, seconds, *, held_out=False):
    """Noise in syllables, as `sample_speech` gives it, without a speech engine."""
    generator = torch.Generator().manual_seed(seed)
    length, phonemes, now = round(seconds * RATE), [], 0.1
    while now < seconds - 0.3:
        phonemes += [("m", now, now + 0.09), ("a", now + 0.09, now + 0.25)]
        now += 0.3 + 0.2 * torch.rand((), generator=generator).item()
    loud = torch.zeros(length)
    for ipa, start, end in phonemes:
        loud[round(start * RATE):round(end * RATE)] = 0.3 if ipa == "a" else 0.1
    return Speech(torch.randn(length, generator=generator) * loud, tuple(phonemes), "espeak:fi+f2", "espeak", "fi")


@pytest.fixture(scope="session")
def murmur():
    return _murmur


@pytest.fixture(scope="session")
def speech(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speech_library, "sample_speech", _murmur)
        return speech_library.prepare_speech(folder, minutes=0.3, seed=1, held_out=True, clip_seconds=4)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """64x64, wide enough for the instruments, and never trained."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    native.save(path, native.build(dataclasses.replace(PRESETS["test"], name="untrained", image_size=64, clip_frames=12)))
    return path

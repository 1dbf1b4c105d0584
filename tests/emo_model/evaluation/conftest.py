import numpy as np
import pytest
import torch

from emo_model.evaluation import scenes
from emo_model.evaluation.reading import Reading
from emo_model.inputs.face_geometry import mean_face
from emo_model.synthetic import speech_library
from emo_model.synthetic.puppet_store import Person, write_store
from emo_model.synthetic.speech import RATE, Speech


@pytest.fixture
def reading():
    """A function: T frames of a face that rests, some tracks replaced."""

    def make(frames, **tracks):
        shapes = {
            "opening": (frames,),
            "width": (frames,),
            "eyes": (frames, 2),
            "turn": (frames, 3),
            "place": (frames, 2),
            "shake": (frames - 2,),
        }
        return Reading(**({name: torch.zeros(shape) for name, shape in shapes.items()} | tracks))

    return make


@pytest.fixture
def record(reading):
    """A function: the record of a clip and its ceiling, of tracks by name; `true` are those of the ceiling and the
    truth."""

    def make(frames=100, generated=None, true=None, truth=None, **more):
        tracks = {name: torch.zeros(frames) for name in ("opening", "width", "closure", "blink", "silent")} | (
            truth or {}
        )
        clip = {
            "signature": "a",
            "scene": "a",
            "reading": reading(frames, **(generated or {})).as_lists(),
            "sharp_mouth": [4.0, 20],
            "sharp_face": [1.0],
            "folds": [0.5] * frames,
            "torn": [0.0] * frames,
            **more,
        }
        ceiling = {
            "reading": reading(frames, **(true or {})).as_lists(),
            "rest": 0.01,
            "sharp_mouth": [5.0, 20],
            "truth": {name: track.tolist() for name, track in tracks.items()},
        }
        return clip, ceiling

    return make


def _murmur(seed, seconds, *, held_out=False, perform=None):
    """Noise in syllables, as `sample_speech` gives it, without a speech engine."""
    generator = torch.Generator().manual_seed(seed)
    length, phonemes, now = round(seconds * RATE), [], 0.1
    while now < seconds - 0.3:
        phonemes += [("m", now, now + 0.09), ("a", now + 0.09, now + 0.25)]
        now += 0.3 + 0.2 * torch.rand((), generator=generator).item()
    loud = torch.zeros(length)
    for ipa, start, end in phonemes:
        loud[round(start * RATE) : round(end * RATE)] = 0.3 if ipa == "a" else 0.1
    return Speech(torch.randn(length, generator=generator) * loud, tuple(phonemes), "espeak:en+f2", "espeak", "en")


@pytest.fixture(scope="session")
def speech(tmp_path_factory):
    """A folder of prepared speech."""
    folder = tmp_path_factory.mktemp("speech")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speech_library, "sample_speech", _murmur)
        return speech_library.prepare_speech(folder, minutes=0.2, seed=1, held_out=True, clip_seconds=4)


@pytest.fixture(scope="session")
def person():
    """A flat face: soft colours, no features; its mesh is the mean one."""
    size = 256
    mesh = mean_face() * 70 + torch.tensor([size / 2, 0.45 * size, 0.0])
    y, x = np.mgrid[:size, :size] / size
    picture = np.stack([200 - 60 * y, 150 - 40 * x, 120 + 30 * np.sin(9 * x) * np.sin(7 * y)], -1).astype(np.uint8)
    return Person("nobody.png", picture, mesh)


@pytest.fixture(scope="session")
def puppets(tmp_path_factory, person):
    """A file of one person, held out."""
    path = tmp_path_factory.mktemp("puppets") / "puppets.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emo_model.synthetic.puppet_store.is_held_out_face", lambda name: True)
        write_store(path, [person])
    return path


@pytest.fixture
def scene(person, speech):
    piece = scenes.pieces(speech_library.SpeechLibrary(speech), 1, seconds=1.2, fps=25, seed=0)[0]
    return scenes.make_scene("main0", person, piece, seed=3, fps=25)

"""Latents of frames that exist as pictures: puppets, whose motion is known, are read back."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from emo_model.config import PRESETS
from emo_model.inputs.faces import NoFaceError
from emo_model.inputs.media import to_uint8
from emo_model.inputs.motion_latents import motion_latents
from emo_model.inputs.motion_of_frames import motion_of_frames
from emo_model.inputs.portrait import read_portrait
from emo_model.synthetic.motion import FaceMotion
from emo_model.synthetic.puppet_store import cut_person

CONFIG = PRESETS["builtin"]


@pytest.fixture(scope="module")
def spoken(photograph) -> SimpleNamespace:
    """The photograph as a puppet that opens its mouth, turns and blinks: frames (F, 3, 256, 256), true raw latents,
    portrait."""
    person = cut_person("a.png", Image.fromarray(to_uint8(photograph.picture)[0]), photograph.mesh)
    puppet = person.puppet()
    step = torch.linspace(0, 1, 5)
    zero = torch.zeros(5)
    tracks = {name: zero for name in FaceMotion.__dataclass_fields__}
    tracks |= {"opening": step, "yaw": 0.2 * step, "x": 0.02 * step, "scale": 1 + zero, "width": 0.5 * step}
    motion = FaceMotion(**tracks)
    frames = np.stack([frame.picture for frame in puppet.frames(motion)])
    flow, points = puppet.flows(motion, 64)
    picture = torch.from_numpy(person.picture.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    portrait = read_portrait(picture, person.mesh, CONFIG)
    true = motion_latents(
        torch.as_tensor(flow), torch.as_tensor(points)[:, :468].float(), person.mesh, cells=16, size=256
    )
    return SimpleNamespace(
        frames=torch.from_numpy(frames).permute(0, 3, 1, 2) / 127.5 - 1, true=true, portrait=portrait
    )


def test_the_flow_of_a_puppet_is_read_from_its_pictures(photograph, spoken):
    found = motion_of_frames(photograph.finder, spoken.frames, spoken.portrait, CONFIG)
    assert found.shape == (5, 8, 16, 16)
    head = spoken.true[4, :2].norm(dim=0) > 0.2  # cells that move by more than 3 pixels
    assert head.sum() > 40
    off = (found - spoken.true)[4, :2].norm(dim=0)[head].mean()
    assert off < 0.35 * spoken.true[4, :2].norm(dim=0)[head].mean()


def test_the_opening_of_the_mouth_is_read_in_its_order(photograph, spoken):
    found = motion_of_frames(photograph.finder, spoken.frames, spoken.portrait, CONFIG)[:, 2].amax((1, 2))
    true = spoken.true[:, 2].amax((1, 2))
    assert torch.corrcoef(torch.stack([found, true]))[0, 1] > 0.95 and 0.6 < found[4] / true[4] < 1.5


def test_the_portrait_itself_hardly_moves(photograph, spoken):
    found = motion_of_frames(photograph.finder, spoken.frames[:1], spoken.portrait, CONFIG)
    assert found[:, :2].abs().mean() < 0.06  # cells


def test_frames_at_another_size_are_the_same_frames(photograph, spoken):
    large = torch.nn.functional.interpolate(spoken.frames[4:], size=(384, 384), mode="bicubic", antialias=True)
    one, other = (
        motion_of_frames(photograph.finder, frames, spoken.portrait, CONFIG)[-1:] for frames in (spoken.frames, large)
    )
    assert (one - other).abs().mean() < 0.05


def test_frames_of_other_proportions_and_frames_without_a_face_are_refused(photograph, spoken):
    with pytest.raises(
        ValueError, match="the frames are 100x50 pixels, but the portrait's picture is 256x256 and its head"
    ):
        motion_of_frames(photograph.finder, torch.zeros(1, 3, 50, 100), spoken.portrait, CONFIG)
    with pytest.raises(NoFaceError, match="no face was detected in frame 2 of 2 where the portrait has it"):
        motion_of_frames(
            photograph.finder, torch.stack([spoken.frames[0], torch.zeros(3, 256, 256)]), spoken.portrait, CONFIG
        )

"""Another mouth in a frame: it opens as far as it is told, an open one is shut, and the rest stays to the bit."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emo_model.inputs.face_tracks import FaceTracker
from emo_model.inputs.media import to_uint8
from emo_model.inputs.motion_latents import mouth_opening
from emo_model.inputs.portrait import fit_to_video
from emo_model.outputs.dubbed_mouth import DubbedMouth, MouthMotion, usual_width
from emo_model.talk import load


@pytest.fixture(scope="module")
def scene(photograph, shipped) -> SimpleNamespace:
    """The photograph at 256 pixels, its mesh there, and the mouth of the built-in model."""
    picture, mesh = fit_to_video(photograph.picture, photograph.mesh, long_side=256)
    bundle, frame = load(shipped), to_uint8(picture)[0]
    mouth = DubbedMouth(bundle.motion_decoder, bundle.config, frame, mesh)
    return SimpleNamespace(frame=frame, mesh=mesh, mouth=mouth, bundle=bundle, finder=photograph.finder)


def motion(*openings: float) -> MouthMotion:
    none = torch.zeros(len(openings))
    return MouthMotion(torch.tensor(openings), none, none, none)


def drawn(scene, frame: np.ndarray, mesh: torch.Tensor, opening: float, **how) -> np.ndarray:
    frame, wanted = frame.copy(), motion(opening)
    scene.mouth.draw(frame, mesh, wanted, scene.mouth.inside(wanted), **how)
    return frame


def read(scene, frame: np.ndarray) -> torch.Tensor:
    return FaceTracker(scene.finder).read(frame)[0]


def test_the_mouth_opens_as_far_as_it_is_told(scene):
    gaps = [mouth_opening(read(scene, drawn(scene, scene.frame, scene.mesh, part))).item() for part in (0.0, 0.4, 0.8)]
    assert gaps[0] < 0.05
    assert 0.01 < gaps[1] - gaps[0] < 0.1
    assert 0.02 < gaps[2] - gaps[1] < 0.15


def test_a_mouth_that_is_open_in_the_frame_is_shut(scene):
    wide = drawn(scene, scene.frame, scene.mesh, 0.8)
    mesh = read(scene, wide)
    assert mouth_opening(mesh) > 0.1
    assert mouth_opening(read(scene, drawn(scene, wide, mesh, 0.0))) < 0.06


def test_a_reference_whose_mouth_is_open_is_shut_first(scene):
    wide = drawn(scene, scene.frame, scene.mesh, 0.6)
    mesh = read(scene, wide)
    other = DubbedMouth(scene.bundle.motion_decoder, scene.bundle.config, wide, mesh)
    frame = scene.frame.copy()
    other.draw(frame, scene.mesh, motion(0.0), other.inside(motion(0.0)))
    assert mouth_opening(read(scene, frame)) < 0.07


def test_only_the_lower_face_changes(scene):
    changed = (drawn(scene, scene.frame, scene.mesh, 0.8) != scene.frame).any(-1)
    eyes, chin = scene.mesh[[145, 374], 1].max(), scene.mesh[152, 1]
    assert changed.any()
    assert not changed[: int(eyes)].any()
    assert not changed[int(chin + 0.9 * (chin - eyes)) :].any()
    assert changed.mean() < 0.35


def test_a_share_of_nothing_leaves_the_frame_as_it_is(scene):
    assert np.array_equal(drawn(scene, scene.frame, scene.mesh, 0.8, share=0.0), scene.frame)


def test_half_a_share_moves_less(scene):
    whole, half = (
        np.abs(drawn(scene, scene.frame, scene.mesh, 0.8, share=share).astype(int) - scene.frame).sum()
        for share in (1.0, 0.3)
    )
    assert 0 < half < 0.8 * whole


def test_a_face_outside_the_frame_draws_nothing(scene):
    away = scene.mesh + torch.tensor([2000.0, 0.0, 0.0])
    assert np.array_equal(drawn(scene, scene.frame, away, 0.8), scene.frame)


def test_an_open_mouth_counts_as_wide_as_if_it_were_shut():
    widths = usual_width(torch.tensor([0.02, 0.126]), torch.tensor([0.5, 0.456]))
    torch.testing.assert_close(widths, torch.tensor([0.5, 0.5]), atol=1e-3, rtol=0)

from dataclasses import replace

import numpy as np
import pytest
import torch

from emo_model.config import PRESETS
from emo_model.evaluation import scenes
from emo_model.synthetic.motion import FaceMotion
from emo_model.synthetic.speech_library import SpeechLibrary


def test_pieces_are_the_same_every_time_and_mostly_spoken(speech):
    library = SpeechLibrary(speech)
    first, again = (scenes.pieces(library, 3, seconds=1.2, fps=25, seed=0) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.waveform, other.waveform) and len(one.tracks) == 30 and len(one.waveform) == 19_200


def test_a_pause_is_put_into_the_middle_and_is_silent(speech):
    said = scenes.paused_pieces(SpeechLibrary(speech), 2, seconds=3, fps=25, seed=0)[0]
    assert 28 <= int(said.silent.sum()) <= 40  # of 40 frames of pause, but for its edges
    quiet = said.waveform.view(75, -1)[said.silent].abs().max()
    assert quiet == 0 and said.tracks[said.silent, 0].max() < 0.1


def test_no_piece_of_a_language_that_is_not_there(speech):
    with pytest.raises(ValueError, match="prepare more minutes"):
        scenes.pieces(SpeechLibrary(speech), 1, seconds=1, fps=25, seed=0, suits=lambda said: said.language == "xx")


def test_a_scene_has_exact_latents_and_frames_of_one_length(scene):
    frames, meshes = scene.frames()
    latents = scene.latents(PRESETS["builtin"])
    assert frames.shape == (30, 256, 256, 3) and meshes.shape == (30, 468, 3) and latents.shape == (30, 8, 16, 16)
    left, top, right, bottom = scene.box
    assert 0 < left < right < 256 and 0 < top < bottom < 256


def test_a_puppet_at_rest_has_its_head_where_it_was_moved(scene):
    turned = replace(
        FaceMotion.neutral(2), yaw=torch.tensor([0.0, 0.12]), roll=torch.tensor([0.0, -0.05]), x=torch.tensor([0, 0.03])
    )
    moved = torch.from_numpy(scene.puppet.pose(turned)[:, :468, :2]).float() - scene.rest[:, :2]
    wanted = np.stack([frame.picture for frame in scene.puppet.frames(turned)]).astype(int)
    found = scene.at_rest(moved)
    assert np.array_equal(found[0], scene.person.picture)
    assert abs(found - wanted).mean() < 0.1 and abs(wanted[1] - wanted[0]).mean() > 0.5

"""Drawn heads as training data."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from emo_model.checkpoints import native
from emo_model.config import PRESETS
from emo_model.inputs import vae
from emo_model.inputs.audio import features_per_frame
from emo_model.synthetic.speech_library import SpeechLibrary
from emo_model.training.drawn import draw_clips, draw_stills

FRAMES = 8


@pytest.fixture(scope="module")
def library(speech_folder) -> SpeechLibrary:
    return SpeechLibrary(speech_folder)


def draw(people, library, parts):
    return draw_clips(people, library, config=parts.config, autoencoder=parts.autoencoder, encoder=parts.audio_encoder,
                      frames=FRAMES)


@pytest.fixture(scope="module")
def drawn(library):
    """The parts that encode, and five people's clips."""
    torch.manual_seed(0)
    parts = native.build(PRESETS["test"])
    return parts, draw(range(5), library, parts)


def test_stills_are_pixels_in_range_with_the_mouth_and_eyes_weighing_most():
    pixels, weight = draw_stills([1, 2, 3], size=32)
    assert pixels.shape == (3, 3, 32, 32) and weight.shape == (3, 1, 32, 32) and pixels.dtype == weight.dtype == torch.float16
    assert -1 <= pixels.min() < 0 < pixels.max() <= 1 and pixels.float().std() > 0.2
    assert weight.min() >= 0.99 and (weight.amax((1, 2, 3)) > 4).all()


def test_a_seed_is_a_picture_whoever_else_is_drawn():
    assert torch.equal(draw_stills([7, 8], size=32)[0][1], draw_stills([8], size=32)[0][0])
    assert not torch.equal(draw_stills([7], size=32)[0], draw_stills([8], size=32)[0])


def test_clips_hold_what_their_fields_say(drawn):
    parts, clips = drawn
    config, cells = parts.config, parts.config.latent_size
    assert clips.latents.shape == (5, FRAMES, 4, cells, cells) and clips.stills.shape == (5, 2, 4, cells, cells)
    assert clips.audio.shape == (5, FRAMES, config.audio_layers, config.audio_width) and clips.speed.shape == (5, FRAMES)
    assert clips.landmarks.shape == (5, FRAMES, 3, 2) and clips.boxes.shape == (5, 4)
    for field in fields(clips):
        assert getattr(clips, field.name).isfinite().all(), field.name
    assert (clips.boxes[:, 2:] > clips.boxes[:, :2] + 0.2).all() and (clips.speed >= 0).all() and clips.speed.any()


def test_a_person_is_the_same_whoever_is_drawn_beside_them(drawn, library):
    parts, clips = drawn
    alone = draw([4], library, parts)
    for field in fields(clips):
        one, same = getattr(alone, field.name)[0].float(), getattr(clips, field.name)[4].float()
        torch.testing.assert_close(one, same, rtol=1e-2, atol=1e-2)  # half precision


def test_each_frame_hears_the_speech_that_moves_its_mouth(drawn, library):
    parts, clips = drawn
    fps, seconds = parts.config.fps, FRAMES / parts.config.fps
    said = library.clip(2, seconds=seconds, seed=0, fps=fps)
    with torch.no_grad():
        heard = features_per_frame(parts.audio_encoder(said.waveform[None])[0], fps=fps, seconds=seconds)
    torch.testing.assert_close(clips.audio[2].float(), heard.frames, rtol=1e-2, atol=1e-2)


def test_marks_and_boxes_lie_over_the_drawn_face(drawn):
    _, clips = drawn
    mouth, left, right = clips.landmarks.float().mean(1).unbind(1)
    assert (mouth[:, 1] > left[:, 1]).all() and (mouth[:, 1] > right[:, 1]).all()  # y points down
    x0, y0, x1, y1 = clips.boxes.unbind(1)
    for x, y in (mouth.unbind(1), left.unbind(1), right.unbind(1)):
        assert ((x0 < x) & (x < x1) & (y0 < y) & (y < y1)).all()


def test_stills_are_of_the_person_in_the_clip(drawn):
    parts, clips = drawn
    pixels = [vae.decode(parts.autoencoder, latents.float(), parts.config).mean((2, 3))
              for latents in (clips.stills[:, 0], clips.latents[:, 0])]
    apart = torch.cdist(*pixels)  # mean colours: of the same person nearer than of most others
    assert (apart.diag()[:, None] <= apart).float().mean() > 0.8

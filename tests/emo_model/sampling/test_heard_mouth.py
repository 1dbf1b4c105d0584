"""Sampled mouths are drawn towards the one that the audio encoder hears."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emo_model.auxiliary.audio_encoder import TRACK_MEAN, TRACK_STD
from emo_model.config import PRESETS, SamplingConfig
from emo_model.inputs.face import box_mask
from emo_model.inputs.face_geometry import mean_face
from emo_model.inputs.motion_latents import (
    SHUT_GAP,
    WIDE_OPEN,
    blend_opening,
    consistent_latents,
    motion_latents,
    mouth_opening,
)
from emo_model.inputs.portrait_maps import portrait_maps
from emo_model.models.emo import Emo
from emo_model.sampling.clips import ClipRenderer, generate_clips
from emo_model.sampling.heard_mouth import blend_with_heard, clip_opening
from emo_model.types import AudioFeatures, Conditions, Fit, Portrait, Speed

SIZE, CELLS = 256, 16
CONFIG = replace(PRESETS["test"], heard_mouth=0.6)
OPENINGS = torch.tensor([0.0, 0.1, 0.9, 1.0, 0.5, 0.0, 0.7, 0.3, 0.0, 0.8])


@pytest.fixture
def portrait() -> torch.Tensor:
    return mean_face() * 80 + torch.tensor([128.0, 110.0, 0.0])


def said(openings: torch.Tensor, config=CONFIG) -> AudioFeatures:
    """Features that hold these openings, and noise beside them."""
    features = torch.randn(len(openings), 1, config.audio_width, generator=torch.Generator().manual_seed(1))
    features[:, 0, -4] = (openings - TRACK_MEAN[0]) / TRACK_STD[0]
    return AudioFeatures(features, config.fps, len(openings) / config.fps)


def conditions(openings: torch.Tensor, *, mesh: bool = True, config=CONFIG) -> Conditions:
    size, cells = config.image_size, config.latent_size
    face = mean_face() * (0.3 * size) + torch.tensor([0.5, 0.45, 0.0]) * size
    latents = torch.zeros(1, config.latent_channels, cells, cells)
    shown = Portrait(
        latents, torch.zeros(1, 3, size, size), Fit(size, size, 0, 0, size, size), mesh=face if mesh else None
    )
    return Conditions(shown, box_mask(size, (0.2, 0.2, 0.8, 0.9)), said(openings, config), Speed.constant(12.5))


def amplitude(latents: torch.Tensor, portrait: torch.Tensor) -> torch.Tensor:
    """What the decoder reads of how far the mouth is open (F,)."""
    maps = portrait_maps(portrait, size=SIZE, cells=CELLS)
    return consistent_latents(latents, portrait, maps, size=SIZE)[:, 2].flatten(1).amax(1)


@pytest.mark.parametrize("aside", [0.0, 20.0])
def test_a_mouth_opens_and_shuts_by_its_share_where_the_head_has_it(portrait, aside):
    mesh = portrait + torch.tensor([aside, 0.0, 0.0])
    mesh[13] -= torch.tensor([0.0, 6.0, 0.0])
    mesh[14] += torch.tensor([0.0, 6.0, 0.0])
    rigid = portrait_maps(portrait, size=SIZE, cells=64)[4]
    flow = torch.tensor([-aside / 4, 0.0]).view(1, 2, 1, 1) * rigid
    clip = motion_latents(flow, mesh[None], portrait, cells=CELLS, size=SIZE).expand(3, -1, -1, -1)
    opening = torch.tensor([0.0, 0.5, 1.0])
    halfway, there = (blend_opening(clip, portrait, opening, share=share, size=SIZE) for share in (0.5, 1.0))
    before, half, after = (amplitude(latents, portrait) for latents in (clip, halfway, there))
    torch.testing.assert_close(half, (before + after) / 2, rtol=0.03, atol=0.01)
    wanted = WIDE_OPEN * opening + SHUT_GAP * 4 * mouth_opening(portrait)
    torch.testing.assert_close(after / after[2], wanted / wanted[2], rtol=0.05, atol=0.03)
    others = [0, 1, 3, 4, 5, 6, 7]
    assert torch.equal(there[:, others], clip[:, others])


def test_the_opening_is_read_off_the_features_and_ends_with_them():
    heard = clip_opening(conditions(OPENINGS), 8, 4, CONFIG)
    torch.testing.assert_close(heard, OPENINGS[[8, 9, 9, 9]], atol=1e-5, rtol=0)
    loud = clip_opening(conditions(torch.tensor([1.4, -0.2])), 0, 2, CONFIG)
    assert loud.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    "config, mesh",
    [(replace(CONFIG, heard_mouth=0.0), True), (replace(CONFIG, audio_encoder=None), True), (CONFIG, False)],
    ids=["not wanted", "another encoder", "no mesh"],
)
def test_nothing_is_drawn_where_it_cannot_be_or_is_not_wanted(config, mesh):
    assert clip_opening(conditions(OPENINGS, mesh=mesh), 0, 4, config) is None


def test_the_clips_of_a_video_follow_what_is_heard():
    """The network is random: what it samples does not follow. A mouth that was drawn all the way stays."""
    torch.manual_seed(0)
    emo, made = Emo(CONFIG).eval(), conditions(OPENINGS)
    moved = []
    for share in (0.0, 1.0):
        emo.config = replace(CONFIG, heard_mouth=share)
        render = ClipRenderer(emo, made, SamplingConfig(steps=1, audio_guidance=1.0, blinks=0.0))
        video = torch.cat(list(generate_clips(render)), 2)
        again = blend_with_heard(video, OPENINGS, made.portrait.mesh, replace(CONFIG, heard_mouth=1.0))
        moved.append(float((again - video)[:, 2].abs().max()))
    assert moved[0] > 0.3 and moved[1] < 1e-3


def test_what_is_drawn_keeps_the_shape_and_the_type_of_a_clip():
    clip = torch.randn(1, 8, 4, CONFIG.latent_size, CONFIG.latent_size, dtype=torch.float64)
    made = conditions(OPENINGS)
    drawn = blend_with_heard(clip, OPENINGS[:4], made.portrait.mesh, CONFIG)
    assert drawn.shape == clip.shape and drawn.dtype == clip.dtype
    torch.testing.assert_close(drawn[:, [0, 1, 3, 4, 5, 6, 7]], clip[:, [0, 1, 3, 4, 5, 6, 7]])

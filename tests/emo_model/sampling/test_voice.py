"""The voice of many clips in one pass."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emo_model.models.emo import Emo
from emo_model.sampling.voice import CLIPS_AT_ONCE, Voice
from emo_model.types import AudioFeatures


@pytest.fixture(scope="module")
def emo(config) -> Emo:
    torch.manual_seed(0)
    return Emo(config).eval()


@pytest.fixture
def heard(emo):
    """Over how many clips the projection went, pass by pass."""
    passes = []
    hook = emo.audio_projection.register_forward_pre_hook(lambda _, given: passes.append(len(given[0])))
    yield passes
    hook.remove()


def voice_of(emo, whole) -> Voice:
    return Voice(emo, whole, device="cpu", dtype=torch.float32)


@torch.no_grad()
def test_tokens_are_those_that_each_clip_would_get_by_itself(emo, config, conditions):
    voice = voice_of(emo, conditions(config, frames=3 * config.clip_frames))
    own = [emo.hear(voice.clip(number).audio) for number in range(3)]
    for number, alone in enumerate(own):
        assert (voice.tokens_of(number) - alone).abs().max() <= 1e-5 * alone.abs().max()
    assert not torch.allclose(own[0], own[1])


@torch.no_grad()
def test_many_clips_are_heard_in_one_pass_when_the_first_of_them_is_rendered(emo, config, conditions, heard):
    clips = CLIPS_AT_ONCE + 2
    voice = voice_of(emo, conditions(config, frames=clips * config.clip_frames))
    assert heard == []
    for number in range(clips):
        voice.tokens_of(number)
    assert heard == [CLIPS_AT_ONCE] * 2


@torch.no_grad()
def test_tokens_are_the_same_to_the_bit_in_a_run_that_goes_on_and_in_a_shorter_video(emo, config, conditions):
    clips = CLIPS_AT_ONCE + 5
    whole = conditions(config, frames=clips * config.clip_frames)
    voice, last = voice_of(emo, whole), CLIPS_AT_ONCE + 1
    told = [voice.tokens_of(number) for number in range(last + 1)][-1]
    assert torch.equal(voice_of(emo, whole).tokens_of(last), told)
    ends = (last + 1) * config.clip_frames + config.audio_margin_frames
    shorter = replace(whole, audio=AudioFeatures(whole.audio.frames[:ends], whole.audio.fps, ends / whole.audio.fps))
    assert torch.equal(voice_of(emo, shorter).tokens_of(last), told)

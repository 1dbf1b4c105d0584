"""Hallo in the same clip loop: the portrait before the first clip, then the last frames; Hallo's own guidance."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emo_model.config import SamplingConfig
from emo_model.inputs.face import box_mask, voice_regions
from emo_model.sampling import clips
from emo_model.sampling.clips import ClipRenderer, generate_clips
from emo_model.sampling.samplers import guided
from emo_model.types import AudioFeatures, Conditions, Fit, MotionFrames, Portrait, Speed

FRAMES = 18  # two clips, the second of 2 frames and 14 rows of silence


@pytest.fixture
def conditions(tiny_hallo, seeded) -> Conditions:
    config = tiny_hallo.config
    portrait = Portrait(
        seeded(1, 4, 8, 8),
        torch.zeros(1, 3, 64, 64),
        Fit(64, 64, 0, 0, 64, 64),
        seeded(1, config.hallo.identity_width, seed=1),
    )
    audio = AudioFeatures(
        seeded(32, config.audio_layers, config.audio_width, seed=2), 25.0, FRAMES / 25, padding=32 - FRAMES
    )
    return Conditions(portrait, voice_regions(box_mask(64, (0.2, 0.2, 0.8, 0.9))), audio, Speed.constant(0))


def test_a_video_is_as_long_as_the_voice_and_goes_on_from_its_last_frames(tiny_hallo, conditions, monkeypatch):
    seen, encode = [], tiny_hallo.emo.encode_motion

    def watched(motion, *, like):
        seen.append(motion.latents)
        return encode(motion, like=like)

    monkeypatch.setattr(tiny_hallo.emo, "encode_motion", watched)
    made = list(generate_clips(ClipRenderer(tiny_hallo.emo, conditions, SamplingConfig(steps=1))))
    assert [clip.shape[2] for clip in made] == [16, 2]
    assert seen[0] is None and torch.equal(seen[1], made[0][:, :, -2:])


def test_motion_frames_may_go_through_the_vae(tiny_hallo, conditions, monkeypatch):
    seen = []
    monkeypatch.setattr(clips, "sample", lambda predict, noise, *_, **__: seen.append(predict) or noise)
    encoded = []

    def reencode(latents):
        encoded.append(tuple(latents.shape))
        return latents / 2

    list(generate_clips(ClipRenderer(tiny_hallo.emo, conditions, SamplingConfig(steps=1), reencode=reencode)))
    assert encoded == [(1, 4, 2, 8, 8)] and len(seen) == 2  # the last clip has no next


def test_two_equal_scales_are_guidance_of_both_in_two_evaluations(tiny_hallo, conditions, seeded):
    emo = tiny_hallo.emo
    with torch.no_grad():
        reference = emo.encode_reference(conditions.portrait.latents, conditions.portrait.identity)
        clip = conditions.clip(0, clip_frames=3, margin_frames=2)
        context = emo.prepare(reference, emo.encode_motion(MotionFrames(), like=reference), clip)
        noisy, calls, same = seeded(1, 4, 3, 8, 8), [], SamplingConfig(audio_guidance=3.5, reference_guidance=3.5)

        def predict(*given):
            calls.append(given)
            return emo.predict(*given)

        made = guided(emo, context, same, batch_branches=False, predict=predict)(noisy, 400)
        assert len(calls) == 2
        nearly = guided(emo, context, replace(same, reference_guidance=3.500001))(noisy, 400)
        torch.testing.assert_close(made, nearly, atol=1e-4, rtol=1e-4)
        own = guided(emo, context, replace(same, mixed_identity=False))(noisy, 400)
        assert (own - made).abs().max() > 1e-2

"""The deep cache: which steps ask the coarser levels, that no clip repeats another's answer, and how far off the result is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emo_model.config import SamplingConfig
from emo_model.models.unet import Inner
from emo_model.sampling.clips import ClipRenderer, generate_clips

STEPS = 6


def video(emo, whole, **settings):
    sampling = SamplingConfig(**{"steps": STEPS, "audio_guidance": 2.0} | settings)
    return torch.cat(list(generate_clips(ClipRenderer(emo, whole, sampling))), dim=2)


def asked(emo, whole, **settings) -> dict[str, int]:
    """Over a video, how often the finest level and the middle were asked."""
    counts, parts = {"finest": 0, "middle": 0}, {"finest": emo.backbone.down_blocks[0].resnets[0],
                                                  "middle": emo.backbone.mid_block.resnets[0]}
    hooks = [part.register_forward_hook(lambda *_, name=name: counts.__setitem__(name, counts[name] + 1))
             for name, part in parts.items()]
    video(emo, whole, **settings)
    for hook in hooks:
        hook.remove()
    return counts


@pytest.mark.parametrize(("every", "middle"), [(1, 6), (2, 3), (3, 2), (4, 2), (99, 1)])
def test_the_coarser_levels_are_asked_in_every_so_many_steps_and_anew_in_each_clip(emo, config, conditions, every, middle):
    whole = conditions(config, frames=2 * config.clip_frames)
    assert asked(emo, whole, deep_cache=every) == {"finest": 2 * STEPS, "middle": 2 * middle}


def test_a_clip_repeats_nothing_of_the_clip_before(emo, config, conditions):
    """One step a clip asks the coarser levels in each of them, so it is exact."""
    whole = conditions(config, frames=3 * config.clip_frames)
    assert torch.equal(video(emo, whole, steps=1, deep_cache=5), video(emo, whole, steps=1))


def test_without_the_cache_nothing_changes_and_with_it_something_does(emo, config, conditions):
    whole = conditions(config, frames=config.clip_frames)
    exact = video(emo, whole)
    assert torch.equal(video(emo, whole, deep_cache=1), exact)
    off = (video(emo, whole, deep_cache=2) - exact).abs().mean() / exact.abs().mean()
    assert 1e-4 < off < 0.5


def test_when_guidance_begins_the_coarser_levels_are_asked_by_both_halves(emo, config, conditions):
    whole = conditions(config, frames=config.clip_frames)
    counts = asked(emo, whole, deep_cache=99, audio_guidance_start=0.5)
    assert counts == {"finest": STEPS, "middle": 2}


def test_repeating_at_the_same_step_is_exact(emo, config, conditions, seeded):
    from emo_model.types import MotionFrames

    whole, noisy, inner = conditions(config, frames=4), seeded(1, 8, config.clip_frames, 4, 4), Inner()
    with torch.no_grad():
        reference = emo.encode_reference(whole.portrait.latents)
        clip = whole.clip(0, clip_frames=config.clip_frames, margin_frames=config.audio_margin_frames)
        context = emo.prepare(reference, emo.encode_motion(MotionFrames(), like=reference), clip)
        ready = emo.project(context, context.without_audio())
        plain = emo.predict(noisy, torch.tensor([500]), ready)
        assert torch.equal(emo.predict(noisy, torch.tensor([500]), ready, inner=inner), plain)
        again = emo.predict(noisy, torch.tensor([500]), ready, inner=replace(inner, repeats=True))
    torch.testing.assert_close(again, plain)


def test_less_than_one_step_is_refused():
    with pytest.raises(ValueError, match="deep_cache must be at least 1, got 0"):
        SamplingConfig(deep_cache=0)

"""Keys and values computed once per clip, and branches of guidance in one batch: the same numbers as step by step, one
by one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import small_models
import torch
from torch import Tensor

from emo_model.config import PRESETS, ModelConfig, SamplingConfig
from emo_model.inputs.face import box_mask, voice_regions
from emo_model.models.context import Context
from emo_model.models.emo import Emo
from emo_model.sampling.clips import ClipRenderer, generate_clips
from emo_model.sampling.samplers import guided
from emo_model.types import MotionFrames

SMALL = {"emo": small_models.EMO, "builtin": small_models.BUILTIN, "test": PRESETS["test"]}
EXACT = 1e-5


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a part of the largest number."""
    assert one.shape == other.shape and other.std() > 1e-3
    return ((one - other).abs().max() / other.abs().max()).item()


@pytest.fixture(scope="module", params=[*SMALL, "hallo"])
def model(request, awake, tiny_hallo) -> Emo:
    """In double precision: the norms of tiny pictures raise the rounding of single precision beyond 1e-5."""
    return copy.deepcopy(tiny_hallo.emo if request.param == "hallo" else awake(Emo(SMALL[request.param]))).double()


@pytest.fixture
def given(seeded, conditions) -> Callable[[ModelConfig], tuple]:
    """(conditions of one clip and a half, motion frames, noisy latents) for a model."""

    def make(config: ModelConfig):
        whole = conditions(config, frames=config.clip_frames * 3 // 2)
        if config.hallo:
            whole = replace(
                whole,
                portrait=replace(whole.portrait, identity=seeded(1, config.hallo.identity_width, seed=5)),
                face_mask=voice_regions(box_mask(config.image_size, (0.2, 0.2, 0.8, 0.9))),
            )
        size = (config.latent_size, config.latent_size)
        return (
            whole,
            MotionFrames(seeded(1, config.latent_channels, config.motion_frames, *size, seed=6).double()),
            seeded(1, config.latent_channels, config.clip_frames, *size, seed=7).double(),
        )

    return make


def prepared(emo: Emo, whole, motion: MotionFrames) -> Context:
    """The second clip's context."""
    config = emo.config
    reference = emo.encode_reference(whole.portrait.latents.double(), whole.portrait.identity)
    clip = whole.clip(config.clip_frames, clip_frames=config.clip_frames, margin_frames=config.audio_margin_frames)
    return emo.prepare(reference, emo.encode_motion(motion, like=reference), clip)


@torch.no_grad()
def test_a_context_cached_once_serves_every_step(model, given):
    whole, motion, noisy = given(model.config)
    context = prepared(model, whole, motion)
    cached = model.cache(context)
    for time in (torch.tensor([900]), torch.tensor([100])):
        assert apart(model.predict(noisy, time, cached), model.predict(noisy, time, context)) <= EXACT


@torch.no_grad()
def test_a_located_face_is_that_of_the_clips_mask(model, given):
    whole, motion, _ = given(model.config)
    reference = model.encode_reference(whole.portrait.latents.double(), whole.portrait.identity)
    clip = whole.clip(0, clip_frames=model.config.clip_frames, margin_frames=model.config.audio_margin_frames)
    face = model.locate_face(clip.face_mask, clip.regions, like=reference)
    one, other = model.prepare(reference, None, clip), model.prepare(reference, None, clip, face=face)
    assert torch.equal(one.face, other.face) and one.face.any() and all(map(torch.equal, one.regions, other.regions))
    moved = model.locate_face(1 - clip.face_mask, clip.regions, like=reference)
    assert not torch.equal(moved.features, face.features)


@pytest.mark.parametrize("mixed_identity", [True, False])
@pytest.mark.parametrize(("audio", "reference"), [(2.5, 1.0), (1.0, 2.0), (2.5, 1.5), (3.5, 3.5)])
@torch.no_grad()
def test_branches_in_one_batch_are_the_branches_one_by_one(model, given, audio, reference, mixed_identity):
    whole, motion, noisy = given(model.config)
    context = prepared(model, whole, motion)
    sampling = SamplingConfig(audio_guidance=audio, reference_guidance=reference, mixed_identity=mixed_identity)
    one_by_one = guided(model, context, sampling, batch_branches=False)(noisy, 400)
    assert apart(guided(model, context, sampling)(noisy, 400), one_by_one) <= EXACT
    assert apart(model.predict(noisy, torch.tensor([400]), context), one_by_one) > 100 * EXACT


@torch.no_grad()
def test_branches_of_several_portraits_are_batched_too(model, given, seeded):
    whole, motion, noisy = given(model.config)
    other = MotionFrames(seeded(*motion.latents.shape, seed=8).double())
    one, two = prepared(model, whole, motion), prepared(model, whole, other)
    if model.config.hallo:  # their features have another branch's beside them
        two = replace(two, identity=one.identity)
        both = replace(
            Context.batch([one, two]),
            reference=_both(one.reference, two.reference),
            motion=_both(one.motion, two.motion),
        )
    else:
        both = Context.batch([one, two])
    sampling = SamplingConfig(audio_guidance=2.5, reference_guidance=1.5)
    noise = torch.cat([noisy, noisy.flip(-1)])
    made = guided(model, both, sampling)(noise, 400)
    for row, context in enumerate((one, two)):
        assert apart(made[row : row + 1], guided(model, context, sampling)(noise[row : row + 1], 400)) <= EXACT


def _both(one, two):
    return type(one)(
        {name: torch.cat([x, two.features[name]]) for name, x in one.features.items()},
        {name: torch.cat([x, two.unconditional[name]]) for name, x in one.unconditional.items()},
    )


def test_over_a_video_nothing_is_computed_more_often_than_it_changes(model, given):
    """Two clips of three steps under guidance; keys of one layer of every kind."""
    whole, _, _ = given(model.config)
    layer = model.backbone.mid_block
    block, temporal = layer.attentions[0].transformer_blocks[0], layer.motion_modules[0].transformer_blocks[0]
    once = {"face locator": model.face_locator.conv_in, "time": model.backbone.time_embedding}
    per_clip = {"audio to tokens": model.audio_projection}
    if model.config.hallo:
        per_clip["audio to keys"] = layer.audio_modules[0].transformer_blocks[0].attn2_1.to_k
    else:
        per_clip |= {
            "portrait to keys": block.attn2.to_k,
            "audio to keys": block.attn_audio.to_k,
            "speed to keys": temporal.attn_speed.to_k,
        }
    rows: dict[str, list[int]] = {name: [] for name in once | per_clip}
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: rows[name].append(len(args[0])))
        for name, module in (once | per_clip).items()
    ]
    with torch.no_grad():
        list(
            generate_clips(ClipRenderer(model, whole, SamplingConfig(steps=3, audio_guidance=2.5), dtype=torch.float64))
        )
    for hook in hooks:
        hook.remove()
    assert {name: len(rows[name]) for name in once} == dict.fromkeys(once, 1)
    assert {name: len(rows[name]) for name in per_clip} == dict.fromkeys(per_clip, 2)

"""What is projected once and shared by the halves of guidance: the same numbers as the straightforward way, and less work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from emo_model.config import PRESETS, ModelConfig, SamplingConfig
from emo_model.inputs.face import box_mask, voice_regions
from emo_model.models.context import Context
from emo_model.models.emo import Emo
from emo_model.models.seen import ZEROS, Groups
from emo_model.sampling.clips import ClipRenderer, generate_clips
from emo_model.sampling.guidance import guided
from emo_model.types import MotionFrames, ReferenceFeatures

SMALL = {  # the paper's two temporal attentions; levels without attention; positions
    "emo": replace(PRESETS["emo"], image_size=64, channels=(32, 32, 64, 64), clip_frames=4, motion_frames=2, audio_layers=3,
                   audio_width=16, audio_context_width=24, speed_width=16),
    "builtin": replace(PRESETS["builtin"], image_size=128, channels=(16, 32, 48), clip_frames=4, motion_frames=2),
    "test": PRESETS["test"],
}
EXACT = 1e-5


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a part of the largest number."""
    assert one.shape == other.shape and other.std() > 1e-3
    return ((one - other).abs().max() / other.abs().max()).item()


@pytest.fixture(scope="module", params=[*SMALL, "hallo"])
def model(request, awake, tiny_hallo) -> Emo:
    return tiny_hallo.emo if request.param == "hallo" else awake(Emo(SMALL[request.param]))


@pytest.fixture(scope="module")
def small(awake) -> Emo:
    return awake(Emo(SMALL["emo"]))


@pytest.fixture
def given(seeded, conditions) -> Callable[[ModelConfig], tuple]:
    """(conditions of one clip and a half, motion frames, noisy latents) for a model."""
    def make(config: ModelConfig):
        whole = conditions(config, frames=config.clip_frames * 3 // 2)
        if config.identity_tokens:
            whole = replace(whole, portrait=replace(whole.portrait, identity=seeded(1, config.identity_width, seed=5)),
                            face_mask=voice_regions(box_mask(config.image_size, (0.2, 0.2, 0.8, 0.9))))
        size = (config.latent_size, config.latent_size)
        return (whole, MotionFrames(seeded(1, config.latent_channels, config.motion_frames, *size, seed=6)),
                seeded(1, config.latent_channels, config.clip_frames, *size, seed=7))

    return make


def contexts(emo: Emo, whole, motion: MotionFrames) -> tuple[Context, Context]:
    """The second clip's context: straightforward, from the portrait's features, and from the scene."""
    config = emo.config
    reference = emo.encode_reference(whole.portrait.latents, whole.portrait.identity)
    clip = whole.clip(config.clip_frames, clip_frames=config.clip_frames, margin_frames=config.audio_margin_frames)
    features = emo.encode_motion(motion, like=reference)
    return emo.prepare(reference, features, clip), emo.prepare(emo.settle(reference, whole.face_mask), features, clip)


@torch.no_grad()
def test_the_portrait_projected_once_per_video_is_the_portrait_projected_in_every_step(model, given):
    whole, motion, noisy = given(model.config)
    plain, ready = contexts(model, whole, motion)
    time = torch.tensor([400])
    assert all(isinstance(feature, Tensor) for feature in plain.reference.features.values())
    assert not any(isinstance(feature, Tensor) for feature in ready.reference.features.values())
    assert apart(model.predict(noisy, time, ready), model.predict(noisy, time, plain)) <= EXACT


@torch.no_grad()
def test_a_face_that_moved_is_the_face_that_was_there_from_the_start(model, given):
    whole, motion, _ = given(model.config)
    reference = model.encode_reference(whole.portrait.latents, whole.portrait.identity)
    there = replace(whole.face_mask, mask=1 - whole.face_mask.mask,
                    regions=None if whole.face_mask.regions is None else whole.face_mask.regions.flip(-1))
    scene = model.settle(reference, whole.face_mask)
    moved, settled = model.move_face(scene, there), model.settle(reference, there)
    assert torch.equal(moved.face, settled.face) and not torch.equal(moved.face, scene.face)
    assert len(moved.regions) == len(settled.regions) and all(map(torch.equal, moved.regions, settled.regions))
    assert moved.reference is scene.reference


@torch.no_grad()
def test_a_context_projected_once_serves_every_step(model, given):
    whole, motion, noisy = given(model.config)
    plain, _ = contexts(model, whole, motion)
    ready = model.project(plain)
    for time in (torch.tensor([900]), torch.tensor([100])):
        assert apart(model.predict(noisy, time, ready), model.predict(noisy, time, plain)) <= EXACT


@torch.no_grad()
def test_silence_is_what_attention_says_of_tokens_of_zeros(model, given):
    whole, motion, noisy = given(model.config)
    plain, _ = contexts(model, whole, motion)
    time, looked_at = torch.tensor([400]), replace(plain, audio=torch.zeros_like(plain.audio))
    said = model.predict(noisy, time, plain.without_audio())
    assert apart(said, model.predict(noisy, time, looked_at)) <= EXACT < apart(said, model.predict(noisy, time, plain))


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_nobody_is_what_attention_says_of_a_portrait_of_zeros(awake, given, name):
    emo = awake(Emo(SMALL[name]))
    whole, motion, noisy = given(emo.config)
    plain, _ = contexts(emo, whole, motion)
    time, looked_at = torch.tensor([400]), replace(plain, reference=plain.reference.map(torch.zeros_like))
    said = emo.predict(noisy, time, plain.without_reference())
    assert apart(said, emo.predict(noisy, time, looked_at)) <= EXACT < apart(said, emo.predict(noisy, time, plain))


@pytest.mark.parametrize("mixed_identity", [True, False])
@pytest.mark.parametrize(("audio", "reference"), [(2.5, 1.0), (1.0, 2.0), (2.5, 1.5), (3.5, 3.5)])
@torch.no_grad()
def test_halves_of_guidance_in_one_batch_are_halves_one_after_the_other(model, given, audio, reference, mixed_identity):
    whole, motion, noisy = given(model.config)
    plain, ready = contexts(model, whole, motion)
    scales = {"audio": audio, "reference": reference, "mixed_identity": mixed_identity}
    straight = guided(model, plain, **scales, together=False)(noisy, 400)
    for context in (plain, ready):
        assert apart(guided(model, context, **scales, together=True)(noisy, 400), straight) <= EXACT
    assert apart(model.predict(noisy, torch.tensor([400]), ready), straight) > 100 * EXACT


@torch.no_grad()
def test_groups_in_a_batch_stay_as_those_alone_in_every_layer(small, given):
    whole, motion, noisy = given(small.config)
    plain, _ = contexts(small, whole, motion)
    halves = (plain, plain.without_audio(), plain.without_audio().without_reference())
    said = small.predict(noisy, torch.tensor([400]), small.project(*halves))
    assert said.shape[0] == 3
    for number, half in enumerate(halves):
        assert apart(said[number:number + 1], small.predict(noisy, torch.tensor([400]), half)) <= EXACT


def rows_into(emo: Emo, modules: dict[str, nn.Module], run: Callable[[], object]) -> dict[str, list[int]]:
    """How many rows each module is given while `run` runs."""
    rows = {name: [] for name in modules}
    hooks = [module.register_forward_pre_hook(lambda _, args, name=name: rows[name].append(len(args[0])))
             for name, module in modules.items()]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return rows


def test_halves_without_and_with_the_voice_part_at_the_first_attention_that_hears_it(small, given):
    whole, motion, noisy = given(small.config)
    plain, _ = contexts(small, whole, motion)
    net, frames = small.backbone, small.config.clip_frames
    first, second = (attention.transformer_blocks[0] for attention in net.down_blocks[0].attentions)
    with torch.no_grad():
        ready = small.project(plain, plain.without_audio())
    rows = rows_into(small, {
        "conv": net.conv_in, "self": first.attn1.to_q, "portrait": first.attn2.to_q, "voice": first.attn_audio.to_q,
        "ff": first.ff, "second self": second.attn1.to_q, "second voice": second.attn_audio.to_q, "conv_out": net.conv_out},
        lambda: small.predict(noisy, torch.tensor([400]), ready))
    assert rows == {"conv": [frames], "self": [frames], "portrait": [frames], "voice": [frames], "ff": [2 * frames],
                    "second self": [2 * frames], "second voice": [frames], "conv_out": [2 * frames]}


def test_nobodys_half_never_looks_at_the_portrait(small, given):
    whole, motion, noisy = given(small.config)
    plain, _ = contexts(small, whole, motion)
    ready = small.project(plain, plain.without_audio(), plain.without_audio().without_reference())
    last = small.backbone.up_blocks[-2].attentions[-1].transformer_blocks[0]
    rows = rows_into(small, {"portrait": last.attn2.to_q, "voice": last.attn_audio.to_q, "self": last.attn1.to_q},
                     lambda: small.predict(noisy, torch.tensor([400]), ready))
    frames = small.config.clip_frames
    assert rows == {"portrait": [2 * frames], "voice": [frames], "self": [3 * frames]}


def test_over_a_video_nothing_is_projected_more_often_than_it_changes(model, given):
    """Two clips of three steps under guidance; keys of one layer of every kind."""
    whole, _, _ = given(model.config)
    layer = model.backbone.mid_block
    block, temporal = layer.attentions[0].transformer_blocks[0], layer.motion_modules[0].transformer_blocks[0]
    once = {"face locator": model.face_locator.conv_in, "voice to tokens": model.audio_projection,
            "time": model.backbone.time_embedding}
    per_clip = {}
    if model.config.identity_tokens:
        per_clip["voice to keys"] = layer.audio_modules[0].transformer_blocks[0].attn2_1.to_k
    else:
        once["portrait to keys"] = block.attn2.to_k
        per_clip |= {"voice to keys": block.attn_audio.to_k, "speed to keys": temporal.attn_speed.to_k}
    sampling = SamplingConfig(steps=3, audio_guidance=2.5)
    rows = rows_into(model, once | per_clip | {"motion frames": layer.motion_modules[0].norm},
                     lambda: list(generate_clips(ClipRenderer(model, whole, sampling))))
    assert {name: len(some) for name, some in rows.items() if name in once} == dict.fromkeys(once, 1)
    assert {name: len(some) for name, some in rows.items() if name in per_clip} == dict.fromkeys(per_clip, 2)
    assert Counter(rows["motion frames"]) == {model.config.motion_frames: 2, 2 * model.config.clip_frames: 6}


@torch.no_grad()
def test_what_differs_only_later_is_common_until_then(small, given):
    whole, motion, _ = given(small.config)
    plain, _ = contexts(small, whole, motion)
    layers = small.project(plain, plain.without_audio()).layers
    assert not any(isinstance(seen.reference, Groups) for seen in layers.values())
    assert all(isinstance(seen.audio, Groups) for name, seen in layers.items() if "attentions" in name)
    cells = [len(seen.motion.seen.keys) for seen in layers.values()]
    side = small.config.latent_size
    assert cells[0] == 2 * side**2 and all(now >= after for now, after in pairwise(cells[:6]))


def test_only_the_first_context_may_have_a_voice(small, given):
    whole, motion, _ = given(small.config)
    plain, _ = contexts(small, whole, motion)
    with pytest.raises(ValueError, match="only the first has a voice"):
        small.project(replace(plain, audio=ZEROS), plain)
    with pytest.raises(ValueError, match="only the first has a voice"):
        small.project(plain, plain.without_reference())


@torch.no_grad()
def test_a_face_mask_of_the_scene_is_that_of_the_clip(model, given):
    whole, motion, _ = given(model.config)
    plain, ready = contexts(model, whole, motion)
    assert torch.equal(plain.face, ready.face) and plain.face.any()
    assert all(torch.equal(one, other) for one, other in zip(plain.regions, ready.regions, strict=True))


@torch.no_grad()
def test_motion_features_may_be_projected_beside_each_other(small, given, seeded):
    """Two groups with other motion frames: as in Hallo's halves."""
    whole, motion, noisy = given(small.config)
    plain, _ = contexts(small, whole, motion)
    features = {name: seeded(*x.shape, seed=3) for name, x in plain.motion.features.items()}
    other = replace(plain.without_audio(), motion=ReferenceFeatures(features))
    said = small.predict(noisy, torch.tensor([400]), small.project(plain, other))
    for number, alone in enumerate((plain, other)):
        assert apart(said[number:number + 1], small.predict(noisy, torch.tensor([400]), alone)) <= EXACT

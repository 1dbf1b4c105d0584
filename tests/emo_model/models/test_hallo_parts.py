"""What Hallo does otherwise, part by part; that the whole is exact is shown by evaluation/test_oracle.py."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from emo_model.config import HALLO, HalloConfig
from emo_model.models.audio_transformer import AudioTransformerBlock
from emo_model.models.blocks import JoinedTransformerBlock
from emo_model.models.context import Context
from emo_model.types import ClipConditions, MotionFrames


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(shape, generator=generator)


@pytest.fixture
def context(tiny_hallo, draw):
    """Of three frames: the first clip of a video."""
    emo, config = tiny_hallo.emo, tiny_hallo.config
    reference = emo.encode_reference(draw(1, 4, 8, 8), draw(1, config.hallo.identity_width))
    voice = draw(1, 3, 5, config.audio_layers, config.audio_width)
    regions = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    clip = ClipConditions(voice, torch.zeros(1, 3, 5), torch.ones(1, 1, 64, 64), 3, regions=regions)
    with torch.no_grad():
        return emo.prepare(reference, emo.encode_motion(MotionFrames(), like=reference), clip)


@pytest.fixture
def attend(draw):
    """(a block, attend): self-attention of x (B F, N, C) to itself and to portraits (R, T, N', C)."""
    block = JoinedTransformerBlock(replace(HALLO, hallo=HalloConfig(identity_context_width=6), attention_heads=2), 8)
    return block, lambda x, portraits, frames: block._attend_to_both(x, block.attn1.project(portraits), frames=frames)


def test_a_frame_attends_to_the_portrait_of_its_video_and_to_itself(attend, draw):
    (block, both), x, portrait = attend, draw(6, 5, 8), draw(2, 1, 4, 8)
    frames = portrait[:, 0].repeat_interleave(3, dim=0)
    torch.testing.assert_close(both(x, portrait, 3), block.attn1(x, torch.cat([x, frames], dim=1)))


def test_frames_attend_to_several_portraits_in_turn(attend, draw):
    (block, both), x, portraits = attend, draw(5, 4, 8), draw(1, 2, 4, 8)
    frames = portraits[0, [0, 1, 0, 1, 0]]
    torch.testing.assert_close(both(x, portraits, 5), block.attn1(x, torch.cat([x, frames], dim=1)))


def test_videos_without_a_portrait_attend_only_to_themselves(attend, draw):
    (block, both), x, portrait = attend, draw(6, 5, 8), draw(1, 1, 4, 8)  # of the first of two videos
    made = both(x, portrait, 3)
    torch.testing.assert_close(made[3:], block.attn1(x[3:]))
    assert not torch.allclose(made[:3], block.attn1(x[:3]), atol=1e-3)


def test_the_voice_moves_only_what_its_masks_let_it(draw):
    """Beyond the constant that the 1x1 convolution behind the mask adds."""
    block = AudioTransformerBlock(replace(HALLO, audio_context_width=6, attention_heads=2), 8)
    for region in ("full", "face", "lip"):
        torch.nn.init.normal_(getattr(block, f"zero_conv_{region}").weight)
    x, voices, weights = draw(2, 4, 8), [draw(2, 3, 6), draw(2, 3, 6)], torch.ones(3)
    regions = torch.zeros(1, 3, 4)
    regions[:, 2, 1] = 1  # lips: cell 1
    one, other = (block(x, block.project(voice), regions, weights) for voice in voices)
    changed = (one - other).abs().amax((0, 2)) > 1e-4
    assert changed.tolist() == [False, True, False, False]


def test_a_weight_of_zero_silences_its_region(draw):
    block = AudioTransformerBlock(replace(HALLO, audio_context_width=6, attention_heads=2), 8)
    for region in ("full", "face", "lip"):
        torch.nn.init.normal_(getattr(block, f"zero_conv_{region}").weight)
    x, voices, regions = draw(2, 4, 8), [draw(2, 3, 6), draw(2, 3, 6)], torch.ones(1, 3, 4)
    silent, heard = (
        torch.stack([block(x, block.project(voice), regions, torch.tensor(weights)) for voice in voices])
        for weights in ([0.0, 0.0, 0.0], [0.0, 0.0, 1.0])
    )
    assert torch.equal(silent[0], silent[1]) and not torch.allclose(heard[0], heard[1], atol=1e-3)


def test_the_first_motion_frames_are_the_portrait(tiny_hallo, draw):
    # in double precision: a processor may round batches of another size differently, which this net's norms amplify
    emo, portrait, face = copy.deepcopy(tiny_hallo.emo).double(), draw(1, 4, 8, 8).double(), draw(1, 8).double()
    reference = emo.encode_reference(portrait, face)
    first = emo.encode_motion(MotionFrames(), like=reference)
    again = emo.encode_motion(MotionFrames(portrait[:, :, None].expand(-1, -1, 2, -1, -1)), like=reference)
    for name, x in first.features.items():
        torch.testing.assert_close(x, again.features[name], atol=1e-9, rtol=0)
        torch.testing.assert_close(first.unconditional[name], again.unconditional[name], atol=1e-9, rtol=0)


def test_an_unknown_face_is_nobody(tiny_hallo, draw):
    reference = tiny_hallo.emo.encode_reference(draw(1, 4, 8, 8))
    assert all(torch.equal(x, reference.unconditional[name]) for name, x in reference.features.items())


def test_an_embedding_of_another_recogniser_is_refused(tiny_hallo, draw):
    with pytest.raises(ValueError, match=r"face embedding is \(1, 7\), model 'hallo' needs \(1, 8\)"):
        tiny_hallo.emo.encode_reference(draw(1, 4, 8, 8), draw(1, 7))


def test_without_regions_the_error_says_what_to_connect(tiny_hallo, draw):
    emo, config = tiny_hallo.emo, tiny_hallo.config
    reference = emo.encode_reference(draw(1, 4, 8, 8))
    voice = draw(1, 3, 5, config.audio_layers, config.audio_width)
    clip = ClipConditions(voice, torch.zeros(1, 3, 5), torch.ones(1, 1, 64, 64), 3)
    with pytest.raises(ValueError, match="EMO Face Mask Builder"):
        emo.prepare(reference, emo.encode_motion(MotionFrames(), like=reference), clip)


def test_the_unconditional_half_knows_neither_portrait_nor_face(tiny_hallo, context):
    half = context.without_audio().without_reference()
    assert half.reference is None and not half.face.any() and not half.audio.any()
    assert torch.equal(half.identity[:, 1], context.identity[:, 0])
    assert all(torch.equal(half.motion.features[name], x) for name, x in context.motion.unconditional.items())
    assert half.motion.features and context.face.any()


def test_regions_are_resized_to_every_level(tiny_hallo, context):
    assert [tuple(region.shape) for region in context.regions] == [(1, 3, 64), (1, 3, 16), (1, 3, 4), (1, 3, 1)]


def test_sizes_that_do_not_halve_evenly_come_out_as_they_went_in(tiny_hallo, draw):
    net = tiny_hallo.emo.backbone
    noisy, identity = draw(1, 4, 1, 7, 9), draw(1, 4, 12)
    layers = net.cache(Context(None, None, None, None, None, identity=identity[:, None].expand(-1, 2, -1, -1)))
    said = net(noisy, torch.tensor([5]), layers)
    assert said.shape == (1, 4, 1, 7, 9)

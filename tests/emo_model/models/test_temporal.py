from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from einops import rearrange

from emo_model.models.attention import frame_codes
from emo_model.models.temporal import TemporalBlock, TemporalModule

FRAMES, MOTION, CELLS, CHANNELS = 3, 2, 9, 16


@pytest.fixture
def inputs(config, seeded):
    """x, motion, speed of two videos."""
    x, motion = seeded(2 * FRAMES, CHANNELS, 3, 3), seeded(2, MOTION, CELLS, CHANNELS, seed=1)
    return x, motion, seeded(2, FRAMES, config.speed_width, seed=2)


def changed(before, after) -> list[int]:
    return [index for index in range(len(before)) if not torch.equal(before[index], after[index])]


def test_a_fresh_temporal_module_changes_nothing(config, inputs):
    assert torch.equal(TemporalModule(config, CHANNELS)(*inputs), inputs[0])


def test_a_woken_temporal_module_changes_every_frame(awake, config, inputs):
    assert changed(inputs[0], awake(TemporalModule(config, CHANNELS))(*inputs)) == list(range(2 * FRAMES))


def test_fresh_speed_attention_changes_nothing(awake, config, inputs):
    module = awake(TemporalModule(config, CHANNELS))
    speed_attention = module.transformer_blocks[0].attn_speed
    torch.nn.init.zeros_(speed_attention.to_out[0].weight)
    torch.nn.init.zeros_(speed_attention.to_out[0].bias)
    fresh = TemporalModule(config, CHANNELS).transformer_blocks[0].attn_speed.to_out[0]
    assert not fresh.weight.any() and not fresh.bias.any()
    x, motion, speed = inputs
    assert torch.equal(module(x, motion, speed), module(x, motion, None))


def test_speed_reaches_the_frames_of_its_video_and_no_other(awake, config, inputs, seeded):
    module, (x, motion, speed) = awake(TemporalModule(config, CHANNELS)), inputs
    other = torch.stack([speed[0], seeded(FRAMES, config.speed_width, seed=5)])
    assert changed(module(x, motion, speed), module(x, motion, other)) == [3, 4, 5]


def test_motion_frames_are_heard_by_their_video_and_no_other(awake, config, inputs, seeded):
    module, (x, motion, speed) = awake(TemporalModule(config, CHANNELS)), inputs
    other = torch.stack([motion[0], seeded(MOTION, CELLS, CHANNELS, seed=5)])
    before, after = module(x, motion, speed), module(x, other, speed)
    assert changed(before, after) == [3, 4, 5] and before.shape == x.shape  # heard, and then dropped


def test_motion_frames_stand_in_front_in_their_order(awake, config, inputs):
    module, (x, motion, speed) = awake(TemporalModule(config, CHANNELS)), inputs
    assert not torch.allclose(module(x, motion, speed), module(x, motion.flip(1), speed), atol=1e-3)


def test_cells_of_the_picture_do_not_see_each_other(awake, config, inputs):
    module, (x, motion, speed) = awake(TemporalModule(config, CHANNELS)), inputs
    module.norm = torch.nn.Identity()  # the norm's statistics are of the whole frame
    other = x.clone()
    other[:, :, 1, 2] += 1
    apart = (module(x, motion, speed) - module(other, motion, speed)).abs().amax((0, 1))
    assert apart.nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize("attentions", [1, 2])
def test_dropping_motion_frames_at_the_last_attention_equals_dropping_them_at_the_end(
    awake, config, seeded, attentions
):
    block = awake(TemporalBlock(replace(config, temporal_attentions=attentions), CHANNELS))
    x, speed = seeded(2 * CELLS, MOTION + FRAMES, CHANNELS), seeded(2, FRAMES, config.speed_width, seed=2)
    early = block(x[:, MOTION:], motion=block.project(x[:, :MOTION]), speed=speed)
    codes = frame_codes(MOTION + FRAMES, CHANNELS, like=x)
    for index in range(1, attentions + 1):
        x = x + getattr(block, f"attn{index}")(getattr(block, f"norm{index}")(x) + codes)
    seen = block.attn_speed(rearrange(block.norm_speed(x), "(b n) f c -> b (n f) c", b=2), speed)
    x = x + rearrange(seen, "b (n f) c -> (b n) f c", n=CELLS)
    late = (x + block.ff(block.norm3(x)))[:, MOTION:]
    assert early.shape == (2 * CELLS, FRAMES, CHANNELS)
    torch.testing.assert_close(early, late, rtol=1e-5, atol=1e-5)


def test_a_temporal_block_equals_diffusers_animatediff_on_the_same_weights(awake, config, seeded):
    attention = pytest.importorskip("diffusers.models.attention")
    ours = awake(TemporalBlock(replace(config, temporal_attentions=2, feed_forward_multiplier=4), CHANNELS))
    theirs = attention.BasicTransformerBlock(
        CHANNELS,
        2,
        8,
        activation_fn="geglu",
        double_self_attention=True,
        positional_embeddings="sinusoidal",
        num_positional_embeddings=32,
    ).eval()
    weights = {name: value for name, value in ours.state_dict().items() if "_speed" not in name}
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not unexpected and all("pos_embed" in name for name in missing)
    x = seeded(2 * CELLS, FRAMES, CHANNELS)
    torch.testing.assert_close(ours(x, motion=ours.project(x[:, :0]), speed=None), theirs(x), rtol=1e-4, atol=1e-5)


def test_the_norm_is_of_each_frame_alone_as_animatediffs(awake, config, inputs):
    module, (x, motion, speed) = awake(TemporalModule(config, CHANNELS)), inputs
    normed = []
    module.norm.register_forward_hook(lambda _, given, output: normed.append(output))
    module(x, motion, speed)
    module(torch.cat([x[:1], 5 + 3 * x[1:]]), motion, speed)
    assert [tuple(some.shape) for some in normed[:2]] == [
        (2 * MOTION, CHANNELS, 1, CELLS),
        (2 * FRAMES, CHANNELS, 3, 3),
    ]
    assert torch.equal(normed[1][0], normed[3][0]) and not torch.allclose(normed[1][1], normed[3][1] + 1)

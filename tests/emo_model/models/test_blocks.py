from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emo_model.models.blocks import Downsample, ResnetBlock, SpatialTransformer, TransformerBlock, Upsample


@pytest.mark.parametrize("outside", [8, 12])
def test_resnet_block_equals_diffusers_on_the_same_weights(awake, seeded, outside):
    theirs = (
        pytest.importorskip("diffusers.models.resnet")
        .ResnetBlock2D(in_channels=8, out_channels=outside, temb_channels=6, groups=4, eps=1e-5)
        .eval()
    )
    ours = awake(ResnetBlock(8, outside, 6, groups=4))
    theirs.load_state_dict(ours.state_dict())
    x, time = seeded(2, 8, 5, 7), seeded(2, 6, seed=1)
    torch.testing.assert_close(
        ours(x, ours.time_emb_proj(torch.nn.functional.silu(time))), theirs(x, time), rtol=1e-5, atol=1e-5
    )


def test_resampling_equals_diffusers_on_the_same_weights(awake, seeded):
    down = pytest.importorskip("diffusers.models.downsampling").Downsample2D(8, use_conv=True, name="op")
    up = pytest.importorskip("diffusers.models.upsampling").Upsample2D(8, use_conv=True)
    x = seeded(2, 8, 6, 6)
    for theirs, ours in ((down, awake(Downsample(8))), (up, awake(Upsample(8)))):
        theirs.load_state_dict(ours.state_dict())
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_transformer_block_equals_diffusers_with_the_reference_as_text(awake, config, seeded):
    attention = pytest.importorskip("diffusers.models.attention")
    ours = awake(TransformerBlock(replace(config, feed_forward_multiplier=4), 16, is_backbone=True))
    theirs = attention.BasicTransformerBlock(16, 2, 8, cross_attention_dim=16).eval()
    theirs.load_state_dict({name: value for name, value in ours.state_dict().items() if "_audio" not in name})
    x, reference = seeded(2, 9, 16), seeded(2, 9, 16, seed=1)
    answer, _ = ours(x, codes=None, reference=reference)
    torch.testing.assert_close(answer, theirs(x, encoder_hidden_states=reference), rtol=1e-5, atol=1e-5)


def test_the_feature_is_what_self_attention_reads(awake, config, seeded):
    block, x = awake(TransformerBlock(config, 16, is_backbone=False)), seeded(2, 9, 16)
    _, feature = block(x, codes=None)
    assert torch.equal(feature, block.norm1(x))


def test_fresh_audio_attention_changes_nothing(config, seeded):
    block = TransformerBlock(config, 16, is_backbone=True)
    x, reference, audio = seeded(3, 9, 16), seeded(1, 9, 16, seed=1), seeded(3, 5, config.audio_context_width, seed=2)
    deaf, _ = block(x, codes=None, reference=reference)
    heard, _ = block(x, codes=None, reference=reference, audio=audio)
    assert torch.equal(heard, deaf)


def test_woken_audio_attention_reaches_only_the_frame_whose_voice_changed(awake, config, seeded):
    block = awake(TransformerBlock(config, 16, is_backbone=True))
    x, reference, audio = seeded(6, 9, 16), seeded(2, 9, 16, seed=1), seeded(6, 5, config.audio_context_width, seed=2)
    other = audio.clone()
    other[4] = seeded(5, config.audio_context_width, seed=3)
    before, after = (block(x, codes=None, reference=reference, audio=voice)[0] for voice in (audio, other))
    assert [index for index in range(6) if not torch.equal(before[index], after[index])] == [4]


def test_the_frames_of_a_video_see_its_own_portrait_and_no_other(awake, config, seeded):
    block = awake(TransformerBlock(config, 16, is_backbone=True))
    x, reference = seeded(6, 9, 16), seeded(2, 9, 16, seed=1)  # two videos of three frames
    other = torch.stack([reference[0], seeded(9, 16, seed=4)])
    before, after = (block(x, codes=None, reference=seen)[0] for seen in (reference, other))
    assert [index for index in range(6) if not torch.equal(before[index], after[index])] == [3, 4, 5]


def test_frames_read_the_portrait_together_as_each_would_alone(awake, config, seeded):
    block = awake(TransformerBlock(config, 16, is_backbone=True))
    x, reference, codes = seeded(3, 9, 16), seeded(1, 9, 16, seed=1), seeded(9, 16, seed=2)
    together, _ = block(x, codes=codes, reference=reference)
    alone = torch.cat([block(x[index : index + 1], codes=codes, reference=reference)[0] for index in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_positions_matter_only_where_the_config_asks_for_them(awake, config, seeded):
    x, turned = seeded(1, 16, 4, 4), seeded(1, 16, 4, 4).flip(-1)
    for has_positions in (False, True):
        transformer = awake(
            SpatialTransformer(replace(config, reference_positions=has_positions), 16, is_backbone=False)
        )
        forth, back = transformer(x)[0], transformer(turned)[0].flip(-1)
        assert torch.allclose(forth, back, atol=1e-5) is not has_positions


def test_a_fresh_spatial_transformer_is_the_identity(config, seeded):
    x = seeded(2, 16, 4, 4)
    seen, feature = SpatialTransformer(config, 16, is_backbone=False)(x)
    assert torch.equal(seen, x) and feature.shape == (2, 16, 16)

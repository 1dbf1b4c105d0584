from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emo_model.models.blocks import SpatialTransformer, TransformerBlock


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

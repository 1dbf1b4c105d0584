from __future__ import annotations

import pytest
import torch
from torch import Tensor

from emo_model.models.attention import Attention, frame_codes, grid_codes


def naive(attention: Attention, x: Tensor, context: Tensor, *, codes=0.0, context_codes=0.0) -> Tensor:
    """softmax(q k / sqrt(d)) v, head by head and query by query, from the weights alone."""
    q, k = (x + codes) @ attention.to_q.weight.T, (context + context_codes) @ attention.to_k.weight.T
    v = context @ attention.to_v.weight.T
    width = q.shape[-1] // attention.heads
    answers = torch.zeros_like(q)
    for head in range(attention.heads):
        part = slice(head * width, (head + 1) * width)
        for query in range(q.shape[1]):
            shares = (k[..., part] @ q[:, query, part, None] / width**0.5).squeeze(-1).exp()  # (B, M)
            shares = shares / shares.sum(1, keepdim=True)
            answers[:, query, part] = (shares[..., None] * v[..., part]).sum(1)
    return answers @ attention.to_out[0].weight.T + attention.to_out[0].bias


def test_attention_is_softmax_of_queries_and_keys_over_values(awake, seeded):
    attention = awake(Attention(12, 6, heads=3))
    x, context = seeded(2, 5, 12), seeded(2, 7, 6, seed=1)
    torch.testing.assert_close(attention(x, context), naive(attention, x, context), rtol=1e-5, atol=1e-5)


def test_without_context_attention_looks_at_itself(awake, seeded):
    attention, x = awake(Attention(12, heads=2)), seeded(2, 5, 12)
    torch.testing.assert_close(attention(x), naive(attention, x, x), rtol=1e-5, atol=1e-5)


def test_codes_reach_queries_and_keys_and_not_values(awake, seeded):
    attention = awake(Attention(8, heads=2))
    x, context, codes, places = seeded(2, 5, 8), seeded(2, 7, 8, seed=1), seeded(5, 8, seed=2), seeded(7, 8, seed=3)
    expected = naive(attention, x, context, codes=codes, context_codes=places)
    made = attention(x, attention.project(context, codes=places), codes=codes)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(attention(x, context), expected, atol=1e-2)


def test_self_attention_codes_its_keys_as_its_queries(awake, seeded):
    attention, x, codes = awake(Attention(8, heads=2)), seeded(1, 5, 8), seeded(5, 8, seed=2)
    torch.testing.assert_close(attention(x, codes=codes), attention(x, attention.project(x, codes=codes), codes=codes))


def test_attention_in_bfloat16_stays_in_it_and_close_to_full_precision(awake, seeded):
    attention, x = awake(Attention(16, heads=2)), seeded(2, 9, 16)
    full, half = attention(x), attention.to(torch.bfloat16)(x.to(torch.bfloat16))
    assert half.dtype == torch.bfloat16 and full.std() > 0.1
    torch.testing.assert_close(half.float(), full, rtol=0.05, atol=0.05)


def test_frame_codes_equal_diffusers_for_animatediff(seeded):
    theirs = pytest.importorskip("diffusers.models.embeddings").SinusoidalPositionalEmbedding(24, max_seq_length=32)
    x = seeded(1, 16, 24)
    torch.testing.assert_close(x + frame_codes(16, 24, like=x), theirs(x), rtol=1e-5, atol=1e-5)


def test_grid_codes_tell_every_cell_from_every_other():
    codes = grid_codes(6, 5, 16, like=torch.zeros(()))
    assert codes.shape == (30, 16)
    apart = torch.cdist(codes, codes) + 10 * torch.eye(30)
    assert apart.min() > 0.3  # unit-size waves
    rows, columns = codes.view(6, 5, 2, 8).unbind(2)
    assert torch.equal(rows, rows[:, :1].expand_as(rows)) and torch.equal(columns, columns[:1].expand_as(columns))


def test_codes_take_device_and_dtype_of_what_they_are_added_to():
    like = torch.zeros((), dtype=torch.bfloat16, device="meta")
    for codes in (frame_codes(4, 8, like=like), grid_codes(2, 2, 8, like=like)):
        assert codes.dtype == torch.bfloat16 and codes.device.type == "meta"

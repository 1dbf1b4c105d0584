"""Group norm that keeps channels-last pictures as they are: torch's numbers, by the code for CPUs and that for GPUs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from emo_model.acceleration import group_norm as module
from emo_model.acceleration.group_norm import MANY_CELLS, GroupNorm, use_own_group_norm

WAYS = {"CPU": module._by_products, "GPU": module._by_moments}


def picture(seeded, *shape: int, mean: float = 0.5) -> torch.Tensor:
    return (seeded(*shape) + mean).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mean", [0.0, 10.0])
def test_both_ways_are_torchs_to_rounding(seeded, way, mean):
    x, weight, bias = picture(seeded, 3, 12, 5, 7, mean=mean), seeded(12, seed=1), seeded(12, seed=2)
    made = WAYS[way](x.permute(0, 2, 3, 1).flatten(1, 2), 4, weight, bias, 1e-6)
    exact = F.group_norm(x.double(), 4, weight.double(), bias.double(), 1e-6).float()
    torch.testing.assert_close(made.transpose(1, 2).view(x.shape), exact, rtol=1e-5, atol=1e-5)


def test_half_precision_is_not_overflown_by_the_square_of_a_large_deviation(seeded):
    x, weight, bias = picture(seeded, 2, 8, 4, 4) * 2000, seeded(8, seed=1), seeded(8, seed=2)
    made = module._by_moments(x.half().permute(0, 2, 3, 1).flatten(1, 2), 4, weight.half(), bias.half(), 1e-6)
    exact = F.group_norm(x.half().float(), 4, weight.half().float(), bias.half().float(), 1e-6)
    torch.testing.assert_close(made.float().transpose(1, 2).view(x.shape), exact, rtol=1e-2, atol=1e-2)


@torch.no_grad()
def test_channels_last_stays_so_and_another_layout_is_torchs(seeded):
    norm, side = GroupNorm(4, 12), round(MANY_CELLS**0.5) + 1
    for x in (picture(seeded, 2, 12, side, side), picture(seeded, 2, 12, 3, 3)):
        made = norm(x)
        assert made.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(made, F.group_norm(x, 4, norm.weight, norm.bias), rtol=1e-4, atol=1e-5)
    plain = seeded(2, 12, side, side)
    assert torch.equal(norm(plain), F.group_norm(plain, 4, norm.weight, norm.bias))


def test_gradients_are_torchs(seeded):
    norm, x = GroupNorm(4, 12), picture(seeded, 2, 12, 16, 16).requires_grad_()
    norm(x).square().sum().backward()
    mine, x.grad = x.grad, None
    F.group_norm(x, 4, norm.weight, norm.bias).square().sum().backward()
    assert torch.equal(mine, x.grad)


@torch.no_grad()
def test_the_norms_of_a_network_are_replaced_and_their_parameters_kept(emo):
    names, weight = list(emo.state_dict()), emo.backbone.down_blocks[0].resnets[0].norm1.weight
    assert use_own_group_norm(emo) is emo and list(emo.state_dict()) == names
    norms = [part for part in emo.modules() if isinstance(part, torch.nn.GroupNorm)]
    assert len(norms) > 10 and all(type(norm) is GroupNorm for norm in norms)
    assert emo.backbone.down_blocks[0].resnets[0].norm1.weight is weight

"""The flow does not fold: near the border of the head square, which rests, and where places come out of order."""

from __future__ import annotations

import torch

from emo_model.evaluation.metrics.warp import at_working_size, determinants
from emo_model.outputs import folds
from emo_model.outputs.folds import hold_inside, in_order


def test_a_far_move_folds_at_the_border_unless_it_is_held_inside():
    flow = torch.zeros(1, 2, 64, 64)
    flow[:, 0, 1:-1, 1:-1], flow[:, 1, 1:-1, 1:-1] = 9.5, -7.0
    assert determinants(flow).min() < -1
    held = hold_inside(flow)
    assert determinants(held).min() > 0.05
    assert torch.equal(held[..., 20:40, 20:40], flow[..., 20:40, 20:40])


def test_between_cells_it_is_far_from_folding_too(monkeypatch):
    flow = torch.zeros(1, 2, 64, 64)
    flow[:, 0, :, :-1] = 9 * (torch.arange(63) / 30).clamp(max=1)  # a head that moves to the left, up to the border
    assert determinants(at_working_size(hold_inside(flow))).min() > 0.2
    monkeypatch.setattr(folds, "NEAREST", 0.7)
    assert determinants(at_working_size(hold_inside(flow))).min() < 0.1  # and below 0 where it is sheared as well


def test_a_flow_that_stays_inside_is_unchanged():
    flow = 2 * torch.rand(2, 2, 32, 32, generator=torch.Generator().manual_seed(0)) - 1
    flow[..., [0, 1, -2, -1], :], flow[..., [0, 1, -2, -1]] = 0, 0
    assert torch.equal(hold_inside(flow), flow)


def test_places_out_of_order_are_put_in_order_and_no_others_move():
    along, down = torch.arange(64.0)[None], torch.arange(64.0)[:, None]
    lip = torch.exp(-(((down - 30) / 3) ** 2) - ((along - 28) / 8) ** 2)  # as under a mouth that opens
    flow = torch.zeros(3, 2, 64, 64)
    flow[0, 1], flow[1, 0] = 3.8 * lip, 3.8 * lip.T
    assert (determinants(flow).amin((1, 2))[:2] < -0.03).all()
    ordered = in_order(flow)
    assert determinants(ordered).min() > 0.2
    assert determinants(at_working_size(ordered)).min() > 0
    assert torch.equal(ordered[2], flow[2]) and torch.equal(ordered[:, :, :24, :24], flow[:, :, :24, :24])

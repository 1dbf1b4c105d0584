"""Teeth from numbers: where they stand, that they move with skull and jaw, and that their edges are sharp."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emo_model.auxiliary.teeth import average_teeth, draw_teeth
from emo_model.synthetic.mouth_painter import sample_look
from emo_model.training.motion_decoder import mouth_teeth


@pytest.fixture
def plane():
    """(1, 2, 200, 300): places from -0.3 to 0.3 across and from -0.1 to 0.3 down."""
    y, x = torch.meshgrid(torch.linspace(-0.1, 0.3, 200), torch.linspace(-0.3, 0.3, 300), indexing="ij")
    return torch.stack([x, y])[None]


def test_the_lower_row_falls_with_the_jaw_and_the_upper_one_stays(plane):
    table = average_teeth().table()
    shut, open_ = (draw_teeth(table, plane, torch.tensor([jaw]))[0] for jaw in (0.0, 0.1))
    torch.testing.assert_close(shut[0], open_[0])
    lowest = [row[2].amax(1).nonzero()[0, 0].item() for row in (shut, open_)]
    assert lowest[1] - lowest[0] == pytest.approx(0.1 / 0.4 * 199, abs=2)


def test_a_tooth_ends_within_a_few_thousandths(plane):
    upper = draw_teeth(average_teeth().table(), plane, torch.zeros(1))[0, 0]
    column = upper[:, 170]
    soft = ((column > 0.05) & (column < 0.95)).sum().item()
    assert column.max() == 1 and soft <= 12  # of two edges, 0.006 and 0.012 over rows of 0.002


def test_teeth_are_even_on_both_sides_and_darker_towards_the_corners(plane):
    shown, tone = draw_teeth(average_teeth().table(), plane, torch.zeros(1))[0, :2]
    assert (shown - shown.flip(1)).abs().mean() < 0.002 < shown.mean()
    row = (shown * tone)[40]
    assert row[160] > 1.3 * row[row.nonzero().max() - 3] > 0


def test_each_mouth_has_its_own_teeth(plane):
    skin = np.full(3, 180.0)
    looks = [sample_look(seed, half_width=0.2, skin=skin, lips=0.7 * skin, face=1.1 * skin) for seed in (1, 2)]
    rows = [torch.stack(part) for part in zip(*map(mouth_teeth, looks), strict=True)]
    teeth = type(average_teeth())(*rows)
    first, second = draw_teeth(teeth.table(), plane.expand(2, -1, -1, -1), torch.zeros(2))
    assert (first - second).abs().mean() > 0.01
    alone = type(teeth)(*(part[1:] for part in rows))
    torch.testing.assert_close(draw_teeth(alone.table(), plane, torch.zeros(1))[0], second)

import pytest
import torch

from emo_model.evaluation.metrics import warp


def _grid(size):
    y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    return x, y


def test_a_planted_fold_is_found_and_a_smooth_turn_is_none():
    x, _ = _grid(32)
    smooth, folded = torch.zeros(2, 1, 2, 32, 32)
    smooth[0, 0] = 3 * torch.sin(x / 10)
    folded[0, 0] = 6 * torch.sin(x / 2)  # slopes down to -3
    assert warp.measure(smooth)[0].item() > 0
    assert warp.measure(folded)[0].item() < 0


def test_a_fold_below_the_painted_mouth_does_not_count():
    x, _ = _grid(32)
    flow = torch.zeros(1, 2, 32, 32)
    flow[0, 0, :, 8:14] = (6 * torch.sin(x / 2))[:, 8:14]
    hidden = torch.zeros(1, 32, 32, dtype=torch.bool)
    hidden[:, :, 6:16] = True
    assert warp.measure(flow)[0].item() < 0
    assert warp.measure(flow, hidden)[0].item() > 0


def test_stretch_tells_how_many_times_pixels_are_enlarged():
    x, _ = _grid(32)
    flow = torch.zeros(1, 2, 32, 32)
    flow[0, 0] = -0.75 * x  # where a quarter of the pixels come from
    assert warp.stretch(flow).mean().item() == pytest.approx(4.0, rel=1e-3)
    assert warp.measure(flow)[1].item() == 1.0


def test_the_painted_window_lies_where_the_decoder_puts_it():
    hidden = warp.hidden(torch.ones(1, 1, 64, 64), torch.tensor([[8.0, 10.0]]), mouth_cells=8, cells=16)[0]
    rows, columns = hidden.any(1).nonzero().flatten(), hidden.any(0).nonzero().flatten()
    assert (columns[0], columns[-1]) == (15, 48)  # 4 cells of 4 pixels to either side of 8, and a pixel more
    assert (rows[0], rows[-1]) == (23, 56)

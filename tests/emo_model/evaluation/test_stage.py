import numpy as np
import torch

from emo_model.evaluation.stage import Take
from emo_model.types import Fit


def _take(still, frames, fit):
    meshes = torch.zeros(len(frames), 468, 3)
    return Take(frames, None, meshes, still, meshes[0], meshes[..., :2], fit, [], [], 0.0)


def test_pixels_that_change_outside_the_head_square_are_counted_exactly():
    still = np.zeros((40, 60, 3), np.uint8)
    frames = np.stack([still, still])
    frames[0, 5:8, 5:7] = 9  # 6 pixels, outside
    frames[1, 0, 0, 2] = 1  # one more, by one grey level
    frames[1, 15:25, 30:40] = 9  # inside
    assert _take(still, frames, Fit(60, 40, 20, 10, 30, 256)).changed_outside == 7
    frames[:] = still
    frames[1, 15:25, 30:40] = 9
    assert _take(still, frames, Fit(60, 40, 20, 10, 30, 256)).changed_outside == 0


def test_a_head_square_that_reaches_outside_the_picture_covers_its_rim():
    still = np.zeros((40, 60, 3), np.uint8)
    frames = still[None].copy()
    frames[0, :20, :20] = 3
    assert _take(still, frames, Fit(60, 40, -10, -10, 40, 256)).changed_outside == 0

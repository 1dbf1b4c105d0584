import pytest
import torch

from emo_model.inputs.face_geometry import mean_face
from emo_model.inputs.motion_latents import consistent_latents, motion_latents

SIZE, CELLS = 256, 16


@pytest.fixture
def portrait():
    return mean_face() * 80 + torch.tensor([128.0, 110.0, 0.0])


@pytest.fixture
def moved(portrait):
    """Latents of a frame in which all of the square has moved 20 pixels to the right, with an open mouth."""
    mesh = portrait + torch.tensor([20.0, 0.0, 0.0])
    mesh[13] -= torch.tensor([0.0, 7.0, 0.0])
    mesh[14] += torch.tensor([0.0, 7.0, 0.0])
    flow = torch.tensor([-20.0 / 4, 0.0]).view(1, 2, 1, 1).expand(1, 2, 64, 64)
    return motion_latents(flow, mesh[None], portrait, cells=CELLS, size=SIZE, gaze=torch.tensor([[0.2, -0.1]]))


def test_latents_of_a_real_motion_stay_as_they_are(portrait, moved):
    again = consistent_latents(moved, portrait, size=SIZE)
    torch.testing.assert_close(again[:, :2], moved[:, :2], rtol=0, atol=0)
    assert (again[:, 2:] - moved[:, 2:]).abs().max() < 0.15 * moved[:, 2:].abs().max()


def test_bells_beside_the_mouth_move_to_where_the_flow_takes_it(portrait, moved):
    beside = torch.cat([moved[:, :2], moved[:, 2:].roll(2, dims=-1)], 1)
    mended = consistent_latents(beside, portrait, size=SIZE)
    there, before, after = (x[0, 2].flatten().argmax() for x in (moved, beside, mended))
    assert after == there != before


def test_both_eyes_are_as_open_as_their_mean(portrait, moved):
    wink = moved.clone()
    wink[:, 5, :, :CELLS // 2 + 1] *= 0.2  # the eye at the left of the picture
    left, right = (consistent_latents(wink, portrait, size=SIZE)[0, 5, :, part].amax() for part in (slice(0, 9), slice(9, 16)))
    assert left.item() == pytest.approx(right.item(), rel=0.15)
    assert left < 0.8 * moved[0, 5].amax()

import numpy as np
import pytest
import torch

from emo_model.evaluation.metrics.eyes import CHANGE
from emo_model.evaluation.reading import Reading, changes, eye_changes, eye_looks
from emo_model.inputs.face_geometry import mean_face


@pytest.fixture
def mesh():
    return mean_face() * 70 + torch.tensor([128.0, 115.0, 0.0])


def test_a_frozen_video_does_not_tremble_open_or_turn(mesh):
    still = Reading.of(mesh.expand(20, -1, -1), mesh)
    assert still.shake.abs().max() == 0
    assert still.opening.std() < 1e-6
    assert still.turn.abs().max() < 1e-4 and still.place.abs().max() < 1e-4


def test_trembling_is_the_mean_second_difference_in_pixels(mesh):
    moved = mesh.expand(9, -1, -1).clone()
    moved[::2, :, 0] += 1.0  # to and fro by a pixel: the second difference is 2
    assert Reading.of(moved, mesh).shake == pytest.approx(torch.full((7,), 2.0), abs=1e-4)


def test_a_head_that_turns_evenly_has_that_speed(mesh):
    angles = torch.deg2rad(torch.arange(60) * 0.4)  # 10 degrees a second at 25 frames
    turned = []
    for angle in angles:
        c, s = angle.cos(), angle.sin()
        turn = torch.stack([torch.stack([c, c * 0, s]), torch.tensor([0.0, 1.0, 0.0]), torch.stack([-s, s * 0, c])])
        turned.append((mesh - mesh.mean(0)) @ turn.T + mesh.mean(0))
    speed = Reading.of(torch.stack(turned), mesh).speed(25)
    assert speed.mean().item() == pytest.approx(10, rel=0.02)


def test_an_eye_that_changes_its_look_is_seen_and_the_other_is_not(mesh):
    frames = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8).repeat(40, 0)
    x, y = mesh[[33, 133], :2].mean(0).int().tolist()
    frames[20:23, y - 12 : y + 12, x - 20 : x + 20] = frames[20:23, y - 12 : y + 12, x - 20 : x + 20][:, ::-1]
    left, right = eye_changes(frames, mesh.expand(40, -1, -1)).unbind(1)
    assert left[20:23].min() > 0.3 and left[:20].max() < 0.01
    assert right.max() < 0.01


def test_corners_that_tremble_do_not_change_an_eye_and_a_wink_is_seen(mesh):
    generator = np.random.default_rng(0)
    small = torch.from_numpy(generator.integers(0, 256, (1, 1, 64, 64)).astype(np.float32))
    still = (
        torch.nn.functional.interpolate(small, size=256, mode="bicubic").clamp(0, 255)[0, 0].numpy().astype(np.uint8)
    )
    frames = np.repeat(np.repeat(still[None, :, :, None], 40, 0), 3, 3)
    x, y = mesh[[33, 133], :2].mean(0).int().tolist()
    frames[30:33, y - 12 : y + 12, x - 20 : x + 20] = frames[30:33, y - 12 : y + 12, x - 20 : x + 20][:, ::-1]
    width = (mesh[133] - mesh[33]).norm()
    trembling = mesh.expand(40, -1, -1).clone()
    away = 0.15 * width * (torch.rand(40, 2, generator=torch.Generator().manual_seed(0)) - 0.5)
    away[:, 1] /= 2
    trembling[..., :2] += away[:, None]
    left, right = eye_changes(frames, trembling).unbind(1)
    held_by_corners = changes(eye_looks(frames, trembling))
    assert held_by_corners[:, 1].max() > CHANGE > 2 * right.max()
    assert left[30:33].min() > CHANGE > 2 * left[:30].max()


def test_tracks_survive_as_lists(reading):
    made = reading(8, opening=torch.arange(8) / 8)
    back = Reading.from_lists(made.as_lists())
    assert torch.equal(back.opening, made.opening) and len(back.shake) == 6

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

pytest.importorskip("numba", reason="puppets are drawn with numba: pip install numba")

from emo_model.inputs import face_geometry as geometry
from emo_model.inputs.face_skin import LOWER_INNER, UPPER_INNER
from emo_model.synthetic.motion import FaceMotion, sample_motion
from emo_model.synthetic.puppets import Puppet

SIZE = 128


def still(**tracks: float) -> FaceMotion:
    return dataclasses.replace(
        FaceMotion.neutral(), **{name: torch.tensor(float(value)) for name, value in tracks.items()}
    )


def mesh(gap: float = 0.0) -> torch.Tensor:
    """The mean face; gap: how far the lower lip hangs, eye distances."""
    mean = geometry.mean_face().double()
    for point in geometry.LOWER_LIP_INNER[1:-1]:
        mean[point, 1] += gap * (1 - (mean[point, 0] / 0.24) ** 2).clamp(min=0)
    return mean * 44 + torch.tensor([64.0, 46.0, 0.0])


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Smooth colours, so that sampling in between is exact enough to compare."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    planes = [np.sin(5 * x + 2 * y), np.sin(4 * y - 3 * x), np.cos(6 * x * y)]
    return (np.stack(planes, -1) * 60 + 128).astype(np.uint8)


@pytest.fixture(scope="module")
def puppet(picture) -> Puppet:
    return Puppet(picture, mesh(), seed=1)


def determinant(flow: np.ndarray) -> np.ndarray:
    """Of the backward map: 0 or less where it folds."""
    (ux, uy), (vx, vy) = (np.gradient(part)[::-1] for part in flow)
    return (1 + ux) * (1 + vy) - uy * vx


def test_a_neutral_motion_gives_the_picture_itself(puppet, picture):
    frame = puppet.render(still())
    assert np.array_equal(frame.picture, picture)
    assert not frame.flow.any() and not frame.mouth.any()


def test_a_picture_with_an_open_mouth_rests_as_it_is(picture):
    puppet = Puppet(picture, mesh(gap=0.12), seed=1)
    frame = puppet.render(still())
    assert puppet.is_open
    assert np.array_equal(frame.picture, picture) and not frame.mouth.any()


def test_opening_moves_the_lower_lip_down_by_what_the_person_has(puppet):
    points = puppet.pose(FaceMotion.stack([still(), still(opening=0.5), still(opening=1.0)]))
    fall = (points[:, 14, 1] - points[0, 14, 1]) / puppet.eyes
    assert fall[1] == pytest.approx(0.5 * puppet.skin.drop, rel=1e-3)
    assert fall[2] == pytest.approx(puppet.skin.drop, rel=1e-3)
    assert 0.1 < puppet.skin.drop < 0.29


def test_only_what_opens_is_painted_and_it_grows(puppet):
    painted = [puppet.render(still(opening=opening)).mouth.sum() for opening in (0.1, 0.5, 1.0)]
    assert 0 < painted[0] < painted[1] < painted[2]
    points = puppet.render(still(opening=1.0)).points
    y, x = np.nonzero(puppet.render(still(opening=1.0)).mouth)
    lips = points[np.concatenate([UPPER_INNER, LOWER_INNER])]
    assert x.min() >= lips[:, 0].min() - 1.5 and x.max() <= lips[:, 0].max() + 1.5
    assert y.min() >= lips[:, 1].min() - 1.5 and y.max() <= lips[:, 1].max() + 1.5


def test_closing_an_open_mouth_brings_the_lips_together(picture):
    puppet = Puppet(picture, mesh(gap=0.12), seed=1)
    open_, shut = puppet.pose(FaceMotion.stack([still(), still(closure=1.0)]))
    assert open_[14, 1] - open_[13, 1] > 0.1 * puppet.eyes
    assert 0 <= shut[14, 1] - shut[13, 1] < 0.01 * puppet.eyes


def test_the_picture_warped_by_the_flow_is_the_frame_outside_the_mouth(puppet, picture):
    frame = puppet.render(still(opening=0.6, yaw=0.2, pitch=-0.1, blink_left=0.5, blink_right=0.5, smile=0.5, x=0.03))
    flow = torch.from_numpy(frame.flow).double()
    y, x = torch.meshgrid(*[torch.arange(SIZE).double()] * 2, indexing="ij")
    grid = torch.stack([(x + flow[0] + 0.5), (y + flow[1] + 0.5)], -1) * 2 / SIZE - 1
    source = torch.from_numpy(picture).double().permute(2, 0, 1)[None]
    warped = torch.nn.functional.grid_sample(source, grid[None], padding_mode="border", align_corners=False)[0].permute(
        1, 2, 0
    )
    outside = frame.mouth == 0
    assert np.abs(warped.numpy() - frame.picture)[outside].max() < 0.6


def test_the_border_rests_whatever_the_head_does(puppet):
    wild = still(yaw=0.35, pitch=0.2, roll=0.2, x=0.08, y=-0.06, scale=1.06, opening=1.0)
    flow = puppet.render(wild).flow
    small = puppet.flows(dataclasses.replace(wild).map(lambda track: track[None]), size=64)[0][0]
    for moved in (flow, small):
        assert np.abs(moved).max() > 1
        assert max(np.abs(edge).max() for edge in (moved[:, 0], moved[:, -1], moved[:, :, 0], moved[:, :, -1])) < 1e-5


@pytest.mark.parametrize(
    "tracks",
    [
        {"yaw": 0.35},
        {"yaw": -0.35},
        {"pitch": 0.25},
        {"pitch": -0.25},
        {"roll": 0.2, "x": 0.05},
        {"yaw": 0.3, "pitch": 0.15, "scale": 1.05},
        {"smile": 1.0, "brow": 1.0},
        {"width": 1.0},
        {"gaze_x": 1.0},
    ],
)
def test_nothing_folds(puppet, tracks):
    frame = puppet.render(still(**tracks))
    assert (determinant(frame.flow) > 0).mean() >= 0.999


def test_a_small_flow_is_the_large_one_seen_from_further(puppet):
    motion = still(yaw=0.15, opening=0.4, y=0.03)
    large = puppet.render(motion).flow.reshape(2, 64, 2, 64, 2).mean((2, 4)) / 2
    small = puppet.flows(motion, size=64)[0][0]
    assert np.median(np.abs(large - small)) < 0.01 and np.quantile(np.abs(large - small), 0.99) < 0.25


def test_lids_meet_in_a_blink_and_the_eyeball_rests(puppet):
    points = puppet.pose(still(blink_left=1.0, blink_right=1.0))[0]
    for upper, lower in ((159, 145), (386, 374)):
        assert abs(points[lower, 1] - points[upper, 1]) < 0.01 * puppet.eyes
    half = puppet.render(still(blink_left=0.5, blink_right=0.5))
    x, top, bottom = int(half.points[159, 0]), int(half.points[159, 1]), int(half.points[145, 1])
    assert np.abs(half.flow[:, top : bottom + 1, x]).max(0).min() < 0.05


def test_gaze_moves_nothing_but_the_eyes(puppet):
    frame = puppet.render(still(gaze_x=0.5))
    moved = np.abs(frame.flow).max(0) > 0.05
    y, x = np.nonzero(moved)
    eyes = frame.points[[33, 133, 362, 263]]
    assert moved.any() and x.min() >= eyes[:, 0].min() - 1 and x.max() <= eyes[:, 0].max() + 1
    assert y.max() - y.min() < 0.25 * puppet.eyes
    middle = puppet.rest[[33, 133], :2].mean(0).astype(int)
    assert frame.flow[0, middle[1], middle[0]] < -0.5  # the content comes from the left: the iris has gone right


def test_the_head_turns_to_the_right_for_positive_yaw(puppet):
    rest, turned, nodded = puppet.pose(FaceMotion.stack([still(), still(yaw=0.3), still(pitch=0.2)]))
    assert turned[4, 0] - rest[4, 0] > 2 and nodded[4, 1] - rest[4, 1] > 2


def test_the_same_seed_makes_the_same_person_and_another_seed_other_teeth(picture, puppet):
    open_ = still(opening=0.8)
    again, other = Puppet(picture, mesh(), seed=1), Puppet(picture, mesh(), seed=2)
    assert np.array_equal(puppet.render(open_).picture, again.render(open_).picture)
    assert not np.array_equal(puppet.look.upper, other.look.upper) and puppet.skin.drop != other.skin.drop


def test_a_grey_face_has_a_grey_mouth(picture):
    grey = np.repeat(picture[..., :1], 3, axis=-1)
    inside = Puppet(grey, mesh(), seed=3).render(still(opening=1.0))
    pixels = inside.picture[inside.mouth > 0.99].astype(int)
    assert len(pixels) > 20 and np.ptp(pixels, axis=-1).max() <= 12


def test_frames_and_flows_tell_the_same_points(puppet):
    motion = sample_motion(3, 5, 25.0, mouth=torch.rand(5, 4, generator=torch.Generator().manual_seed(0)))
    frames = np.stack([frame.points for frame in puppet.frames(motion)])
    assert np.array_equal(frames, puppet.flows(motion)[1])


def test_a_picture_that_is_no_square_is_refused(picture):
    with pytest.raises(ValueError, match=r"\(100, 128, 3\)"):
        Puppet(picture[:100], mesh(), seed=0)

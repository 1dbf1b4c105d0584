import math

import pytest
import torch

from emo_model.inputs.face_geometry import head_frame, mean_face
from emo_model.inputs.motion_latents import (
    FARTHEST,
    FARTHEST_NOD,
    NODS,
    SQUINT,
    consistent_latents,
    lid_closure,
    motion_latents,
    rigid_flow,
    rotation,
)
from emo_model.inputs.portrait_maps import portrait_maps

SIZE, CELLS = 256, 16


@pytest.fixture
def portrait():
    return mean_face() * 80 + torch.tensor([128.0, 110.0, 0.0])


@pytest.fixture
def moved(portrait):
    """Latents of a frame in which the head has moved 20 pixels to the right, with an open mouth."""
    mesh = portrait + torch.tensor([20.0, 0.0, 0.0])
    mesh[13] -= torch.tensor([0.0, 7.0, 0.0])
    mesh[14] += torch.tensor([0.0, 7.0, 0.0])
    rigid = portrait_maps(portrait, size=SIZE, cells=64)[4]
    flow = torch.tensor([-20.0 / 4, 0.0]).view(1, 2, 1, 1) * rigid
    return motion_latents(flow, mesh[None], portrait, cells=CELLS, size=SIZE, gaze=torch.tensor([[0.2, -0.1]]))


def test_latents_of_a_real_motion_stay_as_they_are(portrait, moved):
    again = consistent_latents(moved, portrait, portrait_maps(portrait, size=SIZE, cells=CELLS), size=SIZE)
    assert (again[:, 2:] - moved[:, 2:]).abs().max() < 0.15 * moved[:, 2:].abs().max()


def test_bells_beside_the_mouth_move_to_where_the_flow_takes_it(portrait, moved):
    beside = torch.cat([moved[:, :2], moved[:, 2:].roll(2, dims=-1)], 1)
    mended = consistent_latents(beside, portrait, portrait_maps(portrait, size=SIZE, cells=CELLS), size=SIZE)
    there, before, after = (x[0, 2].flatten().argmax() for x in (moved, beside, mended))
    assert after == there != before


def test_both_eyes_are_as_open_as_their_mean(portrait, moved):
    wink = moved.clone()
    wink[:, 5] *= 1.3
    wink[:, 5, :, : CELLS // 2 + 1] *= 0.8  # the eye at the left of the picture
    lids = consistent_latents(wink, portrait, portrait_maps(portrait, size=SIZE, cells=CELLS), size=SIZE)[0, 5]
    left, right = (lids[:, part].amax() for part in (slice(0, 9), slice(9, 16)))
    assert left.item() == pytest.approx(right.item(), rel=0.15)
    assert left > 1.05 * moved[0, 5, :, :9].amax()


def test_lids_that_close_are_told_apart_from_a_squint_and_left_to_the_eyelids(portrait, moved):
    open_, half, shut = moved.clone(), moved.clone(), moved.clone()
    half[:, 5] *= 0.5
    shut[:, 5] *= 0.05
    closures = [lid_closure(latents, portrait, size=SIZE).item() for latents in (open_, half, shut)]
    assert closures[0] == 0 and 0.35 < closures[1] < 0.7 and closures[2] == 1
    maps = portrait_maps(portrait, size=SIZE, cells=CELLS)
    shut_lids, open_lids = (consistent_latents(x, portrait, maps, size=SIZE)[0, 5].amax() for x in (shut, open_))
    assert (shut_lids / open_lids).item() == pytest.approx(SQUINT, abs=0.05)


def test_the_flow_of_a_turning_head_stays_and_a_face_out_of_shape_is_mended(portrait):
    maps = portrait_maps(portrait, size=SIZE, cells=CELLS)
    frame = head_frame(portrait * (CELLS / SIZE))
    _, across, down, depth, rigid = maps
    steady = (rigid > 0.9) & (down < 0.3) & (down > -0.3)
    turned = torch.stack([-0.6 - 0.5 * depth, 0.2 + 0.1 * across])[None] * rigid
    off = (rigid_flow(turned, maps, frame) - turned).abs()[0, :, steady]
    assert off.max() < 0.25 and off.mean() < 0.08
    bent = turned.clone()
    bent[0, 1] += 0.8 * torch.sin(5 * across) * rigid  # one eye up, the other down
    mended = (rigid_flow(bent, maps, frame) - turned).abs()[0, 1, steady]
    assert mended.mean() < 0.5 * (bent - turned).abs()[0, 1, steady].mean()


@pytest.mark.parametrize("narrower, slanted", [(0.15, 0.0), (0.0, 0.15)])
def test_a_face_that_was_sampled_narrower_or_slanted_keeps_its_shape(portrait, narrower, slanted):
    maps = portrait_maps(portrait, size=SIZE, cells=CELLS)
    frame = head_frame(portrait * (CELLS / SIZE))
    _, across, down, _, rigid = maps
    steady = (rigid > 0.95) & (down < 0.3) & (down > -0.6)
    off = frame.eyes * torch.stack([narrower * across + slanted * down, torch.zeros_like(down)])[None]

    def stretched(flow):
        """How much wider than high, and how slanted the face is: the part of its affine map that no turn and no
        scaling has."""
        basis = torch.stack([across[steady], down[steady], torch.ones_like(down[steady])], 1)
        (xx, xy), (yx, yy) = torch.linalg.lstsq(basis, flow[0, :, steady].T).solution[:2].T / frame.eyes
        return torch.hypot(xx - yy, xy + yx)

    assert stretched(rigid_flow(off, maps, frame)) < 0.25 * stretched(off)


def test_a_turned_and_scaled_head_is_kept_as_it_is(portrait):
    maps = portrait_maps(portrait, size=SIZE, cells=CELLS)
    frame = head_frame(portrait * (CELLS / SIZE))
    turn = rotation(*(torch.tensor([angle]) for angle in (0.15, -0.12, 0.08)))[0]
    moves = 1.04 * turn.T[:, :2] - torch.eye(3)[:, :2]
    _, across, down, depth, rigid = maps
    steady = (rigid > 0.95) & (down < 0.3) & (down > -0.6)
    away = torch.einsum("khw,kc->chw", torch.stack([across, down, depth]), moves) * frame.eyes * rigid
    flow = -away[None] * 0.96  # backward: where each place comes from
    off = (rigid_flow(flow, maps, frame) - flow).abs()[0, :, steady]
    assert off.mean() < 0.1 * flow.abs()[0, :, steady].mean()


def test_a_head_never_moves_so_far_that_the_square_around_it_would_fold(portrait):
    """A usual move is kept; one of six cells ends before `FARTHEST`."""
    maps = portrait_maps(portrait, size=SIZE, cells=CELLS)
    frame = head_frame(portrait * (CELLS / SIZE))
    steady = (maps[4] > 0.95) & (maps[2] < 0.4)

    def moved(cells: float) -> float:
        flow = torch.zeros(1, 2, CELLS, CELLS)
        flow[:, 0] = cells * maps[4]
        return float(rigid_flow(flow, maps, frame)[0, 0, steady].median())

    assert abs(moved(1.0) - 1.0) < 0.1
    assert 0.7 * FARTHEST < moved(6.0) < 1.1 * FARTHEST


@pytest.mark.parametrize("sign", [1, -1])
def test_a_head_nods_only_so_far_that_the_face_stays_itself_and_turns_as_far_as_it_is_told(portrait, sign):
    """Angles are read off the flow by how deep the place lies that each place of the frame comes from; what a user
    turns comes on top."""
    maps = portrait_maps(portrait, size=SIZE, cells=CELLS)
    frame = head_frame(portrait * (CELLS / SIZE))
    still = torch.zeros(1, 2, CELLS, CELLS)
    y, x = torch.meshgrid(*2 * [torch.arange(CELLS) + 0.5], indexing="ij")

    def turned(flow, yaw, pitch):
        return rigid_flow(flow, maps, frame, turn=rotation(*torch.deg2rad(torch.tensor([[yaw], [pitch], [0.0]]))))

    def angle(flow, axis):
        """Degrees by which the head turns along an axis of the picture, 0 right, 1 down."""
        grid = torch.stack([x + flow[0, 0], y + flow[0, 1]], -1)[None] * (2 / CELLS) - 1
        there = torch.nn.functional.grid_sample(maps[None], grid, align_corners=False)[0]
        steady = (there[4] > 0.95) & (there[2] < 0.3) & (there[2] > -0.6)
        basis = torch.stack([torch.ones_like(there[0]), *there[1:4]])[:, steady]
        return abs(
            math.degrees(math.asin(float(torch.linalg.lstsq(basis.T, flow[0, axis, steady]).solution[3]) / frame.eyes))
        )

    def held(flow):
        return rigid_flow(flow, maps, frame, hold_nods=True)

    usual, far, aside = turned(still, 0.0, sign * 3.0), turned(still, 0.0, sign * 10.0), turned(still, sign * 10.0, 0.0)
    assert angle(held(usual), 1) == pytest.approx(3.0, rel=0.1)
    assert angle(far, 1) == pytest.approx(10.0, rel=0.1)
    assert NODS < angle(held(far), 1) < 1.15 * FARTHEST_NOD
    assert angle(held(aside), 0) == pytest.approx(10.0, rel=0.1)
    more = rotation(*torch.deg2rad(torch.tensor([[0.0], [sign * 6.0], [0.0]])))
    assert angle(rigid_flow(far, maps, frame, turn=more, hold_nods=True), 1) > 1.5 * FARTHEST_NOD


@pytest.mark.parametrize("tilt", [0.0, 30.0, 60.0])
def test_a_nod_is_about_the_heads_own_axis_however_it_is_tilted(portrait, tilt):
    tilted = rotation(*torch.deg2rad(torch.tensor([[0.0], [0.0], [tilt]])))[0]
    middle = portrait.mean(0)
    portrait = (portrait - middle) @ tilted.T + middle
    maps = portrait_maps(portrait, size=SIZE, cells=CELLS)
    frame = head_frame(portrait * (CELLS / SIZE))

    def kept(yaw, pitch):
        turn = tilted @ rotation(*torch.deg2rad(torch.tensor([[yaw], [pitch], [0.0]]))) @ tilted.T
        flow = rigid_flow(torch.zeros(1, 2, CELLS, CELLS), maps, frame, turn=turn)
        return float(rigid_flow(flow, maps, frame, hold_nods=True).norm() / rigid_flow(flow, maps, frame).norm())

    assert kept(0.0, 10.0) < 0.75 and kept(10.0, 0.0) > 0.97


def test_a_head_that_is_turned_opens_its_mouth_as_far_as_it_was_sampled(portrait, moved):
    maps = portrait_maps(portrait, size=SIZE, cells=CELLS)
    turns = torch.tensor([[0.0, 0.0, 0.0], [0.17, 0.0, 0.0], [0.0, -0.14, 0.0], [0.0, 0.0, 0.17]])
    made = consistent_latents(moved.expand(4, -1, -1, -1), portrait, maps, size=SIZE, turn=turns)
    opening = made[:, 2].flatten(1).norm(dim=1)  # of a bell, wherever it is
    torch.testing.assert_close(opening, opening[:1].expand(4), rtol=0.02, atol=0)
    assert not torch.equal(made[1, 2], made[0, 2])

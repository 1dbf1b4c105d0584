"""What the channels of motion latents say, measured on a mesh that is changed by hand."""

from __future__ import annotations

import pytest
import torch

from emo_model.inputs.face_geometry import mean_face
from emo_model.inputs.motion_latents import eye_distance, motion_latents, mouth_centre, portrait_latents

SIZE, CELLS = 256, 16
LOWER_LIP, LOWER_LIDS = [14, 87, 317, 17, 84, 314], [145, 374]


@pytest.fixture
def mesh() -> torch.Tensor:
    """The mean face in a square of 256, its eyes 70 pixels apart."""
    return mean_face() * 70 + torch.tensor([128.0, 110.0, 0.0])


def latents_of(mesh, portrait, flow=None, **more) -> torch.Tensor:
    flow = torch.zeros(1, 2, CELLS, CELLS) if flow is None else flow
    return motion_latents(flow, mesh[None], portrait, cells=CELLS, size=SIZE, **more)[0]


def test_flow_is_averaged_over_cells_and_counted_in_them(mesh):
    flow = torch.zeros(1, 2, 64, 64)
    flow[:, 0, :, 32:], flow[:, 1] = 2.0, -1.0  # pixels of 64, of which 4 are a cell
    latents = latents_of(mesh, mesh, flow)
    assert torch.equal(latents[0, :, :8], torch.zeros(16, 8)) and (latents[0, :, 8:] == 0.5).all()
    assert (latents[1] == -0.25).all()


def test_an_opening_mouth_is_a_bell_around_the_mouth(mesh):
    opened = mesh.clone()
    opened[LOWER_LIP, 1] += 20
    shut, wide = latents_of(mesh, mesh), latents_of(opened, mesh)
    place = (mouth_centre(opened) / 16).long()
    peak = (wide[2] == wide[2].amax()).nonzero()[0]
    assert (peak - place.flip(0)).abs().max() <= 1 and wide[2].amax() > shut[2].amax() + 0.8
    assert wide[2, :4].abs().max() < 0.01 * wide[2].amax()  # the forehead knows nothing of it
    torch.testing.assert_close(wide[5], shut[5])


def test_width_is_measured_against_the_portraits(mesh):
    wider = mesh.clone()
    wider[291, 0] += 7  # a tenth of the eyes' distance
    assert not latents_of(mesh, mesh)[3].any()
    assert (
        0.6 < latents_of(wider, mesh)[3].amax() < 0.85
    )  # 8 times a tenth, less what the middle of the nearest cell misses


def test_closing_one_eye_changes_the_lids_there(mesh):
    closed = mesh.clone()
    closed[145, 1] = closed[159, 1]
    change = latents_of(closed, mesh)[5] - latents_of(mesh, mesh)[5]
    assert change[:, :8].amin() < -0.3 and change[:, 9:].abs().max() < 0.2


def test_press_and_gaze_are_taken_as_they_are_given(mesh):
    given = latents_of(mesh, mesh, press=torch.tensor([0.5]), gaze=torch.tensor([[0.4, -0.2]]))
    assert 0.37 < given[4].amax() <= 0.51 and 0.25 < given[6].amax() <= 0.41
    torch.testing.assert_close(given[7], -0.5 * given[6])
    assert not latents_of(mesh, mesh)[[4, 6, 7]].any()


def test_a_turned_head_keeps_the_distance_of_its_eyes(mesh):
    angle = torch.tensor(0.6)
    turn = torch.tensor([[angle.cos(), 0, angle.sin()], [0, 1, 0], [-angle.sin(), 0, angle.cos()]])
    torch.testing.assert_close(eye_distance(mesh @ turn), eye_distance(mesh), rtol=1e-4, atol=1e-3)


def test_the_portraits_own_latents_do_not_flow(mesh):
    rest = portrait_latents(mesh, cells=CELLS, size=SIZE)
    assert rest.shape == (1, 8, 16, 16) and not rest[:, :2].any() and not rest[:, 3].any()

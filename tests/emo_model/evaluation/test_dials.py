"""What is read of dials: known shapes of known heads, and where finished frames show the skin."""

from __future__ import annotations

import pytest
import torch

from emo_model.evaluation.dials import BROWS, READINGS, SETTINGS, carried, in_the_head, table
from emo_model.inputs.face_geometry import mean_face
from emo_model.inputs.motion_latents import rotation


def turned(mesh: torch.Tensor, yaw: float, pitch: float, roll: float) -> torch.Tensor:
    """mesh (468, 3) seen from the front after a turn, smaller and elsewhere: (468, 2)."""
    turn = rotation(*(torch.tensor([angle]) for angle in (yaw, pitch, roll)))[0]
    return 0.7 * (mesh @ turn.T)[:, :2] + torch.tensor([40.0, -7.0])


@pytest.mark.parametrize(
    "turn", [(0.0, 0.0, 0.0), (0.2, 0.0, 0.0), (0.0, -0.15, 0.0), (0.0, 0.0, 0.25), (0.1, 0.1, 0.1)]
)
def test_the_shape_of_a_face_is_read_in_the_heads_own_frame_however_it_is_turned(turn):
    rest = mean_face() * 80 + torch.tensor([128.0, 110.0, 0.0])
    raised = rest.clone()
    raised[BROWS, 1] -= 4.0
    eyes = (rest[263] - rest[33]).norm()
    shape, read = in_the_head(torch.stack([turned(rest, *turn), turned(raised, *turn)]), rest)
    before, after = shape
    torch.testing.assert_close((before - after)[BROWS, 1], torch.full((len(BROWS),), 4 / eyes), rtol=0.03, atol=0)
    torch.testing.assert_close(before, in_the_head(turned(rest, 0, 0, 0)[None], rest)[0][0], rtol=0, atol=2e-3)
    known = rotation(*(torch.tensor([angle]) for angle in turn))[0]
    yaw, pitch = torch.atan2(known[0, 2], known[2, 2]), torch.asin(-known[1, 2])
    torch.testing.assert_close(
        read[0], torch.stack([yaw, pitch, torch.atan2(known[1, 0], known[1, 1])]), atol=0.01, rtol=0
    )


def changes(**own: float) -> dict:
    """Three portraits in which each setting does twice what is stated, and smile also what `own` says."""
    found = {name: {what: [0.0] * 3 for what in READINGS} for name in SETTINGS}
    for name, (_, what, wanted) in SETTINGS.items():
        found[name][what] = [2 * wanted] * 3
    for what, value in own.items():
        found["smile 1"][what] = [value, value, 0.0]
    return found


def test_the_table_says_what_is_met_and_what_is_moved_beside_it():
    (line,) = (line for line in table(changes(brows=1.0)).splitlines() if "smile" in line)
    assert [cell.strip() for cell in line.split("|")[11:15]] == ["+4.5", "3 of 3", "0.40 (brows)", "1 of 3"]


def test_what_a_dial_would_have_to_carry_of_another_is_said_in_units_of_the_channels():
    assert carried(changes()) == []
    (line,) = carried(changes(brows=1.0))
    assert line == "smile 1: brows +1.00; smile would carry -0.200 of brows"

"""What is said about a portrait before the run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from emo_model import __main__ as command
from emo_model.checkpoints.mediapipe import load_face_finder
from emo_model.inputs.check import Check, check_portrait
from emo_model.inputs.media import read_picture
from emo_model.inputs.portrait import find_face

ROOT = Path(__file__).parents[3]
PORTRAIT = ROOT / "workflows" / "inputs" / "emo_portrait.jpg"
FACES = ROOT / "tests" / "data" / "faces"
GOOD = Check(1, 300.0, 3.0, 0.01, 0.33, 0.5, 0.4, 0.3)


def check(picture) -> Check:
    return check_portrait(picture, *find_face(load_face_finder(), picture))


def test_the_shipped_portrait_has_nothing_to_say_about():
    found = check(read_picture(PORTRAIT))
    assert found.lines == [] and found.faces == 1 and 300 < found.height < 400 and abs(found.yaw) < 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"height": 60.0}, "60 pixels high"),
        ({"yaw": 31.0}, "31 degrees to the right"),
        ({"yaw": -31.0}, "31 degrees to the left"),
        ({"opening": 0.08}, "open, by 8%"),
        ({"lids": 0.05}, "eyes are shut"),
        ({"luminance": 0.1}, "dark (10% of white)"),
        ({"luminance": 0.95}, "overexposed"),
        ({"room_below": -0.05}, "chin is cut off"),
        ({"room_above": 0.1}, "little room above"),
    ],
)
def test_each_thing_is_one_line_with_what_helps(change, said):
    assert GOOD.lines == []
    (line,) = replace(GOOD, **change).lines
    assert said in line and line.endswith(".") and "\n" not in line


def test_pictures_are_measured_as_they_are():
    """Known pictures: one laughs, one is small, one is turned; and the shipped one, mirrored, darkened and cut."""
    assert (
        check(read_picture(FACES / "01768.jpg")).opening > 0.1 and check(read_picture(FACES / "02582.jpg")).height < 70
    )
    turned = read_picture(FACES / "02193.jpg")
    assert check(turned).yaw == pytest.approx(-check(turned.flip(3)).yaw, abs=4) and check(turned).yaw > 12
    shipped = read_picture(PORTRAIT)
    assert [line[:17] for line in check((shipped + 1) * 0.25 - 1).lines] == ["The face is dark "]
    assert any("small" in line for line in check(F.interpolate(shipped, size=(120, 120), mode="area")).lines)
    cut = check(shipped[:, :, 40:])
    assert cut.room_above < 0.2 and any("above the forehead" in line for line in cut.lines)


def test_of_several_faces_the_chosen_one_is_checked():
    shipped = F.interpolate(read_picture(PORTRAIT), size=(240, 240), mode="area")
    both = torch.cat([shipped, (shipped + 1) * 0.25 - 1], dim=3)
    finder = load_face_finder()
    light, dark = (check_portrait(both, *find_face(finder, both, which)) for which in ("leftmost", "rightmost"))
    assert light.faces == dark.faces == 2 and light.luminance > 2 * dark.luminance


def test_the_command_writes_the_figures_and_makes_no_video(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command.main(["--check", str(FACES / "01768.jpg")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["faces"] == 1 and said["opening"] > 0.1 and "mouth is open" in said["warnings"][0]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "none.jpg").write_bytes(b"")
    assert command.main(["--check", "none.jpg"]) == 2

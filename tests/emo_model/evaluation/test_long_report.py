"""Known drifts: none, and one that was planted."""

import pytest
import torch

from emo_model.evaluation import long_report
from emo_model.evaluation.metrics import seams


def run(lightness, errors, *, seed=0):
    """A run of as many windows of ten seconds as there are values."""
    count = len(lightness)
    lab = [[value, 5.0, 7.0] for value in lightness]
    numbers = {"lab": lab, "face_lab": lab, "sharpness": [4.0] * count, "background": [4.0] * count,
               "latents": [[0.1, 0.9]] * count, "identity_error": errors, "opening_r": [0.8] * count,
               "head_speed": [20.0] * count}
    still = numbers | {"lab": [lab[0]] * count, "face_lab": [lab[0]] * count, "identity_error": [errors[0]] * count}
    return {"window_seconds": 10.0, "portrait": {"lab": lab[0], "face_lab": lab[0]}, "generated": numbers, "ceiling": still}


def found(*runs):
    return {row.key: row for row in long_report.rows({"drift": list(runs)})}


def test_a_constant_video_does_not_drift():
    rows = found(run([50.0] * 30, [0.5] * 30), run([60.0] * 30, [0.4] * 30))
    assert all(row.value == pytest.approx(0, abs=1e-9) for key, row in rows.items() if key.startswith(("slope_", "last_")))
    assert all(row.value == pytest.approx(1) for key, row in rows.items() if key.startswith("ratio_"))


def test_a_planted_ramp_of_colour_gives_its_slope_in_units_a_minute():
    generator = torch.Generator().manual_seed(0)
    ramps = [[start + 2.0 * (place + 0.5) / 6 + 0.3 * torch.randn((), generator=generator).item() for place in range(30)]
             for start in (50, 70)]
    row = found(*(run(ramp, [0.5] * 30) for ramp in ramps))["slope_lightness"]
    assert row.value == pytest.approx(2.0, abs=0.1) and row.low < 2.0 < row.high and row.high - row.low < 0.5
    assert row.ceiling == pytest.approx(0, abs=1e-9)


def test_a_likeness_that_is_lost_shows_as_a_slope_and_in_the_last_sixth():
    rows = found(run([50.0] * 30, [0.5 + 0.01 * place for place in range(30)]))
    assert rows["slope_identity_error"].value == pytest.approx(0.06)
    assert rows["ratio_identity_error"].value == pytest.approx(0.77 / 0.52)


def test_pauses_are_told_apart_by_the_room():
    def scene(room, opening):
        numbers = {"opening_pause": opening, "opening_speech": 0.3, "shut_pause": 1.0, "shut_speech": 0.2, "speed_pause": 10.0,
                   "speed_speech": 20.0}
        return {"room": room, "silent_frames": 50, "generated": numbers, "ceiling": numbers}

    rows = {row.key: row for row in long_report.rows({"pauses": [scene("silent", 0.01), scene("noisy", 0.2)]})}
    assert rows["opening_pause_silent"].value == 0.01 and rows["opening_pause_noisy"].value == 0.2


def test_a_join_is_held_against_the_borders_of_one_run():
    def changes(middle):
        return {kind: {"middle": middle, "inside": 1.0, "borders": 1.5} for kind in seams.KINDS}

    ways = {"whole": 2.0, "latents": 2.0, "pixels": 2.2, "video": 2.4, "alone": 2.0, "nothing": 8.0}
    videos = [{"changes": {way: changes(middle) for way, middle in ways.items()}}] * 3
    rows = {row.key: row for row in long_report.rows({"seams": videos})}
    assert rows["border_picture"].value == 2.0
    assert [rows[f"{way}_picture"].value for way in ("latents", "pixels", "nothing")] == pytest.approx([1.0, 1.1, 4.0])

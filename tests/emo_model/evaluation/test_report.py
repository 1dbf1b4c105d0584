import json
import math

import pytest

from emo_model.evaluation import report
from emo_model.evaluation.report import Row


@pytest.mark.parametrize(("goal", "value", "met"), [
    (">= 0.86", 0.87, True), (">= 0.86", 0.85, False), ("<= 0.4", 0.41, False), ("size <= 0.1", -0.2, False),
    ("size <= 0.1", -0.05, True),
    ("0.9 to 1.15", 1.0, True), ("0.9 to 1.15", 1.2, False), ("", 3.0, None), (">= 1", math.nan, None)])
def test_a_goal_is_met_or_missed(goal, value, met):
    assert Row("key", "what", value, goal=goal).met is met


def test_the_table_has_a_line_for_each_row_and_says_what_does_not_exist_with_nothing():
    rows = [Row("a", "first", 0.5, 0.4, 0.6, 16, control=0.01, goal=">= 0.4"), Row("b", "second", 36.123, unit="dB")]
    lines = report.table(rows).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert len(lines) == 4
    assert cells[2] == ["first", "0.500", "0.400 to 0.600", "", "0.010", ">= 0.4", "met", "16"]
    assert cells[3] == ["second", "36.1 dB", "", "", "", "", "", "0"]


def test_rows_survive_json_without_nan():
    text = json.dumps(report.as_json([Row("a", "first", 0.5)]), allow_nan=False)
    assert json.loads(text)[0]["low"] is None


def test_control_and_truth_are_paired_clip_by_clip():
    clips = [{"generated": {"opening_r": 0.9}}, {"generated": {"opening_r": 0.7}}]
    made = report._step_rows({"4": [{"opening_r": 0.85}, {"opening_r": 0.65}], "10": [clip["generated"] for clip in clips]})
    assert made[0].value == pytest.approx(-0.05) and made[0].low == pytest.approx(-0.05)


def test_head_speed_must_rise_from_bucket_to_bucket():
    by_speed = {"2.5": [{"speed": 4.0}], "25.0": [{"speed": 9.0}], "12.5": [{"speed": 8.0}]}
    ratio, rises, *_ = report._speed_rows(by_speed)
    assert ratio.value == pytest.approx(9 / 4) and rises.value == 2 and rises.met
    ratio, rises, *_ = report._speed_rows(by_speed | {"12.5": [{"speed": 3.0}]})
    assert rises.value == 1 and not rises.met

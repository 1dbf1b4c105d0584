import json

import numpy as np
import pytest
from PIL import Image

from emo_model.evaluation import __main__ as command
from emo_model.evaluation import figures, long_report, report


def picture(level, count=None):
    shape = (16, 16, 3) if count is None else (count, 16, 16, 3)
    return np.full(shape, level, np.uint8)


def test_a_strip_begins_with_the_portrait_and_goes_on_with_frames_in_order(tmp_path):
    frames = np.concatenate([picture(level, 1) for level in range(0, 200, 10)])
    figures.draw_strip(picture(255), frames, tmp_path / "strip.png", count=4, height=32)
    strip = np.array(Image.open(tmp_path / "strip.png"))
    assert strip.shape == (32, 5 * (32 + figures.STRIP_GAP) + figures.STRIP_GAP, 3)
    starts = [place * (32 + figures.STRIP_GAP) + 2 * figures.STRIP_GAP for place in range(1, 5)]
    levels = [int(strip[16, start + 16, 0]) for start in starts]
    assert strip[16, 16, 0] == 255
    assert levels == sorted(levels) and len(set(levels)) == 4 and levels[0] < 40 and levels[-1] > 150


def test_the_same_pictures_make_the_same_file(tmp_path):
    frames = np.concatenate([picture(level, 1) for level in (0, 90, 180)])
    for name in ("one.jpg", "two.jpg"):
        figures.draw_strip(picture(200), frames, tmp_path / name, count=3, height=24)
    assert (tmp_path / "one.jpg").read_bytes() == (tmp_path / "two.jpg").read_bytes()


def test_a_strip_of_more_frames_than_there_are_is_refused(tmp_path):
    with pytest.raises(ValueError, match="4 pictures asked of a video of 2 frames"):
        figures.draw_strip(picture(0), picture(0, 2), tmp_path / "strip.png", count=4, height=24)


def results():
    tracks = {"known": {"opening": [0.1, 0.5, 0.2]}, "generated": {"opening": [0.2, 0.4, 0.2]}}
    clips = [{"ceiling": {"opening_r": 0.97}, "generated": {"opening_r": value}, "frames": 3, "tracks": tracks}
             for value in (0.5, 0.6, 0.8)]
    rows = [{"key": "style_flat", "value": 0.6, "low": 0.5, "high": 0.7},
            {"key": "style_ink", "value": 0.5, "low": None, "high": None}]
    return {"model": {"config": {"fps": 25}}, "rows": rows, "records": {"main": clips, "control": [{"opening_r": 0.0}] * 3}}


def test_a_figure_is_drawn_from_results(tmp_path):
    pytest.importorskip("matplotlib", reason="figures are drawn with matplotlib")
    figures.draw_figure(results(), tmp_path / "figure.png")
    assert min(Image.open(tmp_path / "figure.png").size) > 300


def test_results_without_clips_name_the_command_that_makes_them(tmp_path):
    pytest.importorskip("matplotlib", reason="figures are drawn with matplotlib")
    with pytest.raises(ValueError, match="builtin --json"):
        figures.draw_figure({"rows": [], "records": {}}, tmp_path / "figure.png")


def long_results():
    numbers = {"lab": [[50.0, 5.0, 7.0], [51.0, 5.0, 7.0]], "face_lab": [[60.0, 9.0, 9.0]] * 2, "sharpness": [4.0, 4.1],
               "background": [4.0, 4.0], "latents": [[0.1, 0.9]] * 2, "identity_error": [0.5, 0.6], "opening_r": [0.7, 0.8],
               "head_speed": [20.0, 21.0]}
    run = {"window_seconds": 10.0, "frames": 500, "portrait": {"lab": [50.0, 5.0, 7.0], "face_lab": [60.0, 9.0, 9.0]},
           "generated": numbers, "ceiling": numbers}
    records = {"drift": [run]}
    return {"model": {"config": {"fps": 25}}, "records": records, "rows": report.as_json(long_report.rows(records))}


def test_a_figure_of_drift_is_drawn_from_long_results_by_the_command(tmp_path):
    pytest.importorskip("matplotlib", reason="figures are drawn with matplotlib")
    (tmp_path / "long.json").write_text(json.dumps(long_results()))
    assert command.main(["figure", str(tmp_path / "long.json"), str(tmp_path / "drift.png")]) == 0
    wide, high = Image.open(tmp_path / "drift.png").size
    assert wide > 3 * high > 900


def test_long_results_without_runs_name_the_command_that_makes_them(tmp_path):
    pytest.importorskip("matplotlib", reason="figures are drawn with matplotlib")
    with pytest.raises(ValueError, match="long --json"):
        figures.draw_drift({"rows": [], "records": {"drift": []}}, tmp_path / "drift.png")

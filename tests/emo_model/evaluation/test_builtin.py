import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emo_model.evaluation import builtin, report, rows
from emo_model.evaluation.builtin import Amount, Bench, Records, Sources
from emo_model.evaluation.reading import Reading
from emo_model.evaluation.stage import Take
from emo_model.types import Fit

ABOUT = {"identity": "one", "fps": 25.0, "clip_frames": 12, "threads": 1}


class _Bundle:
    class config:
        fps, speed_centres, clip_frames = 25.0, (), 12

    sampling = None


@pytest.fixture
def bench(puppets, speech, monkeypatch, tmp_path):
    """A function: a bench without networks, whose reader sees a face that rests."""

    def read(finder, frames, mesh, fit):
        meshes = mesh.expand(len(frames), -1, -1)
        return Reading.of(meshes, mesh), meshes

    monkeypatch.setattr(builtin, "read", read)
    monkeypatch.setattr(builtin.Bench, "likeness", None)

    def make(path=None, identity="one"):
        records = Records(path, ABOUT | {"identity": identity})
        return Bench(_Bundle, None, Sources(puppets, speech), records, amount=Amount(clips=2, seconds=1.2))

    return make


def _still(scene, number):
    frames = np.repeat(scene.person.picture[None], len(scene.motion), 0)
    mesh = scene.person.mesh
    meshes = mesh.expand(len(frames), -1, -1)
    return Take(
        frames,
        Reading.of(meshes, mesh),
        meshes,
        scene.person.picture,
        mesh,
        torch.zeros(len(frames), 468, 2),
        Fit(256, 256, 0, 0, 256, 256),
        [1.0] * len(frames),
        [0.0] * len(frames),
        0.1,
    )


def test_clips_that_are_known_are_not_made_again(bench, tmp_path):
    path, made = tmp_path / "results.json", []

    def perform(scene, number):
        made.append(scene.key)
        return _still(scene, number)

    one = bench(path)
    one._watch("main", one.main_scenes, perform)
    assert made == ["main0", "main1"]
    other = bench(path)
    other._watch("main", other.main_scenes, perform)
    assert made == ["main0", "main1"]
    assert (tmp_path / "ceilings.json").exists()
    third = bench(path, identity="another model")
    third._watch("main", third.main_scenes, perform)
    assert len(made) == 4 and len(third.records.ceilings) == 2


def test_a_still_picture_fills_rows_and_reaches_nothing(bench):
    one = bench()
    one._watch("main", one.main_scenes, _still)
    made = {row.key: row for row in rows.rows(one.records.groups, one.records.ceilings, ABOUT)}
    assert made["opening_r"].value == 0 and made["unfolded"].met and made["sharp_face"].value == pytest.approx(1)
    json.dumps(report.as_json(list(made.values())))


@pytest.mark.parametrize(("group", "judged"), [("main", True), ("music", False)])
def test_likeness_is_read_where_a_row_tells_it(bench, monkeypatch, group, judged):
    distances = SimpleNamespace(distances=lambda frames, meshes, still, mesh: [0.25] * len(frames))
    monkeypatch.setattr(builtin.Bench, "likeness", distances)
    one = bench()
    one._watch(group, one.main_scenes[:1], _still)
    (record,) = one.records.groups[group].values()
    assert record.get("identity") == ([0.25] * builtin.FACE_SAMPLES if judged else None)


def test_what_was_read_otherwise_is_made_anew(bench, tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    one = bench(path)
    one._watch("main", one.main_scenes, _still)
    monkeypatch.setattr(builtin, "VERSION", builtin.VERSION + 1)
    other = bench(path)
    other._watch("main", other.main_scenes[:1], _still)
    signatures = [record["signature"] for record in other.records.groups["main"].values()]
    assert signatures[0].startswith(f"{builtin.VERSION} ")
    assert len(other.records.ceilings) == 3


@pytest.mark.parametrize("frames", [0, 3])
def test_the_puppet_is_held_in_the_frames_of_a_pause(bench, scene, frames):
    scene = replace(scene, silent=torch.arange(len(scene.motion)) < frames)
    assert len(bench()._held(scene, _still(scene, 0))["held"]) == frames


def test_an_unknown_group_is_refused(bench):
    with pytest.raises(ValueError, match="no group of rows 'mian'"):
        bench().measure(("mian",))


def test_groups_without_their_sources_say_what_they_need(bench):
    one = bench()
    one.measure(("sung", "portraits", "recordings"))
    assert all("--" in one.records.groups[name]["skipped"]["reason"] for name in ("sung", "portraits", "recordings"))


def test_plain_makes_json_of_tensors_and_nan():
    made = builtin.plain({"a": torch.tensor([0.123456789]), "b": float("nan"), "c": (1, 2.0)})
    assert made == {"a": [0.12346], "b": None, "c": [1, 2.0]}

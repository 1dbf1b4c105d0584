"""Tables as spreadsheets on all systems write them, and everything that is wrong with one, with its row."""

from __future__ import annotations

import json

import pytest

from emo_model.farm.__main__ import WORKFLOW
from emo_model.farm.graph import convert, read_workflow, resolve
from emo_model.farm.table import read_table

from .conftest import ROOT, jobs_of, many

ROW = {"portrait": "anna.jpg", "voice": "hello.wav", "out": "a b.mp4"}


@pytest.mark.parametrize(
    "data",
    [
        b"portrait,voice,out\nanna.jpg,hello.wav,a b.mp4\n",
        b"\xef\xbb\xbfPortrait;Voice;OUT\r\nanna.jpg;hello.wav;a b.mp4\r\n",
        b'"portrait"\t"voice"\t"out"\r"anna.jpg"\t"hello.wav"\t"a b.mp4"',
        "portrait,voice,out\nanna.jpg,hello.wav,a b.mp4\n".encode("utf-16"),
        b"\n\n portrait , voice , out ,,\n\n anna.jpg , hello.wav , a b.mp4 ,,\n,,\n",
        b"sep=;\nportrait;voice;out\nanna.jpg;hello.wav;a b.mp4\n",
    ],
    ids=["plain", "BOM and semicolons", "quotes, tabs, CR", "UTF-16", "spaces and empty rows", "sep="],
)
def test_tables_of_all_spreadsheets_are_read(tmp_path, data):
    (tmp_path / "jobs.csv").write_bytes(data)
    columns, rows = read_table(tmp_path / "jobs.csv")
    assert columns == list(ROW) and [values for _, values in rows] == [ROW]


def test_names_in_other_scripts_and_old_code_pages(folder):
    (folder / "M\xfcller.jpg").write_bytes(b"m")
    for coding in ("utf-8", "cp1252"):
        (folder / "t.csv").write_bytes("portrait,voice\nM\xfcller.jpg,hello.wav\n".encode(coding))
        assert read_table(folder / "t.csv")[1][0][1]["portrait"] == "M\xfcller.jpg"


@pytest.mark.parametrize(
    "text, said",
    [
        ("portrait,voice,out\n", "has no jobs"),
        ("", "has no jobs"),
        ("portrait,voice,voice\nanna.jpg,hello.wav,x\n", "two have the same"),
        ("portrait,voice\nanna.jpg,hello.wav,x\n", "row 2: 3 cells, but 2 columns"),
        ("portrait,voice\nanna.jpg,hello.wav\n\nno.jpg,hello.wav\n", "row 4: there is no file .*no.jpg"),
        ("portrait,voice\n,hello.wav\n", "row 2: column 'portrait' is empty"),
        ("portrait,voice\n.,hello.wav\n", "row 2: .* is a folder"),
        ("portrait,voice\nC:\\faces\\anna.jpg,hello.wav\n", "row 2: .*another computer"),
        ("portrait,voice,seed\nanna.jpg,hello.wav,-1\n", "row 2: seed '-1'"),
        ("portrait,voice,seed\nanna.jpg,hello.wav,1.5\n", "row 2: seed '1.5'"),
        ("portrait,voice,out\nanna.jpg,hello.wav,a\nbert.png,hello.wav,A.mp4\n", "row 3: would write A.mp4, as row 2"),
        ("portrait,voice\nanna.jpg,hello.wav\nanna.jpg,hello.wav\n", "row 3: would write anna_hello.mp4, as row 2"),
        ("portrait,voice,out\nanna.jpg,hello.wav,../a\n", "row 2: out '../a' leads out"),
        ("portrait,voice,out\nanna.jpg,hello.wav,/tmp/a\n", "row 2: out '/tmp/a' leads out"),
        ("portrait,voice,out\nanna.jpg,hello.wav,a:b\n", "row 2: out 'a:b' contains"),
        (f"portrait,voice,out\nanna.jpg,hello.wav,{'x' * 300}\n", "longer than 200 bytes"),
        ("potrait,voice\nanna.jpg,hello.wav\n", "'potrait' is unknown; is 'portrait' meant"),
        ("portrait,voice,1.qualty\nanna.jpg,hello.wav,high\n", "no input 'qualty'; it has model, seed, quality"),
        ("portrait,voice,7.seed\nanna.jpg,hello.wav,1\n", "no node '7'"),
        ("portrait,voice,1.portrait\nanna.jpg,hello.wav,1\n", "is connected to node 2"),
        ("portrait,voice,1.seed\nanna.jpg,hello.wav,many\n", "row 2: '1.seed': 'many' is not a number"),
        ("portrait,voice,seed,1.seed\nanna.jpg,hello.wav,1,2\n", "set twice"),
        ('portrait,voice\n"anna.jpg,hello.wav\n', "quotation marks"),
    ],
)
def test_what_is_wrong_is_said(folder, text, said):
    with pytest.raises((ValueError, OSError), match=said):
        jobs_of(folder, text)


def test_all_rows_that_are_wrong_are_named_at_once(folder):
    with pytest.raises(ValueError) as error:
        jobs_of(folder, "portrait,voice\n" + "no.jpg,hello.wav\n" * 30)
    assert all(f"row {n}:" in str(error.value) for n in range(2, 22)) and "and 10 more" in str(error.value)


def test_files_that_are_no_tables_are_named_as_such(tmp_path):
    for data, said in ((b"PK\x03\x04rest", "spreadsheet"), (b"a,b\n\0,1\n", "null"), (b"\x81\x8d,\x8f\n", "UTF-8")):
        (tmp_path / "t").write_bytes(data)
        with pytest.raises(ValueError, match=said):
            read_table(tmp_path / "t")


def test_windows_paths_inside_the_folder_are_followed_and_outputs_get_names(folder):
    (folder / "faces").mkdir()
    (folder / "faces" / "c.d.jpg").write_bytes(b"x")
    text = (
        "portrait,voice,out,seed\nfaces\\c.d.jpg,hello.wav,,3\nanna.jpg,hello.wav,sub\\x,\nanna.jpg,song.wav,y.WEBM,\n"
    )
    jobs = jobs_of(folder, text)
    assert [job.out for job in jobs] == ["c.d_hello_seed3.mp4", "sub/x.mp4", "y.WEBM"]
    assert [job.row for job in jobs] == [2, 3, 4]


def test_a_row_sets_its_inputs_and_an_empty_cell_leaves_them(folder):
    text = "portrait,voice,out,seed,model,EmoTalkingPortrait.quality\nanna.jpg,hello.wav,a,7,x.safetensors,small file\n"
    first, second = jobs_of(folder, text + "anna.jpg,hello.wav,b,,,\n")
    inputs = first.prompt["1"]["inputs"]
    assert (inputs["seed"], inputs["model"], inputs["quality"]) == (7, "x.safetensors", "small file")
    assert second.prompt["1"]["inputs"] == read_workflow(WORKFLOW)["1"]["inputs"]
    name = first.prompt["2"]["inputs"]["image"]
    assert name.startswith("emo-") and name.endswith(".jpg") and first.files[name] == folder / "anna.jpg"


def test_keys_change_with_whatever_changes_the_video(folder):
    base = "portrait,voice,out,seed\nanna.jpg,hello.wav,a,1\n"
    keys = {jobs_of(folder, text)[0].key for text in (base, base.replace(",1", ",2"), base.replace(",a", ",b"))}
    keys.add(jobs_of(folder, base, sets=("1.quality=medium",))[0].key)
    assert jobs_of(folder, base)[0].key in keys
    (folder / "anna.jpg").write_bytes(b"another")
    keys.add(jobs_of(folder, base)[0].key)
    assert len(keys) == 5


def test_a_thousand_rows_are_checked_in_a_moment(folder):
    assert len({job.key for job in jobs_of(folder, many(1000))}) == 1000


def test_inputs_are_found_in_every_shipped_workflow_of_one_portrait():
    paths = {path.stem: path for path in sorted((ROOT / "workflows" / "api").glob("*.json"))}
    with pytest.raises(ValueError, match="has no node LoadImage"):
        resolve(read_workflow(paths.pop("dub_video")), ["portrait", "voice"], [])
    with pytest.raises(ValueError, match="2 nodes LoadAudio: 3, 4; say which with --set"):
        resolve(read_workflow(paths.pop("two_people_talk")), ["portrait", "voice"], [])
    with pytest.raises(ValueError, match="has no node LoadAudio"):
        resolve(read_workflow(paths.pop("waiting_loop")), ["portrait", "voice"], [])
    for path in paths.values():
        workflow, slots = resolve(read_workflow(path), ["portrait", "voice", "seed"], [])
        placed = {slot.template: workflow[slot.node]["class_type"] for slot in slots}
        assert placed["{portrait}"] == "LoadImage" and placed["{voice}"] == "LoadAudio"
        assert placed["{seed}"] in ("EmoTalkingPortrait", "EmoSampler")
        for node in workflow.values():
            if node["class_type"] in ("EmoTalkingPortrait", "EmoAudioEncoder"):
                link = node["inputs"].get("voice") or node["inputs"]["audio"]
                assert workflow[link[0]]["class_type"] == "LoadAudio"


def test_any_workflow_is_mapped_by_class_title_or_by_hand():
    def load(title):
        return {"class_type": "LoadImage", "inputs": {"image": "x"}, "_meta": {"title": title}}

    several = {"1": load("Background"), "2": load("My Portrait"), "3": {"class_type": "Own", "inputs": {"path": ""}}}
    (slot,) = resolve(several, ["portrait"], [])[1]
    assert slot.node == "2"
    several["2"]["_meta"]["title"] = "Face"
    with pytest.raises(ValueError, match='2 nodes LoadImage: 1, 2; say which with --set "1.image={portrait}"'):
        resolve(several, ["portrait"], [])
    slots = resolve(several, ["portrait", "voice"], ["face.image={portrait}", "Own.path=/data/{voice}"])[1]
    assert [(slot.node, slot.template) for slot in slots] == [("2", "{portrait}"), ("3", "/data/{voice}")]
    with pytest.raises(ValueError, match="no node LoadAudio"):
        resolve(several, ["voice"], [])
    with pytest.raises(ValueError, match="no column of that name"):
        resolve(several, ["portrait"], ["2.image={face}"])


@pytest.mark.parametrize(
    "value, said",
    [({"nodes": [], "links": []}, "Export"), ([], "API form"), ({"1": {"inputs": {}}}, "class_type"), ({}, "API form")],
)
def test_files_that_are_no_workflows_are_named_as_such(tmp_path, value, said):
    (tmp_path / "w.json").write_text(json.dumps(value))
    with pytest.raises(ValueError, match=said):
        read_workflow(tmp_path / "w.json")


def test_values_take_the_type_of_the_workflows_own():
    values = [convert("25", 0), convert("23.976", 25), convert("2", 1.5), convert("No", True), convert("3", "text")]
    assert values == [25, 23.976, 2, False, "3"] and isinstance(values[4], str)
    assert convert(str(2**64 - 1), 0) == 2**64 - 1
    for text, current in (("nan", 1.0), ("x", 1), ("perhaps", True)):
        with pytest.raises(ValueError):
            convert(text, current)

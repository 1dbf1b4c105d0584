"""The journal after crashes, and who may use it; a video's name is given once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from emo_model.farm.files import Part
from emo_model.farm.journal import Journal, Memory, read_events

from .conftest import ROOT


def journal_of(tmp_path, *names: str):
    journal = Journal(tmp_path / "j.jsonl")
    for name in names:
        journal.write(name, job="a", text="\xfc\u8bdd\ud83d"[:2])
    return journal


def test_lines_come_back_in_order_and_a_new_run_appends(tmp_path):
    journal_of(tmp_path, "run", "sent").close()
    second = journal_of(tmp_path, "run")
    assert [event["event"] for event in second.events] == ["run", "sent"]
    second.close()
    assert [event["event"] for event in read_events(tmp_path / "j.jsonl")] == ["run", "sent", "run"]


def test_a_line_torn_at_any_byte_loses_only_itself(tmp_path):
    journal_of(tmp_path, "run", "sent", "done").close()
    whole = (tmp_path / "j.jsonl").read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in [*range(last, len(whole) - 3, 5), *range(len(whole) - 3, len(whole))]:
        (tmp_path / "j.jsonl").write_bytes(whole[:cut])
        again = journal_of(tmp_path, "run", "lost")
        again.close()
        complete = cut >= len(whole) - 1  # only the end of the line is missing
        expected = ["run", "sent", *(["done"] if complete else [])]
        assert [event["event"] for event in again.events] == expected
        assert [event["event"] for event in read_events(again.path)] == [*expected, "run", "lost"]
        assert again.path.read_bytes().startswith(whole[:cut])  # nothing is rewritten
    (tmp_path / "j.jsonl").write_bytes(whole + b"\0" * 500)  # a power failure
    assert len(read_events(tmp_path / "j.jsonl")) == 3


def test_damage_elsewhere_and_other_files_are_refused(tmp_path):
    journal_of(tmp_path, "run", "sent", "done").close()
    lines = (tmp_path / "j.jsonl").read_bytes().split(b"\n")
    (tmp_path / "j.jsonl").write_bytes(b"\n".join([lines[0], lines[1][:20], lines[2], b""]))
    with pytest.raises(ValueError, match="line 2 is damaged"):
        Journal(tmp_path / "j.jsonl")
    (tmp_path / "other.csv").write_text("portrait,voice\na,b\n")
    with pytest.raises(ValueError, match="no journal"):
        Journal(tmp_path / "other.csv")
    assert (tmp_path / "other.csv").read_text() == "portrait,voice\na,b\n"


def test_a_second_farm_on_the_same_journal_is_refused_until_the_first_ends(tmp_path):
    code = f"from emo_model.farm.journal import *; kept = Journal(Path({str(tmp_path)!r}) / 'j')"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import time; {code}; print('held', flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert holder.stdout.readline() == b"held\n"
    try:
        with pytest.raises(BlockingIOError, match="another farm works with"):
            Journal(tmp_path / "j")
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    Journal(tmp_path / "j").close()


def test_memory_keeps_what_may_still_be_on_a_server():
    def event(kind, job, prompt="", **more):
        return {"event": kind, "job": job, "prompt": prompt, **more}

    memory = Memory.of(
        [
            event("sent", "a", "1", server="x"),
            event("accepted", "a", "1", server_id="77"),
            event("sent", "b", "2", server="x"),
            event("lost", "b", "2"),
            event("sent", "b", "3", server="y"),
            event("sent", "c", "4", server="y"),
            event("done", "c", "4"),
            event("gave up", "d", own_fault=True, reason="no face"),
            event("gave up", "e", own_fault=False, reason="away"),
        ]
    )
    assert set(memory.done) == {"c"} and set(memory.hopeless) == {"d"}
    assert {job: list(prompts) for job, prompts in memory.sent.items()} == {"a": ["1"], "b": ["3"]}
    assert memory.sent["a"]["1"]["server_id"] == "77"


def test_nothing_follows_half_a_line(tmp_path, monkeypatch):
    journal = journal_of(tmp_path, "run")
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError):
            journal.write("sent")
    with pytest.raises(OSError, match="could not be written"):
        journal.write("done")
    journal.close()
    assert json.loads(journal.path.read_text().strip())["event"] == "run"


def test_a_part_belongs_to_one_and_what_a_dead_one_left_is_taken_over(tmp_path):
    out = tmp_path / "sub" / "v.mp4"
    first = Part(out)
    first.file.write(b"half")
    with pytest.raises(BlockingIOError, match="being written"):
        Part(out)
    first.close()  # as a kill does
    second = Part(out)
    second.restart()
    second.file.write(b"whole")
    second.flush()
    second.publish()
    second.close()
    assert out.read_bytes() == b"whole" and [path.name for path in out.parent.iterdir()] == ["v.mp4"]
    third = Part(out)
    with pytest.raises(FileExistsError):
        third.publish()
    third.remove()
    third.close()
    assert out.read_bytes() == b"whole" and [path.name for path in out.parent.iterdir()] == ["v.mp4"]

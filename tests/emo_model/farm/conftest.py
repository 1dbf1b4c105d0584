"""A folder with portraits, voices and a table, and servers that are none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_comfyui import FakeComfyUI

from emo_model.farm.__main__ import WORKFLOW
from emo_model.farm.farm import Farm, Limits
from emo_model.farm.graph import read_workflow, resolve
from emo_model.farm.host import Host
from emo_model.farm.journal import Journal
from emo_model.farm.table import Job, make_jobs, read_table

ROOT = Path(__file__).parents[3]
FAST = Limits(poll=0.02, backoff=0.02, settle=0.3, patience=0.3, give_up=3, longest=0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """anna.jpg, bert.png, hello.wav, song.wav and an empty folder 'out'."""
    for name in ("anna.jpg", "bert.png", "hello.wav", "song.wav"):
        (tmp_path / name).write_bytes(f"bytes of {name}".encode())
    (tmp_path / "no_face.jpg").write_bytes(b"no face")
    (tmp_path / "big.jpg").write_bytes(b"out of memory")
    return tmp_path


def jobs_of(folder: Path, text: str, *, sets: tuple[str, ...] = ()) -> list[Job]:
    (folder / "jobs.csv").write_text(text, encoding="utf-8")
    columns, rows = read_table(folder / "jobs.csv")
    workflow, slots = resolve(read_workflow(WORKFLOW), columns, list(sets))
    return make_jobs(folder / "jobs.csv", columns, rows, workflow, slots)


def many(count: int) -> str:
    """A table of so many jobs, each another seed."""
    return "portrait,voice,out,seed\n" + "".join(f"anna.jpg,hello.wav,v{n}.mp4,{n}\n" for n in range(count))


@pytest.fixture
def farm(folder: Path):
    """farm(jobs, servers, **changes of limits) -> a Farm with its journal in folder/out, closed afterwards."""
    journals = []

    def make(jobs: list[Job], servers: list[FakeComfyUI], *, again=False, tell=lambda text: None, **limits) -> Farm:
        for journal in journals:
            journal.close()
        journals[:] = [Journal(folder / "out" / "farm.jsonl")]
        changed = Limits(**{**FAST.__dict__, **limits})
        hosts = [Host(server.url, timeout=5) for server in servers]
        return Farm(jobs, hosts, folder / "out", journals[0], limits=changed, again=again, tell=tell)

    yield make
    for journal in journals:
        journal.close()


def command(folder: Path, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "emo_model.farm", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

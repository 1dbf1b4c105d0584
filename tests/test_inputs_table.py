"""Whatever comes in ends in the right value or in a sentence; see inputs_table.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from inputs_table import MOST_BYTES, ROWS, Row, run

HERE = Path(__file__).parent


def test_the_table_is_long_and_every_row_has_a_name_of_its_own():
    names = [str(one) for one in ROWS]
    assert len(names) >= 200 and len(set(names)) == len(names)


@pytest.mark.parametrize("one", ROWS, ids=str)
def test_bad_and_odd_inputs_end_right_or_in_a_sentence(one: Row, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    outcome = run(one, tmp_path)
    assert not outcome.fault, f"{one}: {outcome.fault}"
    assert not (tmp_path / "owned").exists(), "code of a pickle was run"


def test_the_files_of_the_table_need_little_memory():
    """All but the command's rows in one process, whose peak is measured."""
    done = subprocess.run(
        [sys.executable, str(HERE / "inputs_table.py"), "^(picture|sound|video|clip|model: load)"],
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.splitlines()[-1].split()[-1])
    assert 1e8 < peak < MOST_BYTES, f"{peak / 1e9:.2f} GB"

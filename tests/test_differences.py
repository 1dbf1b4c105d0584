"""docs/differences.md has a row for every choice that the code marks as its own, and no other."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLES = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")
MARKS = ("Differs from EMO", "EMO leaves open")
ROW = re.compile(r"^\| \[`(.+?)`\]\(\.\./(.+?)\) \| (.+?) \| (.+?) \|$", re.MULTILINE)
SOURCES = [*sorted((ROOT / "emo_model").rglob("*.py")), *sorted((ROOT / "nodes").rglob("*.py"))]


@pytest.mark.parametrize("mark", MARKS)
def test_each_file_has_as_many_rows_as_marks(mark):
    """The words are free, in the code and in the table."""
    rows = ROW.findall(TABLES.split(f"\n## {mark}\n")[1].split("\n## ")[0])
    marks = {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8").count(f"{mark}:") for file in SOURCES}
    assert len(rows) > 5 and Counter(file for file, *_ in rows) == {
        file: count for file, count in marks.items() if count
    }
    assert all(link == file and what != why for file, link, what, why in rows)
    assert len(rows) == len(set(rows))


def test_marks_are_written_in_one_way():
    for file in SOURCES:
        text = file.read_text(encoding="utf-8")
        loose = re.findall(r"(?i)(?:differs from emo|differs from the paper|emo leaves (?:it |this )?open)(?!:)", text)
        assert not loose, f"{file.name}: {loose}"

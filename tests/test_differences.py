"""docs/differences.md lists every choice that the code marks as its own, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLES = (ROOT / "docs" / "differences.md").read_text(encoding="utf-8")
MARKS = ("Differs from EMO", "EMO leaves open")
ROW = re.compile(r"^\| \[`(.+?)`\]\(\.\./(.+?)\) \| (.+?) \| (.+?) \|$", re.MULTILINE)


def marked(mark: str) -> set[tuple[str, str]]:
    """(file, what) of every mark in the code: the words behind it, up to the end of the clause."""
    found = set()
    for file in [*(ROOT / "emo_model").rglob("*.py"), *(ROOT / "nodes").rglob("*.py")]:
        for match in re.finditer(rf"{mark}:\s+", text := file.read_text(encoding="utf-8")):
            is_comment = "#" in text[text.rfind("\n", 0, match.start()) + 1:match.start()]
            end = r"\n|;|\.\s" if is_comment else r';|\.\s|\.?"""'
            what = " ".join(re.split(end, text[match.end():], maxsplit=1)[0].split())
            found.add((file.relative_to(ROOT).as_posix(), what))
    return found


def listed(mark: str) -> list[tuple[str, ...]]:
    """(file, link, what, why) of every row under the heading of that name."""
    return ROW.findall(TABLES.split(f"\n## {mark}\n")[1].split("\n## ")[0])


@pytest.mark.parametrize("mark", MARKS)
def test_every_marked_choice_has_its_row_and_every_row_its_mark(mark):
    rows = listed(mark)
    assert len(rows) > 5 and {(file, what) for file, _, what, _ in rows} == marked(mark)
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize("mark", MARKS)
def test_every_row_links_to_its_file_and_gives_a_reason(mark):
    for file, link, what, why in listed(mark):
        assert link == file and (ROOT / link).is_file()
        assert len(why.split()) >= 8, f"{what}: why?"


def test_marks_are_written_in_one_way():
    for file in (ROOT / "emo_model").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        loose = re.findall(r"(?i)(?:differs from emo|differs from the paper|emo leaves (?:it |this )?open)(?!:)", text)
        assert not loose, f"{file.name}: {loose}"

"""What README and docs say can be typed and followed."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "web" / "docs").glob("*.md")),
    *sorted((ROOT / "emo_model").rglob("*.md")),
]


README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_ours_is_there(page):
    modules = re.findall(r"-m (emo_model(?:\.\w+)*)", page.read_text(encoding="utf-8"))
    for module in set(modules):
        assert find_spec(f"{module}.__main__"), f"{page.name} runs {module}"


def test_every_file_in_the_picture_of_the_architecture_exists():
    named = re.findall(r"[\w/]+\.py", (ROOT / "docs" / "images" / "architecture.svg").read_text(encoding="utf-8"))
    files = [name for name in named if "/" in name]
    assert len(files) > 10 and [name for name in files if not (ROOT / "emo_model" / name).exists()] == []


def test_the_names_in_readmes_table_of_where_things_are_computed_are_in_their_files():
    rows = re.findall(r"^\| [\w ']+ \| \[`[\w/.]+`\]\((emo_model/[\w/.]+)\) \| (`.*) \|$", README, re.MULTILINE)
    assert len(rows) == 7
    for path, names in rows:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert all(name.split(".")[-1] in text for name in re.findall(r"`([\w.]+)`", names.split(";")[0])), path


def test_ci_types_the_readmes_test_command():
    lines = re.findall(r"^python3? .*-m pytest.*$", README, re.MULTILINE)
    assert len(lines) == 1 and "requirements-dev.txt" in lines[0]
    assert os.access(ROOT / ".ci" / "run", os.X_OK) or os.name == "nt"


def test_the_requirements_for_tests_pin_only_the_formatter_and_include_those_for_use():
    lines = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("#")]
    assert lines[0] == "-r requirements.txt"
    assert [line for line in lines[1:] if not re.fullmatch(r"[\w-]+", line)] == ["ruff>=0.17,<0.18"]

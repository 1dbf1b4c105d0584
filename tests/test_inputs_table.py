"""Whatever comes in ends in the right value or in a sentence; see inputs_table.py."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from inputs_table import MOST_BYTES, ROOT, ROWS, Row, has_remedy, run

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
    if outcome.said and one.kind != "option":  # of an option, the command says what it must be
        assert has_remedy(outcome.said), f"{one}: no remedy in the first line of {outcome.said!r}"


def sentences(file: Path) -> list[tuple[int, str]]:
    """The literal parts of what is raised, and of what functions that make errors return: (line, text)."""

    def text(node: ast.AST) -> str:
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(text(part) for part in node.values)
        if isinstance(node, ast.BinOp):
            return text(node.left) + text(node.right)
        if isinstance(node, ast.IfExp):
            return text(node.body)
        return "..."

    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            found.append((node.lineno, node.exc.args[0]))
        elif isinstance(node, ast.FunctionDef) and re.search(r"_error$|^_lacks", node.name):
            returned = (one for one in ast.walk(node) if isinstance(one, ast.Return))
            found += [(one.lineno, one.value) for one in returned if isinstance(one.value, (ast.JoinedStr, ast.BinOp))]
    return [(line, text(value)) for line, value in found if isinstance(value, (ast.Constant, ast.JoinedStr, ast.BinOp))]


def test_every_error_of_the_nodes_says_in_its_first_line_what_to_do():
    found = {f"{file.name}:{line}": text for file in (ROOT / "nodes").rglob("*.py") for line, text in sentences(file)}
    assert len(found) > 50
    wrong = [f"{place}: {text}" for place, text in found.items() if not has_remedy(text)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("said", "is_one"),
    [
        ("Connect 'reference' of 'EMO Reference Encoder'.", True),
        ("the file is empty; download it again", True),
        ("the disk is full.\nMake room.", False),
        ("the video has 3 frames, and 4 are needed to continue it", False),
        ("a.png is not a picture that Pillow can read", False),
    ],
)
def test_a_remedy_is_an_imperative_in_the_first_line(said, is_one):
    assert has_remedy(said) is is_one


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

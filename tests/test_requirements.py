"""Installing this pack changes nothing in a ComfyUI: it needs only what ComfyUI brings."""

from __future__ import annotations

import re

import pytest
from comfyui_server import ROOT, comfyui_or_skip

tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads pyproject.toml")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def names(path) -> list[str]:
    """The packages of a requirements.txt, as they are written there but for versions."""
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [re.split(r"[<>=~!\[ ;]", line)[0] for line in lines if line]


def test_requirements_pin_nothing():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == names(ROOT / "requirements.txt")


def test_requirements_are_those_of_the_registry_entry():
    assert names(ROOT / "requirements.txt") == PROJECT["project"]["dependencies"]


def test_comfyui_brings_all_of_them():
    brought = {name.lower() for name in names(comfyui_or_skip() / "requirements.txt")}
    assert {name.lower() for name in names(ROOT / "requirements.txt")} <= brought

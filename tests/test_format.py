"""The tree is formatted and checked by ruff, with the settings of pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("command", (("format", "--check"), ("check",)), ids=" ".join)
def test_ruff_changes_nothing_and_finds_nothing(command):
    pytest.importorskip("ruff", reason="ruff is not installed; it is in requirements-dev.txt")
    ran = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "."], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, f"run `ruff {' '.join(command)}` and correct what it lists:\n{ran.stdout}{ran.stderr}"

"""Programs that speak, for engines that are programs."""

import os
import sys

import pytest


@pytest.fixture
def speaks(monkeypatch, tmp_path):
    """speaks(variable, body): the variable names a program that runs `body` with its arguments as `arguments`, and
    writes a second of silence into the file that is named last."""
    if os.name == "nt":
        pytest.skip("the program of this test is a script with a first line that names Python")

    def make(variable: str, body: str) -> None:
        program = tmp_path / "speaks"
        program.write_text(
            f"#!{sys.executable}\n"
            f"import sys, wave\n*arguments, file = sys.argv[1:]\n{body}\n"
            "with wave.open(file, 'wb') as sound:\n"
            "    sound.setnchannels(1), sound.setsampwidth(2), sound.setframerate(24000)\n"
            "    sound.writeframes(bytes(2 * 24000))\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv(variable, str(program))

    return make

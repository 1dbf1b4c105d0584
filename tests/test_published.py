"""What goes to ComfyUI's registry: runs without the rest, and does nothing that a scanner would have to ask about."""

from __future__ import annotations

import ast
import fnmatch
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
IGNORED = [
    line
    for line in (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
HIDDEN = {".git", ".venv", "__pycache__", ".pytest_cache", ".ruff_cache", "out", "runs"}

REASONS = {
    ("emo_model/checkpoints/files.py", "pickle"): "names the error of a broken file; pickles are read as weights only",
    (
        "emo_model/outputs/likeness.py",
        "importlib",
    ): "looks whether dlib and its weights are installed, and where; imports nothing by name",
    ("workflows/client.py", "urllib"): "an example: talks to the user's own ComfyUI, started by hand",
    (
        "emo_model/farm/host.py",
        "urllib",
    ): "a command: talks to the ComfyUI servers that its user names, started by hand",
    ("emo_model/farm/host.py", "http"): "names the errors of urllib",
    ("emo_model/farm/show.py", "http"): "the command's page of progress, on 127.0.0.1 only and if --page asks for it",
}
"""(file, module or call) -> why it is there. Whatever else turns up fails the test."""
ASKED_ABOUT = {
    "subprocess",
    "socket",
    "pickle",
    "ctypes",
    "urllib",
    "http",
    "requests",
    "ftplib",
    "marshal",
    "importlib",
}
CALLS = {"eval", "exec", "compile", "__import__", "system", "popen"}


def is_published(path: Path) -> bool:
    name = path.relative_to(ROOT).as_posix()
    return not any(
        name.startswith(pattern) if pattern.endswith("/") else fnmatch.fnmatch(name, pattern) for pattern in IGNORED
    )


@pytest.fixture(scope="session")
def published() -> list[Path]:
    files = (path for path in ROOT.rglob("*") if path.is_file() and not HIDDEN & set(path.relative_to(ROOT).parts))
    return [path for path in files if is_published(path)]


def asked_about(path: Path) -> set[str]:
    """Modules and calls of a file that scanners flag. Methods such as `model.eval()` are none of them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module]
        found |= {name.split(".")[0] for name in names} & ASKED_ABOUT
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in CALLS:
                found.add(called.id)
            if isinstance(called, ast.Attribute) and called.attr in CALLS:
                if isinstance(called.value, ast.Name) and called.value.id == "os":
                    found.add(called.attr)
    return found


def test_every_pattern_leaves_something_out():
    everything = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()]
    for pattern in IGNORED:
        if not (ROOT / ".ci").is_dir() and pattern == ".ci/":
            continue
        assert any(name.startswith(pattern.rstrip("*")) for name in everything), pattern


def test_what_scanners_ask_about_has_a_reason(published):
    found = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in published
        if path.suffix == ".py"
        for name in asked_about(path)
    }
    assert found == set(REASONS)


def test_python_files_are_read_by_a_windows_editor(published):
    """As comfy-test asks of packs: characters of code page 1252 only; other scripts are in JSON and Markdown."""
    odd = [path for path in published if path.suffix == ".py" and not is_western(path.read_text(encoding="utf-8"))]
    assert odd == []


def is_western(text: str) -> bool:
    return text.encode("cp1252", errors="replace").decode("cp1252") == text


def test_weights_are_read_as_weights_only(published):
    loads = []
    for path in published:
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                is_load = isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
                if is_load:
                    loads.append({keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords})
    assert loads and all(load.get("weights_only") == "True" for load in loads)


def test_scanning_finds_what_it_should(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text(
        "import subprocess\nfrom urllib import request\nimport os\nos.system('x')\neval('1')\nmodel.eval()\n"
    )
    assert asked_about(bad) == {"subprocess", "urllib", "system", "eval"}


def test_what_is_published_works_without_the_rest(published, tmp_path):
    for path in published:
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    for name in ("synthetic", "training", "evaluation"):
        assert not (tmp_path / "emo_model" / name).exists()
    made = subprocess.run(
        [sys.executable, "-m", "emo_model", "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert made.returncode == 0 and "portrait" in made.stdout, made.stderr
    names = [
        path.relative_to(tmp_path).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for path in (tmp_path / "emo_model").rglob("*.py")
        if path.name != "__main__.py"
    ]
    imported = subprocess.run(
        [sys.executable, "-c", f"import {', '.join(names)}"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert imported.returncode == 0, imported.stderr


def test_pictures_of_the_registry_are_those_of_the_command(tmp_path):
    sys.path.insert(0, str(ROOT / "docs"))
    import make_pictures
    from PIL import Image, ImageChops

    for name, made in (("icon", make_pictures.icon()), ("banner", make_pictures.banner())):
        with Image.open(ROOT / "docs" / "images" / f"{name}.png") as drawn:
            assert drawn.size == made.size
            difference = ImageChops.difference(drawn.convert("RGB"), made)
            assert max(high for _, high in difference.getextrema()) <= 8
    assert make_pictures.icon().size == (400, 400)

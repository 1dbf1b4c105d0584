"""Who may import whom, read from the source: nothing is imported here."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY, NODES = ROOT / "emo_model", ROOT / "nodes"
ROOMS = {
    "types": 0,
    "config": 1,
    "models": 2,
    "auxiliary": 2,
    "checkpoints": 3,
    "inputs": 3,
    "sampling": 4,
    "outputs": 4,
    "synthetic": 5,
    "training": 6,
    "evaluation": 6,
    "farm": 6,
    "cache": 5,
    "acceleration": 5,
}
# of one level, and independent of each other
NEIGHBOURS = {
    frozenset({"training", "evaluation"}),
    frozenset({"training", "farm"}),
    frozenset({"evaluation", "farm"}),
    frozenset({"models", "auxiliary"}),
}
HOSTS = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "latent_preview", "nodes", "server"}
ENGINE = HOSTS - {"comfy_api"}  # nodes other than the bridge see ComfyUI's schemas only
AT_RUN_TIME = {"torch", "numpy", "einops", "safetensors", "av", "PIL", "tqdm"}


def imports(file: Path):
    """(level, dotted name, is at module level) of every import in a file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((node.level, name, id(node) in top) for name in names)


def absolute(file: Path, level: int, name: str) -> str:
    """The dotted name from the repository's root, e.g. 'emo_model.models.emo'."""
    if level == 0:
        return name
    return ".".join(
        [*file.relative_to(ROOT).parent.parts[: len(file.relative_to(ROOT).parent.parts) - level + 1], name]
    )


def room(dotted: str) -> str:
    return dotted.split(".")[1] if "." in dotted else ""


def files(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*.py"))
    assert found, f"no source in {folder}"
    return found


@pytest.mark.parametrize("file", files(LIBRARY), ids=lambda file: str(file.relative_to(ROOT)))
def test_library_knows_no_host_and_imports_only_from_rooms_before_its_own(file):
    here = room(".".join(file.relative_to(ROOT).with_suffix("").parts))
    for level, name, _ in imports(file):
        dotted = absolute(file, level, name)
        assert dotted.split(".")[0] not in HOSTS, f"{file} imports {dotted}"
        assert level > 0 or not dotted.startswith("emo_model"), (
            f"{file} imports {dotted} absolutely; ComfyUI cannot load that"
        )
        there = room(dotted)
        if dotted.startswith("emo_model") and here in ROOMS and there in ROOMS and here != there:
            assert ROOMS[there] <= ROOMS[here] and frozenset({here, there}) not in NEIGHBOURS, (
                f"{here} imports {there} ({file})"
            )


@pytest.mark.parametrize("file", files(NODES), ids=lambda file: str(file.relative_to(ROOT)))
def test_only_the_bridge_knows_comfyuis_engine(file):
    for level, name, _ in imports(file):
        if level == 0 and file.parent.name != "comfy_bridge":
            assert name.split(".")[0] not in ENGINE, f"{file} imports {name}"
        assert level > 0 or not name.startswith("emo_model"), (
            f"{file} imports {name} absolutely; ComfyUI cannot load that"
        )


@pytest.mark.parametrize("file", [*files(LIBRARY), *files(NODES)], ids=lambda file: str(file.relative_to(ROOT)))
def test_what_comfyui_does_not_bring_is_imported_where_it_is_needed(file):
    for level, name, is_top in imports(file):
        package = name.split(".")[0]
        if level == 0 and is_top and package not in sys.stdlib_module_names | HOSTS:
            assert package in AT_RUN_TIME, f"{file} imports {package} at the top"


def test_the_root_imports_nothing_when_pytest_imports_it():
    assert not [name for _, name, is_top in imports(ROOT / "__init__.py") if is_top]

"""What the pack costs before a node runs, and what it asks of ComfyUI's environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

from comfyui_server import ROOT

SCRIPT = """
import asyncio, json, sys, time
sys.path.insert(0, sys.argv[1])
sys.argv = ["main.py", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import torch, comfy.sd, comfy.model_patcher, folder_paths, latent_preview, nodes
from comfy_api.latest import ComfyExtension
folder_paths.set_input_directory(sys.argv_of_test)
before, began = set(sys.modules), time.process_time()
assert asyncio.run(nodes.load_custom_node(%r, set(nodes.NODE_CLASS_MAPPINGS)))
spent = time.process_time() - began
print(json.dumps({"seconds": spent, "new": sorted({name.split(".")[0] for name in set(sys.modules) - before})}))
"""


def test_the_pack_is_imported_in_under_a_second_and_brings_nothing_heavy(comfyui, tmp_path):
    """Of the processor's time, beside what ComfyUI has imported itself."""
    script = (SCRIPT % str(ROOT)).replace("sys.argv_of_test", repr(str(tmp_path)))
    made = subprocess.run(
        [sys.executable, "-c", script, str(comfyui)],
        cwd=comfyui,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert made.returncode == 0, made.stderr[-3000:]
    said = json.loads(made.stdout.splitlines()[-1])
    assert said["seconds"] < 1
    heavy = {"diffusers", "transformers", "accelerate", "scipy", "matplotlib", "librosa", "cv2", "insightface", "numba"}
    assert not heavy & set(said["new"]), said["new"]


def test_installing_the_requirements_changes_nothing_in_comfyuis_environment(comfyui):
    """Each is one that ComfyUI requires itself, and none is pinned: `pip freeze` stays as it is."""

    def names(path) -> dict[str, str]:
        lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
        found = (re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", line) for line in lines if line)
        return {match[1].lower().replace("_", "-"): match[2].strip() for match in found if match}

    ours, theirs = names(ROOT / "requirements.txt"), names(comfyui / "requirements.txt")
    assert ours and set(ours) <= set(theirs) and set(ours.values()) == {""}
    listed = re.search(r"^dependencies = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    assert {name.strip(' "').lower() for name in listed[1].split(",")} == set(ours)

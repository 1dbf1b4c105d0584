"""An unfinished run in few small files, to be carried to a machine that has nothing of it: averaged weights in half precision.

What is not carried: the optimiser (it warms up again) and the drawn clips (they are drawn again from the same seeds).
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ..checkpoints.native import write_tensors
from ..checkpoints.pieces import join, split

NAME = "progress.safetensors"
PARTS = ("autoencoder", "decoder", "audio_encoder")


def pack(out: Path, steps: tuple[str, ...]) -> list[Path]:
    """Write OUT/progress.safetensors.001, ... of what `steps` (in order) have left in `out`; returns the pieces.

    Of EMO's stages, which all write the same weights, the last finished one is enough; `steps` ends with them.
    """
    tensors, step = {}, 0
    finished = [name for name in steps if (out / f"{name}.safetensors").exists()]
    for name in _needed(finished):
        tensors |= {f"{name}/{key}": value.half() for key, value in load_file(out / f"{name}.safetensors").items()}
    current = next((name for name in steps if (out / "state" / f"{name}.safetensors").exists() and name not in finished), "")
    if current:
        with safe_open(out / "state" / f"{current}.safetensors", "pt") as file:
            step = int(file.metadata()["step"])
            tensors |= {f"state/{key.removeprefix('average.')}": file.get_tensor(key).half()
                        for key in file.keys() if key.startswith("average.")}
    write_tensors(out / NAME, tensors, {"progress": json.dumps({"finished": finished, "current": current, "step": step})})
    pieces = split(out / NAME)
    (out / NAME).unlink()
    return pieces


def unpack(out: Path) -> None:
    """Put OUT back as `pack` found it, as far as it was packed; nothing happens without pieces, or where a run is at home."""
    if not (out / f"{NAME}.001").exists() or (out / "state").exists():
        return
    whole = join(out / NAME, out / NAME)
    with safe_open(whole, "pt") as file:
        progress = json.loads(file.metadata()["progress"])
        groups: dict[str, dict[str, torch.Tensor]] = {}
        for full in file.keys():
            name, key = full.split("/", 1)
            groups.setdefault(name, {})[key] = file.get_tensor(full).float()
    averages = groups.pop("state", {})
    for name, tensors in groups.items():
        write_tensors(out / f"{name}.safetensors", tensors)
    if progress["current"]:
        state = {f"{kind}.{key}": value.clone() for key, value in averages.items() for kind in ("model", "average")}
        write_tensors(out / "state" / f"{progress['current']}.safetensors", state, {"step": str(progress["step"])})
    whole.unlink()


def _needed(finished: list[str]) -> list[str]:
    stages = [name for name in finished if name not in PARTS]
    return [name for name in finished if name in PARTS] + stages[-1:]

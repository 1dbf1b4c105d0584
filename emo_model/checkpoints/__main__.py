"""`python -m emo_model.checkpoints join PIECES OUT`, `... parameters PRESET`, `... inspect FILE`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..config import PRESETS
from . import native
from .pieces import join


def parameter_table(preset: str, *, every: bool) -> str:
    """The parameters of a preset, built on the meta device: a line per part, or per tensor."""
    emo = native.build(PRESETS[preset], device="meta").emo
    lines = []
    if every:
        lines += [f"{name:90} {'x'.join(map(str, value.shape)):>20} {value.numel():>12,}" for name, value in emo.named_parameters()]
    for name, part in emo.named_children():
        count = sum(value.numel() for value in part.parameters())
        lines.append(f"{name:90} {'':>20} {count:>12,}")
        temporal = sum(value.numel() for key, value in part.named_parameters() if "motion_modules" in key)
        if temporal:
            lines.append(f"{'    of these in temporal modules':90} {'':>20} {temporal:>12,}")
    lines.append(f"{'all of ' + preset:90} {'':>20} {sum(value.numel() for value in emo.parameters()):>12,}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emo_model.checkpoints", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("join", help="put the pieces of a model file together")
    command.add_argument("file", type=Path, help="the name without .001")
    command.add_argument("out", type=Path)
    command = commands.add_parser("parameters", help="table of a preset's parameters; nothing is allocated")
    command.add_argument("preset", nargs="?", default="emo", choices=sorted(PRESETS))
    command.add_argument("--all", action="store_true", help="a line for every tensor")
    command = commands.add_parser("inspect", help="config and card of a model file")
    command.add_argument("file", type=Path)
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "join":
            said = f"{join(chosen.file, chosen.out)} is whole"
        elif chosen.command == "parameters":
            said = parameter_table(chosen.preset, every=chosen.all)
        else:
            bundle = native.load(chosen.file)
            said = json.dumps({"config": json.loads(bundle.config.to_json()), "card": bundle.card}, indent=2)
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(said + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

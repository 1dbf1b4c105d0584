"""`python -m emo_model.training default --out DIR`: train the built-in model. `... prepare-default --out DIR`: speak its data."""

from __future__ import annotations

import argparse
import logging
import math
import sys
from pathlib import Path

from .default import RECIPE, make_default, prepare_default
from .loop import OutOfTime


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emo_model.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    default = commands.add_parser("default", help="train the built-in model, all stages")
    default.add_argument("--minutes", type=float, default=math.inf, help="stop after so many minutes with everything saved (exit 3)")
    default.add_argument("--resume", action="store_true", help="go on with the run in --out")
    default.add_argument("--data", type=Path, help="a folder made by prepare-default; made in --out if not given")
    default.add_argument("--scale", type=float, default=1.0, help="multiplies the steps of every stage")
    default.add_argument("--precision", choices=("no", "bf16"), help="default: bf16 on CUDA; worth a try on a CPU with AVX-512 BF16")
    prepare = commands.add_parser("prepare-default", help="speak the training data into a folder, for a machine without speech engines")
    for command in (default, prepare):
        command.add_argument("--out", type=Path, required=True, help="folder of the run, or of the data")
        command.add_argument("--preset", default="default", choices=sorted(RECIPE), help="'default-cpu' is 128x128, for two CPU cores")
        command.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if chosen.command == "prepare-default":
        folder = prepare_default(chosen.out, preset=chosen.preset, seed=chosen.seed)
        logging.info("%s holds %.1f MB", folder, sum(file.stat().st_size for file in folder.iterdir()) / 1e6)
        return 0
    try:
        path = make_default(chosen.out, preset=chosen.preset, data=chosen.data, minutes=chosen.minutes, resume=chosen.resume,
                            seed=chosen.seed, scale=chosen.scale, precision=chosen.precision)
    except OutOfTime as reason:
        logging.info("time is over: %s; run the same command with --resume to go on", reason)
        return 3
    except FileExistsError as reason:
        logging.error("%s", reason)
        return 2
    logging.info("the model is %s", path)
    return 0


if __name__ == "__main__":
    sys.exit(main())

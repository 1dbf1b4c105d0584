"""`python -m emo_model.evaluation run VIDEOS`: videos, judged; `... builtin`: the built-in model, measured.

run             judge any videos, of this program or another: lips and voice, eyes, head, identity, references
shuffled        right voices against shuffled ones on the built-in model, as a permutation test
builtin         held-out people and voices through the model; a table, and every number as JSON
look            pictures speak: for each a video and a strip of frames, to be looked at
strip           a portrait and frames of it speaking, in a row
hero            an animated WebP of a portrait that speaks
dials           what each dial does, read from finished frames; a table
audio           the audio encoder of a model, by itself
prepare-speech  speak held-out voices into a folder (--speech, --sung)
oracle          compare networks and sampler with tensors recorded from Hallo's own code; exit status 1 if one differs
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import fields, replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from .. import talk
from ..__main__ import EXAMPLES
from ..checkpoints import native
from ..checkpoints.mediapipe import load_face_finder
from ..config import PRESETS, SamplingConfig
from ..synthetic.speech_library import SUNG, prepare_speech
from . import builtin, oracle, report, rows, show

log = logging.getLogger("emo.evaluation")

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif")
SOUNDS = (".wav", ".mp3", ".flac", ".ogg", ".m4a")


def main(arguments: list[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        return _TASKS[chosen.task](chosen) or 0
    except (FileNotFoundError, ModuleNotFoundError, RuntimeError, ValueError) as error:
        if isinstance(error, RuntimeError) and "speech engine" not in str(error):
            raise
        log.error("%s", error)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emo_model.evaluation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = parser.add_subparsers(dest="task", required=True)

    _add_run(tasks.add_parser("run", help="judge any videos"))
    shuffled_test = tasks.add_parser("shuffled", help="right voices against shuffled ones: a permutation test")
    shuffled_test.add_argument("--out", type=Path, required=True, help="a folder; what is there is gone on with")
    shuffled_test.add_argument(
        "--model", type=Path, default=native.FAST_WEIGHTS, help="a model file (the fast variant)"
    )
    shuffled_test.add_argument("--portraits", type=Path, nargs="+", default=[EXAMPLES / "emo_portrait.jpg"])
    shuffled_test.add_argument("--clips", type=int, default=24, help="(%(default)s)")
    shuffled_test.add_argument("--seconds", type=float, default=2.0, help="of each (%(default)s)")
    shuffled_test.add_argument("--size", type=int, default=256, help="side of the square video, pixels (%(default)s)")

    groups = "\n".join(f"  {name:11} {what}" for name, what in builtin.GROUPS.items())
    measured = tasks.add_parser(
        "builtin",
        help="measure a model on held-out people and voices",
        epilog=f"groups of rows:\n{groups}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_model(measured)
    measured.add_argument(
        "--json",
        type=Path,
        help="keep every number here, and go on from what is there; ceilings.json beside it "
        "keeps what does not depend on the model",
    )
    measured.add_argument("--puppets", type=Path, required=True, help="puppets.safetensors, as training prepares it")
    measured.add_argument("--speech", type=Path, required=True, help="a folder of held-out speech (prepare-speech)")
    measured.add_argument("--sung", type=Path, help="a folder of held-out singing (prepare-speech --sung)")
    measured.add_argument(
        "--recordings", type=Path, nargs="+", default=[], help="sound files of real speech, or folders of them"
    )
    measured.add_argument("--portraits", type=Path, nargs="+", default=[], help="real pictures, or folders of them")
    measured.add_argument("--fast", type=Path, default=native.FAST_WEIGHTS, help="the fast variant (the built-in one)")
    measured.add_argument(
        "--decoder", type=Path, help="only the decoder's rows, of the weights of a training run, or of its state"
    )
    measured.add_argument("--rows", help="which groups, with commas between them (all but 'long')")
    measured.add_argument("--quick", action="store_true", help="8 clips")
    for field in fields(builtin.Amount):
        measured.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), help=f"({field.default})")
    for name, kind in (
        ("steps", int),
        ("sampler", str),
        ("audio_guidance", float),
        ("reference_guidance", float),
        ("noise_scale", float),
        ("head_speed", float),
    ):
        measured.add_argument(f"--{name.replace('_', '-')}", type=kind, help="in place of the model's own")

    look = tasks.add_parser("look", help="videos and strips of pictures that speak")
    _add_model(look)
    look.add_argument("portraits", type=Path, nargs="+", help="pictures, or folders of them")
    look.add_argument("--voice", type=Path, default=EXAMPLES / "emo_voice.wav", help="a sound file (%(default)s)")
    look.add_argument("--out", type=Path, required=True, help="a folder")
    look.add_argument("--frames", type=int, default=8, help="in a strip (%(default)s)")
    look.add_argument(
        "--height", type=int, default=320, help="of a strip in pixels; 0: as large as the head square (%(default)s)"
    )
    look.add_argument("--seconds", type=float, default=4.0, help="at most (%(default)s)")
    look.add_argument("--seed", type=int, default=0)

    for name, out, what in (
        ("strip", "a JPEG or PNG file", "portrait and frames in a row"),
        ("hero", "a WebP file", "an animated WebP"),
    ):
        task = tasks.add_parser(name, help=what)
        _add_model(task)
        task.add_argument("out", type=Path, help=out)
        task.add_argument("--portrait", type=Path, default=EXAMPLES / "emo_portrait.jpg")
        task.add_argument("--audio", type=Path, default=EXAMPLES / "emo_voice.wav")
        task.add_argument(
            "--start", type=float, default=0.0, help="where in the sound to begin, in seconds (%(default)s)"
        )
        task.add_argument("--seconds", type=float, default=4.0, help="how much of it is spoken (%(default)s)")
        task.add_argument("--seed", type=int, default=0)
        if name == "strip":
            task.add_argument("--frames", type=int, default=7, help="pictures beside the portrait (%(default)s)")
            task.add_argument("--height", type=int, default=160, help="pixels (%(default)s)")
        else:
            task.add_argument("--side", type=int, default=384, help="of the longer side, in pixels (%(default)s)")
            task.add_argument("--megabytes", type=float, default=3.0, help="at most (%(default)s)")

    dials = tasks.add_parser("dials", help="what each dial does")
    _add_model(dials)
    dials.add_argument("portraits", type=Path, nargs="+", help="pictures, or folders of them")
    dials.add_argument("--voice", type=Path, default=EXAMPLES / "emo_voice.wav", help="a sound file (%(default)s)")
    dials.add_argument("--json", type=Path, help="write every change of every picture here")

    audio = tasks.add_parser("audio", help="how well audio encoders predict the mouth")
    audio.add_argument(
        "--models", type=Path, nargs="+", default=[native.DEFAULT_WEIGHTS], help="model files, or encoders alone"
    )
    audio.add_argument(
        "--data", type=Path, required=True, help="a folder for held-out speech; spoken and sung first where it is empty"
    )
    audio.add_argument(
        "--recordings", type=Path, nargs="+", default=[], help="sound files of real speech, or folders of them"
    )

    speech = tasks.add_parser("prepare-speech", help="held-out voices into a folder")
    speech.add_argument("--out", type=Path, required=True)
    speech.add_argument("--minutes", type=float, default=20.0, help="(%(default)s)")
    speech.add_argument("--sung", action="store_true", help="singing, and voices over music (needs pyworld)")

    recorded = tasks.add_parser("oracle", help="compare with tensors recorded from Hallo's own code")
    recorded.add_argument("io", type=Path, help="safetensors file with in.* and out.* tensors")
    recorded.add_argument("config", type=Path, help="JSON file with the sizes of the networks")
    recorded.add_argument("--weight-salt", default="", help="text in front of each key when its weight is seeded")
    recorded.add_argument(
        "--tolerance", type=float, default=oracle.TOLERANCE, help="largest absolute difference (%(default)s)"
    )
    return parser


def _add_run(task: argparse.ArgumentParser) -> None:
    task.add_argument("videos", type=Path, nargs="+", help="video files, and folders of them: a folder is a set")
    of = "files or folders, found by their names' being a part of the video's; a single one is that of all videos"
    task.add_argument("--reference", type=Path, nargs="+", default=[], help=f"true videos: {of}")
    task.add_argument("--portraits", type=Path, nargs="+", default=[], help="pictures, likewise (the first frame)")
    task.add_argument("--voices", type=Path, nargs="+", default=[], help="sound files, likewise (the video's own)")
    task.add_argument("--phonemes", type=Path, nargs="+", default=[], help="JSON files, likewise")
    task.add_argument("--out", type=Path, default=Path("judged"), help="a folder (%(default)s)")
    task.add_argument("--which-face", default="largest", help="largest, leftmost, rightmost or a number from the left")
    task.add_argument("--seconds", type=float, help="of each video at most")
    task.add_argument(
        "--encoder", type=Path, default=native.DEFAULT_WEIGHTS, help="a model file whose audio encoder judges lips"
    )
    task.add_argument("--envelope", action="store_true", help="judge lips by the loudness alone")
    for name, what in (
        ("syncnet", "syncnet_v2.model, or its weights as safetensors"),
        ("inception", "inception-2015-12-05.pt for FID"),
        ("i3d", "i3d_torchscript.pt for FVD"),
        ("arcface", "TorchScript of an ArcFace network for F-SIM"),
        ("expression", "TorchScript of Deep3DFaceRecon's network for E-FID"),
    ):
        task.add_argument(f"--{name}", type=Path, help=what)
    task.add_argument("--lpips", type=Path, nargs=2, metavar=("ALEXNET", "HEADS"), help="weights of LPIPS")


def _add_model(task: argparse.ArgumentParser) -> None:
    task.add_argument("--model", type=Path, default=native.DEFAULT_WEIGHTS, help="a model file (the built-in model)")
    task.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def _given(chosen: argparse.Namespace, kind: type) -> dict:
    """What the user set of the fields of `kind`."""
    names = [field.name for field in fields(kind)]
    return {name: getattr(chosen, name) for name in names if getattr(chosen, name, None) is not None}


def _builtin(chosen: argparse.Namespace) -> None:
    groups = tuple(chosen.rows.split(",")) if chosen.rows else builtin.USUAL
    if chosen.decoder:
        bundle, groups = builtin.untrained(PRESETS["builtin"], decoder=chosen.decoder), ("decoder",)
    else:
        bundle = talk.load(chosen.model, chosen.device)
    sampling = replace(bundle.sampling, **_given(chosen, SamplingConfig))
    amount = replace(builtin.Amount(clips=8) if chosen.quick else builtin.Amount(), **_given(chosen, builtin.Amount))
    about = builtin.about(bundle, chosen.decoder or chosen.model, sampling, amount)
    records = builtin.Records(chosen.json, about)
    recordings, portraits = _files(chosen.recordings, SOUNDS), _files(chosen.portraits, PICTURES)
    sources = builtin.Sources(chosen.puppets, chosen.speech, chosen.sung, recordings, portraits, chosen.fast)
    bench = builtin.Bench(bundle, load_face_finder(), sources, records, sampling=sampling, amount=amount)
    bench.bundle_path = None if chosen.decoder else chosen.model

    def made() -> list[report.Row]:
        return rows.rows(records.groups, records.ceilings, about)

    bench.measure(groups, on_group=lambda: records.save(report.as_json(made())))
    sys.stdout.write(report.table(made()))


def _files(given: list[Path], endings: tuple[str, ...]) -> tuple[Path, ...]:
    """Files, and those of the folders among them, in order. Raises FileNotFoundError."""
    found = []
    for path in given:
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}")
        found += sorted(file for file in path.iterdir() if file.suffix.lower() in endings) if path.is_dir() else [path]
    return tuple(found)


def _run(chosen: argparse.Namespace) -> None:
    from ..outputs.likeness import Likeness
    from . import judged, judging, phonemes
    from .hearing import load_encoder
    from .judges import Judges, Weights

    given = {name: getattr(chosen, name) for name in ("syncnet", "inception", "i3d", "arcface", "expression")}
    weights = Weights(**given, lpips=tuple(chosen.lpips) if chosen.lpips else None)
    try:
        likeness = Likeness()
    except ModuleNotFoundError:
        likeness = None
    others = {
        "portrait": _files(chosen.portraits, PICTURES),
        "voice": _files(chosen.voices, SOUNDS + VIDEOS),
        "reference": _files(chosen.reference, VIDEOS),
        "phonemes": _files(chosen.phonemes, (".json",)),
    }
    judges, sets = Judges(weights), {}
    for name, videos in _sets(chosen.videos).items():
        log.info("%s: %d videos", name, len(videos))
        bench = judging.Bench(
            load_face_finder(),
            judges,
            encoder=None if chosen.envelope else load_encoder(chosen.encoder),
            likeness=likeness,
            choice=chosen.which_face,
            most_seconds=chosen.seconds,
        )
        sets[name] = bench.judge_set(judging.pairs(videos, **others))
    about = {
        "command": "python -m emo_model.evaluation run " + " ".join(path.name for path in chosen.videos),
        "weights": weights.checksums,
        "encoder": None if chosen.envelope else {chosen.encoder.name: judging.sha256(chosen.encoder)},
        "dlib": likeness is not None,
        "phonemes": "files" if others["phonemes"] else "hama" if phonemes.is_installed() else None,
        "torch": torch.__version__,
    }
    sys.stdout.write(judged.write(chosen.out, sets, about))
    log.info("written: %s", chosen.out)


def _sets(given: list[Path]) -> dict[str, tuple[Path, ...]]:
    """Videos by set: each folder is one, and all single files are one. Raises FileNotFoundError and ValueError."""
    sets: dict[str, tuple[Path, ...]] = {}
    for path in given:
        name = path.resolve().name if path.is_dir() else "videos"
        while path.is_dir() and name in sets:
            name += "'"
        sets[name] = sets.get(name, ()) + _files([path], VIDEOS)
    empty = [name for name, videos in sets.items() if not videos]
    if empty:
        raise ValueError(f"there are no videos in {empty[0]} ({', '.join(VIDEOS)})")
    return sets


def _shuffled(chosen: argparse.Namespace) -> None:
    from . import shuffled

    amount = shuffled.Amount(chosen.clips, chosen.seconds, chosen.size)
    portraits = _files(chosen.portraits, PICTURES)
    sys.stdout.write(shuffled.run(chosen.model, portraits, chosen.out, amount).summary + "\n")


def _look(chosen: argparse.Namespace) -> None:
    bundle = talk.load(chosen.model, chosen.device)
    sampling = replace(bundle.sampling, seed=chosen.seed)
    for path in _files(chosen.portraits, PICTURES):
        strip = {"seconds": chosen.seconds, "frames": chosen.frames, "height": chosen.height}
        summary = show.look(bundle, path, chosen.voice, chosen.out, sampling=sampling, **strip)
        log.info("%s: %s", path.name, summary)


def _shown(chosen: argparse.Namespace) -> show.Shown:
    bundle = talk.load(chosen.model, chosen.device)
    sampling, part = replace(bundle.sampling, seed=chosen.seed), {"start": chosen.start, "seconds": chosen.seconds}
    return show.speak(bundle, chosen.portrait, chosen.audio, sampling=sampling, **part)


def _strip(chosen: argparse.Namespace) -> None:
    shown = _shown(chosen)
    still, frames = shown.head(shown.still), [shown.head(frame) for frame in shown.frames]
    show.write_strip(still, frames, chosen.out, count=chosen.frames, height=chosen.height)


def _hero(chosen: argparse.Namespace) -> None:
    shown = _shown(chosen)
    quality = show.write_webp(shown.frames, chosen.out, fps=shown.fps, side=chosen.side, megabytes=chosen.megabytes)
    log.info("%s: %.2f MB at quality %d", chosen.out, chosen.out.stat().st_size / 1e6, quality)


def _dials(chosen: argparse.Namespace) -> None:
    from . import dials

    bundle, pictures = talk.load(chosen.model, chosen.device), _files(chosen.portraits, PICTURES)
    found, seen = dials.measure(bundle, pictures, chosen.voice)
    if chosen.json:
        kept = {"pictures": [path.name for path in pictures], "changes": found, "mesh": seen}
        chosen.json.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    for line in dials.carried(found):
        log.info("%s", line)
    counted = ", ".join(f"{dials.blinks_counted(rate)} at {rate:g}" for rate in (0.0, 0.5, 1.0, 2.0))
    sys.stdout.write(f"{dials.table(found, seen)}\nBlinks in ten minutes by `blink_rate`: {counted}.\n")


def _audio(chosen: argparse.Namespace) -> None:
    from . import hearing

    encoders = {path.stem: hearing.load_encoder(path) for path in chosen.models}
    sys.stdout.write(hearing.report(encoders, chosen.data, _files(chosen.recordings, SOUNDS)))


def _speech(chosen: argparse.Namespace) -> None:
    if chosen.sung:
        prepare_speech(chosen.out, minutes=chosen.minutes, seed=901, held_out=True, mixture=SUNG)
    else:
        prepare_speech(chosen.out, minutes=chosen.minutes, seed=900, held_out=True)


def _oracle(chosen: argparse.Namespace) -> int:
    """One line per recorded tensor; returns 1 if any differs by more than the tolerance."""
    description = json.loads(chosen.config.read_text(encoding="utf-8"))
    wrong, how = 0, {"salt": chosen.weight_salt, "tolerance": chosen.tolerance}
    for difference in oracle.compare(load_file(chosen.io), description, **how):
        wrong += not difference.is_right
        sys.stdout.write(f"{difference}\n")
        sys.stdout.flush()
    if wrong:
        log.error("%d tensors differ by more than %g", wrong, chosen.tolerance)
    return int(wrong > 0)


_TASKS = {
    "run": _run,
    "shuffled": _shuffled,
    "builtin": _builtin,
    "look": _look,
    "strip": _strip,
    "hero": _hero,
    "dials": _dials,
    "audio": _audio,
    "prepare-speech": _speech,
    "oracle": _oracle,
}

if __name__ == "__main__":
    sys.exit(main())

"""Many videos: in this process, in several, as one part of a job array, or under Ray Data."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ...checkpoints import native
from ...checkpoints.mediapipe import FACES
from . import shards
from .networks import hashes, load_networks
from .preparing import Preparer
from .report import write_report
from .settings import Limits, Settings

log = logging.getLogger(__name__)

SUFFIXES = {
    ".mp4",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".ts",
    ".m2ts",
    ".mts",
    ".wmv",
    ".flv",
    ".3gp",
    ".ogv",
}
RAY = (
    "--ray needs Ray Data, which is not installed: pip install 'ray[data]'. Without it, --workers uses the cores of "
    "one machine, and --shard 1/8 ... 8/8 spreads the videos over a job array"
)


@dataclass(frozen=True)
class Work:
    """All that a worker needs to make its `Preparer`: plain values, so that they can be sent to another process."""

    out: Path
    settings: Settings
    model: str = "default"
    vae: Path | None = None
    audio_encoder: Path | None = None
    device: str = "cpu"

    def preparer(self) -> Preparer:
        networks = load_networks(self.model, vae=self.vae, audio_encoder=self.audio_encoder, device=self.device)
        return Preparer(networks, self.settings, self.out)


class RayWorker:
    """One actor of Ray Data: the same `Preparer`."""

    def __init__(self, work: Work):
        self.prepare = work.preparer()

    def __call__(self, item: dict) -> dict:
        row = self.prepare(item["video"])
        return {"video": row["video"], "status": row["status"], "clips": row["clips"]}


def videos_of(places: Sequence[Path]) -> list[Path]:
    """The files named, and those in folders named, sorted. Raises FileNotFoundError for a place that is not there."""
    found = []
    for place in places:
        if place.is_dir():
            found += [path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
        elif place.exists():
            found.append(place)
        else:
            raise FileNotFoundError(f"there is no file or folder {place}; check the names of the videos")
    return sorted(set(found))


def part_of(videos: list[Path], shard: str) -> list[Path]:
    """Shard 'i/n', i from 1 to n: every n-th video. Raises ValueError for another text."""
    try:
        number, count = map(int, shard.split("/"))
    except ValueError:
        number, count = 0, 0
    if not 1 <= number <= count:
        raise ValueError(f"--shard must be i/n with i from 1 to n, such as 3/8, got '{shard}'")
    return videos[number - 1 :: count]


def prepare(
    videos: Sequence[Path],
    out: Path,
    *,
    settings: Settings = Settings(),
    model: str = "default",
    vae: Path | None = None,
    audio_encoder: Path | None = None,
    shard: str = "1/1",
    workers: int = 1,
    ray: bool = False,
    device: str = "cpu",
    on_row: Callable[[dict], None] = lambda row: None,
) -> dict:
    """Prepare videos (files and folders) into `out`; returns the report. What is there already is not done again.

    Raises FileNotFoundError or ValueError for wrong arguments, ModuleNotFoundError for --ray without Ray.
    """
    chosen = part_of(videos_of(videos), shard)
    sources = hashes(*(path for path in (vae, audio_encoder) if path))
    models = native.DEFAULT_WEIGHTS if model == "default" or not Path(model).is_file() else Path(model)
    sources += (("faces", native.weights_hash(FACES)), ("model", native.weights_hash(models)))
    work = Work(out, replace(settings, preset=_preset(model), sources=sources), model, vae, audio_encoder, device)
    shards.check_settings(out, work.settings.to_json())
    run = _with_ray if ray else _in_processes if workers > 1 and len(chosen) > 1 else _here
    for row in run(work, chosen, workers):
        on_row(row)
    shards.write_index(out)
    return write_report(out)


def _preset(model: str) -> str:
    return model if not Path(model).is_file() else native.read_config(model).name


def _here(work: Work, videos: Sequence[Path], workers: int = 1) -> Iterator[dict]:
    if videos:
        preparer = work.preparer()
        yield from map(preparer, videos)


def _all_here(work: Work, videos: Sequence[Path]) -> list[dict]:
    return list(_here(work, videos))


def _in_processes(work: Work, videos: Sequence[Path], workers: int) -> Iterator[dict]:
    import concurrent.futures
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        parts = [videos[number::workers] for number in range(workers)]
        for done in concurrent.futures.as_completed([pool.submit(_all_here, work, part) for part in parts if part]):
            yield from done.result()


def _with_ray(work: Work, videos: Sequence[Path], workers: int) -> Iterator[dict]:
    try:
        import ray.data
    except ModuleNotFoundError:
        raise ModuleNotFoundError(RAY) from None
    if not videos:
        return
    items = ray.data.from_items([{"video": str(path.absolute())} for path in videos])
    work = replace(work, out=work.out.absolute())
    gpus = {"num_gpus": 1} if work.device.startswith("cuda") else {}
    done = items.map(RayWorker, fn_constructor_args=(work,), concurrency=workers, **gpus)
    yield from done.iter_rows()


def add_prepare_command(commands) -> None:
    """Add `prepare` to argparse's commands."""
    command = commands.add_parser(
        "prepare", help="recorded videos to clips for training: shots, one face, speech that fits the lips"
    )
    command.add_argument("videos", type=Path, nargs="+", help="video files, and folders of them")
    command.add_argument("--out", type=Path, required=True, help="the folder of the data")
    command.add_argument(
        "--model",
        default="default",
        help="what is to be trained: a model file, 'emo', or 'default' for the built-in one",
    )
    command.add_argument("--vae", type=Path, help="SD's VAE (safetensors), for models that denoise its latents")
    command.add_argument("--audio-encoder", type=Path, help="a folder of wav2vec2-base-960h, for the same models")
    command.add_argument("--shard", default="1/1", metavar="I/N", help="every N-th video from the I-th on: job arrays")
    command.add_argument("--workers", type=int, default=1, help="processes, or with --ray actors (%(default)s)")
    command.add_argument("--ray", action="store_true", help="run under Ray Data, on many machines")
    command.add_argument("--device", default="cpu", help="of the networks (%(default)s)")
    command.add_argument("--crop", type=int, help="pixels a side of the kept crops (512)")
    command.add_argument(
        "--long-side", type=int, default=Settings.long_side, help="pixels; larger pictures are downscaled (%(default)s)"
    )
    for field in fields(Limits):
        command.add_argument(
            f"--{field.name.replace('_', '-')}", type=float, default=field.default, help="(%(default)s)"
        )


def prepare_command(chosen: argparse.Namespace) -> None:
    """Run `prepare` with parsed arguments."""
    limits = Limits(**{field.name: getattr(chosen, field.name) for field in fields(Limits)})
    settings = Settings(crop=chosen.crop or Settings.crop, long_side=chosen.long_side, limits=limits)
    names = "model vae audio_encoder shard workers ray device".split()

    def on_row(row: dict) -> None:
        log.info("%s: %s, %d clips", row["video"], row["status"], row["clips"])

    how = {name: getattr(chosen, name) for name in names}
    result = prepare(chosen.videos, chosen.out, settings=settings, on_row=on_row, **how)
    log.info(
        "%s: %d of %d videos, %d clips, %.0f of %.0f s; see report.html there",
        chosen.out,
        result["prepared"],
        result["videos"],
        result["clips"],
        result["kept_seconds"],
        result["seconds"],
    )

"""Seconds per frame of the whole command, everything included: start, face, voice, sampling, decoding, encoding.

    python benchmarks/command.py [--repeat 3] [--size 512] [--seconds 30] [--cpus 0 1] [--other CHECKOUT] [--json OUT]

Each row is a variant of the built-in model on the shipped portrait, scaled to `--size`, and the shipped voice, or that
repeated to `--seconds`: the start of Python and torch takes the same time for a long video. Each run is a process of
its own with an empty clip cache. wall: elapsed time; processor: user and system time of all threads.
Both are the least of the repeats, since other work on a machine only adds to them. `--other` is another checkout of
this repository; its runs alternate with this one's, and the median of the paired ratios is printed, which other work
changes less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
INPUTS = ROOT / "workflows" / "inputs"
VARIANTS = {"default": [], "fast": ["--fast"]}


def run_once(checkout: Path, options: list[str], folder: Path, cpus: list[int] | None) -> dict:
    """One run of the command on the folder's portrait.png and voice.wav: wall and processor seconds, and the fields of
    its JSON line."""
    with tempfile.TemporaryDirectory(dir=folder) as clips:
        command = [sys.executable, "-m", "emo_model", str(folder / "portrait.png"), str(folder / "voice.wav"), *options]
        command += ["--out", str(folder / "out.mp4"), "--clips", clips]
        pin = None if cpus is None else lambda: os.sched_setaffinity(0, cpus)
        before, began = _processor(), time.monotonic()
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, preexec_fn=pin)
        wall = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} in {checkout} failed:\n{done.stderr}")
    return {**json.loads(done.stdout.splitlines()[-1]), "wall": wall, "processor": _processor() - before}


def _processor() -> float:
    """User and system seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def lengthened(voice: Path, out: Path, seconds: float | None) -> None:
    """The voice, said again and again for so many seconds."""
    with wave.open(str(voice)) as given, wave.open(str(out), "wb") as made:
        made.setparams(given.getparams())
        count = given.getnframes() if seconds is None else round(seconds * given.getframerate())
        sound, size = given.readframes(given.getnframes()), given.getnchannels() * given.getsampwidth()
        made.writeframes((sound * (count * size // len(sound) + 1))[: count * size])


def measure(
    checkouts: list[Path], variants: list[str], *, size: int, seconds: float | None, repeat: int, cpus: list[int] | None
) -> list:
    """A row for each variant and checkout; the runs of the checkouts alternate."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture = Image.open(INPUTS / "emo_portrait.jpg").resize((size, size), Image.Resampling.LANCZOS)
        picture.save(folder / "portrait.png")
        lengthened(INPUTS / "emo_voice.wav", folder / "voice.wav", seconds)
        for variant in variants:
            runs: dict[Path, list[dict]] = {checkout: [] for checkout in checkouts}
            for _ in range(repeat):
                for checkout in checkouts:
                    runs[checkout].append(run_once(checkout, VARIANTS[variant], folder, cpus))
            rows += [_row(variant, checkout, made, runs[checkouts[0]]) for checkout, made in runs.items()]
    return rows


def _row(variant: str, checkout: Path, made: list[dict], own: list[dict]) -> dict:
    frames = made[0]["frames"]
    row = {"variant": variant, "checkout": str(checkout), "runs": len(made), "frames": frames}
    row |= {key: made[0][key] for key in ("width", "height")}
    for key in ("wall", "processor"):
        row[f"{key}_per_frame"] = min(run[key] for run in made) / frames
        row[f"{key}_ratio"] = statistics.median(mine[key] / run[key] for mine, run in zip(own, made, strict=True))
    row["first_clip"] = min(run["first_clip_seconds"] for run in made)
    row["peak_rss_mb"] = max(run["peak_rss_mb"] for run in made)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--size", type=int, default=512, help="sides of the frames in pixels (%(default)s)")
    parser.add_argument("--seconds", type=float, help="repeat the voice to so many seconds (its own 6.5)")
    parser.add_argument("--cpus", type=int, nargs="+", help="run on these cores only (Linux)")
    parser.add_argument("--other", type=Path, action="append", default=[], help="another checkout to compare with")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    checkouts = [ROOT, *(path.resolve() for path in chosen.other)]
    how = {"size": chosen.size, "seconds": chosen.seconds, "repeat": chosen.repeat, "cpus": chosen.cpus}
    rows = measure(checkouts, chosen.variants, **how)
    cores = len(os.sched_getaffinity(0)) if chosen.cpus is None else len(chosen.cpus)
    print(f"{platform.processor() or platform.machine()}, {cores} cores, Python {platform.python_version()}")
    columns = ("variant", "checkout", "frames", "wall, s a frame", "processor, s a frame", "first clip, s", "peak MB")
    columns += ("wall, this over it", "processor, this over it")
    print(f"| {' | '.join(columns)} |")
    print("| --- " * len(columns) + "|")
    for row in rows:
        print(
            f"| {row['variant']} | {Path(row['checkout']).name} | {row['frames']} of {row['width']}x{row['height']} "
            f"| {row['wall_per_frame']:.4f} | {row['processor_per_frame']:.4f} | {row['first_clip']:.2f} "
            f"| {row['peak_rss_mb']} | {row['wall_ratio']:.3f} | {row['processor_ratio']:.3f} |"
        )
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

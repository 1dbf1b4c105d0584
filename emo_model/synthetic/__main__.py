"""`python -m emo_model.synthetic sheet OUT.png --seeds 0-63` and `... clip OUT.mp4 --seed 3 --text "..."`."""

from __future__ import annotations

import argparse
import sys

from .clips import draw_clip, write_clip, write_sheet
from .speech import RATE, synthesize


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m emo_model.synthetic", description="Look at the drawn talking heads."
    )
    tasks = parser.add_subparsers(dest="task", required=True)
    sheet = tasks.add_parser("sheet", help="still pictures side by side")
    sheet.add_argument("out", help="a picture file, such as sheet.png")
    sheet.add_argument("--seeds", type=_seeds, default="0-63", help="one number, 0-63, or 3,7,20-29 (default 0-63)")
    sheet.add_argument("--columns", type=int, default=8, help="pictures side by side (default 8)")
    clip = tasks.add_parser("clip", help="one person saying a text")
    clip.add_argument("out", help="a video file, such as clip.mp4")
    clip.add_argument("--seed", type=int, default=0, help="who (default 0)")
    clip.add_argument(
        "--text",
        default="How good of you to come. What a beautiful morning for a walk by the river!",
        help="what is said",
    )
    clip.add_argument("--voice", default="espeak:en-us", help="engine and voice (default espeak:en-us)")
    clip.add_argument("--fps", type=float, default=25.0, help="frames per second (default 25)")
    clip.add_argument(
        "--head-speed", type=float, default=None, help="mean head rotation in degrees per second (default: drawn)"
    )
    for task in (sheet, clip):
        task.add_argument("--size", type=int, default=128, help="pixels along each side of a picture (default 128)")
    chosen = parser.parse_args(arguments)
    if chosen.task == "sheet":
        write_sheet(chosen.out, chosen.seeds, size=chosen.size, columns=chosen.columns)
        return 0
    try:
        speech = synthesize(chosen.text, chosen.voice)
    except (RuntimeError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    frames = draw_clip(chosen.seed, speech, size=chosen.size, fps=chosen.fps, head_speed=chosen.head_speed)
    write_clip(chosen.out, frames, chosen.fps, speech.waveform, RATE)
    return 0


def _seeds(text: str) -> list[int]:
    ends = [part.partition("-") for part in text.split(",")]
    return [seed for first, dash, last in ends for seed in range(int(first), int(last if dash else first) + 1)]


if __name__ == "__main__":
    raise SystemExit(main())

"""Peak memory over the length of the sound, on the command line's way and in a real ComfyUI: it must not grow.

    python benchmarks/long_audio.py [--minutes 1 10 60] [--fps 25] [--json OUT]       # the library python
    benchmarks/long_audio.py --comfyui /path/to/ComfyUI [...]                  # the server; with ComfyUI's own Python

Every row is a process of its own, on a small model with random weights, so that an hour of sound ends in minutes;
memory does not depend on what the weights say. Peak RSS is what the operating system counted for the process. The limit
for the second row against the first: 5 % or 100 MB, whichever is more. Core's LoadAudio holds all sound in memory;
`sound` is how much that is.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))
from emo_model.checkpoints import native
from emo_model.config import PRESETS

ROOT = Path(__file__).parents[1]
RATE = 16_000
LONG_SIDE = 128  # pixels of the video
SMALL = replace(PRESETS["test"], name="long", clip_frames=24, motion_frames=4)


def write_voice(path: Path, minutes: float) -> None:
    """Syllables of noise, a minute at a time."""
    draw = np.random.default_rng(0)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        left = round(minutes * 60 * RATE)
        while left > 0:
            count = min(left, 60 * RATE)
            loudness = 2_000 * (1 + np.sin(2 * np.pi * 4 * np.arange(count) / RATE))
            file.writeframes((draw.standard_normal(count) * loudness).clip(-32_000, 32_000).astype("<i2").tobytes())
            left -= count


def by_library(model: Path, voice: Path, folder: Path, fps: float) -> dict:
    portrait = ROOT / "workflows" / "inputs" / "emo_portrait.jpg"
    command = [
        sys.executable,
        "-m",
        "emo_model",
        str(portrait),
        str(voice),
        "-o",
        str(folder / "long.mp4"),
        "--long-side",
        str(LONG_SIDE),
        "--model",
        str(model),
        "--steps",
        "1",
        "--guidance",
        "1",
        "--fps",
        str(fps),
        "--clips",
        str(folder / "clips"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    said = json.loads(done.stdout)
    return {
        "frames": said["frames"],
        "seconds": said["seconds"],
        "first_clip_seconds": said["first_clip_seconds"],
        "peak_rss_mb": said["peak_rss_mb"],
        "peak_device_mb": said.get("peak_device_mb"),
    }


def by_comfyui(comfyui: Path, model: Path, voice: Path, folder: Path, fps: float) -> dict:
    from comfyui_server import ComfyServer

    prompt = json.loads((ROOT / "workflows" / "api" / "talking_portrait.json").read_text(encoding="utf-8"))
    prompt["voice"] = {"class_type": "LoadAudio", "inputs": {"audio": voice.name}}
    for node in prompt.values():
        changes = {"model_name": model.name, "steps": 1, "audio_guidance": 1.0, "long_side": LONG_SIDE}
        node["inputs"].update({key: value for key, value in changes.items() if key in node["inputs"]})
        if node["class_type"] == "EmoAudioEncoder":
            node["inputs"].update(audio=["voice", 0], fps=fps)
    server = ComfyServer(comfyui, folder)
    for file, place in ((model, "models/emo"), (voice, "input")):
        (folder / place / file.name).symlink_to(file)
    with server:
        idle, began = rss_mb(server.process.pid, "VmRSS"), time.monotonic()
        result = server.run(prompt, timeout=24 * 3600)
        if result["status"] != "success":
            raise SystemExit(f"{result['error']}\n{server.log[-3000:]}")
        bars = [total for _, total in result["progress"]]
        return {
            "frames": bars[-1],
            "seconds": round(time.monotonic() - began, 1),
            "idle_rss_mb": idle,
            "peak_rss_mb": rss_mb(server.process.pid, "VmHWM"),
        }


def rss_mb(process: int, field: str) -> int:
    """MB of 10^6 bytes, as Linux counts them."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) * 1024 / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 60])
    parser.add_argument("--fps", type=float, default=25.0, help="of the video; fewer frames end sooner (%(default)s)")
    parser.add_argument("--comfyui", type=Path, help="measure the server of this ComfyUI, instead of the command")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rows = []
    what = f"ComfyUI's server, {chosen.comfyui.name}" if chosen.comfyui else "python -m emo_model"
    sys.stdout.write(
        f"{what}, {LONG_SIDE}x{LONG_SIDE}, {platform.machine()}, torch "
        f"{torch.__version__}\n{'minutes':>7} {'frames':>8} {'seconds':>8} {'first clip':>11} "
        f"{'sound MB':>9} {'peak RSS MB':>12}\n"
    )
    for minutes in chosen.minutes:
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder)
            torch.manual_seed(0)
            native.save(base / "long.safetensors", native.build(SMALL))
            write_voice(base / "voice.wav", minutes)
            arguments = (base / "long.safetensors", base / "voice.wav", base / "run", chosen.fps)
            (base / "run").mkdir()
            row = by_comfyui(chosen.comfyui.resolve(), *arguments) if chosen.comfyui else by_library(*arguments)
        row = {"minutes": minutes, "sound_mb": round(minutes * 60 * RATE * 4 / 1e6), **row}
        rows.append(row)
        first = row.get("first_clip_seconds", "")  # seconds; the server does not tell
        sys.stdout.write(
            f"{minutes:7g} {row['frames']:8} {row['seconds']:8.0f} {first:>11} {row['sound_mb']:9} "
            f"{row['peak_rss_mb']:12}\n"
        )
        sys.stdout.flush()
    for row in rows[1:]:
        more, limit = row["peak_rss_mb"] - rows[0]["peak_rss_mb"], max(100, 0.05 * rows[0]["peak_rss_mb"])
        sys.stdout.write(
            f"{row['minutes']:g} minutes: {more:+d} MB against {rows[0]['minutes']:g} (limit {limit:.0f} MB)\n"
        )
    if chosen.json:
        chosen.json.write_text(json.dumps({"what": what, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()

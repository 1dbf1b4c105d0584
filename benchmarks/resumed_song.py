"""A song in a real ComfyUI whose server is killed in the middle and asked again: what is lost, what is heard, how much
memory.

    python benchmarks/resumed_song.py --comfyui /path/to/ComfyUI [--minutes 3] [--steps 1]     # with ComfyUI's own
    Python

The built-in model sings a line that this script makes (44.1 kHz), and a stereo mix with accompaniment is heard; both go
in by the HTTP API. Fails unless every clip that was finished is found again, and the file has every frame and every
sample of the mix.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np
from long_audio import ROOT, rss_mb  # it also says where the packages lie

from emo_model.config import PRESETS
from emo_model.estimate import count_clips

RATE, FPS = 44_100, 25
SCALE = 220 * 2 ** (np.array([0, 2, 4, 5, 7, 9, 11, 12]) / 12)  # Hz


def sing(seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """(voice (T,), stereo mix (T, 2)) in -1..1: a note with vibrato every half second, rests between lines, chords
    below."""
    draw = np.random.default_rng(0)
    count = round(seconds * RATE)
    time_of = np.arange(count) / RATE
    beat = (time_of * 2).astype(int)
    notes = SCALE[draw.integers(0, len(SCALE), beat[-1] + 1)]
    pitch = notes[beat] * (1 + 0.01 * np.sin(2 * np.pi * 5.5 * time_of))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    within = time_of * 2 % 1
    loudness = np.sin(np.pi * within) ** 0.5 * (beat % 16 < 14)  # a second of rest behind seven of song
    vowel = 0.5 + 0.5 * np.sin(2 * np.pi * 0.7 * time_of)  # which overtones are loud
    voice = sum((vowel if k % 2 else 1 - vowel) * np.sin(k * phase) / k for k in range(1, 9))
    voice = 0.4 * loudness * voice / np.abs(voice).max()
    chord = sum(np.sin(2 * np.pi * hertz * time_of) for hertz in (110.0, 138.59, 164.81)) / 12
    return voice, np.stack([voice + chord, voice + np.roll(chord, RATE // 100)], axis=1)


def write(path: Path, sound: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if sound.ndim == 1 else sound.shape[1])
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((sound * 32_767).astype("<i2").tobytes())


def graph(steps: int) -> dict:
    """The shipped workflow with a voice that drives and a mix that is heard, its sound lossless."""
    prompt = json.loads((ROOT / "workflows" / "api" / "talking_portrait.json").read_text(encoding="utf-8"))
    for name in ("voice", "mix"):
        prompt[name] = {"class_type": "LoadAudio", "inputs": {"audio": f"{name}.wav"}}
    for node in prompt.values():
        if node["class_type"] == "EmoAudioEncoder":
            node["inputs"].update(audio=["voice", 0], mix=["mix", 0], fps=FPS)
        if node["class_type"] == "EmoSampler":
            node["inputs"].update(steps=steps)
        if node["class_type"] == "EmoVideoCombine":
            node["inputs"].update(sound="flac")
    return prompt


def run(server, prompt: dict, *, kill_at: tuple[int, int] | None = None) -> dict:
    """Queue and follow; at this step of so many, the sampler's, the server is killed. -> seconds, peak_rss_mb."""
    began, peak = time.monotonic(), 0

    def on_progress(done: int, total: int) -> None:
        nonlocal peak
        peak = rss_mb(server.process.pid, "VmHWM")
        if (done, total) == kill_at:
            server.process.kill()

    try:
        result = server.run(prompt, timeout=24 * 3600, on_progress=on_progress)
    except (AssertionError, OSError):  # the connection broke
        result = {"status": "killed"}
    if result["status"] != ("killed" if kill_at else "success"):
        raise SystemExit(f"{result}\n{server.log[-3000:]}")
    return {"seconds": time.monotonic() - began, "peak_rss_mb": peak}


def played(data: Path) -> tuple[int, np.ndarray]:
    """(frames, sound (T, channels) int16) of a file, decoded."""
    import av

    with av.open(str(data)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    with av.open(str(data)) as container:
        resampler = av.AudioResampler(format="s16", layout="stereo")
        parts = [
            part.to_ndarray().reshape(-1, 2)
            for frame in container.decode(audio=0)
            for part in resampler.resample(frame)
        ]
    return frames, np.concatenate(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=1, help="denoising steps; fewer end sooner (%(default)s)")
    chosen = parser.parse_args()
    from comfyui_server import ComfyServer

    voice, mix = sing(60 * chosen.minutes)
    frames = round(60 * chosen.minutes * FPS)
    clips = count_clips(frames, PRESETS["builtin"].clip_frames)
    with tempfile.TemporaryDirectory() as folder:
        base, prompt = Path(folder), graph(chosen.steps)
        server = ComfyServer(chosen.comfyui.resolve(), base)
        for name, sound in (("voice", voice), ("mix", mix)):
            write(base / "input" / f"{name}.wav", sound)
        with server:
            first = run(server, prompt, kill_at=(round(0.45 * clips * chosen.steps), clips * chosen.steps))
            server.process.wait()
        kept = len(list((base / "user" / "emo_clips").glob("*.safetensors")))
        with server:
            second = run(server, prompt)
        rendered = int(re.findall(rf"(\d+) of {clips} clips rendered", server.log)[-1])
        (file,) = (base / "output").rglob("*.mp4")
        seen, heard = played(file)
    wanted = (mix * 32_767).astype("<i2")
    same = heard.shape == wanted.shape and np.array_equal(heard, wanted)
    sys.stdout.write(
        f"{chosen.minutes:g} minutes, {FPS} fps, {clips} clips, {chosen.comfyui.name}\nkilled after "
        f"{first['seconds']:.0f} s with {kept} clips on the disk, peak RSS {first['peak_rss_mb']} MB\nasked again: "
        f"{rendered} clips rendered in {second['seconds']:.0f} s, peak RSS {second['peak_rss_mb']} MB\nframes {seen} "
        f"of {frames}, samples {len(heard)} of {len(wanted)}, {'every one' if same else 'NOT'} as it was\n"
    )
    if not 0 < kept < clips == rendered + kept or seen != frames or not same:
        raise SystemExit("something was lost")


if __name__ == "__main__":
    main()

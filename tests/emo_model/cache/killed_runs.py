"""Runs that are killed, in processes of their own; `test_cache.py` starts this file. Prints one line of JSON.

It forks, for importing torch anew takes longer than a run; it never uses more than one thread, for a fork would lose
the others.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402

from emo_model.cache import folder as cache  # noqa: E402
from emo_model.cache.renderer import CachedRenderer  # noqa: E402
from emo_model.checkpoints import native  # noqa: E402
from emo_model.config import PRESETS, SamplingConfig  # noqa: E402
from emo_model.inputs.face import whole_mask  # noqa: E402
from emo_model.sampling.clips import ClipRenderer, generate_clips  # noqa: E402
from emo_model.types import AudioFeatures, Conditions, Fit, Portrait, Speed  # noqa: E402

CLIPS = 12
MOMENTS = (
    "half written",
    "before the file is synced",
    "before it is renamed",
    "before the folder is synced",
    "after all",
)


def video(model, run: cache.CacheRun | None = None) -> torch.Tensor:
    config = PRESETS["test"]
    draw = torch.Generator().manual_seed(5)
    cells, size, frames = config.latent_size, config.image_size, CLIPS * config.clip_frames - 1
    portrait = Portrait(
        torch.randn(1, config.latent_channels, cells, cells, generator=draw),
        torch.zeros(1, 3, size, size),
        Fit(size, size, 0, 0, size, size),
    )
    audio = AudioFeatures(
        torch.randn(frames, config.audio_layers, config.audio_width, generator=draw), 25.0, frames / 25
    )
    conditions = Conditions(portrait, whole_mask(size), audio, Speed.constant(12.5))
    render = ClipRenderer(model, conditions, SamplingConfig(steps=2, audio_guidance=1.0))
    return torch.cat(list(generate_clips(render if run is None else CachedRenderer(render, run))), dim=2)


def child(work) -> int:
    process = os.fork()
    if process == 0:
        try:
            work()
        finally:
            os._exit(0)
    return process


def die_at(moment: str, number: int) -> None:
    """Kill this process with SIGKILL at a moment of saving its clip `number`."""
    seen = {name: 0 for name in MOMENTS}

    def dies(name: str) -> bool:
        seen[name] += 1
        if name == moment and seen[name] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    fsync, replace, sync_folder, save = os.fsync, os.replace, cache._sync_folder, cache.save

    def half(*given):
        data = save(*given)
        if moment == "half written" and seen[moment] + 1 == number:
            real_open = cache.open_private

            class File:
                def __init__(self, path, mode):
                    self.file = real_open(path, mode)

                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    self.file.close()

                def write(self, _):
                    self.file.write(data[: len(data) // 2])
                    self.file.flush()
                    dies("half written")

            cache.open_private = File
        else:
            seen["half written"] += 1
        return data

    cache.save = half
    os.fsync = lambda descriptor: dies("before the file is synced") or fsync(descriptor)
    os.replace = lambda *paths: dies("before it is renamed") or replace(*paths)

    def synced(folder):
        dies("before the folder is synced")
        sync_folder(folder)
        dies("after all")

    cache._sync_folder = synced


def run(model, folder: Path) -> torch.Tensor:
    with cache.ClipCache(folder).run() as cache_run:
        return video(model, cache_run)


def believed(folder: Path) -> int:
    """Clips that lie under their names; raises if one of them is not whole."""
    files = list(folder.glob("*.safetensors"))
    for path in files:
        assert cache.read_clip(path) is not None, f"a torn file is believed: {path}"
    return len(files)


def kill_loop(model, whole: torch.Tensor, base: Path, *, kills: int, seed: int) -> dict:
    """Kill runs at random times, and at each moment of writing; each cache is resumed until it is whole."""
    dice, done = random.Random(seed), {"at random": 0, "while saving": 0, "caches": 0, "kept": []}
    began = time.monotonic()
    video(model)
    takes = time.monotonic() - began
    at = [(moment, dice.randint(1, 4)) for moment in MOMENTS for _ in range(2)]
    while done["at random"] < kills or at:
        folder, kept = base / f"cache{done['caches']}", 0
        done["caches"] += 1
        while True:
            planned = at.pop() if at and dice.random() < 0.5 else None

            def work(planned=planned, folder=folder):
                if planned is not None:
                    die_at(*planned)
                run(model, folder)

            process = child(work)
            if planned is None:
                time.sleep(dice.uniform(0, takes * 0.6))
                os.kill(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
            now = believed(folder)
            assert now >= kept, "a finished clip was lost"
            if os.WIFSIGNALED(status):
                done["at random" if planned is None else "while saving"] += 1
                done["kept"].append(now)
            kept = now
            if now >= CLIPS - 2:
                break
        resumed = run(model, folder)
        assert torch.equal(resumed, whole), "the resumed video differs"
        assert believed(folder) == CLIPS and not list(folder.glob("*.part")), "something was left"
    return done


def at_once(model, whole: torch.Tensor, folder: Path, *, processes: int) -> dict:
    """The same video in several processes on one cache, each of which cleans up all it may when it starts."""

    def work(number: int):
        time.sleep(number * 0.05)
        limits = cache.CacheLimits(max_gb=0, max_days=0)
        with cache.ClipCache(folder, limits).run() as cache_run:
            made = video(model, cache_run)
            again = torch.cat(list(cache_run.clips(wanted=made.shape[2], fps=25.0, config=PRESETS["test"])), dim=2)
            torch.save((made, again, cache_run.rendered), folder.parent / f"made{number}.pt")

    started = [child(lambda number=number: work(number)) for number in range(processes)]
    for process in started:
        os.waitpid(process, 0)
    made = [torch.load(folder.parent / f"made{number}.pt") for number in range(processes)]
    assert all(torch.equal(video, whole) and torch.equal(again, whole) for video, again, _ in made), (
        "a clip was lost or differs"
    )
    return {"rendered": [rendered for *_, rendered in made]}


def main() -> None:
    base, what = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = native.build(PRESETS["test"]).emo
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2) if parameter.ndim > 1 else None
    whole = video(model)
    if what == "kill":
        result = kill_loop(model, whole, base, kills=int(sys.argv[3]), seed=int(sys.argv[4]))
    else:
        result = at_once(model, whole, base / "cache", processes=3)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()

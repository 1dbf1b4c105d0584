"""Seconds per frame of the whole way from conditions to pixels, by sampler, steps and guidance, as ratios within one run.

    python benchmarks/sampling.py [--model FILE] [--preset NAME] [--seconds 2] [--repeat 3] [--device cpu] [--json OUT]

Every row is the median of `--repeat` runs, taken in turns so that a drifting machine moves all rows alike; the first row is the
baseline of the ratios. With --preset the weights are random: good for timing, not for looking at.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from emo_model.__main__ import peak_rss_mb
from emo_model.checkpoints import native
from emo_model.config import PRESETS, SamplingConfig
from emo_model.inputs import face, vae
from emo_model.sampling.clips import generate_clips
from emo_model.types import AudioFeatures, Conditions, Portrait, Speed

DEFAULT = SamplingConfig()
ROWS = {
    "default settings": DEFAULT,
    "guidance 1": replace(DEFAULT, audio_guidance=1.0),
    "4 steps": replace(DEFAULT, steps=4),
    "4 steps, guidance 1": replace(DEFAULT, steps=4, audio_guidance=1.0),
    "dpmpp_2m": replace(DEFAULT, sampler="dpmpp_2m"),
    "reference guidance 1.5": replace(DEFAULT, reference_guidance=1.5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=native.DEFAULT_WEIGHTS)
    parser.add_argument("--preset", choices=sorted(PRESETS), help="random weights of this preset instead of --model")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of the video")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    bundle = native.build(PRESETS[chosen.preset]) if chosen.preset else native.load(chosen.model, dtype=torch.float32)
    for part in bundle.parts.values():
        part.to(chosen.device, memory_format=torch.channels_last)
    config = bundle.config
    frames = round(chosen.seconds * config.fps)
    size = config.image_size
    generator = torch.Generator().manual_seed(0)
    pixels, fit = face.fit_picture(torch.rand(1, 3, size, size, generator=generator) * 2 - 1, size)
    latents = torch.randn(1, config.latent_channels, config.latent_size, config.latent_size, generator=generator)
    conditions = Conditions(Portrait(latents.to(chosen.device), pixels, fit), face.whole_mask(size), AudioFeatures(
        torch.randn(frames, config.audio_layers, config.audio_width, generator=generator), config.fps, chosen.seconds), Speed.constant(12.5))

    def once(sampling: SamplingConfig) -> tuple[float, float]:
        """Seconds of sampling and of decoding."""
        began, decoding = clock(), 0.0
        for clip in generate_clips(bundle.emo, conditions, config=sampling, device=chosen.device):
            if bundle.autoencoder is not None:
                at = clock()
                vae.decode(bundle.autoencoder, clip[0].transpose(0, 1), config)
                decoding += clock() - at
        return clock() - began - decoding, decoding

    def clock() -> float:
        if chosen.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()

    once(replace(DEFAULT, steps=1))  # warm-up
    measured = {name: [] for name in ROWS}
    for _ in range(chosen.repeat):
        for name, sampling in ROWS.items():
            measured[name].append(once(sampling))
    rows = [{"name": name, "seconds_per_frame": statistics.median(map(sum, pairs)) / frames,
             "of_these_decoding": statistics.median(pair[1] for pair in pairs) / frames} for name, pairs in measured.items()]
    for row in rows:
        row["ratio"] = row["seconds_per_frame"] / rows[0]["seconds_per_frame"]
    machine = torch.cuda.get_device_name() if chosen.device.startswith("cuda") else f"{platform.machine()}, {torch.get_num_threads()} threads"
    result = {"model": config.name, "size": size, "frames": frames, "device": chosen.device, "machine": machine,
              "torch": torch.__version__, "peak_rss_mb": round(peak_rss_mb()), "rows": rows}
    lines = [f"{config.name}, {size}x{size}, {frames} frames, {machine}, torch {torch.__version__}, peak RSS {result['peak_rss_mb']} MB",
             f"{'settings':28} {'s/frame':>9} {'decoding':>9} {'ratio':>6}"]
    lines += [f"{row['name']:28} {row['seconds_per_frame']:9.4f} {row['of_these_decoding']:9.4f} {row['ratio']:6.2f}" for row in rows]
    sys.stdout.write("\n".join(lines) + "\n")
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

"""Hallo's full size in ComfyUI's own memory management: seconds per frame and peak memory, with less and less of the
GPU free.

    python benchmarks/hallo_memory.py --comfyui PATH [--budgets 8 6 4] [--steps 10] [--json OUT]
    python benchmarks/hallo_memory.py --comfyui PATH --small --cpu      # a minute, to see that all of it runs

Run it with ComfyUI's Python. Weights are random (5 GB are written to a temporary folder first, or to --folder), so
times and memory are real and the picture is noise: 512x512, one clip of 16 frames, guidance 3.5, portrait and frames
through SD's VAE, voice through wav2vec 2.0. Every row is a process of its own. A budget is kept by a tensor that takes
the rest of the GPU; the smallest one runs with --lowvram. Latents must agree with the first row's to 2 % of their
spread, or the exit code is 1. What newer versions of ComfyUI call dynamic memory is switched on by their main.py only,
and so is off here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
GIB = 1024**3
TOLERANCE = 0.02
FILES = {"emo": "net.safetensors", "vae": "vae.safetensors", "audio_encoders": "wav2vec2.safetensors"}


def write_models(folder: Path, *, is_small: bool) -> None:
    """Random weights in the layouts of the real files."""
    sys.path.insert(0, str(ROOT))
    from emo_model.checkpoints.random_files import SMALL_HALLO, hallo_shapes, vae_shapes, wav2vec2_shapes, write_random

    shapes = {
        "emo": hallo_shapes(SMALL_HALLO) if is_small else hallo_shapes(),
        "vae": vae_shapes(),
        "audio_encoders": wav2vec2_shapes(),
    }
    for kind, name in FILES.items():
        if not (folder / "models" / kind / name).is_file():
            write_random(
                folder / "models" / kind / name, shapes[kind], image_size=32 if is_small and kind == "emo" else None
            )


def run_row(chosen: argparse.Namespace) -> dict:
    """One row, in this process, which must not have imported torch before."""
    sys.path.insert(0, str(chosen.comfyui))
    from comfy.cli_args import args

    args.cpu, args.lowvram = chosen.cpu, chosen.lowvram
    import folder_paths

    folder_paths.models_dir = str(chosen.folder / "models")
    for kind in FILES:
        folder_paths.add_model_folder_path(kind, str(chosen.folder / "models" / kind), is_default=True)
    folder_paths.set_temp_directory(str(chosen.folder / "temp"))
    import nodes  # noqa: I001 (ComfyUI's, not ours)
    import torch
    from comfy import model_management
    from comfy.audio_encoders.audio_encoders import load_audio_encoder_from_sd
    from comfy.utils import load_torch_file

    is_gpu, ballast = not chosen.cpu, None
    if is_gpu and chosen.row > 0:
        free, _ = torch.cuda.mem_get_info()
        if free < chosen.row * GIB:
            raise SystemExit(f"only {free / GIB:.1f} GiB are free, {chosen.row:g} were wanted")
        ballast = torch.empty(int(free - chosen.row * GIB), dtype=torch.uint8, device="cuda")
    held = 0 if ballast is None else ballast.nbytes
    asyncio.run(nodes.load_custom_node(str(ROOT), set(nodes.NODE_CLASS_MAPPINGS)))
    pack = str(ROOT).replace(".", "_x_")
    bridge = sys.modules[f"{pack}.nodes.comfy_bridge"]
    face, types, config = (sys.modules[f"{pack}.emo_model.{name}"] for name in ("inputs.face", "types", "config"))
    scaled, clips = sys.modules[f"{pack}.emo_model.inputs.vae"], sys.modules[f"{pack}.emo_model.sampling.clips"]
    retried = _Heard("memory ran out")
    logging.getLogger().addHandler(retried)

    def peak() -> dict[str, float]:
        if not is_gpu:
            return {}
        found = {
            "allocated_gib": (torch.cuda.max_memory_allocated() - held) / GIB,
            "reserved_gib": (torch.cuda.max_memory_reserved() - held) / GIB,
        }
        torch.cuda.reset_peak_memory_stats()
        return found

    with torch.inference_mode():
        model = bridge.load_model(FILES["emo"])[0]
        (vae,) = nodes.VAELoader().load_vae(FILES["vae"])
        voice_file = folder_paths.get_full_path("audio_encoders", FILES["audio_encoders"])
        encoder = load_audio_encoder_from_sd(load_torch_file(voice_file))
        size, frames = model.config.image_size, model.config.clip_frames
        draw = torch.Generator().manual_seed(0)
        picture = torch.rand(1, size, size, 3, generator=draw)
        sound = torch.randn(round(16000 * frames / model.config.fps), generator=draw) * 0.1
        voice = bridge.encode_audio(
            encoder,
            sound,
            fps=model.config.fps,
            seconds=frames / model.config.fps,
            config=model.config,
            on_progress=lambda done, of: None,
        )
        latents = scaled.to_scaled(bridge.encode_picture(vae, picture, model.config), model.config)
        reference = model.read_portrait(latents, torch.randn(1, model.config.hallo.identity_width, generator=draw))
        portrait = types.Portrait(latents, picture.movedim(-1, 1) * 2 - 1, types.Fit(size, size, 0, 0, size, size))
        conditions = types.Conditions(
            portrait, face.voice_regions(face.box_mask(size, (0.2, 0.15, 0.8, 0.85))), voice, types.Speed.constant(0)
        )
        before = peak()

        def sample(steps: int) -> torch.Tensor:
            sampling = config.replace(config.SAMPLING["hallo"], steps=steps)

            def work(emo, is_short: bool) -> torch.Tensor:
                render = clips.ClipRenderer(
                    emo, conditions, sampling, reference=reference, device=model.device, dtype=model.compute
                )
                return torch.cat([clip.float().cpu() for clip in clips.generate_clips(render)], dim=2)

            return model.run(work, frames=frames + model.config.motion_frames)

        sample(1)  # loads, and chooses kernels
        begin = time.perf_counter()
        made = sample(chosen.steps)
        seconds = time.perf_counter() - begin
        sampling = peak()
        begin = time.perf_counter()
        bridge.decode(
            vae, scaled.to_raw(made, model.config)[0].movedim(1, 0).to(model_management.intermediate_device())
        )
        decoding, after = time.perf_counter() - begin, peak()
    torch.save(made, chosen.out)
    return {
        "budget_gib": chosen.row or None,
        "lowvram": chosen.lowvram,
        "type": str(model.compute).removeprefix("torch."),
        "seconds_per_frame": seconds / frames,
        "decoding_seconds_per_frame": decoding / frames,
        "frames": frames,
        "size": size,
        "weights_gib": model.patcher.model_size() / GIB,
        "asked_gib": model.activation_bytes(frames + model.config.motion_frames) / GIB,
        "reading": before,
        "sampling": sampling,
        "decoding": after,
        "ran_out_once": retried.is_heard,
        "device": torch.cuda.get_device_name() if is_gpu else "cpu",
        "torch": torch.__version__,
    }


class _Heard(logging.Handler):
    """Whether a text was logged."""

    def __init__(self, text: str):
        super().__init__()
        self.text, self.is_heard = text, False

    def emit(self, record: logging.LogRecord) -> None:
        self.is_heard |= self.text in record.getMessage()


def table(rows: list[dict]) -> str:
    first = rows[0]
    lines = [
        f"{first['device']}, torch {first['torch']}, {first['frames']} frames of {first['size']}x{first['size']}, "
        f"{first['steps']} steps, weights {first['weights_gib']:.2f} GiB ({first['type']})",
        f"{'GiB free':16}{'s/frame':>9}{'ratio':>7}{'decoding':>10}{'peak GiB: reading':>19}{'sampling':>10}"
        f"{'decoding':>10}{'differs by':>12}",
    ]
    for row in rows:
        name = ("all" if row["budget_gib"] is None else f"{row['budget_gib']:g}") + (
            " --lowvram" if row["lowvram"] else ""
        )
        if "error" in row:
            lines.append(f"{name:16}{row['error']}")
            continue
        peaks = [
            f"{row[part]['reserved_gib']:.2f}" if row[part] else "-" for part in ("reading", "sampling", "decoding")
        ]
        lines.append(
            f"{name:16}{row['seconds_per_frame']:9.3f}{row['seconds_per_frame'] / first['seconds_per_frame']:7.2f}"
            f"{row['decoding_seconds_per_frame']:10.3f}{peaks[0]:>19}{peaks[1]:>10}{peaks[2]:>10}{row['differs_by']:12.2g}"
            + (" ran out of memory once" if row["ran_out_once"] else "")
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--comfyui", type=Path, default=os.environ.get("COMFYUI_PATH"), help="ComfyUI's folder (or COMFYUI_PATH)"
    )
    parser.add_argument("--budgets", type=float, nargs="*", default=[8, 6, 4], help="GiB left free, a row each")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--small", action="store_true", help="small widths and pictures")
    parser.add_argument("--cpu", action="store_true", help="without a GPU: only the first row")
    parser.add_argument("--folder", type=Path, help="where the random weights lie, or are written")
    parser.add_argument("--json", type=Path)
    for name, kind in (("--row", float), ("--out", Path)):  # for the processes of this one
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--lowvram", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.comfyui is None or not (Path(chosen.comfyui) / "comfy").is_dir():
        parser.error("--comfyui must name ComfyUI's folder")
    chosen.comfyui = Path(chosen.comfyui).resolve()
    if chosen.row is not None:
        sys.stdout.write(json.dumps(run_row(chosen)) + "\n")
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        write_models(folder, is_small=chosen.small)
        budgets = [0.0] if chosen.cpu else [0.0, *sorted(chosen.budgets, reverse=True)]
        rows = [one_row(chosen, folder, budget, Path(temporary)) for budget in budgets]
    sys.stdout.write(table(rows) + "\n")
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1))
    return 0 if all(row.get("differs_by", 1.0) <= TOLERANCE for row in rows) else 1


def one_row(chosen: argparse.Namespace, folder: Path, budget: float, temporary: Path) -> dict:
    """A row measured in a process of its own; 'differs_by' is against the first row's latents."""
    import torch

    is_lowest = bool(budget) and budget == min(chosen.budgets)
    out = temporary / f"latents-{budget:g}.pt"
    command = [
        sys.executable,
        __file__,
        "--comfyui",
        str(chosen.comfyui),
        "--folder",
        str(folder),
        "--row",
        str(budget),
        "--out",
        str(out),
        "--steps",
        str(chosen.steps),
        *(["--cpu"] if chosen.cpu else []),
        *(["--lowvram"] if is_lowest else []),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    row = {"budget_gib": budget or None, "lowvram": is_lowest, "steps": chosen.steps}
    if done.returncode:
        if not budget:
            raise SystemExit(done.stderr[-4000:])
        return {**row, "error": (done.stderr.strip().splitlines() or ["no word"])[-1]}
    made, first = torch.load(out, weights_only=True), torch.load(temporary / "latents-0.pt", weights_only=True)
    return {
        **row,
        **json.loads(done.stdout.strip().splitlines()[-1]),
        "differs_by": ((made - first).abs().max() / first.std()).item(),
    }


if __name__ == "__main__":
    sys.exit(main())

"""What sampling costs, as one table: exact savings, samplers, shortcuts, storage and length, as ratios within one run.

    python benchmarks/sampling.py [--model FILE | --preset NAME] [--device cuda] [--dtype float16] [--compile] \\
        [--json OUT]
    python benchmarks/sampling.py --preset hallo --device cuda --dtype float16 --sections bars \\
        --clips 1 --repeat 1 --compile

Each row is the least of `--repeat` runs, taken in turns so that a machine that others use moves all rows alike, and
compared with the row it names. TFLOP are counted, 2 per multiplication, of what the row computes. Seconds per frame
cover everything from conditions to pixels. With --preset the weights are random: good for timing and for equal results,
not for looking at.
--draw FIGURE draws the JSON of an earlier run and measures nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from emo_model.acceleration.compile import compile_blocks
from emo_model.acceleration.cuda_graphs import capture_steps
from emo_model.acceleration.group_norm import use_own_group_norm
from emo_model.checkpoints import native
from emo_model.checkpoints.mediapipe import load_face_finder
from emo_model.config import PRESETS, SAMPLING, ModelConfig, SamplingConfig
from emo_model.inputs import face, vae
from emo_model.inputs.media import read_picture
from emo_model.inputs.portrait import find_mesh, read_portrait
from emo_model.models.context import Context
from emo_model.models.emo import Emo
from emo_model.outputs.portrait_decoder import PortraitDecoder
from emo_model.rendering import peak_rss_mb
from emo_model.sampling.clips import ClipRenderer, generate_clips
from emo_model.sampling.progress import StepReport
from emo_model.sampling.samplers import SAMPLERS, PredictCached
from emo_model.types import AudioFeatures, Conditions, Portrait, Speed

PORTRAIT = Path(__file__).parents[1] / "workflows" / "inputs" / "emo_portrait.jpg"
SECTIONS = ("bars", "savings", "samplers", "shortcuts", "storage", "length")


@dataclass
class Row:
    """A line of the table. difference: from the baseline's latents, root mean square over theirs; None where none is
    meant."""

    section: str
    name: str
    baseline: str
    shape: str
    dtype: str
    steps: int
    guidance: str
    seconds_per_frame: float
    ratio: float
    tflop_per_frame: float | None = None
    tflops: float | None = None
    peak_mb: int | None = None
    difference: float | None = None
    share: float | None = None  # of the rate of large matrix products, measured in the same run


class Bench:
    """One model, its conditions, and the clock."""

    def __init__(self, chosen: argparse.Namespace):
        self.device, self.dtype = torch.device(chosen.device), getattr(torch, chosen.dtype)
        self.repeat, self.clock_of = chosen.repeat, chosen.clock
        bundle = (
            native.build(PRESETS[chosen.preset]) if chosen.preset else native.load(chosen.model, dtype=torch.float32)
        )
        for part in bundle.parts.values():
            part.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)
        self.emo, self.config, self.portrait, self.decode = bundle.emo.to(self.dtype), bundle.config, None, None
        if bundle.motion_decoder is not None:
            picture, self.portrait = shipped_portrait(self.config)
            decoder = PortraitDecoder(
                bundle.motion_decoder.float(), self.config, picture, self.portrait, device=self.device
            )
            self.decode = decoder.decode
        elif "bars" in chosen.sections and (decoder := sd_decoder(self.config, self.device, self.dtype)) is not None:
            self.decode = lambda latents: vae.decode(decoder, latents.to(self.dtype), self.config).cpu()
        self.plain = SAMPLING.get(self.config.name, SamplingConfig())
        if chosen.steps:
            self.plain = replace(self.plain, steps=chosen.steps)

    def conditions(self, frames: int, device: torch.device | None = None) -> Conditions:
        config, draw = self.config, torch.Generator().manual_seed(0)
        size, device = config.image_size, device or self.device
        pixels, fit = face.fit_picture(torch.rand(1, 3, size, size, generator=draw) * 2 - 1, size)
        latents = torch.randn(1, config.latent_channels, config.latent_size, config.latent_size, generator=draw)
        if self.portrait is not None:
            pixels, fit, latents = self.portrait.pixels, self.portrait.fit, self.portrait.latents
        identity = torch.randn(1, config.hallo.identity_width, generator=draw) if config.hallo else None
        mask = face.box_mask(size, (0.2, 0.2, 0.8, 0.9))
        voice = torch.randn(frames, config.audio_layers, config.audio_width, generator=draw)
        return Conditions(
            Portrait(latents.to(device), pixels, fit, None if identity is None else identity.to(device)),
            face.voice_regions(mask) if config.hallo else mask,
            AudioFeatures(voice, config.fps, frames / config.fps),
            Speed.constant(12.5),
        )

    def clock(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.process_time() if self.clock_of == "cpu" else time.perf_counter()

    def video(
        self,
        sampling: SamplingConfig,
        frames: int,
        *,
        emo: Emo | None = None,
        predict: PredictCached | None = None,
        decodes: bool = True,
    ) -> Tensor:
        """Latents; where the model has a decoder, they are decoded to frames of the shipped portrait, too."""
        made = []
        render = ClipRenderer(
            emo or self.emo, self.conditions(frames), sampling, device=self.device, dtype=self.dtype, predict=predict
        )
        for clip in generate_clips(render):
            if self.decode is not None and decodes:
                self.decode(clip[0].transpose(0, 1))
            made.append(clip)
        return torch.cat(made, dim=2)

    def measure(
        self, runs: dict[str, Callable[[], Tensor]], *, warm_ups: int = 1
    ) -> dict[str, tuple[float, Tensor, int | None]]:
        """(least seconds, latents, peak MB on a GPU) of each run, in turns, after some turns to warm up."""
        best = {name: float("inf") for name in runs}
        made, peaks = {}, dict.fromkeys(runs)
        for turn in range(self.repeat + warm_ups):
            for name, run in runs.items():
                if self.device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(self.device)
                began = self.clock()
                made[name] = run()
                passed = self.clock() - began
                if turn >= warm_ups:
                    best[name] = min(best[name], passed)
                if self.device.type == "cuda":
                    peaks[name] = round(torch.cuda.max_memory_allocated(self.device) / 1e6)
        return {name: (best[name], made[name], peaks[name]) for name in runs}

    def rows(
        self,
        section: str,
        runs: dict[str, Callable[[], Tensor]],
        frames: int,
        *,
        tflop: dict[str, float] | None = None,
        sampling: dict[str, SamplingConfig] | None = None,
        is_compared: bool = True,
        warm_ups: int = 1,
    ) -> list[Row]:
        """Rows of one section; the first is the baseline."""
        measured, baseline = self.measure(runs, warm_ups=warm_ups), next(iter(runs))
        first, exact, _ = measured[baseline]
        size, made = self.config.image_size, []
        for name, (seconds, latents, peak) in measured.items():
            how, counted = (sampling or {}).get(name, self.plain), (tflop or {}).get(name)
            off = (latents - exact).square().mean().sqrt() / exact.square().mean().sqrt() if is_compared else None
            scales = sorted({how.guidance_at(step) for step in range(how.steps)})
            made.append(
                Row(
                    section,
                    name,
                    baseline,
                    f"{frames}x{size}x{size}",
                    str(self.dtype).removeprefix("torch."),
                    how.steps,
                    " | ".join(f"{audio:g}, {reference:g}" for audio, reference in scales),
                    seconds / frames,
                    seconds / first,
                    counted,
                    None if counted is None else counted * frames / seconds,
                    peak,
                    None if off is None else off.item(),
                )
            )
        return made

    def tflop_per_frame(self, run: Callable[[Emo, Conditions, torch.device], object], frames: int) -> float:
        """Counted on the meta device, where attention is plain products; decoding is not in it."""
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode

        meta = torch.device("meta")
        with meta:
            emo = Emo(self.config).eval()
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            run(emo, self.conditions(frames, meta), meta)
        return counter.get_total_flops() / 1e12 / frames


def shipped_portrait(config: ModelConfig) -> tuple[Tensor, Portrait]:
    """(picture, portrait) of the one that comes with this pack, its face found."""
    picture = read_picture(PORTRAIT)
    return picture, read_portrait(picture, find_mesh(load_face_finder(), picture), config)


def sd_decoder(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> nn.Module | None:
    """The size of Stable Diffusion 1.5's VAE with random weights, for models that bring none along; None without
    diffusers."""
    try:
        from diffusers import AutoencoderKL
    except ImportError:
        sys.stderr.write("decoding is not timed: it needs a VAE, and so 'pip install diffusers'\n")
        return None
    widths = (128, 256, 512, 512)
    made = AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=config.latent_channels,
    )

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = made

        def decode(self, latents: Tensor) -> Tensor:
            return torch.cat([self.network.decode(part).sample for part in latents.split(4)])

    return Decoder().eval().requires_grad_(False).to(device, dtype, memory_format=torch.channels_last)


# ---- the bars: seconds per frame from conditions to pixels, and the share of the machine's peak --------------------


def matmul_tflops(bench: Bench) -> float:
    """The rate of large matrix products, the best of several, by the same clock as all the rest."""
    size = 8192 if bench.device.type == "cuda" else 2048
    one, best = torch.randn(size, size, device=bench.device, dtype=bench.dtype), float("inf")
    for _ in range(6):
        began = bench.clock()
        one @ one
        best = min(best, bench.clock() - began)
    return 2 * size**3 / best / 1e12


def nothing_waits(bench: Bench) -> None:
    """Raises where the loop of steps waits for a GPU."""
    if bench.device.type != "cuda":
        return

    def on_step(report: StepReport) -> None:
        torch.cuda.set_sync_debug_mode("error" if report.step < report.steps else "default")

    render = ClipRenderer(
        bench.emo,
        bench.conditions(bench.config.clip_frames),
        replace(bench.plain, steps=3),
        device=bench.device,
        dtype=bench.dtype,
        on_step=on_step,
    )
    for _ in generate_clips(render):
        pass


def bars(bench: Bench, frames: int, *, compiles: bool) -> list[Row]:
    """The model's own settings and four steps without guidance: as it is, with CUDA graphs, compiled, and both."""
    nothing_waits(bench)
    own, few = bench.plain, replace(bench.plain, steps=4, audio_guidance=1.0, reference_guidance=1.0)
    kinds, rate, rows, cold = {"eager": (bench.emo, None)}, matmul_tflops(bench), [], {}
    if bench.device.type == "cuda":
        kinds["CUDA graphs"] = (bench.emo, capture_steps(bench.emo, device=bench.device))
    if compiles:
        compiled = copy.deepcopy(bench.emo)
        if compile_blocks(compiled, device=bench.device):
            kinds["compiled"] = (compiled, None)
            if bench.device.type == "cuda":
                kinds["compiled, CUDA graphs"] = (compiled, capture_steps(compiled, device=bench.device))
    for name, (emo, predict) in kinds.items():
        began = bench.clock()
        for how in (own, few):
            bench.video(replace(how, steps=2), frames, emo=emo, predict=predict)
        cold[name] = bench.clock() - began
        sys.stderr.write(f"{name}: {cold[name]:.1f} s for the first two clips of two steps\n")
    for title, how in (("own settings", own), ("4 steps, no guidance", few)):
        tflop = bench.tflop_per_frame(
            lambda emo, conditions, device, how=how: list(
                generate_clips(ClipRenderer(emo, conditions, how, device=device))
            ),
            frames,
        )
        some = bench.rows(
            "bars",
            {
                f"{title}, {name}": (
                    lambda emo=emo, predict=predict, how=how: bench.video(how, frames, emo=emo, predict=predict)
                )
                for name, (emo, predict) in kinds.items()
            },
            frames,
            warm_ups=0,
            tflop={f"{title}, {name}": tflop for name in kinds},
            sampling={f"{title}, {name}": how for name in kinds},
        )
        rows += some
    if own.steps > 2:
        short = replace(own, steps=2)
        per_step = bench.tflop_per_frame(
            lambda emo, conditions, device: list(
                generate_clips(ClipRenderer(emo, conditions, replace(own, steps=3), device=device))
            ),
            frames,
        ) - bench.tflop_per_frame(
            lambda emo, conditions, device: list(generate_clips(ClipRenderer(emo, conditions, short, device=device))),
            frames,
        )
        times = {}
        for name, (emo, predict) in kinds.items():
            (long, *_), (brief, *_) = bench.measure(
                {
                    how.steps: (
                        lambda how=how, emo=emo, predict=predict: bench.video(
                            how, frames, emo=emo, predict=predict, decodes=False
                        )
                    )
                    for how in (own, short)
                },
                warm_ups=0,
            ).values()
            times[name] = (long - brief) / (own.steps - 2) / frames
        first = next(iter(times.values()))
        rows += [
            replace(
                rows[0],
                name=f"a step, {name}",
                baseline="a step, eager",
                steps=1,
                seconds_per_frame=each,
                ratio=each / first,
                tflop_per_frame=per_step,
                tflops=per_step / each,
                share=per_step / each / rate,
                peak_mb=None,
                difference=None,
            )
            for name, each in times.items()
            if each > 0
        ]
    return rows


# ---- exact savings: step by step, and one saving after the other ----------------------------------------------------


class _Uncached:
    """An Emo that projects the conditions anew in every evaluation."""

    def __init__(self, emo: Emo):
        self.emo = emo

    def __getattr__(self, name: str):
        return getattr(self.emo, name)

    def cache(self, context: Context) -> Context:
        return context


SAVINGS = {
    "branches one by one, conditions projected in each": {"caches": False, "batch_branches": False},
    "+ keys and values once per clip": {"caches": True, "batch_branches": False},
    "+ branches in one batch": {"caches": True, "batch_branches": True},
}


def savings(bench: Bench, frames: int) -> list[Row]:
    def run(emo: Emo, conditions: Conditions, device: torch.device, *, caches: bool, batch_branches: bool) -> Tensor:
        render = ClipRenderer(
            emo if caches else _Uncached(emo),
            conditions,
            bench.plain,
            device=device,
            dtype=next(emo.parameters()).dtype,
            batch_branches=batch_branches,
        )
        return torch.cat(list(generate_clips(render)), dim=2)

    tflop = {
        name: bench.tflop_per_frame(lambda *given, how=how: run(*given, **how), frames) for name, how in SAVINGS.items()
    }
    runs = {
        name: (lambda how=how: run(bench.emo, bench.conditions(frames), bench.device, **how))
        for name, how in SAVINGS.items()
    }
    own, norm = use_own_group_norm(copy.deepcopy(bench.emo)), "+ own group norm"
    runs[norm] = lambda: run(own, bench.conditions(frames), bench.device, caches=True, batch_branches=True)
    return bench.rows("savings", runs, frames, tflop=tflop | {norm: tflop["+ branches in one batch"]})


# ---- the other sections ----------------------------------------------------------------------------------------------


def settings(
    bench: Bench, section: str, many: dict[str, SamplingConfig], frames: int, *, is_compared: bool
) -> list[Row]:
    def count(sampling: SamplingConfig) -> float:
        return bench.tflop_per_frame(
            lambda emo, conditions, device: list(
                generate_clips(ClipRenderer(emo, conditions, sampling, device=device))
            ),
            frames,
        )

    return bench.rows(
        section,
        {name: (lambda how=how: bench.video(how, frames)) for name, how in many.items()},
        frames,
        tflop={name: count(how) for name, how in many.items()},
        sampling=many,
        is_compared=is_compared,
    )


def samplers(bench: Bench, frames: int) -> list[Row]:
    return settings(
        bench, "samplers", {name: replace(bench.plain, sampler=name) for name in SAMPLERS}, frames, is_compared=False
    )


def shortcuts(bench: Bench, frames: int, *, compiles: bool) -> list[Row]:
    plain = bench.plain
    made = settings(
        bench,
        "shortcuts",
        {
            "exact": plain,
            "guidance in the first half of the steps": replace(
                plain, audio_guidance_end=0.5, reference_guidance_end=0.5
            ),
            "guidance in the second half of the steps": replace(
                plain, audio_guidance_start=0.5, reference_guidance_start=0.5
            ),
            "no guidance": replace(plain, audio_guidance=1.0, reference_guidance=1.0),
            "2 steps, no guidance (the fast variant)": replace(
                plain, steps=2, audio_guidance=1.0, reference_guidance=1.0
            ),
        },
        frames,
        is_compared=True,
    )
    if compiles:
        compiled = copy.deepcopy(bench.emo)
        if compile_blocks(compiled, device=bench.device):
            began = bench.clock()
            bench.video(plain, frames, emo=compiled)
            cold = bench.clock() - began
            warm = bench.rows(
                "shortcuts",
                {
                    "exact": lambda: bench.video(plain, frames),
                    "compiled, warm": lambda: bench.video(plain, frames, emo=compiled),
                },
                frames,
            )
            ratio = cold / frames / warm[0].seconds_per_frame
            made += [replace(warm[1], name="compiled, cold", seconds_per_frame=cold / frames, ratio=ratio), warm[1]]
    return made


def storage(bench: Bench, frames: int) -> list[Row]:
    """Weights as they would come back from a smaller type; the time is not measured, the bytes stand in the name."""

    def by_rows(weight: Tensor) -> Tensor:
        scale = weight.flatten(1).abs().amax(1).clamp(min=1e-12).view(-1, *[1] * (weight.ndim - 1)) / 127
        return (weight / scale).round() * scale

    def by_tensor(weight: Tensor) -> Tensor:
        scale = weight.abs().max().clamp(min=1e-12) / 448
        return (weight / scale).to(torch.float8_e4m3fn).to(weight) * scale

    kinds = {
        "as in the run": (None, bench.dtype.itemsize),
        "bfloat16": (lambda weight: weight.bfloat16().to(weight), 2),
        "int8, a scale per row": (by_rows, 1),
        "float8_e4m3fn": (lambda weight: weight.to(torch.float8_e4m3fn).to(weight), 1),
        "float8_e4m3fn, a scale per tensor": (by_tensor, 1),
    }
    made = {}
    for name, (change, size) in kinds.items():
        emo = copy.deepcopy(bench.emo)
        for weight in emo.parameters():
            if change is not None and weight.ndim > 1:
                weight.data = change(weight.data)
        total = sum(weight.numel() * (size if weight.ndim > 1 else 2) for weight in emo.parameters())
        made[f"{name}, {total / 1e6:.1f} MB"] = bench.video(bench.plain, frames, emo=emo)
        del emo
    exact = next(iter(made.values()))
    blank = bench.rows("storage", {name: (lambda latents=latents: latents) for name, latents in made.items()}, frames)
    assert exact.isfinite().all()
    return [replace(row, seconds_per_frame=float("nan"), ratio=float("nan")) for row in blank]


def length(bench: Bench, seconds: int) -> list[Row]:
    """One long video against as many of one second each, and when their first clips are there, in turns.

    Of one step, for it is the growth that counts.
    """
    sampling, clip = replace(bench.plain, steps=1), bench.config.clip_frames
    second = -(-round(bench.config.fps) // clip) * clip
    short, long = [second] * seconds, [seconds * second]

    def videos(many: list[int]) -> None:
        for frames in many:
            bench.video(sampling, frames)

    def first_clip(of: int) -> None:
        next(
            generate_clips(
                ClipRenderer(bench.emo, bench.conditions(of), sampling, device=bench.device, dtype=bench.dtype)
            )
        )

    runs = {
        f"{seconds} times 1 s": (videos, short, sum(short)),
        f"{seconds} s": (videos, long, sum(long)),
        "first clip of 1 s": (first_clip, second, clip),
        f"first clip of {seconds} s": (first_clip, sum(long), clip),
    }
    best = dict.fromkeys(runs, float("inf"))
    bench.video(sampling, second)
    for _ in range(bench.repeat):
        for name, (run, given, frames) in runs.items():
            began = bench.clock()
            run(given)
            best[name] = min(best[name], (bench.clock() - began) / frames)
    names, size, dtype = list(runs), bench.config.image_size, str(bench.dtype).removeprefix("torch.")
    return [
        Row(
            "length" if run is videos else "first clip",
            name,
            names[0 if run is videos else 2],
            f"{frames}x{size}x{size}",
            dtype,
            1,
            "",
            best[name],
            best[name] / best[names[0 if run is videos else 2]],
        )
        for name, (run, _, frames) in runs.items()
    ]


# ---- telling ---------------------------------------------------------------------------------------------------------


def table(result: dict) -> str:
    def cell(value, spec: str) -> str:
        return "" if value is None or value != value else format(value, spec)

    lines = [
        f"{result['model']}, {result['machine']}, torch {result['torch']}, clock: {result['clock']}; peak RSS "
        f"{result['peak_rss_mb'] or '?'} MB",
        f"{'row':42} {'shape':>12} {'dtype':>9} {'steps':>5} {'guidance':>17} {'s/frame':>9} {'ratio':>6} "
        f"{'TFLOP':>8} {'TFLOP/s':>8} {'share':>6} {'MB':>6} {'difference':>10}",
    ]
    section = None
    for row in result["rows"]:
        if row["section"] != section:
            section = row["section"]
            lines.append(f"-- {section}, against '{row['baseline']}'")
        lines.append(
            f"{row['name']:42} {row['shape']:>12} {row['dtype']:>9} {row['steps']:5} {row['guidance']:>17} "
            f"{cell(row['seconds_per_frame'], '9.4f'):>9} {cell(row['ratio'], '6.3f'):>6} "
            f"{cell(row['tflop_per_frame'], '8.5f'):>8} {cell(row['tflops'], '8.3f'):>8} "
            f"{cell(row['share'], '6.3f'):>6} "
            f"{cell(row['peak_mb'], 'd'):>6} {cell(row['difference'], '.1e'):>10}"
        )
    return "\n".join(lines) + "\n"


def draw(result: dict, figure: Path) -> None:
    """Bars of the ratios, section by section; less is faster."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sections = [
        name for name in ("savings", "samplers", "shortcuts") if any(row["section"] == name for row in result["rows"])
    ]
    groups = [[row for row in result["rows"] if row["section"] == name] for name in sections]
    picture, axes = plt.subplots(
        len(groups),
        1,
        figsize=(8, 0.42 * sum(map(len, groups)) + 1.6),
        layout="constrained",
        height_ratios=[len(rows) + 0.6 for rows in groups],
        squeeze=False,
    )
    for axis, rows, name in zip(axes[:, 0], groups, sections, strict=True):
        rows = [row for row in rows if row["name"] != "compiled, cold"][::-1]
        bars = axis.barh([row["name"] for row in rows], [row["ratio"] for row in rows], color="#4878a8")
        axis.bar_label(bars, [f" {row['ratio']:.2f}" for row in rows], fontsize=8)
        axis.set_title(
            f"{name}: time per frame, as a part of '{rows[0]['baseline']}'; less is faster", fontsize=9, loc="left"
        )
        axis.set_xlim(0, 1.15 * max(row["ratio"] for row in rows))
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    picture.savefig(figure, dpi=130)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=native.DEFAULT_WEIGHTS)
    parser.add_argument("--preset", choices=sorted(PRESETS), help="random weights of this preset instead of --model")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--steps", type=int, help="(the model's own)")
    parser.add_argument("--clips", type=int, default=2, help="clips of each video (%(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="of the long video of section 'length' (%(default)s)")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time of all threads, for a machine that others use, too (%(default)s)",
    )
    parser.add_argument("--compile", action="store_true", help="measure torch.compile as well, cold and warm")
    parser.add_argument("--json", type=Path, help="save the table here, or read it from here to draw")
    parser.add_argument("--draw", type=Path, metavar="FIGURE")
    chosen = parser.parse_args(arguments)
    if chosen.draw:
        return draw(json.loads(chosen.json.read_text(encoding="utf-8")), chosen.draw)
    bench = Bench(chosen)
    frames = chosen.clips * bench.config.clip_frames
    run = {
        "bars": lambda: bars(bench, frames, compiles=chosen.compile),
        "savings": lambda: savings(bench, frames),
        "samplers": lambda: samplers(bench, frames),
        "shortcuts": lambda: shortcuts(bench, frames, compiles=chosen.compile),
        "storage": lambda: storage(bench, frames),
        "length": lambda: length(bench, chosen.seconds),
    }
    rows = [row for name in chosen.sections for row in run[name]()]
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads"
    if bench.device.type == "cuda":
        machine = torch.cuda.get_device_name()
    result = {
        "model": bench.config.name,
        "weights": "random" if chosen.preset else chosen.model.name,
        "machine": machine,
        "torch": torch.__version__,
        "clock": chosen.clock,
        "peak_rss_mb": peak_rss_mb(),
        "rows": [asdict(row) for row in rows],
    }
    sys.stdout.write(table(result))
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1).replace("NaN", "null"), encoding="utf-8")


if __name__ == "__main__":
    main()

"""What sampling costs, as one table: exact savings, samplers, shortcuts, storage and length, as ratios within one run.

    python benchmarks/sampling.py [--model FILE | --preset NAME] [--device cuda] [--dtype float16] [--compile] [--json OUT]

Each row is the least of `--repeat` runs, taken in turns so that a machine that others use moves all rows alike, and compared with
the row it names. TFLOP are counted, 2 per multiplication, of what the row computes. Seconds per frame are of the whole way from
conditions to pixels. With --preset the weights are random: good for timing and for equal results, not for looking at.
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
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from emo_model.__main__ import peak_rss_mb
from emo_model.checkpoints import native
from emo_model.config import PRESETS, SAMPLING, SamplingConfig
from emo_model.inputs import face, vae
from emo_model.models.compiling import compile_blocks
from emo_model.models.context import Context
from emo_model.models.emo import Emo
from emo_model.sampling.clips import generate_clips
from emo_model.sampling.guidance import guided
from emo_model.sampling.samplers import SAMPLERS, sample
from emo_model.sampling.schedule import NoiseSchedule
from emo_model.types import AudioFeatures, Conditions, MotionFrames, Portrait, Speed

SECTIONS = ("savings", "samplers", "shortcuts", "storage", "length")


@dataclass
class Row:
    """A line of the table. difference: from the baseline's latents, root mean square over theirs; None where none is meant."""

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


class Bench:
    """One model, its conditions, and the clock."""

    def __init__(self, chosen: argparse.Namespace):
        self.device, self.dtype = torch.device(chosen.device), getattr(torch, chosen.dtype)
        self.repeat, self.clock_of = chosen.repeat, chosen.clock
        bundle = native.build(PRESETS[chosen.preset]) if chosen.preset else native.load(chosen.model, dtype=torch.float32)
        for part in bundle.parts.values():
            part.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)
        self.emo, self.decoder, self.config = bundle.emo.to(self.dtype), bundle.autoencoder, bundle.config
        self.plain = SAMPLING.get(self.config.name, SamplingConfig())
        if chosen.steps:
            self.plain = replace(self.plain, steps=chosen.steps)

    def conditions(self, frames: int, device: torch.device | None = None) -> Conditions:
        config, draw = self.config, torch.Generator().manual_seed(0)
        size, device = config.image_size, device or self.device
        pixels, fit = face.fit_picture(torch.rand(1, 3, size, size, generator=draw) * 2 - 1, size)
        latents = torch.randn(1, config.latent_channels, config.latent_size, config.latent_size, generator=draw)
        identity = torch.randn(1, config.identity_width, generator=draw) if config.identity_tokens else None
        mask = face.box_mask(size, (0.2, 0.2, 0.8, 0.9))
        voice = torch.randn(frames, config.audio_layers, config.audio_width, generator=draw)
        return Conditions(Portrait(latents.to(device), pixels, fit, None if identity is None else identity.to(device)),
                          face.voice_regions(mask) if config.audio_transformers else mask,
                          AudioFeatures(voice, config.fps, frames / config.fps), Speed.constant(12.5))

    def clock(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.process_time() if self.clock_of == "cpu" else time.perf_counter()

    def video(self, sampling: SamplingConfig, frames: int, *, emo: Emo | None = None, together: bool = True) -> Tensor:
        """Latents; decoded as well, where the model has a decoder."""
        made = []
        for clip in generate_clips(emo or self.emo, self.conditions(frames), config=sampling, device=self.device,
                                   dtype=self.dtype, together=together):
            if self.decoder is not None:
                vae.decode(self.decoder, clip[0].transpose(0, 1), self.config)
            made.append(clip)
        return torch.cat(made, dim=2)

    def measure(self, runs: dict[str, Callable[[], Tensor]]) -> dict[str, tuple[float, Tensor, int | None]]:
        """(least seconds, latents, peak MB on a GPU) of each run, in turns, after one turn to warm up."""
        best = {name: float("inf") for name in runs}
        made, peaks = {}, dict.fromkeys(runs)
        for turn in range(self.repeat + 1):
            for name, run in runs.items():
                if self.device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(self.device)
                began = self.clock()
                made[name] = run()
                passed = self.clock() - began
                if turn:
                    best[name] = min(best[name], passed)
                if self.device.type == "cuda":
                    peaks[name] = round(torch.cuda.max_memory_allocated(self.device) / 1e6)
        return {name: (best[name], made[name], peaks[name]) for name in runs}

    def rows(self, section: str, runs: dict[str, Callable[[], Tensor]], frames: int, *, tflop: dict[str, float] | None = None,
             sampling: dict[str, SamplingConfig] | None = None, is_compared: bool = True) -> list[Row]:
        """Rows of one section; the first is the baseline."""
        measured, baseline = self.measure(runs), next(iter(runs))
        first, exact, _ = measured[baseline]
        size, made = self.config.image_size, []
        for name, (seconds, latents, peak) in measured.items():
            how, counted = (sampling or {}).get(name, self.plain), (tflop or {}).get(name)
            off = (latents - exact).square().mean().sqrt() / exact.square().mean().sqrt() if is_compared else None
            scales = sorted({how.guidance_at(step) for step in range(how.steps)})
            made.append(Row(
                section, name, baseline, f"{frames}x{size}x{size}", str(self.dtype).removeprefix("torch."), how.steps,
                " | ".join(f"{audio:g}, {reference:g}" for audio, reference in scales), seconds / frames, seconds / first,
                counted, None if counted is None else counted * frames / seconds, peak, None if off is None else off.item()))
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


# ---- exact savings: the straightforward way, and one saving after the other ------------------------------------------


def straightforward(emo: Emo, conditions: Conditions, sampling: SamplingConfig, *, device, dtype, zeros_are_known: bool,
                    once_per_video: bool, once_per_clip: bool, together: bool) -> Tensor:
    """The loop of `generate_clips` by hand, so that each saving can be left out."""
    config = emo.config
    schedule, draw = NoiseSchedule(config), torch.Generator().manual_seed(sampling.seed)
    motion, made = MotionFrames(), []
    with torch.no_grad():
        identity = conditions.portrait.identity
        reference = emo.encode_reference(conditions.portrait.latents.to(device, dtype),
                                         None if identity is None else identity.to(device, dtype))
        scene = emo.settle(reference, conditions.face_mask) if once_per_video else reference
        for start in range(0, conditions.frames, config.clip_frames):
            clip = conditions.clip(start, clip_frames=config.clip_frames, margin_frames=config.audio_margin_frames)
            context = emo.prepare(scene, emo.encode_motion(motion, like=reference), clip)
            asked = emo if once_per_clip else _Forgetful(emo, zeros_are_known)
            predict = guided(asked, context, audio=sampling.audio_guidance, reference=sampling.reference_guidance,
                             mixed_identity=sampling.mixed_identity, together=together)
            noise = torch.randn(1, config.latent_channels, config.clip_frames, config.latent_size, config.latent_size,
                                generator=draw)
            latents = sample(predict, noise.to(device), schedule, sampler=sampling.sampler, steps=sampling.steps)
            motion = MotionFrames(MotionFrames.last_of(latents, config.motion_frames).latents.to(dtype))
            made.append(latents[:, :, :clip.frames])
    return torch.cat(made, dim=2)


class _Forgetful:
    """An Emo that projects what it is told anew in every evaluation, and looks at zeros as at anything else."""

    def __init__(self, emo: Emo, zeros_are_known: bool):
        self.emo, self.zeros_are_known, self.voice, self.portrait = emo, zeros_are_known, None, None

    def project(self, context: Context) -> Context:
        if isinstance(context.audio, Tensor):
            self.voice, self.portrait = context.audio, context.reference
            return context
        if self.zeros_are_known:
            return context
        context = replace(context, audio=torch.zeros_like(self.voice))
        is_zeros = context.reference is not None and not hasattr(context.reference, "features")
        return replace(context, reference=self.portrait.map(torch.zeros_like)) if is_zeros else context

    def predict(self, noisy: Tensor, timestep: Tensor, context: Context) -> Tensor:
        return self.emo.predict(noisy, timestep, context)


SAVINGS = {
    "straightforward": {"zeros_are_known": False, "once_per_video": False, "once_per_clip": False, "together": False},
    "+ zeros are not looked at": {"zeros_are_known": True, "once_per_video": False, "once_per_clip": False, "together": False},
    "+ portrait and mask once per video": {"zeros_are_known": True, "once_per_video": True, "once_per_clip": False,
                                           "together": False},
    "+ voice, motion, speed once per clip": {"zeros_are_known": True, "once_per_video": True, "once_per_clip": True,
                                             "together": False},
    "+ halves share until they part": {"zeros_are_known": True, "once_per_video": True, "once_per_clip": True, "together": True},
}


def savings(bench: Bench, frames: int) -> list[Row]:
    def run(how: dict, emo: Emo, conditions: Conditions, device: torch.device) -> Tensor:
        dtype = next(emo.parameters()).dtype
        return straightforward(emo, conditions, bench.plain, device=device, dtype=dtype, **how)

    tflop = {name: bench.tflop_per_frame(lambda *given, how=how: run(how, *given), frames) for name, how in SAVINGS.items()}
    return bench.rows("savings", {
        name: (lambda how=how: run(how, bench.emo, bench.conditions(frames), bench.device)) for name, how in SAVINGS.items()},
        frames, tflop=tflop)


# ---- the other sections ----------------------------------------------------------------------------------------------


def settings(bench: Bench, section: str, many: dict[str, SamplingConfig], frames: int, *, is_compared: bool) -> list[Row]:
    def count(sampling: SamplingConfig) -> float:
        return bench.tflop_per_frame(lambda emo, conditions, device: list(
            generate_clips(emo, conditions, config=sampling, device=device)), frames)

    return bench.rows(section, {name: (lambda how=how: bench.video(how, frames)) for name, how in many.items()}, frames,
                      tflop={name: count(how) for name, how in many.items()}, sampling=many, is_compared=is_compared)


def samplers(bench: Bench, frames: int) -> list[Row]:
    return settings(bench, "samplers", {name: replace(bench.plain, sampler=name) for name in SAMPLERS}, frames, is_compared=False)


def shortcuts(bench: Bench, frames: int, *, compiles: bool) -> list[Row]:
    plain = bench.plain
    made = settings(bench, "shortcuts", {
        "exact": plain,
        "guidance in the first half of the steps": replace(plain, audio_guidance_end=0.5, reference_guidance_end=0.5),
        "guidance in the second half of the steps": replace(plain, audio_guidance_start=0.5, reference_guidance_start=0.5),
        "no guidance": replace(plain, audio_guidance=1.0, reference_guidance=1.0),
        "deep cache 2": replace(plain, deep_cache=2),
        "deep cache 3": replace(plain, deep_cache=3),
        "2 steps, no guidance (the fast variant)": replace(plain, steps=2, audio_guidance=1.0, reference_guidance=1.0),
    }, frames, is_compared=True)
    if compiles:
        compiled = copy.deepcopy(bench.emo)
        if compile_blocks(compiled, device=bench.device):
            began = bench.clock()
            bench.video(plain, frames, emo=compiled)
            cold = bench.clock() - began
            warm = bench.rows("shortcuts", {"exact": lambda: bench.video(plain, frames),
                                            "compiled, warm": lambda: bench.video(plain, frames, emo=compiled)}, frames)
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

    kinds = {"as in the run": (None, bench.dtype.itemsize), "bfloat16": (lambda weight: weight.bfloat16().to(weight), 2),
             "int8, a scale per row": (by_rows, 1),
             "float8_e4m3fn": (lambda weight: weight.to(torch.float8_e4m3fn).to(weight), 1),
             "float8_e4m3fn, a scale per tensor": (by_tensor, 1)}
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
    """One long video against as many of one second each, in turns; of one step, for it is the growth that counts."""
    sampling, clip = replace(bench.plain, steps=1), bench.config.clip_frames
    second = -(-round(bench.config.fps) // clip) * clip
    shape = f"{seconds * second}x{bench.config.image_size}x{bench.config.image_size}"
    dtype = str(bench.dtype).removeprefix("torch.")
    runs = {f"{seconds} times 1 s": [second] * seconds, f"{seconds} s": [seconds * second]}
    best = dict.fromkeys(runs, float("inf"))
    bench.video(sampling, second)
    for _ in range(bench.repeat):
        for name, videos in runs.items():
            began = bench.clock()
            for frames in videos:
                bench.video(sampling, frames)
            best[name] = min(best[name], (bench.clock() - began) / (second * seconds))
    baseline = next(iter(runs))
    return [Row("length", name, baseline, shape, dtype, 1, "", each, each / best[baseline]) for name, each in best.items()]


# ---- telling ---------------------------------------------------------------------------------------------------------


def table(result: dict) -> str:
    def cell(value, spec: str) -> str:
        return "" if value is None or value != value else format(value, spec)

    lines = [f"{result['model']}, {result['machine']}, torch {result['torch']}, clock: {result['clock']}; peak RSS "
             f"{result['peak_rss_mb'] or '?'} MB",
             f"{'row':42} {'shape':>12} {'dtype':>9} {'steps':>5} {'guidance':>17} {'s/frame':>9} {'ratio':>6} {'TFLOP':>8} "
             f"{'TFLOP/s':>8} {'MB':>6} {'difference':>10}"]
    section = None
    for row in result["rows"]:
        if row["section"] != section:
            section = row["section"]
            lines.append(f"-- {section}, against '{row['baseline']}'")
        lines.append(f"{row['name']:42} {row['shape']:>12} {row['dtype']:>9} {row['steps']:5} {row['guidance']:>17} "
                     f"{cell(row['seconds_per_frame'], '9.4f'):>9} {cell(row['ratio'], '6.3f'):>6} "
                     f"{cell(row['tflop_per_frame'], '8.5f'):>8} {cell(row['tflops'], '8.3f'):>8} {cell(row['peak_mb'], 'd'):>6} "
                     f"{cell(row['difference'], '.1e'):>10}")
    return "\n".join(lines) + "\n"


def draw(result: dict, figure: Path) -> None:
    """Bars of the ratios, section by section; less is faster."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sections = [name for name in ("savings", "samplers", "shortcuts") if any(row["section"] == name for row in result["rows"])]
    groups = [[row for row in result["rows"] if row["section"] == name] for name in sections]
    picture, axes = plt.subplots(len(groups), 1, figsize=(8, 0.42 * sum(map(len, groups)) + 1.6), layout="constrained",
                                 height_ratios=[len(rows) + 0.6 for rows in groups], squeeze=False)
    for axis, rows, name in zip(axes[:, 0], groups, sections, strict=True):
        rows = [row for row in rows if row["name"] != "compiled, cold"][::-1]
        bars = axis.barh([row["name"] for row in rows], [row["ratio"] for row in rows], color="#4878a8")
        axis.bar_label(bars, [f" {row['ratio']:.2f}" for row in rows], fontsize=8)
        axis.set_title(f"{name}: time per frame, as a part of '{rows[0]['baseline']}'; less is faster", fontsize=9, loc="left")
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
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall",
                        help="cpu: processor time of all threads, for a machine that others use, too (%(default)s)")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile as well, cold and warm")
    parser.add_argument("--json", type=Path, help="save the table here, or read it from here to draw")
    parser.add_argument("--draw", type=Path, metavar="FIGURE")
    chosen = parser.parse_args(arguments)
    if chosen.draw:
        return draw(json.loads(chosen.json.read_text(encoding="utf-8")), chosen.draw)
    bench = Bench(chosen)
    frames = chosen.clips * bench.config.clip_frames
    run = {"savings": lambda: savings(bench, frames), "samplers": lambda: samplers(bench, frames),
           "shortcuts": lambda: shortcuts(bench, frames, compiles=chosen.compile), "storage": lambda: storage(bench, frames),
           "length": lambda: length(bench, chosen.seconds)}
    rows = [row for name in chosen.sections for row in run[name]()]
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads"
    if bench.device.type == "cuda":
        machine = torch.cuda.get_device_name()
    result = {"model": bench.config.name, "weights": "random" if chosen.preset else chosen.model.name, "machine": machine,
              "torch": torch.__version__, "clock": chosen.clock, "peak_rss_mb": peak_rss_mb(),
              "rows": [asdict(row) for row in rows]}
    sys.stdout.write(table(result))
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1).replace("NaN", "null"), encoding="utf-8")


if __name__ == "__main__":
    main()

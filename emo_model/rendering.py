"""From files to an mp4 file, talking or dubbed: with the clip cache, a progress bar, and a report at the end."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from . import dubbing, talk
from .acceleration.compile import compile_blocks
from .acceleration.cuda_graphs import CudaGraphs, capture_steps
from .cache.folder import CacheLimits, CacheRun, ClipCache
from .cache.keys import weights_of
from .checkpoints import native
from .checkpoints.mediapipe import load_face_finder
from .config import SamplingConfig
from .estimate import Estimate, estimate
from .inputs.audio import heard_opening
from .inputs.portrait import LONG_SIDE
from .inputs.video_frames import VideoFrames
from .outputs.background_writer import BackgroundWriter
from .outputs.destination import check_destination
from .outputs.disk import check_video, grain_of
from .outputs.run_report import OFTEN, RunReport, WatchedFace
from .outputs.shared_work import SharedWork, half_the_cores
from .outputs.video import DUBBED, VideoWriter, sound_bytes
from .sampling.expression import Expression
from .sampling.progress import StepReport
from .types import MotionFrames

log = logging.getLogger("emo")


def make_video(
    portrait: Path,
    voices: Path | Sequence[Path],
    out: Path,
    *,
    model: Path,
    sampling: SamplingConfig,
    fps: float | None = None,
    faces: Sequence[str | Sequence[float]] | None = None,
    together: bool = False,
    schedule: str | None = None,
    in_turn: bool = False,
    long_side: int = LONG_SIDE,
    square: bool = False,
    device: str = "cpu",
    clips: Path | None = None,
    finished_only: bool = False,
    codec: str = "aac",
    compiled: bool = False,
    cuda_graphs: bool = False,
    progress: bool = True,
    expression: Expression = Expression(),
    expressions: Mapping[str, Expression] = MappingProxyType({}),
    idle_seconds: float | None = None,
    report_to: Path | None = None,
) -> dict:
    """Make a video, block by block; returns the fields of the command's JSON line.

    voices: one voice, or one for each face from the left.

    out, width, height, frames, fps, clips, rendered (clips rendered in this run), seconds (total), first_clip_seconds
    (until the first clip was available), seconds_per_frame, peak_rss_mb, and with CUDA peak_device_mb.
    together: several faces move, see `talk.speak_together` for faces, schedule, in_turn and expressions; else one of at
    most one in faces, see `talk.speak`, also for long_side, square and expression. idle_seconds: in place of voices,
    see `talk.idle`. compiled: compile the networks first, for long videos. cuda_graphs: capture a step and replay it.
    report_to: a JSON file for `RunReport.result`. clips: folder of the clip cache, from which an interrupted run
    resumes. finished_only: render nothing, and make a video of the cached clips. Raises OSError and ValueError with a
    message for the user; if the run is interrupted, a playable video of the finished part remains next to `out`.
    """
    began = time.monotonic()
    voices = ([voices] if isinstance(voices, Path) else list(voices)) if idle_seconds is None else []
    folder = check_destination(out, inputs=(portrait, *voices, *native.files_of(model))).parent
    picture, sounds = talk.read_picture(portrait), [talk.read_sound(voice) for voice in voices]
    if idle_seconds is not None and (together or len(faces or ()) > 1):
        raise ValueError("--idle shows one face, but several are chosen; choose one with --which-face")
    kept_sound = max((sound_bytes(sound.rate, sound.channels, codec) for sound in sounds), default=0)
    if not (finished_only or square):  # their size is known later, and is checked then
        lengths = [sound.samples / sound.rate for sound in sounds]
        seconds = (sum(lengths) if in_turn else max(lengths)) if idle_seconds is None else idle_seconds
        rate = fps or native.read_config(model).fps
        _refuse_full_disk(folder, picture, seconds, fps=rate, long_side=long_side, sound_bytes=kept_sound)
    if together and square:
        raise ValueError("--square shows one head, but several faces are chosen; drop --square, or choose one face")
    if in_turn and len(sounds) < 2:
        raise ValueError("--in-turn needs several voices, and there is one; name more sound files")
    bundle = talk.load(model, device)
    compiled = compiled and compile_blocks(bundle.emo, device=device)
    graphs = capture_steps(bundle.emo, device=device) if cuda_graphs else None
    how = {"sampling": sampling, "long_side": long_side, "fps": fps, "expression": expression}
    if together:
        how |= {"faces": faces, "schedule": schedule, "in_turn": in_turn, "expressions": expressions}
        group = talk.prepare_together(bundle, picture, sounds, **how)
    else:
        how |= {"face": faces and faces[0], "square": square, "idle_seconds": idle_seconds}
        group = talk.Group.of(talk.prepare(bundle, picture, sounds[0] if sounds else None, **how))
    log.info("%s", group.summary)
    kernels = compiled * " compiled" + (graphs is not None) * " CUDA graphs"
    cache = None if clips is None else ClipCache(clips, CacheLimits.from_environment())
    with closing(_Clips.of(group, cache, kernels)) as source:
        with half_the_cores(device):
            there = source.finished()
        if finished_only and not min(there, default=0):
            raise ValueError(f"no clip of this video is cached in {clips}; run without --finished-only first")
        fps, frames, (height, width) = source.fps, group.first.conditions.frames, group.first.size
        if not finished_only:
            plan = source.estimate(sampling, finished=sum(there), sound_bytes=kept_sound)
            log.info("%s%s", plan.says, "" if cache is None else f" {cache.summary}")
            plan.refuse_what_cannot_fit(clips or folder, folder)
        watch = None if report_to is None else _watch(group, fps=fps)
        expected = min(frames, min(there) * bundle.config.clip_frames) if finished_only else frames
        size = {"width": width, "height": height}
        video = VideoWriter(out, fps=fps, **size, audio=group.sound, codec=codec, expected=expected)
        bar = tqdm(
            total=group.clips * sampling.steps,
            unit="step",
            disable=not progress,
            initial=sum(there) * sampling.steps,
            desc=f"{frames} frames in {group.clips} clips",
        )
        try:
            first = _render(source, video, bar, watch=watch, finished_only=finished_only, graphs=graphs)
        except BaseException:
            if video.frames and video.partial.is_file():
                log.info("%s contains the first %.2f s", video.partial, video.frames / fps)
            if cache is not None:
                kept = max(sum(there), sum(len(run.keys) for run in source.runs))
                log.info("%d of %d clips are cached in %s; run the same command to resume", kept, group.clips, clips)
            raise
        rendered = group.clips if cache is None else sum(run.rendered for run in source.runs)
    seconds = time.monotonic() - began
    report = {
        "out": str(out),
        **size,
        "frames": video.frames,
        "fps": fps,
        "clips": group.clips,
        "rendered": rendered,
        "seconds": round(seconds, 2),
        "first_clip_seconds": round(first - began, 2),
        "seconds_per_frame": round(seconds / video.frames, 4),
        "peak_rss_mb": peak_rss_mb(),
    }
    if watch is not None:
        log.info("%s", watch.line)
        report_to.write_text(json.dumps({**report, **watch.result}, indent=1) + "\n", encoding="utf-8")
    if torch.device(device).type == "cuda":
        report["peak_device_mb"] = round(torch.cuda.max_memory_allocated(device) / 1e6)
    return report


@dataclass(frozen=True, eq=False)
class _Clips:
    """The clips of all faces, from the cache or sampled; runs: of the cache, one a face, or none."""

    group: talk.Group
    cache: ClipCache | None
    runs: list[CacheRun]
    weights: str

    @classmethod
    def of(cls, group: talk.Group, cache: ClipCache | None, kernels: str) -> _Clips:
        runs = [] if cache is None else [cache.run() for _ in group.scenes]
        return cls(group, cache, runs, weights_of(group.first.bundle.emo) + kernels)

    @property
    def device(self) -> torch.device:
        return self.group.first.device

    @property
    def fps(self) -> float:
        return self.group.first.conditions.audio.fps

    @property
    def batch_branches(self) -> bool:
        return torch.device(self.device).type != "cpu"  # on a CPU, two threads evaluate one each

    def finished(self) -> list[int]:
        """How many clips of each face are cached; [] without a cache."""
        how = {"weights": self.weights, "finished_only": True, "batch_branches": self.batch_branches}
        scenes = zip(self.group.scenes.values(), self.runs, strict=False)
        return [sum(1 for _ in scene.generate(cache=run, **how)) for scene, run in scenes]

    def generate(self, work: SharedWork, **how) -> Iterator[Tensor]:
        return self.group.generate(
            caches=self.runs,
            weights=self.weights,
            batch_branches=self.batch_branches,
            evaluate=map if self.batch_branches else work.map,
            **how,
        )

    def estimate(self, sampling: SamplingConfig, *, finished: int, sound_bytes: float) -> Estimate:
        scene, scenes = self.group.first, self.group.scenes.values()
        return estimate(
            scene.bundle.config,
            sampling,
            frames=scene.conditions.frames,
            fps=self.fps,
            finished=finished,
            picture=scene.size,
            grain=grain_of(scene.picture),
            weights_bytes=sum(weight.nbytes for weight in scene.bundle.emo.parameters()),
            feature_bytes=sum(one.conditions.audio.frames.nbytes for one in scenes),
            faces=len(scenes),
            sound_bytes=sound_bytes,
        )

    def close(self) -> None:
        for run in self.runs:
            run.lease.close()


def _render(
    source: _Clips,
    video: VideoWriter,
    bar: tqdm,
    *,
    watch: RunReport | None,
    finished_only: bool,
    graphs: CudaGraphs | None,
) -> float:
    """Sample, decode and write all clips; when the first was there, by the monotonic clock."""

    def write(block: np.ndarray) -> None:
        if watch is not None:
            watch.see(block)
        video.write(block)

    def on_step(report: StepReport) -> None:
        if not report.is_cached:
            bar.update()

    first, model = 0.0, source.group.first.bundle.config
    with bar, half_the_cores(source.device), video, SharedWork() as work:
        with BackgroundWriter(work, source.group.decode, write, device=source.device) as writer:
            for latents in source.generate(work, finished_only=finished_only, predict=graphs, on_step=on_step):
                first = first or time.monotonic()
                writer.put(latents)
                video.last = MotionFrames.after(video.last, latents, model.motion_frames)
    return first


def dub_video(
    video: Path,
    voice: Path,
    out: Path,
    *,
    model: Path,
    face: str | Sequence[float] | None = None,
    device: str = "cpu",
    codec: str = "aac",
    progress: bool = True,
) -> dict:
    """Make the lips of a video follow a voice, frame by frame; returns the fields of the JSON line.

    out, width, height, frames, fps (mean), seconds (total), seconds_per_frame, peak_rss_mb. face: see
    `dubbing.read_video`. Raises OSError and ValueError with a message for the user; if the run is interrupted, a
    playable video of the finished part remains next to `out`.
    """
    began = time.monotonic()
    check_destination(out, inputs=(video, voice, *native.files_of(model)))
    shown, sound = VideoFrames(video), talk.read_sound(voice)
    bundle = talk.load(model, device)
    with tqdm(unit="frame", disable=not progress, desc="reading the face") as bar:
        dubbed = dubbing.read_video(bundle, shown, face=face, on_frame=lambda done: bar.update())
    log.info("%s", dubbed.summary)
    for sentence in dubbed.warnings:
        log.warning("%s", sentence)
    count, (height, width) = dubbed.count(sound.samples / sound.rate), dubbed.size
    with (
        VideoWriter(
            out,
            fps=float(shown.rate),
            width=width,
            height=height,
            audio=sound,
            codec=codec,
            metadata={"comment": DUBBED},
            expected=count,
            tick=shown.tick,
        ) as writer,
        tqdm(total=count, unit="frame", disable=not progress, desc="drawing the mouth") as bar,
    ):
        for seconds, picture in dubbed.frames(sound):
            writer.write(picture[None], [seconds])
            bar.update()
    passed = time.monotonic() - began
    return {
        "out": str(out),
        "width": width,
        "height": height,
        "frames": writer.frames,
        "fps": round(float(shown.rate), 3),
        "seconds": round(passed, 2),
        "seconds_per_frame": round(passed / writer.frames, 4),
        "peak_rss_mb": peak_rss_mb(),
    }


def _watch(group: talk.Group, *, fps: float) -> RunReport:
    faces = {}
    for letter, scene in group.scenes.items():
        heard = heard_opening(scene.conditions.audio, scene.bundle.config.audio_encoder)
        faces[letter] = WatchedFace.of(scene.conditions.portrait, heard)
    return RunReport(load_face_finder(), group.first.decoder.still, faces, fps=fps, every=OFTEN)


def _refuse_full_disk(
    folder: Path, picture: Tensor, seconds: float, *, fps: float, long_side: int, sound_bytes: float
) -> None:
    """Raises OSError if the video alone does not fit; clips are counted once it is known which are cached."""
    scale = min(1.0, long_side / max(picture.shape[-2:]))
    height, width = (max(2, round(length * scale)) for length in picture.shape[-2:])
    check_video(
        folder,
        max(1, round(seconds * fps)),
        fps=fps,
        width=width,
        height=height,
        grain=grain_of(picture),
        sound_bytes=sound_bytes,
    )


def peak_rss_mb() -> int | None:
    """Peak resident memory of this process in MB (10^6 bytes); None on Windows, where Python does not report it."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6)

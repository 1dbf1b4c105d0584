"""The built-in model from nothing: speech, audio encoder, puppets, motion decoder, clips, EMO's three stages, one file.

Every step leaves a file in OUT and is skipped when that is there, so a run continues where it stopped:

    speech/  sung/             prepared speech, plain and sung or over music
    statistics.safetensors     scales of the latents, shapes and smoothness of the noise
    audio_encoder.safetensors
    puppets.safetensors        head squares and face meshes of the pictures in --faces
    motion_decoder.safetensors    mouth.safetensors (the same, its mouth's painter trained further)
    clips.safetensors          speaking puppets as motion latents, at first without their audio
    image.safetensors          video.safetensors    speed.safetensors
    builtin.safetensors        the model
    log.jsonl                  a line every 50 steps, and one for each finished step

The motion decoder and EMO do not need each other: `--part decoder` and `--part emo` may run at the same time on two
cores, and `--part image`, stage 1, beside the audio encoder. Differs from EMO: puppets and synthetic speech stand in
for hundreds of hours of recorded people.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..checkpoints import native
from ..config import PRESETS, ModelConfig
from ..synthetic.puppet_store import PuppetStore
from ..synthetic.speech_library import SpeechLibrary
from .audio_encoder import AudioEncoderTask, make_beds
from .clips import ClipStore
from .loop import OutOfTime, Plan, append_line, train
from .loss import EmoTask
from .motion_decoder import MotionDecoderTask
from .puppet_clips import clip_audio, motion_statistics, puppet_clips
from .stages import RECIPES, Stage

log = logging.getLogger(__name__)

PARTS = ("all", "decoder", "image", "emo")


@dataclass(frozen=True)
class Recipe:
    """How much of everything; `scale` in `make_builtin` multiplies the steps."""

    music_minutes: float = 24.0  # accompaniment and noise for the audio encoder
    audio_encoder: Plan = Plan("audio_encoder", steps=3_000, learning_rate=2e-3, warmup_steps=50, weight_decay=0.05)
    decoder: Plan = Plan("motion_decoder", steps=5_000, learning_rate=1e-3, warmup_steps=50)
    mouth: Plan = Plan("mouth", steps=1_500, learning_rate=1e-3, warmup_steps=30, ema_decay=0.995)
    decoder_batch: int = 6
    turned: float = 0.3  # share of the motion decoder's portraits that are seen from the side
    clips: int = 3_000
    frames: int = 40
    sung_share: float = 0.25  # of the clips
    stages: tuple[Stage, ...] = RECIPES["builtin"]

    def continued(self) -> Recipe:
        """For a model that is trained already: no stage 1, and half the learning rates."""

        def slower(plan: Plan) -> Plan:
            return replace(plan, learning_rate=plan.learning_rate / 2)

        return replace(
            self,
            audio_encoder=slower(self.audio_encoder),
            decoder=slower(self.decoder),
            stages=tuple(replace(stage, learning_rate=stage.learning_rate / 2) for stage in self.stages[1:]),
        )


RECIPE = {
    "builtin": Recipe(),
    "test": Recipe(
        music_minutes=0.5,
        audio_encoder=Plan("audio_encoder", steps=3, learning_rate=1e-3, warmup_steps=1),
        decoder=Plan("motion_decoder", steps=2, learning_rate=1e-3, warmup_steps=1),
        mouth=Plan("mouth", steps=1, learning_rate=1e-3, warmup_steps=1),
        decoder_batch=3,
        turned=0.0,
        clips=4,
        frames=12,
        stages=RECIPES["test"],
    ),
}


def make_builtin(
    out: Path,
    *,
    puppets: Path,
    speech: Path,
    sung: Path | None = None,
    start: str | Path | None = None,
    preset: str = "builtin",
    part: str = "all",
    minutes: float = math.inf,
    resume: bool = False,
    seed: int = 0,
    scale: float = 1.0,
    precision: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Path | None:
    """Train the built-in model into `out`; returns the path of the finished file, None where `part` leaves the other to
    do.

    puppets: a file of `PuppetStore`; speech, sung: folders of prepared speech; start: a trained model to go on from (a
    path, or "default"), with its scales and its noise; precision: 'bf16' or 'no', by default bf16 where there is CUDA.
    Raises OutOfTime when `minutes` are over (everything so far is kept; call again with resume=True), FileExistsError
    if `out` holds a run and `resume` is not set.
    """
    if (out / "log.jsonl").exists() and not resume:
        raise FileExistsError(
            f"{out} already holds a training run; add --resume to go on with it, or choose another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    run = _Run(
        out,
        PRESETS[preset],
        RECIPE[preset],
        clock() + 60 * minutes,
        seed,
        scale,
        precision or ("bf16" if device == "cuda" else "no"),
        device,
        clock,
    )
    torch.manual_seed(seed)
    store = PuppetStore(puppets)
    libraries = [(1.0, SpeechLibrary(speech))]
    if sung is not None:
        libraries = [(1 - run.recipe.sung_share, libraries[0][1]), (run.recipe.sung_share, SpeechLibrary(sung))]
    if start is not None:
        run.recipe = run.recipe.continued()
        bundle = native.load(start)
        if bundle.config.name != preset or bundle.motion_decoder is None or bundle.audio_encoder is None:
            raise ValueError(
                f"{start} is of preset '{bundle.config.name}' with the parts {', '.join(bundle.parts)}; "
                f"training '{preset}' continues from a whole model of that preset: choose another --start "
                "or --preset"
            )
        for module in (bundle.emo, bundle.motion_decoder, bundle.audio_encoder):
            module.float()
        config = bundle.config
    else:
        statistics = run.step("statistics", lambda: motion_statistics(store, libraries, config=run.config))
        config = replace(
            run.config,
            latent_scale=_numbers(statistics["latent_scale"]),
            noise_frames=_numbers(statistics["noise_frames"]),
        )
        torch.manual_seed(seed)
        bundle = native.build(config)
        bundle.emo.noise_shapes.copy_(statistics["noise_shapes"])
    if part in ("all", "decoder"):
        decoder = bundle.motion_decoder
        run.fill(
            decoder,
            "motion_decoder",
            lambda: run.decoder(decoder, config, store, run.recipe.decoder, turned=run.recipe.turned),
        )
        run.fill(decoder, "mouth", lambda: run.decoder(decoder, config, store, run.recipe.mouth, only_mouth=True))
    if part in ("all", "image", "emo"):
        clips = run.clips(config, store, libraries)
        run.stages(bundle.emo, clips, [stage for stage in run.recipe.stages if not stage.is_video])
    if part in ("all", "emo"):
        encoder = bundle.audio_encoder
        run.fill(
            encoder,
            "audio_encoder",
            lambda: run.audio_encoder(
                [library for _, library in libraries], start=encoder.state_dict() if start else None
            ),
        )
        run.stages(bundle.emo, run.with_audio(clips, config, libraries, encoder.to(device).eval()), run.recipe.stages)
    last = run.recipe.stages[-1].name
    if any(not (out / f"{name}.safetensors").exists() for name in ("mouth", "audio_encoder", last)):
        return None
    for module, name in ((bundle.motion_decoder, "mouth"), (bundle.audio_encoder, "audio_encoder"), (bundle.emo, last)):
        module.load_state_dict(load_file(out / f"{name}.safetensors"))
    path = out / "builtin.safetensors"
    native.save(
        path,
        native.Bundle(
            config,
            bundle.emo.to("cpu").eval(),
            motion_decoder=bundle.motion_decoder.to("cpu").eval(),
            audio_encoder=bundle.audio_encoder.to("cpu").eval(),
            card={
                "made_by": f"python -m emo_model.training builtin --preset {preset} --seed {seed} --scale {scale}",
                "machine": device_name(),
                "pictures": len(store.indices(held_out=False)),
                "clips": run.recipe.clips,
                "speech_minutes": round(sum(library.seconds for _, library in libraries) / 60, 1),
                "steps": {
                    plan: round(steps * scale)
                    for plan, steps in (
                        *((plan.name, plan.steps) for plan in (run.recipe.decoder, run.recipe.mouth)),
                        *((stage.name, stage.steps) for stage in run.recipe.stages),
                    )
                },
                "licence": "MIT; trained on synthetic photographs (SFHQ, MIT), drawn heads and synthetic speech",
            },
        ),
    )
    return path


@dataclass
class _Run:
    """A run's folder and how it trains."""

    out: Path
    config: ModelConfig
    recipe: Recipe
    deadline: float
    seed: int
    scale: float
    precision: str
    device: str
    clock: Callable[[], float]

    def step(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors of OUT/NAME.safetensors, made first if they are not there."""
        path = self.out / f"{name}.safetensors"
        if not path.exists():
            if self.clock() > self.deadline:
                raise OutOfTime(f"'{name}' is next")
            began = self.clock()
            native.write_tensors(path, {key: value.cpu().contiguous() for key, value in make().items()})
            (self.out / "state" / path.name).unlink(missing_ok=True)  # not before its successor is there
            append_line(
                self.out / "log.jsonl",
                {"finished": name, "seconds_since_resume": round(self.clock() - began, 1), "device": device_name()},
            )
        return load_file(path)

    def fill(self, module: nn.Module, name: str, make: Callable[[], dict[str, Tensor]]) -> None:
        """Load the step's weights into the module, trained first if they are not there."""
        tensors = self.step(name, make)
        try:
            module.load_state_dict(tensors)
        except RuntimeError:
            raise ValueError(
                f"{self.out / name}.safetensors is not of preset '{self.config.name}': go on with the "
                "preset that the run began with, or choose another --out"
            ) from None

    def train(self, task: nn.Module, plan: Plan) -> dict[str, Tensor]:
        plan = replace(plan, steps=max(1, round(plan.steps * self.scale)))
        return train(task, plan, self.out, deadline=self.deadline, mixed_precision=self.precision, clock=self.clock)

    def audio_encoder(self, libraries: list[SpeechLibrary], *, start: dict[str, Tensor] | None) -> dict[str, Tensor]:
        speeches = [speech for library in libraries for speech in library]
        beds = make_beds(minutes=self.recipe.music_minutes, seed=self.seed)
        task = AudioEncoderTask(self.config.audio_encoder, speeches, beds=beds, start=start, seed=self.seed)
        return _without("encoder.", self.train(task, self.recipe.audio_encoder))

    def decoder(
        self, decoder: nn.Module, config: ModelConfig, puppets: PuppetStore, plan: Plan, **how
    ) -> dict[str, Tensor]:
        task = MotionDecoderTask(decoder, config, puppets, batch=self.recipe.decoder_batch, seed=self.seed, **how)
        if self.device == "cpu":
            task.to(memory_format=torch.channels_last)
        return decoder.state_dict() | _without("decoder.", self.train(task, plan))

    def clips(
        self, config: ModelConfig, puppets: PuppetStore, libraries: list[tuple[float, SpeechLibrary]]
    ) -> ClipStore:
        """Speaking puppets, still without audio features."""

        def make() -> dict[str, Tensor]:
            store = puppet_clips(
                self.recipe.clips, puppets, libraries, config=config, frames=self.recipe.frames, seed=self.seed
            )
            return {field.name: getattr(store, field.name) for field in dataclasses.fields(store)}

        return ClipStore(**{name: value.to(self.device) for name, value in self.step("clips", make).items()})

    def with_audio(
        self, clips: ClipStore, config: ModelConfig, libraries: list[tuple[float, SpeechLibrary]], encoder: nn.Module
    ) -> ClipStore:
        """The clips with their audio features, which are encoded into their file if they are not there."""
        if clips.audio.any():
            return clips
        audio = clip_audio(
            self.recipe.clips, libraries, config=config, encoder=encoder, frames=self.recipe.frames, seed=self.seed
        )
        clips = replace(clips, audio=audio.to(self.device))
        clips.save(self.out / "clips.safetensors")
        return clips

    def stages(self, emo: nn.Module, clips: ClipStore, stages: Sequence[Stage]) -> None:
        """All of these stages that are not done yet."""
        done = [number for number, stage in enumerate(stages) if (self.out / f"{stage.name}.safetensors").exists()]
        for stage in stages[max(done, default=0) :]:
            self.fill(emo, stage.name, lambda: self.stage(emo, stage, clips))  # noqa: B023

    def stage(self, emo: nn.Module, stage: Stage, clips: ClipStore) -> dict[str, Tensor]:
        """All weights of EMO after a stage: averaged where it trained, as before elsewhere."""
        task = EmoTask(emo, stage, clips, seed=self.seed)
        if self.device == "cpu":
            emo.to(memory_format=torch.channels_last)
        average = self.train(task, Plan(stage.name, stage.steps, stage.learning_rate, stage.warmup_steps))
        return emo.state_dict() | _without("emo.", average)


def _numbers(values: Tensor) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values.tolist())


def _without(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under `prefix`, by their names without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"

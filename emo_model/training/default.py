"""The built-in model from nothing: speech, audio encoder, autoencoder, drawn clips, EMO's three stages, one file.

Every step leaves a file in OUT and is skipped when that is there, so a run goes on where it stopped:

    speech/                    prepared speech (or --data DIR, made beforehand by `prepare-default`)
    autoencoder.safetensors    decoder.safetensors (the same with a decoder that stands noise)    audio_encoder.safetensors
    clips.safetensors          image.safetensors    video.safetensors    speed.safetensors
    default.safetensors        the model, and default.safetensors.00x, its pieces of under 16 MB
    log.jsonl                  a line every 50 steps, and one for each finished step

Differs from EMO: drawn heads and synthetic speech stand in for hundreds of hours of recorded people.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..checkpoints import native
from ..checkpoints.pieces import split
from ..config import PRESETS
from ..synthetic.speech_library import SpeechLibrary, prepare_speech
from . import progress
from .audio_encoder import AudioEncoderTask
from .autoencoder import AutoencoderTask, latent_statistics
from .clips import ClipStore
from .drawn import draw_clips, draw_stills
from .loop import OutOfTime, Plan, append_line, train
from .loss import EmoTask
from .stages import RECIPES, Stage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How much of everything; `scale` in `make_default` multiplies the steps."""

    speech_minutes: float = 58.0
    audio_encoder: Plan = Plan("audio_encoder", steps=3_000, learning_rate=2e-3, warmup_steps=50)
    autoencoder: Plan = Plan("autoencoder", steps=4_000, learning_rate=1e-3, warmup_steps=100)
    decoder: Plan = Plan("decoder", steps=1_000, learning_rate=6e-4, warmup_steps=30)
    decoder_noise: float = 0.5
    autoencoder_batch: int = 64
    pool_steps: int = 60
    people: int = 3_000
    frames: int = 40
    stages: tuple[Stage, ...] = RECIPES["default"]
    first_person: int = 0  # identity seeds of the clips; evaluation uses others (evaluation.builtin)


RECIPE = {
    "default": Recipe(),
    "default-cpu": Recipe(audio_encoder=Plan("audio_encoder", steps=1_500, learning_rate=2e-3, warmup_steps=50),
                          autoencoder=Plan("autoencoder", steps=1_200, learning_rate=1.2e-3, warmup_steps=100),
                          decoder=Plan("decoder", steps=1_200, learning_rate=6e-4, warmup_steps=30), autoencoder_batch=16,
                          pool_steps=150, people=2_250, frames=34, stages=RECIPES["default-cpu"]),
    "test": Recipe(speech_minutes=0.5, audio_encoder=Plan("audio_encoder", steps=3, learning_rate=1e-3, warmup_steps=1),
                   autoencoder=Plan("autoencoder", steps=3, learning_rate=1e-3, warmup_steps=1),
                   decoder=Plan("decoder", steps=2, learning_rate=1e-3, warmup_steps=1), autoencoder_batch=2, people=3,
                   frames=10, stages=RECIPES["test"]),
}


def make_default(out: Path, *, preset: str = "default", data: Path | None = None, minutes: float = math.inf, resume: bool = False,
                 seed: int = 0, scale: float = 1.0, precision: str | None = None,
                 clock: Callable[[], float] = time.monotonic) -> Path:
    """Train the built-in model into `out`; returns the path of the finished file.

    data: a folder made by `prepare_default`, else one is made in `out`; precision: 'bf16' or 'no', by default bf16 where there is
    CUDA (a CPU with AVX-512 BF16 gains a third by it, others lose). Raises OutOfTime when `minutes` are over (everything so
    far is kept, and packed into progress.safetensors.001, ... for another machine; call again with resume=True),
    FileExistsError if `out` holds a run and `resume` is not set.
    """
    if (out / "log.jsonl").exists() and not resume:
        raise FileExistsError(f"{out} already holds a training run; add --resume to go on with it, or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    progress.unpack(out)
    recipe = RECIPE[preset]
    try:
        finished = _make(out, preset, recipe, data, clock() + 60 * minutes, seed, scale, precision, clock)
    except OutOfTime:
        progress.pack(out, (*progress.PARTS, *(stage.name for stage in recipe.stages)))
        raise
    for piece in out.glob(f"{progress.NAME}.*"):
        piece.unlink()
    return finished


def _make(out: Path, preset: str, recipe: Recipe, data: Path | None, deadline: float, seed: int, scale: float,
          precision: str | None, clock: Callable[[], float]) -> Path:
    config = PRESETS[preset]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = precision or ("bf16" if device == "cuda" else "no")
    torch.manual_seed(seed)

    def step(name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors of OUT/NAME.safetensors, made first if they are not there."""
        path = out / f"{name}.safetensors"
        if not path.exists():
            if clock() > deadline:
                raise OutOfTime(f"'{name}' is next")
            began = clock()
            native.write_tensors(path, {key: value.cpu().contiguous() for key, value in make().items()})
            (out / "state" / path.name).unlink(missing_ok=True)  # not before its successor is there
            append_line(out / "log.jsonl", {"finished": name, "seconds_since_resume": round(clock() - began, 1),
                                            "device": device_name()})
        return load_file(path)

    def fill(module: nn.Module, name: str, make: Callable[[], dict[str, Tensor]]) -> None:
        tensors = step(name, make)
        try:
            module.load_state_dict(tensors)
        except RuntimeError:
            raise ValueError(f"{out / name}.safetensors is not of preset '{preset}': go on with the preset that the run began "
                             "with, or choose another --out") from None

    def run(task: nn.Module, plan: Plan) -> dict[str, Tensor]:
        plan = replace(plan, steps=max(1, round(plan.steps * scale)))
        return train(task, plan, out, deadline=deadline, mixed_precision=precision, clock=clock)

    folder = data or prepare_default(out / "speech", preset=preset, seed=seed)
    bundle = native.build(config)
    bundle.autoencoder.to(memory_format=torch.channels_last)  # trained or loaded: the last bits of its latents depend on it
    library = SpeechLibrary(folder)

    def train_autoencoder(plan: Plan, **how) -> dict[str, Tensor]:
        task = AutoencoderTask(bundle.autoencoder, config, batch=recipe.autoencoder_batch, seed=seed,
                               pool_steps=recipe.pool_steps, device=device, **how)
        return bundle.autoencoder.state_dict() | _without("autoencoder.", run(task, plan))

    fill(bundle.autoencoder, "autoencoder", lambda: train_autoencoder(recipe.autoencoder))
    fill(bundle.autoencoder, "decoder", lambda: train_autoencoder(
        recipe.decoder, only_decoder=True, latent_noise=recipe.decoder_noise))

    def train_audio_encoder() -> dict[str, Tensor]:
        average = run(AudioEncoderTask(config.audio_encoder, library, seed=seed), recipe.audio_encoder)
        return _without("encoder.", average)

    fill(bundle.audio_encoder, "audio_encoder", train_audio_encoder)
    autoencoder, audio_encoder = bundle.autoencoder.to(device).eval(), bundle.audio_encoder.to(device).eval()
    pixels, _ = draw_stills(range(20_000_000, 20_000_256), size=config.image_size, device=device)
    latent_scale, latent_rgb = latent_statistics(autoencoder, pixels.float())
    config = replace(config, latent_scale=latent_scale, latent_rgb=latent_rgb)

    def draw() -> dict[str, Tensor]:
        store = draw_clips(range(recipe.first_person, recipe.first_person + recipe.people), library, config=config,
                           autoencoder=autoencoder, encoder=audio_encoder, frames=recipe.frames, device=device)
        return {field.name: getattr(store, field.name) for field in dataclasses.fields(store)}

    clips = ClipStore(**{name: value.to(device) for name, value in step("clips", draw).items()})
    emo = bundle.emo
    done = [number for number, stage in enumerate(recipe.stages) if (out / f"{stage.name}.safetensors").exists()]
    for stage in recipe.stages[max(done, default=0):]:
        fill(emo, stage.name, lambda: _stage_weights(emo, stage, clips, seed, run))  # noqa: B023

    finished = native.Bundle(config, emo.to("cpu").eval(), autoencoder.to("cpu"), audio_encoder=audio_encoder.to("cpu"), card={
        "made_by": f"python -m emo_model.training default --preset {preset} --seed {seed} --scale {scale}",
        "machine": device_name(), "people": recipe.people, "speech_minutes": round(library.seconds / 60, 1),
        "steps": {stage.name: round(stage.steps * scale) for stage in recipe.stages},
        "licence": "MIT; trained on drawn heads and synthetic speech made by this project"})
    path = out / "default.safetensors"
    native.save(path, finished)
    split(path)
    return path


def _stage_weights(emo: nn.Module, stage: Stage, clips: ClipStore, seed: int, run: Callable) -> dict[str, Tensor]:
    """All weights of EMO after a stage: averaged where it trained, as before elsewhere."""
    task = EmoTask(emo, stage, clips, seed=seed)
    if clips.latents.device.type == "cpu":
        emo.to(memory_format=torch.channels_last)
    average = run(task, Plan(stage.name, stage.steps, stage.learning_rate, stage.warmup_steps))
    return emo.state_dict() | _without("emo.", average)


def _without(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under `prefix`, by their names without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def prepare_default(folder: Path, *, preset: str = "default", seed: int = 0) -> Path:
    """Speak everything that training needs into `folder` (about 29 MB for 58 minutes), unless it is there; returns it.

    Needs a speech engine (see synthetic.speech); training from the folder needs none.
    """
    if not (folder / "speech.json").exists():
        prepare_speech(folder, minutes=RECIPE[preset].speech_minutes, seed=seed)
    return folder


def device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


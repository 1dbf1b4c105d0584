"""One person from minutes of video: the built-in model goes on learning on one talking person, on a CPU.

EMO's audio and temporal layers learn how this mouth moves; on request the mouth's painter learns how it looks inside.
All else stays.
The last fifth of the clips is kept to measure what it gave.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch import Tensor, nn

from ..auxiliary.motion_decoder import PATCH, MotionDecoder
from ..checkpoints import native
from ..config import ModelConfig
from ..inputs.face_geometry import LOWER_LIP_INNER, UPPER_LIP_INNER
from ..inputs.motion_latents import consistent_latents, mouth_centre, mouth_opening, portrait_latents
from ..inputs.portrait_maps import portrait_maps, skull_plane
from ..inputs.vae import to_raw, to_scaled
from ..outputs.portrait_decoder import PortraitDecoder
from ..types import Fit, Portrait
from .footage import shards
from .footage.preparing import read_mp4
from .footage.run import prepare
from .footage.settings import Settings
from .footage.store import ShardStore
from .loop import Plan, train
from .loss import EmoTask
from .motion_decoder import OUTER_MOUTH, mouth_losses
from .prepared import FOOTAGE_WEIGHTS, correlation, load_to_train, openings
from .stages import VIDEO

log = logging.getLogger(__name__)

HELD_OUT_SHARE = 0.2
LEAST_SECONDS = 8.0  # of usable footage
OPEN_GAP = 0.05  # opening of the lips in distances of the eye corners, from which the inside of the mouth shows
STAGE = replace(
    VIDEO,
    name="adapt",
    trains=("audio_projection.*", "*.attn_audio.*", "*.norm_audio.*", "*.motion_modules.*"),
    frozen=("*.attn_speed.*", "*.norm_speed.*"),
    has_speed=True,
    frame_references=False,
    steps=300,
    batch=4,
    learning_rate=1e-4,
    warmup_steps=20,
    channel_weights=FOOTAGE_WEIGHTS,
)
PAINTER = Plan("painter", steps=400, learning_rate=4e-4, warmup_steps=20, ema_decay=0.99)
STILL_BATCH = 4  # frames of one clip per step of the painter


@dataclass(frozen=True, eq=False)
class PersonClip:
    """One clip in memory: crops (F, 3, 2 S, 2 S) uint8, meshes (F, 468, 3) in pixels of S, latents (F, C, h, w) raw and
    consistent, inside (F, 2 S, 2 S) bool: between the lips, still: the portrait's frame."""

    crops: Tensor
    meshes: Tensor
    latents: Tensor
    inside: Tensor
    still: int

    @property
    def rest(self) -> Tensor:
        return self.meshes[self.still]

    @property
    def open_frames(self) -> list[int]:
        return (mouth_opening(self.meshes) > OPEN_GAP).nonzero()[:, 0].tolist()


def read_clip(sample: shards.Sample, config: ModelConfig) -> PersonClip:
    """A clip of prepared footage with all that the painter learns from. Raises ValueError for crops of another size."""
    size = config.image_size
    crops = torch.from_numpy(read_mp4(sample.read("mp4"))).permute(0, 3, 1, 2)
    if crops.shape[-1] != 2 * size:
        raise ValueError(f"the crops are {crops.shape[-1]} pixels a side, {2 * size} are needed: prepare with --crop")
    meshes = torch.from_numpy(sample.array("meshes.npy").copy())
    still = sample.about()["still"]
    scaled = torch.from_numpy(sample.array("latents.npy").astype(np.float32))
    maps = portrait_maps(meshes[still], size=size, cells=config.latent_size)
    latents = consistent_latents(to_raw(scaled, config), meshes[still], maps, size=size)
    inside = torch.stack([between_lips(mesh, size=size) for mesh in meshes])
    return PersonClip(crops, meshes, latents, inside, still)


def between_lips(mesh: Tensor, *, size: int) -> Tensor:
    """mesh (468, 3) in pixels of `size` -> (2 size, 2 size) bool."""
    outline = [*UPPER_LIP_INNER, *reversed(LOWER_LIP_INNER[1:-1])]
    image = Image.new("L", (2 * size, 2 * size))
    ImageDraw.Draw(image).polygon([(2 * x, 2 * y) for x, y in mesh[outline, :2].tolist()], fill=1)
    return torch.from_numpy(np.array(image)).bool()


@dataclass(frozen=True, eq=False)
class PersonBatch:
    """Frames of one clip: latents (B, C, h, w) raw; frames (B, 3, 2 S, 2 S) in [-1, 1]; inside (B, 1, 2 S, 2 S)."""

    clip: PersonClip
    latents: Tensor
    frames: Tensor
    inside: Tensor


class PainterTask(nn.Module):
    """The mouth's painter on a person's clips; `forward(batch)` is the loss. Flow and features stay as they are."""

    def __init__(self, decoder: MotionDecoder, config: ModelConfig, clips: Sequence[PersonClip], *, seed: int):
        super().__init__()
        self.decoder, self.config, self.clips, self.seed = decoder, config, clips, seed
        for name, parameter in decoder.named_parameters():
            parameter.requires_grad_(name.startswith("mouth"))

    def batch(self, step: int, part: int = 0, parts: int = 1) -> PersonBatch:
        """Frames of one clip, three in four of them with an open mouth where there are any."""
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed} painter {step} {part}".encode()))
        clip = self.clips[int(torch.randint(len(self.clips), (), generator=generator))]
        any_frame = torch.randint(len(clip.crops), (STILL_BATCH,), generator=generator).tolist()
        opened = clip.open_frames
        if opened:
            chosen = torch.randint(len(opened), (STILL_BATCH,), generator=generator).tolist()
            any_frame[1:] = [opened[number] for number in chosen[1:]]
        frames = clip.crops[any_frame].float() / 127.5 - 1
        return PersonBatch(clip, clip.latents[any_frame], frames, clip.inside[any_frame][:, None].float())

    def forward(self, batch: PersonBatch) -> tuple[Tensor, dict[str, Tensor]]:
        decoder, size, rest = self.decoder, self.config.image_size, batch.clip.rest
        with torch.no_grad():
            maps = portrait_maps(rest, size=size, cells=size // PATCH)[None]
            own = portrait_latents(rest, cells=self.config.latent_size, size=size)
            skull = skull_plane(rest)[None] * torch.tensor([PATCH, PATCH, 1.0])
            pixels = batch.clip.crops[batch.clip.still][None].float() / 127.5 - 1
            portrait = decoder.read_portrait(pixels, maps, own, mouth_centre(rest)[None] / PATCH, skull)
        decoded = decoder(batch.latents, portrait)
        losses = mouth_losses(decoder, decoded, batch.frames, batch.inside)
        # no edges, no contrast: where the lips are off by a pixel, a painted grid would lower both
        loss = OUTER_MOUTH * losses["mouth"] + 2 * losses["colours"] + losses["mask"]
        return loss, {name: value.detach() for name, value in losses.items()}


@torch.no_grad()
def measure(
    bundle: native.Bundle, clips: Sequence[PersonClip], store: ShardStore, *, seed: int = 0
) -> dict[str, float]:
    """On held-out clips.

    mouth_psnr: of the mouth's surroundings, frames with an open mouth decoded from their own motion, against the video
    (dB); sharpness: of the mouth's inside over the video's; opening_r, opening_size: the mouth's opening as sampled for
    the voice against the video's, correlation and share of its spread.
    """
    errors, sharp, truth = [], [], []
    for clip in clips:
        frames = clip.open_frames[:: max(1, len(clip.open_frames) // 16)]
        if not frames:
            continue
        made = torch.from_numpy(_decoder(bundle, clip).decode(_scaled(bundle, clip, frames))).permute(0, 3, 1, 2)
        for ours, number in zip(made, frames, strict=True):
            theirs, inside = clip.crops[number], clip.inside[number]
            rows, columns = (_around(inside.any(axis)) for axis in (1, 0))
            difference = (ours[:, rows, columns].float() - theirs[:, rows, columns].float()) / 255
            errors.append(float(difference.square().mean()))
            sharp.append(_sharpness(ours, inside))
            truth.append(_sharpness(theirs, inside))
    tracks = [openings(bundle, store.whole(sample), seed=seed) for sample in store.samples]
    made, seen = (torch.cat(part) for part in zip(*tracks, strict=True))
    result = {"opening_r": correlation(made, seen), "opening_size": float(made.std() / seen.std().clamp(min=1e-6))}
    if errors:
        result["mouth_psnr"] = -10 * math.log10(max(1e-9, sum(errors) / len(errors)))
        result["sharpness"] = sum(sharp) / max(1e-9, sum(truth))
    return {name: round(value, 3) for name, value in sorted(result.items())}


def _scaled(bundle: native.Bundle, clip: PersonClip, frames: list[int]) -> Tensor:
    return to_scaled(clip.latents[frames], bundle.config)


def _decoder(bundle: native.Bundle, clip: PersonClip) -> PortraitDecoder:
    """The decoder of use, with the clip's portrait as its picture."""
    config, size = bundle.config, bundle.config.image_size
    picture = clip.crops[clip.still][None].float() / 127.5 - 1
    latents = to_scaled(portrait_latents(clip.rest, cells=config.latent_size, size=size), config)
    fit = Fit(2 * size, 2 * size, 0, 0, 2 * size, size)
    portrait = Portrait(latents, F.avg_pool2d(picture, 2), fit, mesh=clip.rest)
    return PortraitDecoder(bundle.motion_decoder, config, picture, portrait)


def _around(is_inside: Tensor) -> slice:
    """The rows or columns of a mouth and half as much again on both sides."""
    places = is_inside.nonzero()[:, 0]
    if not len(places):
        return slice(0, len(is_inside))
    first, last = int(places[0]), int(places[-1]) + 1
    room = max(4, (last - first) // 2)
    return slice(max(0, first - room), min(len(is_inside), last + room))


def _sharpness(picture: Tensor, inside: Tensor) -> float:
    """(3, H, W) uint8 -> mean step between neighbouring pixels where both lie between the lips."""
    grey = (picture.float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)
    right, down = inside[:, 1:] & inside[:, :-1], inside[1:] & inside[:-1]
    steps = grey.diff(dim=1).abs()[right].sum() + grey.diff(dim=0).abs()[down].sum()
    return float(steps / (right.sum() + down.sum()).clamp(min=1))


def adapt(
    video: Path,
    out: Path,
    *,
    model: str | Path = "default",
    minutes: float = 45.0,
    scale: float = 1.0,
    settings: Settings = Settings(),
    painter: bool = False,
    resume: bool = False,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, dict[str, float]]:
    """Write the model of the person in `video` to `out`; returns `measure` before and after.

    painter: whether the mouth's painter trains, too (docs/training.md says what that gives). Work is kept in OUT's name
    with '.adapt' until it is done: the prepared clips, the state and the log. minutes: stops with OutOfTime when they
    are over, everything saved; call again with resume=True. Raises FileExistsError if there is unfinished work and
    `resume` is not set, ValueError if too little of the video can be used (report.html there says why).
    """
    work, deadline = out.with_name(f"{out.stem}.adapt"), clock() + 60 * minutes
    if (work / "log.jsonl").exists() and not resume:
        raise FileExistsError(f"{work} holds unfinished work; add --resume to go on with it, or remove it")
    bundle = load_to_train(model, device="cpu")
    config = bundle.config
    if bundle.motion_decoder is None:
        raise ValueError(f"{Path(model).name} has no motion decoder; adapt the built-in model, or one trained from it")
    settings = replace(settings, crop=2 * config.image_size)
    report = prepare([video], work / "data", model=str(model), settings=settings)
    row = report["rows"][0]
    if row["kept_seconds"] < LEAST_SECONDS or row["clips"] < 2:
        raise ValueError(
            f"{video.name} has {row['kept_seconds']:.1f} s of use in {row['clips']} clips, at least "
            f"{LEAST_SECONDS:.0f} s in 2 are needed; {work / 'data' / 'report.html'} says what was left out and why"
        )
    samples = shards.read_index(work / "data")
    count = max(1, round(HELD_OUT_SHARE * len(samples)))
    training, kept = samples[:-count], samples[-count:]
    how = {"frames": config.motion_frames + config.clip_frames, "held_out": None}
    store, kept_store = (
        ShardStore(work / "data", config, names={one.name for one in some}, **how) for some in (training, kept)
    )
    held_out = [read_clip(one, config) for one in kept]
    before = measure(bundle, held_out, kept_store, seed=seed)
    log.info("before: %s", before)
    stage = replace(STAGE, steps=max(1, round(scale * STAGE.steps)))
    plans = [Plan(stage.name, stage.steps, stage.learning_rate, stage.warmup_steps, ema_decay=0.99)]
    tasks: list[nn.Module] = [EmoTask(bundle.emo, stage, store, seed=seed)]
    if painter:
        clips = [read_clip(one, config) for one in training]
        plans.append(replace(PAINTER, steps=max(1, round(scale * PAINTER.steps))))
        tasks.append(PainterTask(bundle.motion_decoder, config, clips, seed=seed))
    for task, plan in zip(tasks, plans, strict=True):
        path = work / f"{plan.name}.safetensors"
        if not path.exists():
            average = train(task, plan, work, deadline=deadline, clock=clock)
            native.write_tensors(path, {name: value.contiguous() for name, value in average.items()})
            (work / "state" / path.name).unlink(missing_ok=True)  # not before its successor is there
        average = load_file(path)
        with torch.no_grad():
            for name, value in average.items():
                task.get_parameter(name).copy_(value)
    for part in bundle.parts.values():
        part.eval()
    after = measure(bundle, held_out, kept_store, seed=seed)
    log.info("after: %s", after)
    with video.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    card = bundle.card | {
        "made_by": f"python -m emo_model.training adapt --scale {scale:g} --seed {seed}",
        "adapted": {"video_sha256": digest, "seconds": row["kept_seconds"], "before": before, "after": after},
        "permission": "likeness of one person: use it only as this person has agreed to",
    }
    native.save(out, replace(bundle, card=card))
    for plan in plans:
        (work / f"{plan.name}.safetensors").unlink()
    (work / "log.jsonl").replace(work / "finished.jsonl")
    return {"before": before, "after": after}

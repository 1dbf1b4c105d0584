"""Training clips as latents in memory, and the batches that a stage draws from them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..checkpoints.files import open_tensors
from ..checkpoints.kinds import recognise, wrong_file
from ..checkpoints.native import write_tensors
from ..config import ModelConfig
from ..sampling.noise import draw_noise
from .stages import Stage


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """What one step learns from.

    clean, noise: (B, C, F, h, w); timestep: (B,); reference: (B, C, h, w); motion: (B, C, n, h, w); audio: (B, F, K, L,
    D);
    speed: (B, F, K) degrees per second; face_mask: (B, 1, H, W); weight: (B, F, h, w) of each cell in the loss;
    keeps_*: (B,) 1 or, for guidance and for first clips, 0.
    """

    clean: Tensor
    noise: Tensor
    timestep: Tensor
    reference: Tensor
    motion: Tensor
    audio: Tensor
    speed: Tensor
    face_mask: Tensor
    weight: Tensor
    keeps_reference: Tensor
    keeps_audio: Tensor
    keeps_motion: Tensor

    def cut(self, start: int, end: int) -> TrainingBatch:
        """The same with frames `start` to `end` only."""
        return replace(
            self,
            clean=self.clean[:, :, start:end],
            noise=self.noise[:, :, start:end],
            audio=self.audio[:, start:end],
            speed=self.speed[:, start:end],
            weight=self.weight[:, start:end],
        )


@dataclass(frozen=True, eq=False)
class ClipStore:
    """I clips of T frames each, of I persons; half precision where it is large.

    latents: (I, T, C, h, w) scaled; stills: (I, S, C, h, w) other moments of the same person; audio: (I, T, L, D);
    speed: (I, T) degrees per second; landmarks: (I, T, 3, 2) mouth, left and right eye as x, y in 0..1; boxes: (I, 4)
    x0, y0, x1, y1 in 0..1, the union of the face over the clip.
    """

    latents: Tensor
    stills: Tensor
    audio: Tensor
    speed: Tensor
    landmarks: Tensor
    boxes: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    def until(self, frames: int) -> ClipStore:
        """The first frames of every clip."""
        return replace(
            self, **{name: getattr(self, name)[:, :frames] for name in ("latents", "audio", "speed", "landmarks")}
        )

    def save(self, path: Path) -> None:
        write_tensors(path, {field.name: getattr(self, field.name).cpu().contiguous() for field in fields(self)})

    @classmethod
    def load(cls, path: Path, *, device: torch.device | str = "cpu") -> ClipStore:
        """Raises FileNotFoundError, or ValueError that names what the file is instead."""
        file = open_tensors(path)
        if recognise(file).name != "clips":
            raise wrong_file(file, "a file of training clips")
        return cls(**load_file(path, device=str(device)))

    @classmethod
    def join(cls, stores: list[ClipStore]) -> ClipStore:
        return cls(**{field.name: torch.cat([getattr(store, field.name) for store in stores]) for field in fields(cls)})

    def take(self, numbers: Tensor) -> ClipStore:
        """The clips of these numbers (B,)."""
        return ClipStore(**{name: value[numbers.to(value.device)] for name, value in vars(self).items()})


class Clips(Protocol):
    """A `ClipStore`, or clips on the disk that are read as they are taken."""

    def __len__(self) -> int: ...

    def take(self, numbers: Tensor) -> ClipStore: ...


def draw_batch(
    clips: Clips,
    stage: Stage,
    config: ModelConfig,
    generator: torch.Generator,
    *,
    consecutive: int = 1,
    noise_shapes: Tensor | None = None,
    part: int = 0,
    parts: int = 1,
) -> TrainingBatch:
    """Random windows of random clips, each as long as `consecutive` clips of the model, with the stage's drop-outs.

    part, parts: a batch of `parts` times the stage's size is drawn, and this part of it returned: for processes that
    train together, and for batches that are accumulated. Raises ValueError if the clips are too short.

    Differs from EMO: all frames of a clip are given its mean head speed.
    """
    total, mine = stage.batch * parts, slice(stage.batch * part, stage.batch * (part + 1))
    some = clips.take(torch.randint(len(clips), (total,), generator=generator)[mine])
    length, device = some.latents.shape[1], some.latents.device
    frames, motion_frames = (consecutive * config.clip_frames, config.motion_frames) if stage.is_video else (1, 0)
    if length < frames + motion_frames:
        raise ValueError(
            f"clips of {length} frames are too short for {motion_frames} motion frames and {frames} frames"
        )

    def uniform(*shape: int) -> Tensor:
        return torch.rand((total, *shape), generator=generator)[mine].to(device)

    def integers(high: int, *shape: int) -> Tensor:
        return torch.randint(high, (total, *shape), generator=generator)[mine].to(device)

    def normal(like: Tensor) -> Tensor:
        return torch.randn((total, *like.shape[1:]), generator=generator)[mine].to(device)

    who = torch.arange(stage.batch, device=device)
    start = integers(length - frames - motion_frames + 1)
    when = start[:, None] + torch.arange(motion_frames + frames, device=device)  # (B, n + F)
    window = some.latents[who[:, None], when].float().transpose(1, 2)  # (B, C, n + F, h, w)
    motion, clean = window[:, :, :motion_frames], window[:, :, motion_frames:]
    steps = when[:, motion_frames:, None] + torch.arange(
        -config.audio_margin_frames, config.audio_margin_frames + 1, device=device
    )
    steps = steps.clamp(0, length - 1)  # (B, F, K)

    # the stills, or (two chances) another frame
    other = integers(some.stills.shape[1] + 2 * stage.frame_references)
    still = some.stills[who, other.clamp(max=some.stills.shape[1] - 1)].float()
    frame = some.latents[who, integers(length)].float()
    reference = torch.where((other < some.stills.shape[1]).view(-1, 1, 1, 1), still, frame)
    reference = reference + stage.reference_noise * uniform(1, 1, 1) * normal(reference)
    motion = motion + stage.motion_noise * uniform(1, 1, 1, 1).square() * normal(motion)

    share = (torch.arange(total, device=device)[mine] + uniform()) / total  # every batch sees all noise levels
    timestep = (share * config.train_timesteps).long().clamp(max=config.train_timesteps - 1)  # share may round to 1
    if stage.favoured:
        few = torch.tensor(stage.favoured, device=device)[integers(len(stage.favoured))]
        timestep = torch.where(uniform() < 2 / 3, few, timestep)
    speed = some.speed[who[:, None], when[:, motion_frames:]].mean(1)
    return TrainingBatch(
        clean,
        draw_noise(config, (total, *clean.shape[1:]), generator, shapes=noise_shapes)[mine].to(device),
        timestep,
        reference,
        motion,
        some.audio[who[:, None, None], steps].float(),
        speed[:, None, None].expand(steps.shape),
        face_masks(some.boxes[who], config.image_size, whole=uniform() < stage.whole_mask),
        loss_weight(some.landmarks[who[:, None], when[:, motion_frames:]].float(), config.latent_size),
        (uniform() >= stage.drop_reference).float(),
        (uniform() >= stage.drop_audio).float(),
        (uniform() >= stage.drop_motion).float(),
    )


def face_masks(boxes: Tensor, size: int, *, whole: Tensor) -> Tensor:
    """boxes (B, 4) in 0..1 -> masks (B, 1, size, size), all ones where `whole` (B,)."""
    places = (torch.arange(size, device=boxes.device) + 0.5) / size
    x0, y0, x1, y1 = (edge.float()[:, None] for edge in boxes.unbind(1))
    inside_x, inside_y = (places >= x0) & (places <= x1), (places >= y0) & (places <= y1)  # (B, size) each
    return ((inside_y[:, :, None] & inside_x[:, None, :]) | whole[:, None, None])[:, None].float()


def loss_weight(landmarks: Tensor, size: int) -> Tensor:
    """landmarks (B, F, 3, 2) -> weights (B, F, size, size): 1, and up to 5 more around the mouth and each eye."""
    places = (torch.arange(size, device=landmarks.device) + 0.5) / size
    spread = torch.tensor([0.075, 0.05, 0.05], device=landmarks.device)[:, None, None]  # of the picture's width
    x, y = landmarks[..., 0, None, None], landmarks[..., 1, None, None]  # (B, F, 3, 1, 1)
    bells = torch.exp(-((places[None, :] - x) ** 2 + (places[:, None] - y) ** 2) / (2 * spread**2))
    return 1 + 5 * bells.sum(2)

"""Frozen values passed between the modules: prepared inputs, and the conditions of a clip."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


def is_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite. Where all is well, values are read once and nothing is allocated."""
    if not values.is_floating_point() or values.is_meta:
        return True
    values = values.float() if values.itemsize == 1 else values
    return math.isfinite(values.sum(dtype=torch.float32)) or bool(values.isfinite().all())


@dataclass(frozen=True, eq=False)  # eq=False: tensors have no single answer to ==
class Portrait:
    """The cropped picture at the model's size.

    latents: (B, C, H, W) scaled; pixels: (B, 3, H, W) in [-1, 1]; fit: the crop; identity: (B, D) the face embedding,
    for models with identity tokens; None: unknown, used as zeros;
    mesh: (468, 3) the face mesh in pixels of the crop, for models with motion latents.
    """

    latents: Tensor
    pixels: Tensor
    fit: Fit
    identity: Tensor | None = None
    mesh: Tensor | None = None


@dataclass(frozen=True)
class Fit:
    """A crop: a square of a (width, height) picture, scaled to `size` pixels.

    left, top, side: the square in pixels of the picture; it may extend beyond it, where edges are repeated.
    """

    width: int
    height: int
    left: int
    top: int
    side: int
    size: int

    def inside(self, picture: Tensor) -> Tensor:
        """The part of a picture (..., height, width) inside the square."""
        return picture[..., max(self.top, 0) : self.top + self.side, max(self.left, 0) : self.left + self.side]

    @property
    def summary(self) -> str:
        """One sentence for the log and the node."""
        if (self.width, self.height) == (self.size, self.size):
            return f"Portrait {self.width}x{self.height}, unchanged."
        is_inside = (0 <= self.left <= self.width - self.side) and (0 <= self.top <= self.height - self.side)
        square = f"a square of {self.side} pixels"
        how = f"cropped to {square}" if is_inside else f"padded to {square} by repeating its edges"
        return f"Portrait {self.width}x{self.height} {how}, scaled to {self.size}x{self.size}."


@dataclass(frozen=True, eq=False)
class FaceMask:
    """mask: (B, 1, H, W) float in 0..1 over the cropped square, 1 where the face may move.

    regions: (B, 3, h, w) in 0..1, where audio may move pose, face and lips (Hallo).
    """

    mask: Tensor
    regions: Tensor | None = None

    def __post_init__(self):
        if self.mask.ndim != 4 or self.mask.shape[1] != 1:
            raise ValueError(f"FaceMask.mask must be (B, 1, H, W), got {tuple(self.mask.shape)}")
        if self.regions is not None and (self.regions.ndim != 4 or self.regions.shape[1] != 3):
            raise ValueError(f"FaceMask.regions must be (B, 3, h, w), got {tuple(self.regions.shape)}")

    def between(self, first: float, last: float) -> FaceMask:
        """The mask from second `first` to `last`: constant."""
        return self


@dataclass(frozen=True, eq=False)
class FaceMasks:
    """Face masks over time: each applies from its second until the next. Differs from EMO: the paper has one per video.

    seconds: K increasing times, the first of them 0; masks: as many, of one size, all with regions or all without.
    """

    seconds: tuple[float, ...]
    masks: tuple[FaceMask, ...]

    def __post_init__(self):
        if len(self.seconds) != len(self.masks) or self.seconds[:1] != (0,):
            raise ValueError(
                f"FaceMasks needs a time for each mask, the first of them 0; got {self.seconds} for "
                f"{len(self.masks)} masks"
            )
        for early, late in itertools.pairwise(self.seconds):
            if not late > early:
                raise ValueError(f"the times of face masks must increase, but {late:g} s follows {early:g} s")
        shapes = {tuple(None if x is None else tuple(x.shape) for x in (one.mask, one.regions)) for one in self.masks}
        if len(shapes) > 1:
            raise ValueError(
                f"face masks of one video must have one shape, but have {sorted(shapes, key=str)}: make "
                "all of them from the same portrait"
            )

    @classmethod
    def of(cls, face_mask: FaceMask | FaceMasks) -> FaceMasks:
        """As masks over time."""
        return face_mask if isinstance(face_mask, FaceMasks) else cls((0.0,), (face_mask,))

    def then(self, second: float, mask: FaceMask) -> FaceMasks:
        """These masks, followed by another from `second` on."""
        return FaceMasks((*self.seconds, second), (*self.masks, mask))

    def between(self, first: float, last: float) -> FaceMask:
        """The union of the masks that apply between second `first` and `last`.

        Regions likewise: pose is what lies outside all faces, lips the union of the lip regions.
        """
        held = [
            mask
            for mask, begin, end in zip(self.masks, self.seconds, (*self.seconds[1:], math.inf), strict=True)
            if begin <= last and first < end
        ]
        if len(held) == 1:
            return held[0]
        mask = torch.stack([one.mask for one in held]).amax(0)
        if held[0].regions is None:
            return FaceMask(mask)
        regions = torch.stack([one.regions for one in held])
        pose, lips = regions[:, :, :1].amin(0), regions[:, :, 2:].amax(0)
        return FaceMask(mask, torch.cat([pose, (1 - pose - lips).clamp(min=0), lips], dim=1))


class Rows(Protocol):
    """A tensor (F, L, D), or an object that computes its rows when indexed (`inputs.audio.FramesInTime`)."""

    ndim: int
    shape: torch.Size
    nbytes: int

    def __len__(self) -> int: ...

    def __getitem__(self, numbers: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class AudioFeatures:
    """Features of the audio encoder, one row per video frame.

    frames: (F + padding, L, D) float32 on the CPU, or an object that computes such rows; fps: the video's frame rate;
    seconds: duration of the sound; F = round(seconds * fps); padding: rows of silence after the sound that fill the
    last clip (Hallo); resampling: what was resampled to the frame rate, see `ModelConfig.audio_resampling`; fade: of
    the silence of an idle video, see `sampling.direction`; 0: of a voice; silent: intervals (begin, end) in seconds,
    increasing and disjoint, in which the face has no voice and waits.
    """

    frames: Rows
    fps: float
    seconds: float
    padding: int = 0
    resampling: str = "features"
    fade: int = 0
    silent: tuple[tuple[float, float], ...] = ()

    def __post_init__(self):
        if self.frames.ndim != 3:
            raise ValueError(f"AudioFeatures.frames must be (F, L, D), got {tuple(self.frames.shape)}")


@dataclass(frozen=True)
class Speed:
    """Head rotation speed over time: linear interpolation between keyframes, constant before the first and after the
    last.

    seconds: K increasing times; degrees_per_second: the speed at each.
    """

    seconds: tuple[float, ...]
    degrees_per_second: tuple[float, ...]

    def __post_init__(self):
        if not self.seconds or len(self.seconds) != len(self.degrees_per_second):
            raise ValueError(
                f"Speed needs as many times as speeds, at least one; got {len(self.seconds)} and "
                f"{len(self.degrees_per_second)}"
            )
        if any(late <= early for early, late in zip(self.seconds, self.seconds[1:], strict=False)):
            raise ValueError(f"the times of Speed must increase, got {self.seconds}")

    @classmethod
    def constant(cls, degrees_per_second: float) -> Speed:
        return cls((0.0,), (float(degrees_per_second),))

    def at(self, frames: Tensor, fps: float) -> Tensor:
        """frames: any shape of frame numbers -> degrees per second, same shape, float32."""
        times = torch.tensor(self.seconds)
        speeds = torch.tensor(self.degrees_per_second)
        if len(times) == 1:
            return speeds.expand(frames.shape).clone()
        now = (frames.float() / fps).clamp(times[0], times[-1])
        right = torch.searchsorted(times, now.contiguous()).clamp(1, len(times) - 1)
        share = (now - times[right - 1]) / (times[right] - times[right - 1])
        return torch.lerp(speeds[right - 1], speeds[right], share)


@dataclass(frozen=True, eq=False)
class MotionFrames:
    """The last n frames of the previous clip. latents: (B, C, n, H, W) scaled, or None before the first clip (zero
    maps)."""

    latents: Tensor | None = None

    @classmethod
    def after(cls, before: Tensor | None, latents: Tensor, count: int) -> Tensor:
        """The last `count` frames (or all, if fewer) of `before` followed by latents (B, C, F, H, W)."""
        latents = latents if before is None else torch.cat([before.to(latents), latents], dim=2)
        return cls.last_of(latents, min(count, latents.shape[2])).latents

    @classmethod
    def last_of(cls, latents: Tensor, count: int) -> MotionFrames:
        """The last `count` frames of latents (B, C, F, H, W)."""
        if latents.shape[2] < count:
            raise ValueError(f"a clip of {latents.shape[2]} frames has no {count} motion frames")
        return cls(latents[:, :, latents.shape[2] - count :])


@dataclass(frozen=True, eq=False)
class ReferenceFeatures:
    """Features of the reference net by block name, e.g. 'down_blocks.0.attentions.1': (B, N, C); of motion frames (B,
    n, N, C).

    Models with identity tokens (Hallo) also have: unconditional, features of the same pictures with unconditional
    identity tokens; identity (B, 2, M, D), the unconditional and the conditional identity tokens.
    """

    features: dict[str, Tensor] = field(default_factory=dict)
    unconditional: dict[str, Tensor] | None = None
    identity: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> ReferenceFeatures:
        """Apply `change` to each tensor, e.g. to move, cast or reshape it."""
        other = None if self.unconditional is None else {name: change(x) for name, x in self.unconditional.items()}
        return ReferenceFeatures(
            {name: change(x) for name, x in self.features.items()},
            other,
            None if self.identity is None else change(self.identity),
        )


@dataclass(frozen=True, eq=False)
class ClipConditions:
    """Conditions of one clip.

    audio: (B, F, K, L, D) windows around each frame; speed: (B, F, K) degrees per second; face_mask: (B, 1, H, W);
    frames: number of frames that belong to the video (the last clip is padded); regions: see `FaceMask`.
    """

    audio: Tensor
    speed: Tensor
    face_mask: Tensor
    frames: int
    regions: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Conditions:
    """Conditions of a whole video of one portrait (B = 1).

    face_mask: one for the whole video, or several over time.
    """

    portrait: Portrait
    face_mask: FaceMask | FaceMasks
    audio: AudioFeatures
    speed: Speed

    @property
    def frames(self) -> int:
        return len(self.audio.frames) - self.audio.padding

    def clip(self, start: int, *, clip_frames: int, margin_frames: int) -> ClipConditions:
        """The clip that starts at frame `start`; windows beyond the first or last frame repeat it.

        EMO leaves open: the audio features beyond the ends of the sound.
        """
        numbers = torch.arange(start, start + clip_frames)
        steps = numbers[:, None] + torch.arange(-margin_frames, margin_frames + 1)  # (F, K)
        inside = steps.clamp(0, len(self.audio.frames) - 1)
        frames = min(clip_frames, self.frames - start)
        face = self.face_mask.between(start / self.audio.fps, (start + frames - 1) / self.audio.fps)
        return ClipConditions(
            self.audio.frames[inside][None],
            self.speed.at(inside, self.audio.fps)[None],
            face.mask,
            frames,
            face.regions,
        )

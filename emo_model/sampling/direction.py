"""What happens to a video's clips between the sampler and the decoder: the video loops, and its dials are added.

Differs from EMO: the paper animates a voice. Idle, a portrait waits and listens: silence goes through the model, the
mouth rests, the head breathes, and the end of the video fades into its beginning, in the latents, where a pose between
two poses is a pose. So does, without the loop, a face that has no voice while others speak.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..config import ModelConfig, SamplingConfig
from ..types import AudioFeatures
from .expression import Curve, Expression
from .finish import BLINK_SECONDS, blink_starts

FADE_SECONDS = 3.0  # sampled beyond an idle video
SLACK = 3  # the part of them, one in so many, that it may begin later by, where the head hardly moves
SHORTEST, LONGEST = 1.0, 3600.0  # seconds of an idle video
BREATH_SECONDS, BREATH_DEGREES = 4.0, 0.6  # about, of a breath: how long it takes, and how far it lifts the head
STEP_SECONDS = 0.1  # between keyframes of the breath
CLOSING_AFTER, OPENING_BEFORE = 0.2, 0.15  # seconds of a pause: the mouth goes on so long, and begins so early
EASING = 0.3  # seconds in which it comes to rest, and leaves it
SHORTEST_WAIT = 1.2  # seconds; shorter pauses are as sampled
BLINK_ROOM = 0.4  # seconds of an idle video's end without the beginning of a blink, which would be cut


@dataclass(frozen=True)
class Direction:
    """expression: the dials; fade: the video has so many frames fewer than were sampled, and loops; 0: it ends; seed,
    blinks, fps: as it is sampled with.
    """

    expression: Expression = Expression()
    fade: int = 0
    seed: int = 0
    blinks: float = 1.0
    fps: float = 25.0

    @property
    def is_neutral(self) -> bool:
        return not self.fade and self.expression.is_neutral

    def check(self, config: ModelConfig) -> None:
        """Raises ValueError for a model that has no dials."""
        if config.motion_decoder is None and not self.is_neutral:
            raise ValueError(
                f"EMO '{config.name}' has no dials: expression and idle need motion latents. Use the built-in model, "
                "or leave them out"
            )

    def of(self, clips: Iterable[Tensor], *, sampled: int) -> Iterator[Tensor]:
        """Clips of scaled latents (1, C, F, h, w), `sampled` frames in all -> those of the video, with dials (1, C + D,
        F, h, w) unless all are neutral."""
        first, total = 0, sampled - self.fade
        for latents in _looped(clips, total, self.fade) if self.fade else clips:
            yield self.dialled(latents, first, total=total)
            first += latents.shape[2]

    def dialled(self, latents: Tensor, first_frame: int, *, total: int) -> Tensor:
        """Frames of a video of `total` frames, (1, C, F, h, w), with the dials from `first_frame` on."""
        return self.expression.on(latents, first_frame, fps=self.fps, total=total, seed=self.seed, blinks=self.blinks)


def direct(audio: AudioFeatures, expression: Expression, sampling: SamplingConfig) -> tuple[Direction, SamplingConfig]:
    """How the clips of a voice, of silence for an idle video, or of a face that waits at times are directed, and with
    which settings they are sampled."""
    given = Direction(expression, seed=sampling.seed, blinks=sampling.blinks, fps=audio.fps)
    if audio.fade:
        return idle_direction(len(audio.frames), audio.fade, given), replace(sampling, blinks=0.0)
    return waiting_direction(audio.silent, len(audio.frames), given), sampling


def idle_frames(seconds: float, fps: float) -> tuple[int, int]:
    """How many frames of silence an idle video of so many seconds is sampled from, and how many of them are beyond it.

    Raises ValueError for a length that is not allowed.
    """
    if not SHORTEST <= seconds <= LONGEST:
        raise ValueError(
            f"an idle video lasts {SHORTEST:g} to {LONGEST:g} seconds, got {seconds:g}; set another length"
        )
    frames = max(2, round(seconds * fps))
    fade = min(max(2, round(FADE_SECONDS * fps)), frames)
    return frames + fade, fade


def idle_direction(sampled: int, fade: int, given: Direction) -> Direction:
    """The direction of an idle video, of which `sampled` frames are sampled without blinks, see `idle_frames`.

    The mouth rests, the head breathes, the eyes blink, and what `given` says of the rest stays.
    """
    frames, expression = sampled - fade, given.expression
    seconds = frames / given.fps
    scheduled = blink_starts(0, seconds, seed=given.seed, rate=given.blinks) if given.blinks else ()
    blinks = [start for start, _ in scheduled if 0 <= start < seconds - BLINK_ROOM]
    if given.blinks and not blinks and seconds > BLINK_SECONDS / 2:
        blinks = [seconds / 3]
    times = torch.arange(0, seconds + STEP_SECONDS, STEP_SECONDS)
    breaths = max(1, round(seconds / BREATH_SECONDS))
    pitch = expression.pitch.at(times * given.fps, fps=given.fps, total=frames)
    pitch = pitch + BREATH_DEGREES * torch.cos(2 * math.pi * breaths * times / seconds)
    expression = replace(
        expression,
        audio_strength=Curve.constant(0),
        blinks=tuple(sorted({*expression.blinks, *blinks})),
        pitch=Curve(tuple(times.tolist()), tuple(pitch.tolist())),
    )
    return replace(given, expression=expression, fade=fade, blinks=0.0)


def waiting_direction(silent: Sequence[tuple[float, float]], frames: int, given: Direction) -> Direction:
    """The direction of a video of `frames` frames whose face waits in the intervals `silent`, in seconds: the mouth
    comes to rest and the head breathes, and what `given` says of the rest stays. Pauses shorter than `SHORTEST_WAIT`
    change nothing."""
    seconds = frames / given.fps
    waits = [(begin, end) for begin, end in silent if end - begin >= min(SHORTEST_WAIT, 0.99 * seconds)]
    if not waits:
        return given
    times = torch.arange(0, seconds + STEP_SECONDS, STEP_SECONDS)
    share = torch.zeros_like(times)
    for begin, end in waits:
        rising = (times - begin - CLOSING_AFTER) / EASING if begin > 0 else torch.ones_like(times)
        falling = (end - OPENING_BEFORE - times) / EASING if end < seconds - STEP_SECONDS else torch.ones_like(times)
        share = torch.maximum(share, torch.minimum(rising, falling).clamp(0, 1))
    strength, pitch = (
        curve.at(times * given.fps, fps=given.fps, total=frames)
        for curve in (given.expression.audio_strength, given.expression.pitch)
    )
    own = torch.rand((), generator=torch.Generator().manual_seed(given.seed % 2**63)).item()  # breaths are not in step
    breath = BREATH_DEGREES * torch.cos(2 * math.pi * (times / BREATH_SECONDS + own))
    curves = {"audio_strength": strength * (1 - share), "pitch": pitch + share * breath}
    expression = replace(
        given.expression,
        **{name: Curve(tuple(times.tolist()), tuple(values.tolist())) for name, values in curves.items()},
    )
    return replace(given, expression=expression)


def _looped(clips: Iterable[Tensor], total: int, more: int) -> Iterator[Tensor]:
    """`total` of `total` + `more` frames: they begin where the flow changes least, and the last ones become those
    before the first."""
    slack = more // SLACK
    fade = more - slack
    before, start, first = None, None, 0
    for latents in clips:
        if start is None:
            before = latents if before is None else torch.cat([before, latents], 2)
            if before.shape[2] <= more:
                continue
            steps = before[:, :2].diff(dim=2).square().mean((0, 1, 3, 4))  # the k-th leads to frame k + 1
            start = fade + int(steps[fade - 1 : fade + slack].argmin())
            latents, before = before[:, :, start:], before[:, :, start - fade : start]
        latents = latents[:, :, : total - first]
        numbers = torch.arange(first, first + latents.shape[2])
        first += latents.shape[2]
        late = numbers - (total - fade)
        if bool((late >= 0).any()):
            share = ((late + 1) / (fade + 1)).clamp(min=0).to(latents)
            share = (share**2 * (3 - 2 * share))[:, None, None]
            latents = torch.lerp(latents, before[:, :, late.clamp(min=0)].to(latents), share)
        if latents.shape[2]:
            yield latents

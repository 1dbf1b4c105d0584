"""Dials over time: strength of the mouth, smile, brows, blinks, gaze and pose, added to clips of motion latents.

Differs from EMO: the paper controls the head's speed alone. Motion latents say what moves, so each dial is a number of
its own per frame, which the decoder reads (`outputs.portrait_decoder`). They are added after a clip is sampled and
cached, and motion frames are taken before: turning a dial samples nothing again, and does not feed back.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .finish import BLINK_SECONDS, blink_starts, closed

DIALS = ("mouth", "smile", "brows", "lids", "gaze_x", "gaze_y", "yaw", "pitch", "roll")
"""Channels behind those of the model's latents, constant over the cells, all 0 where nothing is changed: strength of
the mouth minus 1; smile; brows; lids, 1 shut, -1 a blink taken back; gaze; turn in radians; right, down, clockwise."""
CARRIED = {("pitch", "brows"): -2.24, ("gaze_y", "gaze_x"): -0.11}
"""What a channel carries of another for each of its units, so that the other's reading rests: a head that is pitched up
had its brows lower than its eyes, and eyes that look up looked aside. As `python -m emo_model.evaluation dials` says
without it, on eight pictures (docs/dials.md); whatever else it says is below a sixth of what a dial does."""
RANGES = {
    "audio_strength": (0.0, 2.0),
    "smile": (0.0, 1.0),
    "brows": (-1.0, 1.0),
    "blink_rate": (0.0, 2.0),
    "gaze_x": (-1.0, 1.0),
    "gaze_y": (-1.0, 1.0),
    "yaw": (-15.0, 15.0),
    "pitch": (-10.0, 10.0),
    "roll": (-15.0, 15.0),
}
"""By dial: the least and the greatest value that looks good."""
UNITS = ("seconds", "frames", "share")


@dataclass(frozen=True)
class Curve:
    """A number over time: linear between keyframes, constant before the first and after the last.

    times: K increasing times, in `unit`: seconds, frames, or shares of the whole video; values: the number at each.
    """

    times: tuple[float, ...]
    values: tuple[float, ...]
    unit: str = "seconds"

    def __post_init__(self):
        if not self.times or len(self.times) != len(self.values) or self.unit not in UNITS:
            raise ValueError(
                f"a curve needs as many times as values, at least one, in one of {', '.join(UNITS)}; got "
                f"{len(self.times)} and {len(self.values)} in {self.unit}"
            )
        if any(late <= early for early, late in zip(self.times, self.times[1:], strict=False)):
            raise ValueError(f"the times of a curve must increase, got {self.times}")

    @classmethod
    def constant(cls, value: float) -> Curve:
        return cls((0.0,), (float(value),))

    @classmethod
    def of(cls, given: Curve | float | str | Sequence[float], *, name: str, default: float) -> Curve:
        """A number; text, '0.5' or keyframes '0: 0; 1.5: 1; 3: 0' (seconds: value); or numbers, one per frame.

        Empty text is `default`. Raises ValueError that names the dial, for what is none of these or outside `RANGES`.
        """
        curve = given if isinstance(given, Curve) else cls._read(given, name, default)
        low, high = RANGES[name]
        wrong = next((value for value in curve.values if not low <= value <= high), None)
        if wrong is not None:
            raise ValueError(f"'{name}' is {wrong:g}, but must be {low:g} to {high:g}; set another value")
        return curve

    @classmethod
    def _read(cls, given: float | str | Sequence[float], name: str, default: float) -> Curve:
        wanted = f"set '{name}' to a number, or to keyframes such as '0: 0; 1.5: 1; 3: 0' (seconds: value)"
        if isinstance(given, str):
            knots = [knot for knot in re.split(r"[,;\n]", given) if knot.strip()]
            try:
                if len(knots) < 2 and ":" not in given:
                    return cls.constant(float(knots[0]) if knots else default)
                pairs = sorted((float(time), float(value)) for time, value in (knot.split(":") for knot in knots))
                times, values = zip(*pairs, strict=True)
                if not all(map(math.isfinite, times)):
                    raise ValueError
                return cls(times, values)
            except ValueError:
                raise ValueError(f"'{given.strip():.80}' cannot be read: {wanted}") from None
        try:
            numbers = [float(one) for one in given] if isinstance(given, Sequence) else [float(given)]
        except (TypeError, ValueError):
            raise ValueError(f"{type(given).__name__} is no curve: {wanted}") from None
        if not numbers:
            return cls.constant(default)
        return cls(tuple(map(float, range(len(numbers)))), tuple(numbers), "frames")

    def at(self, frames: Tensor, *, fps: float, total: int) -> Tensor:
        """Frame numbers (F,) of a video of `total` frames -> values (F,), float32."""
        values = torch.tensor(self.values)
        if len(values) == 1:
            return values.expand(frames.shape).clone()
        per_frame = {"seconds": 1 / fps, "frames": 1.0, "share": 1 / max(total - 1, 1)}[self.unit]
        times = torch.tensor(self.times)
        now = (frames.float() * per_frame).clamp(times[0], times[-1])
        right = torch.searchsorted(times, now.contiguous()).clamp(1, len(times) - 1)
        share = (now - times[right - 1]) / (times[right] - times[right - 1])
        return torch.lerp(values[right - 1], values[right], share)


ZERO, ONE = Curve.constant(0), Curve.constant(1)


@dataclass(frozen=True)
class Expression:
    """The dials of a video. Defaults change nothing.

    audio_strength: how far the mouth moves, 0 shut, 1 as sampled; smile; brows: > 0 raised; blink_rate: a factor of how
    often the eyes blink, whole blinks are put in or left out; blinks: seconds at which single ones begin; gaze_x,
    gaze_y: > 0 to the right of the picture and up, 1 near the corner; yaw, pitch, roll: degrees added to the head's
    pose, > 0 to the right of the picture, up, clockwise. See `RANGES`.
    """

    audio_strength: Curve = ONE
    smile: Curve = ZERO
    brows: Curve = ZERO
    blink_rate: Curve = ONE
    blinks: tuple[float, ...] = ()
    gaze_x: Curve = ZERO
    gaze_y: Curve = ZERO
    yaw: Curve = ZERO
    pitch: Curve = ZERO
    roll: Curve = ZERO

    @classmethod
    def of(
        cls, *, blinks: str | float | Sequence[float] = (), **dials: Curve | float | str | Sequence[float]
    ) -> Expression:
        """From numbers, text and lists, see `Curve.of`. blinks: seconds, as text '1.2, 3.5' or numbers."""
        default = {field.name: field.default for field in fields(cls)}
        curves = {name: Curve.of(given, name=name, default=default[name].values[0]) for name, given in dials.items()}
        return cls(blinks=_seconds(blinks), **curves)

    @property
    def is_neutral(self) -> bool:
        """Whether no dial changes anything."""
        neutral = Expression()
        return not self.blinks and all(
            set(getattr(self, field.name).values) == set(getattr(neutral, field.name).values)
            for field in fields(self)
            if field.name != "blinks"
        )

    def at(self, first_frame: int, frames: int, *, fps: float, total: int, seed: int, blinks: float) -> Tensor:
        """(F, `DIALS`) of frames from `first_frame` on. seed, blinks: as the video was sampled with."""
        numbers = first_frame + torch.arange(frames)
        mouth, smile, brows, gaze_x, gaze_y, yaw, pitch, roll = (
            getattr(self, name).at(numbers, fps=fps, total=total)
            for name in ("audio_strength", "smile", "brows", "gaze_x", "gaze_y", "yaw", "pitch", "roll")
        )
        lids = self._lids(numbers / fps, fps=fps, total=total, seed=seed, rate=blinks)
        turns = (torch.deg2rad(degrees) for degrees in (yaw, -pitch, roll))
        dials = torch.stack([mouth - 1, smile, brows, lids, gaze_x, -gaze_y, *turns], 1)
        carried = torch.zeros_like(dials)
        for (dial, other), share in CARRIED.items():
            carried[:, DIALS.index(other)] += share * dials[:, DIALS.index(dial)]
        return dials + carried

    def on(self, latents: Tensor, first_frame: int, *, fps: float, total: int, seed: int, blinks: float) -> Tensor:
        """latents (1, C, F, h, w) -> (1, C + D, F, h, w) with the channels `DIALS`; unchanged where all are neutral."""
        if self.is_neutral:
            return latents
        dials = self.at(first_frame, latents.shape[2], fps=fps, total=total, seed=seed, blinks=blinks)
        planes = dials.T[None, :, :, None, None].expand(1, len(DIALS), *latents.shape[2:])
        return torch.cat([latents, planes.to(latents)], 1)

    def _lids(self, seconds: Tensor, *, fps: float, total: int, seed: int, rate: float) -> Tensor:
        """seconds (F,) -> (F,): 1 shut by a blink that was put in, -1 a scheduled one taken back."""
        lids = torch.zeros(len(seconds))
        for start in self.blinks:
            lids = torch.maximum(lids, closed(seconds, start))
        if rate <= 0 or set(self.blink_rate.values) == {1.0}:
            return lids
        every = BLINK_SECONDS / rate
        for start, chance in blink_starts(float(seconds[0]), float(seconds[-1]), seed=seed, rate=rate):
            share = self.blink_rate.at(torch.tensor([start * fps]), fps=fps, total=total).item()
            if share <= chance:
                lids = torch.where(closed(seconds, start) > 0, -1.0, lids)
        for start, chance in blink_starts(float(seconds[0]) - every, float(seconds[-1]), seed=seed, rate=rate):
            share = self.blink_rate.at(torch.tensor([start * fps]), fps=fps, total=total).item()
            if share - 1 > chance:
                lids = torch.maximum(lids, closed(seconds, start + every / 2))
        return lids


def _seconds(given: str | float | Sequence[float]) -> tuple[float, ...]:
    wanted = "set 'blinks' to seconds such as '1.2, 3.5'"
    parts = re.split(r"[,;\s]+", given.strip()) if isinstance(given, str) else given
    try:
        found = tuple(sorted(float(one) for one in (parts if isinstance(parts, Sequence) else [parts]) if one != ""))
    except (TypeError, ValueError):
        raise ValueError(f"'{given!s:.80}' cannot be read: {wanted}") from None
    if not all(map(math.isfinite, found)):
        raise ValueError(f"'{given!s:.80}' has an infinite number: {wanted}")
    return found

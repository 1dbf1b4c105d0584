"""Tracks of a generated clip and of the puppet's own frames, its ceiling, from which rows are computed."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from ..statistics import correlation, lag_frames
from .metrics import eyes
from .metrics.mouth import CLOSED, closures, limit
from .reading import Reading

READABLE = 0.7  # below this ceiling, the mesh does not follow the mouth of a clip


class Clip:
    """A record beside its ceiling, as tracks."""

    def __init__(self, record: dict, ceiling: dict):
        self.record = record
        self.generated, self.ceiling = (Reading.from_lists(one["reading"]) for one in (record, ceiling))
        self.truth = {name: torch.tensor(track) for name, track in ceiling["truth"].items()}
        self._sharp_mouth = record["sharp_mouth"], ceiling["sharp_mouth"]

    @cached_property
    def r(self) -> tuple[float, float]:
        """Opening against the truth, of the model's frames and of the puppet's own."""
        return tuple(correlation(one.opening, self.truth["opening"]) for one in (self.generated, self.ceiling))

    @cached_property
    def width_r(self) -> tuple[float, float]:
        return tuple(correlation(one.width, self.truth["width"]) for one in (self.generated, self.ceiling))

    @cached_property
    def moves(self) -> tuple[float, float]:
        return self.generated.opening.std().item(), self.ceiling.opening.std().item()

    @cached_property
    def closed(self) -> tuple[float, float, int]:
        """How many closures the model and the puppet reach, and how many there are; nan below `READABLE`."""
        shut = limit(self.ceiling.opening, self.truth["closure"] > CLOSED)
        if math.isnan(shut) or self.r[1] < READABLE:
            return math.nan, math.nan, 0
        both = [
            closures(reading.opening, self.truth["closure"], limit=shut) for reading in (self.generated, self.ceiling)
        ]
        return sum(both[0]), sum(both[1]), len(both[0])

    @cached_property
    def lag(self) -> float:
        """Frames after the puppet's own; nan where either hardly follows the voice."""
        if min(self.r) < 0.4:
            return math.nan
        late, usual = (lag_frames(reading.opening, self.truth["opening"]) for reading in (self.generated, self.ceiling))
        return late - usual

    @cached_property
    def blinks(self) -> tuple[float, float]:
        return eyes.shut_share(self.generated.eyes), eyes.shut_share(self.ceiling.eyes)

    @cached_property
    def agreement(self) -> tuple[float, float]:
        return eyes.agreement(self.generated.eyes), eyes.agreement(self.ceiling.eyes)

    @cached_property
    def turn(self) -> tuple[float, float]:
        """Spread of the pose, radians."""
        return _spread(self.generated.turn), _spread(self.ceiling.turn)

    @cached_property
    def place(self) -> tuple[float, float]:
        """Spread of the head's place, pixels."""
        return _spread(self.generated.place), _spread(self.ceiling.place)

    @cached_property
    def shake(self) -> tuple[float, float]:
        return self.generated.shake.mean().item(), self.ceiling.shake.mean().item()

    @cached_property
    def shut(self) -> tuple[float, float]:
        """Share of the frames inside a pause whose lips are as shut as the portrait's; nan without a pause.

        As shut is what the puppet's lips are read as at rest, in its own frames and, `held`, where the model has the
        head."""
        silent = self.truth["silent"].bool()
        if not silent.any():
            return math.nan, math.nan
        held = torch.tensor(self.record["held"])
        rest = torch.cat([self.ceiling.opening[silent], held])
        shut = limit(rest, torch.ones(len(rest), dtype=torch.bool))
        return tuple(
            (reading.opening[silent] <= shut).float().mean().item() for reading in (self.generated, self.ceiling)
        )

    @cached_property
    def sharp_mouth(self) -> tuple[float, float]:
        (made, frames), (true, true_frames) = self._sharp_mouth
        return (made, true) if min(frames, true_frames) >= 5 and None not in (made, true) else (math.nan, math.nan)

    def by_second(self, fps: float) -> list[float]:
        """r of the opening within each whole second."""
        step = round(fps)
        return [
            correlation(self.generated.opening[at : at + step], self.truth["opening"][at : at + step])
            for at in range(0, len(self.generated) - step + 1, step)
        ]

    def jumps(self, clip_frames: int) -> tuple[float, float]:
        """How far the head moves from frame to frame, pixels: where clips meet, and elsewhere."""
        moved = self.generated.place.diff(dim=0).norm(dim=1)
        at_join = (torch.arange(1, len(self.generated)) % clip_frames) == 0
        return moved[at_join].mean().item(), moved[~at_join].mean().item()


def _spread(track: Tensor) -> float:
    return track.var(0).sum().sqrt().item()

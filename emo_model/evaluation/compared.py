"""A clip of the model beside the puppet's own frames, as tracks: what rows are made of."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from .metrics import eyes
from .metrics.mouth import CLOSED, closures, limit
from .reading import Reading
from .statistics import correlation, lag_frames

READABLE = 0.7  # a clip whose ceiling is lower is one whose mouth the mesh hardly reads


class Clip:
    """A record beside its ceiling, as tracks."""

    def __init__(self, record: dict, ceiling: dict):
        self.record, self.said = record, Reading.from_lists(record["reading"])
        self.read = Reading.from_lists(ceiling["reading"])
        self.truth = {name: torch.tensor(track) for name, track in ceiling["truth"].items()}
        self._sharp_mouth = record["sharp_mouth"], ceiling["sharp_mouth"]

    @cached_property
    def r(self) -> tuple[float, float]:
        """Opening against the truth, of the model's frames and of the puppet's own."""
        return correlation(self.said.opening, self.truth["opening"]), correlation(
            self.read.opening, self.truth["opening"]
        )

    @cached_property
    def width_r(self) -> tuple[float, float]:
        return correlation(self.said.width, self.truth["width"]), correlation(self.read.width, self.truth["width"])

    @cached_property
    def moves(self) -> tuple[float, float]:
        return self.said.opening.std().item(), self.read.opening.std().item()

    @cached_property
    def closed(self) -> tuple[float, float, int]:
        """How many closures are reached, by the model and by the puppet, and how many there are; nan in a clip whose
        mouth the mesh hardly reads."""
        shut = limit(self.read.opening, self.truth["closure"] > CLOSED)
        if math.isnan(shut) or self.r[1] < READABLE:
            return math.nan, math.nan, 0
        both = [closures(reading.opening, self.truth["closure"], limit=shut) for reading in (self.said, self.read)]
        return sum(both[0]), sum(both[1]), len(both[0])

    @cached_property
    def lag(self) -> float:
        """Frames after the puppet's own; nan where either hardly follows the voice."""
        if min(self.r) < 0.4:
            return math.nan
        late, usual = (lag_frames(reading.opening, self.truth["opening"]) for reading in (self.said, self.read))
        return late - usual

    @cached_property
    def blinks(self) -> tuple[float, float]:
        return eyes.shut_share(self.said.eyes), eyes.shut_share(self.read.eyes)

    @cached_property
    def agreement(self) -> tuple[float, float]:
        return eyes.agreement(self.said.eyes), eyes.agreement(self.read.eyes)

    @cached_property
    def turn(self) -> tuple[float, float]:
        """Spread of the pose, radians."""
        return _spread(self.said.turn), _spread(self.read.turn)

    @cached_property
    def place(self) -> tuple[float, float]:
        """Spread of the head's place, pixels."""
        return _spread(self.said.place), _spread(self.read.place)

    @cached_property
    def shake(self) -> tuple[float, float]:
        return self.said.shake.mean().item(), self.read.shake.mean().item()

    @cached_property
    def shut(self) -> tuple[float, float]:
        """Share of the frames inside a pause whose lips are as shut as the portrait's; nan without a pause."""
        silent = self.truth["silent"].bool()
        if not silent.any():
            return math.nan, math.nan
        shut = limit(self.read.opening, silent)
        return tuple((reading.opening[silent] <= shut).float().mean().item() for reading in (self.said, self.read))

    @cached_property
    def sharp_mouth(self) -> tuple[float, float]:
        (said, frames), (true, true_frames) = self._sharp_mouth
        return (said, true) if min(frames, true_frames) >= 5 and None not in (said, true) else (math.nan, math.nan)

    def by_second(self, fps: float) -> list[float]:
        """r of the opening within each whole second."""
        step = round(fps)
        return [
            correlation(self.said.opening[at : at + step], self.truth["opening"][at : at + step])
            for at in range(0, len(self.said) - step + 1, step)
        ]

    def jumps(self, clip_frames: int) -> tuple[float, float]:
        """How far the head moves from frame to frame, pixels: where clips meet, and elsewhere."""
        moved = self.said.place.diff(dim=0).norm(dim=1)
        at_join = (torch.arange(1, len(self.said)) % clip_frames) == 0
        return moved[at_join].mean().item(), moved[~at_join].mean().item()


def _spread(track: Tensor) -> float:
    return track.var(0).sum().sqrt().item()

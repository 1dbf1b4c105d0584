"""A video is sampled in clips of equal length."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import ModelConfig
from ..types import ClipConditions, Conditions


@dataclass(frozen=True, eq=False)
class Video:
    """The conditions of a video, cut into clips of `model.clip_frames` frames."""

    model: ModelConfig
    conditions: Conditions

    @property
    def clips(self) -> int:
        return -(-self.conditions.frames // self.model.clip_frames)

    def clip(self, number: int) -> ClipConditions:
        """The conditions of clip `number`, from 0."""
        size = self.model.clip_frames
        return self.conditions.clip(number * size, clip_frames=size, margin_frames=self.model.audio_margin_frames)

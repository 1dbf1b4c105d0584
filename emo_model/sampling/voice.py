"""The voice of a video as the tokens that its clips hear: those of many clips in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.emo import Emo
from ..types import ClipConditions, Conditions
from .estimate import count_clips

CLIPS_AT_ONCE = 16  # whose tokens are made together: of all clips, an hour's would not fit, nor could the first one begin early


class Voice:
    """What each clip hears and obeys, and its tokens, made for `CLIPS_AT_ONCE` clips when the first of these needs them.

    Tokens of a clip are the same to the bit, whichever clips were asked for before and however long the video is: clips are
    always heard with the same others, and the last ones are filled up.
    """

    def __init__(self, emo: Emo, conditions: Conditions, *, device: torch.device | str, dtype: torch.dtype):
        self.emo, self.conditions, self.device, self.dtype = emo, conditions, device, dtype
        self.clips = count_clips(conditions.frames, emo.config.clip_frames)
        self.heard, self.tokens = -1, ()

    def clip(self, number: int) -> ClipConditions:
        config = self.emo.config
        return self.conditions.clip(number * config.clip_frames, clip_frames=config.clip_frames,
                                    margin_frames=config.audio_margin_frames)

    def tokens_of(self, number: int) -> Tensor:
        """(1, F, M, width) of clip `number`, from 0."""
        block, place = divmod(number, CLIPS_AT_ONCE)
        if block != self.heard:
            first = block * CLIPS_AT_ONCE
            windows = [self.clip(min(each, self.clips - 1)).audio for each in range(first, first + CLIPS_AT_ONCE)]
            self.tokens = self.emo.hear(torch.cat(windows).to(self.device, self.dtype)).split(1)
            self.heard = block
        return self.tokens[place]

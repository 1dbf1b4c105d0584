"""What Hallo's own code makes of the two halves of guidance, and its published weights are sampled with.

It reads the portrait and the n motion frames once for each half, nobody's half first, in one batch of 2 (1 + n) pictures, and
deals the identity tokens of nobody and of the portrait out to that batch by turns: row r has the tokens r % 2, whatever its half.
And of all 2 F frames, frame i looks at the portrait of half i % 2, whatever its own (nobody's half then looks at none).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..models.context import Context
from ..models.seen import KeysValues
from ..types import ReferenceFeatures


def mix_identity(context: Context) -> Context:
    """A context with its halves so mixed; one without identity tokens or motion frames stays as it is."""
    if context.identity is None or context.motion is None:
        return context
    reference, motion = context.reference, context.motion
    motion_frames, frames = next(iter(motion.features.values())).shape[1], context.audio.shape[1]

    def dealt(first_row: int) -> dict[str, Tensor]:
        """Motion frames whose portrait is row `first_row`, each with the tokens of its own row."""
        rows = torch.arange(first_row + 1, first_row + 1 + motion_frames, device=context.identity.device)
        return {name: torch.where((rows % 2 == 1).view(-1, 1, 1), x, motion.nobody[name]) for name, x in motion.features.items()}

    half = 1 + motion_frames
    portraits = (reference.nobody, reference.features if half % 2 else reference.nobody)  # rows 0 and 1 + n
    even, odd = portraits[frames % 2], portraits[(frames + 1) % 2]  # of the frames of this half, which begins at frame F
    by_turns = {name: KeysValues(torch.stack([x.keys, odd[name].keys], dim=1), torch.stack([x.values, odd[name].values], dim=1))
                if isinstance(x, KeysValues) else torch.stack([x, odd[name]], dim=1) for name, x in even.items()}
    return replace(context, reference=ReferenceFeatures(by_turns), motion=ReferenceFeatures(dealt(half), dealt(0)))

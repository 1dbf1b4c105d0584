"""How Hallo's own code batches identity tokens under classifier-free guidance; its published weights are sampled with
it.

It reads the portrait and the n motion frames once for each branch, the unconditional first, in one batch of 2 (1 + n)
pictures, and gives them the identity tokens in turn: row r has those of no face or of the portrait as r is even or odd,
whatever its branch. And of all 2 F frames, frame i reads the portrait of branch i % 2, whatever its own (the
unconditional then reads none).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..models.context import Context
from ..types import ReferenceFeatures


def mix_identity(context: Context) -> Context:
    """The context with identity tokens so mixed; one without identity tokens or motion frames is unchanged."""
    if context.identity is None or context.motion is None:
        return context
    reference, motion = context.reference, context.motion
    motion_frames, frames = next(iter(motion.features.values())).shape[1], context.audio.shape[1]

    def motion_after(first_row: int) -> dict[str, Tensor]:
        """Motion frames whose portrait is row `first_row`, each read with the tokens of its own row."""
        rows = torch.arange(first_row + 1, first_row + 1 + motion_frames, device=context.identity.device)
        return {
            name: torch.where((rows % 2 == 1).view(-1, 1, 1), x, motion.unconditional[name])
            for name, x in motion.features.items()
        }

    half = 1 + motion_frames
    portraits = (
        reference.unconditional,
        reference.features if half % 2 else reference.unconditional,
    )  # rows 0 and 1 + n
    even, odd = (
        portraits[frames % 2],
        portraits[(frames + 1) % 2],
    )  # of the frames of this branch, which begins at frame F
    in_turn = {name: torch.stack([x, odd[name]], dim=1) for name, x in even.items()}  # (B, 2, N, C)
    return replace(
        context, reference=ReferenceFeatures(in_turn), motion=ReferenceFeatures(motion_after(half), motion_after(0))
    )

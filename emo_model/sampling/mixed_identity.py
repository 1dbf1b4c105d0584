"""How Hallo's own code batches identity tokens under classifier-free guidance; its published weights expect it.

For each branch, the unconditional first, it encodes the portrait and the n motion frames in one batch of 2 (1 + n)
pictures. Row r gets the identity tokens of no face if r is even, of the portrait if r is odd, whatever its branch. And
of all 2 F frames, frame i reads the portrait of branch i % 2, whatever its own (the unconditional branch reads none).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..models.context import Context
from ..types import ReferenceFeatures


def mix_identity(context: Context) -> Context:
    """The context with identity tokens mixed in this way; unchanged without identity tokens or motion frames."""
    if context.identity is None or context.motion is None:
        return context
    reference, motion = context.reference, context.motion
    motion_frames, frames = next(iter(motion.features.values())).shape[1], context.audio.shape[1]
    half = 1 + motion_frames

    def motion_after(first_row: int) -> dict[str, Tensor]:
        """Motion frames whose portrait is row `first_row`, each with the tokens of its own row."""
        rows = torch.arange(first_row + 1, first_row + half, device=context.identity.device)
        is_odd = (rows % 2 == 1).view(-1, 1, 1)
        return {name: torch.where(is_odd, x, motion.unconditional[name]) for name, x in motion.features.items()}

    # the portraits of rows 0 and 1 + n, in the order in which this branch's frames read them; it begins at frame F
    portraits = (reference.unconditional, reference.features if half % 2 else reference.unconditional)
    even, odd = portraits[frames % 2], portraits[(frames + 1) % 2]
    in_turn = {name: torch.stack([x, odd[name]], dim=1) for name, x in even.items()}  # (B, 2, N, C)
    motion = ReferenceFeatures(motion_after(half), motion_after(0))
    return replace(context, reference=ReferenceFeatures(in_turn), motion=motion)

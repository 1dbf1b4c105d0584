"""SyncNet's confidence and distance (LSE-C and LSE-D of Wav2Lip) from embeddings of lips and voice."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

REACH = 15  # frames to either side, as the published script has it


def distances(lips: Tensor, voice: Tensor) -> Tensor:
    """Embeddings lips (B, D) of windows that follow one another, and voice (2 REACH + B, D) of the windows from REACH
    earlier on, zeros where there are none -> (B, 2 REACH + 1) Euclidean distances, the voice from REACH earlier to
    REACH later."""
    shifted = voice.unfold(0, 2 * REACH + 1, 1).transpose(1, 2)  # (B, shifts, D)
    return F.pairwise_distance(lips[:, None].expand_as(shifted), shifted)


def confidence(mean: Tensor) -> tuple[float, float, int]:
    """Mean distances (2 REACH + 1,) over all windows -> confidence (median minus least: higher is better), the least
    distance, and the offset in frames, positive where the mouth comes after the voice."""
    least, place = mean.min(0)
    return (mean.median() - least).item(), least.item(), REACH - int(place)


def of_embeddings(lips: Tensor, voice: Tensor) -> tuple[float, float, int]:
    """`confidence` of whole tracks (N, D) each."""
    padded = F.pad(voice, (0, 0, REACH, REACH))
    return confidence(distances(lips, padded).mean(0))

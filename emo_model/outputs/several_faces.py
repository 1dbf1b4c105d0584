"""Several moving heads in one picture: each moves its own part of it, and the border between two heads rests."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, repeat

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .portrait_decoder import AT_ONCE, PortraitDecoder


class GroupDecoder:
    """The decoders of several portraits of one picture, as one.

    decoders: each made with the squares of the others. A pixel is moved by one head at most (`territory.share_of`), so
    the frames do not depend on the order of the decoders; pixels that no head moves stay the picture's, bit for bit.
    Raises ValueError for decoders of different pictures.
    """

    def __init__(self, decoders: Sequence[PortraitDecoder]):
        self.decoders = tuple(decoders)
        first = self.decoders[0]
        for number, decoder in enumerate(self.decoders, start=1):
            if not np.array_equal(decoder.still, first.still):
                one, other = (f"{found.size[1]}x{found.size[0]}" for found in (first, decoder))
                raise ValueError(
                    f"face {number} was cut from another picture ({other}) than the first ({one}); make all faces "
                    "from the same picture, at the same size"
                )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.decoders[0].size

    def decode(self, latents: Sequence[Tensor]) -> np.ndarray:
        """Latents (F, C, h, w) scaled of each face, or (B, F, C, h, w) -> (F, H, W, 3) uint8."""
        still = self.decoders[0].still
        frames = np.empty((len(latents[0]), *still.shape), dtype=np.uint8)
        frames[:] = still
        for decoder, own in zip(self.decoders, latents, strict=True):
            decoder.draw(frames, own)
        return frames

    def blocks(self, latents: Sequence[Tensor]) -> Iterator[np.ndarray]:
        """As `decode`, but at most 8 frames at a time."""
        for parts in zip(*(own.split(AT_ONCE) for own in latents), strict=True):
            yield self.decode(parts)


def in_step(
    clips: Sequence[Iterable[Tensor]], rests: Sequence[Tensor], *, frames: int, easing: int
) -> Iterator[tuple[Tensor, ...]]:
    """Clips (1, C, F, h, w) of each face, of any lengths -> latents (f, C, h, w) of all faces for the same up to 8
    frames at a time, `frames` in all.

    A face whose clips end earlier returns over `easing` frames to rests (1, C, h, w), the portrait's own latents.
    """
    faces = [_lasting(own, rest, easing) for own, rest in zip(clips, rests, strict=True)]
    for start in range(0, frames, AT_ONCE):
        yield tuple(torch.stack(list(islice(face, min(AT_ONCE, frames - start)))) for face in faces)


def last_in_step(
    ends: Sequence[Tensor], rests: Sequence[Tensor], *, gaps: Sequence[int], count: int, easing: int
) -> Tensor:
    """What `in_step` yields for the last `count` frames: (B, C, count, h, w), with dials for all faces or for none.

    ends: the last frames (1, C, k, h, w) of each face's clips, k at most `count`; gaps: how many frames earlier than
    the video they end. Only as many frames as all faces have.
    """
    count = min(count, *(end.shape[2] + gap for end, gap in zip(ends, gaps, strict=True)))
    shown = []
    for end, rest, gap in zip(ends, rests, gaps, strict=True):
        start = end.shape[2] + gap - count
        shown.append(torch.stack(list(islice(_lasting([end], rest, easing), start, start + count)), 1)[None])
    return stacked(shown)


def stacked(faces: Sequence[Tensor]) -> Tensor:
    """Latents (1, C, F, h, w) of each face, of some with dials -> (B, C, F, h, w): the others get dials of 0."""
    channels = max(one.shape[1] for one in faces)
    return torch.cat([F.pad(one, (*6 * [0], 0, channels - one.shape[1])) for one in faces])


def _lasting(clips: Iterable[Tensor], rest: Tensor, easing: int) -> Iterator[Tensor]:
    """Latents (C, h, w) frame by frame, without end."""
    rest = rest[0].float().cpu()
    last = rest
    for clip in clips:
        for last in clip[0].transpose(0, 1):
            yield last
    rest = torch.cat([rest, rest.new_zeros(len(last) - len(rest), *rest.shape[1:])])  # without dials
    for frame in range(1, easing):
        yield torch.lerp(last, rest, (1 - math.cos(math.pi * frame / easing)) / 2)
    yield from repeat(rest)

"""How much a video jumps where one clip, or one video, ends and the next begins, against how much it moves anyway."""

from __future__ import annotations

from torch import Tensor

from ..instruments import Readings
from ..statistics import mean
from . import colour, head, picture

KINDS = {"picture": "of 255", "latents": "rms", "colour": "L*a*b*", "head": "degrees a second", "opening": "of 1"}
"""What is compared, and its unit."""


def changes(pictures: Tensor, latents: Tensor, said: Readings, *, fps: float) -> dict[str, Tensor]:
    """pictures (T, 3, H, W), latents (T, C, h, w) -> from each frame to the next (T - 1,), by KINDS.

    picture: mean change of a pixel, of 255; latents: root mean square; colour: of the mean colour, L*a*b*; head: degrees per
    second; opening: of the mouth, of 1.
    """
    return {"picture": picture.changes(pictures).cpu(), "latents": latents.diff(dim=0).square().mean((1, 2, 3)).sqrt().cpu(),
            "colour": colour.distance(*_neighbours(colour.lab(pictures).mean((2, 3)))).cpu(),
            "head": head.speed(said, fps, smooth=False), "opening": said.opening.diff().abs()}


def measure(change: dict[str, Tensor], places: dict[str, list[int]]) -> dict[str, dict[str, float]]:
    """The mean change at each named list of places (frame f: from f - 1 to f), and 'inside': at all that have no name."""
    named = {place for some in places.values() for place in some}
    some = next(iter(change.values()))
    everywhere = places | {"inside": [place for place in range(1, len(some) + 1) if place not in named]}
    return {kind: {name: mean([track[place - 1].item() for place in found]) for name, found in everywhere.items()}
            for kind, track in change.items()}


def borders(frames: int, clip_frames: int) -> list[int]:
    """The first frame of each clip but the first."""
    return list(range(clip_frames, frames, clip_frames))



def _neighbours(values: Tensor) -> tuple[Tensor, Tensor]:
    return values[1:], values[:-1]

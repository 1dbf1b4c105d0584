"""What a model's mouth does for the voice of clips that were kept from training, against what the person's mouth did:
in motion latents, and in finished frames as the face mesh reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..checkpoints import native
from ..config import ModelConfig
from ..inputs.faces import FaceFinder, as_face
from ..inputs.motion_latents import mouth_opening, mouth_width
from ..inputs.picture_files import to_float
from ..inputs.portrait import read_portrait
from ..inputs.vae import to_raw
from ..outputs.portrait_decoder import PortraitDecoder
from ..sampling.clips import ClipRenderer, generate_clips
from ..statistics import correlation
from .clips import ClipStore
from .footage.preparing import read_mp4
from .footage.shards import Sample
from .footage.store import Rescaled
from .prepared import conditions_of

OPENING, WIDTH = 2, 3  # channels of motion latents
SIZE_SHARE = 0.1  # of a spread e times too large or too small in `Mouth.shortfall`; a correlation lost counts 1
WIDTH_SHARE = 0.5  # of the width, beside 1 of the opening
MOST_SIZE = 6.0  # by which a mouth is made larger or smaller at most
AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Mouth:
    """Opening and width of a mouth over F frames, (F,) each, made and seen; in any unit, the same for both."""

    made: tuple[Tensor, Tensor]
    seen: tuple[Tensor, Tensor]

    @classmethod
    def join(cls, some: Sequence[Mouth]) -> Mouth:
        made, seen = ([getattr(one, name) for one in some] for name in ("made", "seen"))
        return cls(*(tuple(torch.cat(tracks) for tracks in zip(*part, strict=True)) for part in (made, seen)))

    @property
    def correlations(self) -> tuple[float, float]:
        """Of opening and width; 0 where one of the tracks is constant."""
        found = (correlation(made, seen) for made, seen in zip(self.made, self.seen, strict=True))
        return tuple(0.0 if math.isnan(r) else r for r in found)

    @property
    def sizes(self) -> tuple[float, float]:
        """The spread of the made track over the seen one's, of opening and width."""
        pairs = zip(self.made, self.seen, strict=True)
        return tuple(float(made.std() / seen.std().clamp(min=1e-6)) for made, seen in pairs)

    @property
    def error(self) -> float:
        """Squared error of the opening, share of the video's variance: 1 - 2 r s + s^2 for a size s, and the offset."""
        made, seen = self.made[0], self.seen[0]
        return float((made - seen).square().mean() / seen.var(correction=0).clamp(min=1e-9))

    def shortfall(self, sizes: tuple[float, float] = (1.0, 1.0)) -> float:
        """What stops training, lower is better: 1 - r, and a tenth of the logarithm of a spread that is not so many
        times the video's; the width counts half of the opening.

        Not the squared error: where the correlation is below 1, it is least for a mouth that moves too little.
        """
        each = [
            1 - r + SIZE_SHARE * abs(math.log(max(size, 1e-3) / wanted))
            for r, size, wanted in zip(self.correlations, self.sizes, sizes, strict=True)
        ]
        return (each[0] + WIDTH_SHARE * each[1]) / (1 + WIDTH_SHARE)

    def values(self, prefix: str = "") -> dict[str, float]:
        """For tables."""
        found = {"shortfall": self.shortfall(), "opening_error": self.error}
        for name, r, size in zip(("opening", "width"), self.correlations, self.sizes, strict=True):
            found |= {f"{name}_r": r, f"{name}_size": size}
        return {prefix + name: round(value, 3) for name, value in sorted(found.items())}


@torch.no_grad()
def sampled(bundle: native.Bundle, clip: ClipStore, *, seed: int) -> Tensor:
    """Scaled latents (F, C, h, w) for the one clip's voice, by the clip loop of use."""
    how = replace(bundle.sampling, seed=seed)
    render = ClipRenderer(bundle.emo, conditions_of(clip, bundle.config), how, device=clip.latents.device)
    return torch.cat(list(generate_clips(render)), 2)[0].transpose(0, 1).float().cpu()


def mouth_of(latents: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Scaled motion latents (F, C, h, w) -> opening and width (F,), each the sum over the cells of its Gaussian, which
    does not depend on where the mouth is; raw, so that models of other scales compare."""
    raw = to_raw(latents.float(), config)
    return tuple(raw[:, channel].flatten(1).sum(1) for channel in (OPENING, WIDTH))


def mouth_in_latents(bundle: native.Bundle, store: Rescaled, samples: Sequence[Sample], *, seed: int) -> Mouth:
    """On these clips of a store."""
    found = []
    for sample in samples:
        clip = store.whole(sample)
        found.append(Mouth(*(mouth_of(x, bundle.config) for x in (sampled(bundle, clip, seed=seed), clip.latents[0]))))
    return Mouth.join(found)


@dataclass(frozen=True, eq=False)
class Spoken:
    """The voice of one clip, spoken by a model: scaled latents (F, C, h, w), the person at rest as `portrait_decoder`
    takes it, and opening and width (F,) of the video's own frames, as `finder` reads them."""

    bundle: native.Bundle
    latents: Tensor
    still: Tensor
    mesh: Tensor
    finder: FaceFinder
    seen: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, bundle: native.Bundle, store: Rescaled, sample: Sample, finder: FaceFinder, *, seed: int) -> Spoken:
        frames, number = read_mp4(sample.read("mp4")), sample.about()["still"]
        still = torch.from_numpy(frames[number]).permute(2, 0, 1)[None]
        share = frames.shape[1] / bundle.config.image_size
        mesh = share * torch.from_numpy(sample.array("meshes.npy", number, 1).copy())[0]
        latents = sampled(bundle, store.whole(sample), seed=seed)
        return cls(bundle, latents, still, mesh, finder, mouth_read(frames, finder, mesh))

    def mouth(self, config: ModelConfig) -> Mouth:
        """In finished frames, where the latents have the scales of `config`."""
        decoder = portrait_decoder(replace(self.bundle, config=config), self.still, self.mesh)
        made = np.concatenate(list(decoder.blocks(self.latents)))
        return Mouth(mouth_read(made, self.finder, self.mesh), self.seen)


def mouth_in_frames(spoken: Sequence[Spoken], config: ModelConfig) -> Mouth:
    """Of all clips together."""
    return Mouth.join([one.mouth(config) for one in spoken])


def fitted_size(read: Callable[[float], float]) -> float:
    """The size of an opening at which its spread in finished frames is the video's. read(size): that spread, share of
    the video's; read twice, and followed along a power of the size. Small openings are read smaller than they are."""
    first = read(1.0)
    guess = _within(1 / max(first, 1e-3))
    second = max(read(guess), 1e-3)
    power = math.log(second / max(first, 1e-3)) / math.log(guess) if abs(math.log(guess)) > 0.05 else 1.0
    return _within(guess * second ** (-1 / min(max(power, 0.5), 2.0)))


def _within(size: float) -> float:
    return min(max(size, 1 / MOST_SIZE), MOST_SIZE)


def portrait_decoder(bundle: native.Bundle, still: Tensor, mesh: Tensor) -> PortraitDecoder:
    """still: (1, 3, H, W) uint8, the person at rest; mesh: (468, 3) in its pixels."""
    picture = to_float(still)
    return PortraitDecoder(bundle.motion_decoder, bundle.config, picture, read_portrait(picture, mesh, bundle.config))


def mouth_read(frames: np.ndarray, finder: FaceFinder, rest: Tensor) -> tuple[Tensor, Tensor]:
    """Opening and width (F,) in frames (F, H, W, 3) uint8, in distances of the eyes; rest: a mesh near all of them."""
    meshes = torch.stack([face.mesh for face in _followed(frames, finder, rest)])
    return mouth_opening(meshes), mouth_width(meshes)


def _followed(frames: np.ndarray, finder: FaceFinder, rest: Tensor) -> Iterator:
    for first in range(0, len(frames), AT_ONCE):
        pixels = to_float(torch.from_numpy(frames[first : first + AT_ONCE]).permute(0, 3, 1, 2))
        yield from finder.follow(pixels, as_face(rest))

"""The conditions of a clip after encoding, and their keys and values in each layer, computed once for all steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..types import ReferenceFeatures
from .attention import KeysValues
from .temporal import MotionContext


@dataclass(frozen=True, eq=False)
class Context:
    """The conditions of a clip; None is skipped: EMO's first stage trains without motion, audio and speed.

    reference and motion: features by layer; audio: (B, F, M, D) tokens; speed: (B, F, D); face: (B, C, 1, h, w), the
    face locator's features. For Hallo: identity (B, 2, M, D), the tokens of no face and of the portrait's face;
    regions (B, 3, N) by level; region_weights (3,).
    """

    reference: ReferenceFeatures | None
    motion: ReferenceFeatures | None
    audio: Tensor | None
    speed: Tensor | None
    face: Tensor | None
    identity: Tensor | None = None
    regions: tuple[Tensor, ...] = ()
    region_weights: Tensor | None = None

    def without_audio(self) -> Context:
        """The branch without audio: its null condition is tokens of zeros."""
        return replace(self, audio=torch.zeros_like(self.audio))

    def without_reference(self) -> Context:
        """The branch without the portrait: its null condition is features of zeros.

        Hallo's has no portrait tokens at all, no face, and motion frames encoded with the tokens of no face.
        """
        if self.identity is None:
            return replace(self, reference=self.reference.map(torch.zeros_like))
        motion = None if self.motion is None else ReferenceFeatures(self.motion.unconditional)
        face, identity = torch.zeros_like(self.face), self.identity.flip(1)
        return replace(self, reference=None, motion=motion, face=face, identity=identity)

    @classmethod
    def batch(cls, contexts: Sequence[Context]) -> Context:
        """G contexts of the same B videos as one of G B; those that have a reference must come first."""

        def present(name: str) -> list:
            return [value for context in contexts if (value := getattr(context, name)) is not None]

        def tensors(name: str) -> Tensor | None:
            return torch.cat(present(name)) if present(name) else None

        def features(name: str) -> ReferenceFeatures | None:
            several = [one.features for one in present(name)]
            if not several:
                return None
            return ReferenceFeatures({layer: torch.cat([one[layer] for one in several]) for layer in several[0]})

        regions = tuple(torch.cat(level) for level in zip(*(context.regions for context in contexts), strict=True))
        return cls(
            reference=features("reference"),
            motion=features("motion"),
            audio=tensors("audio"),
            speed=tensors("speed"),
            face=tensors("face"),
            identity=tensors("identity"),
            regions=regions,
            region_weights=contexts[0].region_weights,
        )


class LayerContext(NamedTuple):
    """The conditions of one layer of the backbone, as keys and values; None is skipped.

    reference: (B, N, C), of the portrait; for Hallo (R, T, N, C), of T portraits that frames take in turn, for the
    first R <= B videos. addition: (B, C, h, w), added at levels without attention. audio: (B F, M, C), for Hallo three
    of them, one per region. codes: (N, C), positions of the cells.
    """

    reference: KeysValues | None = None
    addition: Tensor | None = None
    audio: KeysValues | tuple[KeysValues, ...] | None = None
    motion: MotionContext | None = None
    speed: KeysValues | None = None
    identity: KeysValues | None = None
    codes: Tensor | None = None


class CachedContext(NamedTuple):
    """A `Context` with the keys and values of all layers computed; layers: by name; the rest as in `Context`."""

    layers: dict[str, LayerContext]
    face: Tensor | None
    regions: tuple[Tensor, ...]
    region_weights: Tensor | None

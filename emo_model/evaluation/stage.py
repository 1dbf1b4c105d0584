"""A model, a portrait and a voice: what was made of them, read at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .. import talk
from ..auxiliary.motion_decoder import DecodedMotion
from ..checkpoints.native import Bundle
from ..config import SamplingConfig
from ..inputs.faces import FaceFinder
from ..inputs.portrait import read_portrait
from ..inputs.vae import to_scaled
from ..outputs.portrait_decoder import PortraitDecoder
from ..synthetic.speech import RATE
from ..types import Fit, Portrait
from .metrics import warp
from .reading import Reading, read
from .scenes import Scene


class WatchedDecoder(PortraitDecoder):
    """Keeps, of every frame, the smallest determinant of its flow, the share of torn pixels (`metrics.warp`), and where
    the points of the portrait's mesh are."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.folds: list[float] = []
        self.torn: list[float] = []
        self.meshes: list[Tensor] = []

    def flow(self, latents: Tensor) -> DecodedMotion:
        decoded = super().flow(latents)
        cells = decoded.flow.shape[-1]
        hidden = warp.hidden(decoded.mouth_mask, decoded.mouth, mouth_cells=self.decoder.mouth_cells, cells=cells)
        folds, torn = warp.measure(warp.at_working_size(decoded.flow.cpu()), hidden)
        self.folds += folds.tolist()
        self.torn += torn.tolist()
        self.meshes.append(self.places_under(decoded.flow.float()).cpu())
        return decoded


@dataclass(frozen=True, eq=False)
class Take:
    """frames: (F, H, W, 3) uint8; meshes: (F, 468, 3) read in them and mesh: (468, 3) of the portrait `still`, in their
    pixels; moved: (F, 468, 2) how far the decoder moved each point of the mesh from the portrait's, in the same pixels;
    fit: the head square; folds, torn: see `WatchedDecoder`; seconds: of sampling and decoding."""

    frames: np.ndarray
    reading: Reading
    meshes: Tensor
    still: np.ndarray
    mesh: Tensor
    moved: Tensor
    fit: Fit
    folds: list[float]
    torn: list[float]
    seconds: float

    @property
    def changed_outside(self) -> int:
        """Pixels outside of the head square that are not the picture's, in all frames."""
        fit = self.fit
        changed = (self.frames != self.still).any(-1)
        changed[:, max(0, fit.top) : max(0, fit.top + fit.side), max(0, fit.left) : max(0, fit.left + fit.side)] = False
        return int(changed.sum())


class Stage:
    """Where a model performs; finder: reads what it made, on the CPU."""

    def __init__(self, bundle: Bundle, finder: FaceFinder, sampling: SamplingConfig):
        self.bundle, self.finder, self.sampling = bundle, finder, sampling

    @property
    def device(self) -> torch.device:
        return next(self.bundle.emo.parameters()).device

    def speak(
        self,
        picture: Tensor,
        waveform: Tensor,
        *,
        seed: int,
        face: Sequence[float] | None = None,
        long_side: int = 1024,
        **changes,
    ) -> Take:
        """picture (1, 3, H, W) in [-1, 1], waveform (T,) at 16 kHz; changes: of the sampling. Raises NoFaceError."""
        sampling = replace(self.sampling, seed=seed, **changes)
        prepared = talk.prepare(
            self.bundle, picture, (waveform[None], RATE), sampling=sampling, face=face, long_side=long_side
        )
        blocks = (latents[0].transpose(0, 1) for latents in prepared.generate())
        return self._watch(prepared.picture, prepared.conditions.portrait, blocks)

    def act(self, scene: Scene) -> Take:
        """The truth's own latents through the model's decoder: how well EMO could do at most."""
        config = self.bundle.config
        portrait = read_portrait(scene.picture, scene.rest, config)
        latents = to_scaled(scene.latents(config), config)
        return self._watch(scene.picture, portrait, latents.split(12))

    @torch.no_grad()
    def _watch(self, picture: Tensor, portrait: Portrait, blocks: Iterable[Tensor]) -> Take:
        decoder = WatchedDecoder(self.bundle.motion_decoder, self.bundle.config, picture, portrait, device=self.device)
        began = time.monotonic()
        frames = np.concatenate([decoder.decode(latents) for latents in blocks])
        passed = time.monotonic() - began
        fit = portrait.fit
        mesh = portrait.mesh.float() * (fit.side / fit.size) + portrait.mesh.new_tensor([fit.left, fit.top, 0])
        moved = torch.cat(decoder.meshes) - mesh[:, :2]
        still, own = read(self.finder, decoder.still[None], mesh, fit)
        reading, meshes = read(self.finder, frames, own[0], fit)
        return Take(frames, reading, meshes, decoder.still, own[0], moved, fit, decoder.folds, decoder.torn, passed)

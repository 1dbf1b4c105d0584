"""Prepared footage as training reads it: windows of clips, straight from the tar files, whatever their number."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from ...config import ModelConfig
from ..clips import ClipStore, TrainingBatch
from ..stages import Stage
from . import shards

HELD_OUT = 10  # one video in so many is kept from training, by its key


class ShardStore:
    """The clips of a folder of `prepare`, as a `ClipStore` whose windows are read from the disk when they are drawn.

    frames: of a window; clips that are shorter are left out. held_out: only the videos that are kept from training (one
    in ten, by their content), or all others; None: all. names: only these clips. Raises FileNotFoundError or ValueError
    for a folder without usable clips, or with those of another model.
    """

    def __init__(
        self,
        folder: str | Path,
        config: ModelConfig,
        *,
        frames: int,
        held_out: bool | None = False,
        names: Collection[str] | None = None,
        device: torch.device | str = "cpu",
    ):
        samples = shards.read_index(folder)
        cells = (config.latent_channels, config.latent_size, config.latent_size)
        found = samples[0].array("latents.npy", 0, 1).shape[1:]
        if tuple(found) != cells:
            raise ValueError(
                f"{folder} holds latents of {tuple(found)}, model '{config.name}' needs {cells}: prepare the videos "
                "with its --model"
            )
        chosen = [one for one in samples if held_out is None or is_held_out(one) == held_out]
        chosen = [one for one in chosen if names is None or one.name in names]
        self.samples = [one for one in chosen if one.frames >= frames]
        self.frames, self.device = frames, device
        if not self.samples:
            longest = max((one.frames for one in chosen), default=0)
            raise ValueError(
                f"{folder} has {len(chosen)} clips for {'validation' if held_out else 'training'}, the longest of "
                f"{longest} frames, windows of {frames} are needed; prepare more videos, or with a larger --shortest"
            )
        rooms = torch.tensor([one.frames - frames + 1 for one in self.samples])
        self.ends = rooms.cumsum(0)

    def __len__(self) -> int:
        """How many windows there are."""
        return int(self.ends[-1])

    def load(self, windows: Tensor) -> ClipStore:
        """These windows (B,), by number."""
        clips = torch.searchsorted(self.ends, windows, right=True).tolist()
        firsts = [
            int(window) - (int(self.ends[clip - 1]) if clip else 0)
            for window, clip in zip(windows.tolist(), clips, strict=True)
        ]
        store = ClipStore.join(
            [self._window(self.samples[clip], first) for clip, first in zip(clips, firsts, strict=True)]
        )
        if str(self.device) == "cpu":
            return store
        return ClipStore(**{name: value.to(self.device) for name, value in vars(store).items()})

    def whole(self, sample: shards.Sample) -> ClipStore:
        """All frames of one clip."""
        return self._window(sample, 0, sample.frames)

    def _window(self, sample: shards.Sample, first: int, frames: int | None = None) -> ClipStore:
        def rows(name: str, begin: int = first, count: int | None = frames or self.frames) -> Tensor:
            return torch.from_numpy(sample.array(f"{name}.npy", begin, count).copy())[None]

        boxes = rows("boxes", 0, None)[0]
        return ClipStore(
            latents=rows("latents"),
            stills=rows("stills", 0, 1),
            audio=rows("audio"),
            speed=rows("rotation") * sample.about()["fps"],
            landmarks=rows("landmarks"),
            boxes=torch.cat([boxes[:, :2].amin(0), boxes[:, 2:].amax(0)])[None],
        )

    def batch(
        self,
        stage: Stage,
        config: ModelConfig,
        generator: torch.Generator,
        *,
        clips: int = 1,
        noise_shapes: Tensor | None = None,
        part: int = 0,
        parts: int = 1,
    ) -> TrainingBatch:
        """As `ClipStore.batch`; every window of `frames` frames comes up equally often."""
        windows = torch.randint(len(self), (stage.batch * parts,), generator=generator)
        store = self.load(windows[stage.batch * part : stage.batch * (part + 1)])
        how = {"clips": clips, "noise_shapes": noise_shapes, "part": part, "parts": parts}
        return store.batch(stage, config, generator, **how, who=torch.arange(stage.batch))


def is_held_out(sample: shards.Sample) -> bool:
    """Whether a clip is of a video that is kept from training."""
    return int(sample.name[:8], 16) % HELD_OUT == 0

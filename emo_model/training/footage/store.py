"""Prepared footage as training reads it: windows of clips, straight from the tar files, whatever their number."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ...config import ModelConfig
from ...inputs.vae import to_raw, to_scaled
from ..clips import ClipStore
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
        found = samples[0].array("latents.npy", 0, 1).shape[1:]
        _check_cells(found, config, str(folder), "prepare the videos with its --model")
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

    def take(self, windows: Tensor) -> ClipStore:
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


class Rescaled:
    """The clips of a store that was prepared for the scales of `prepared`, in those of `config`."""

    def __init__(self, store: ShardStore, prepared: ModelConfig, config: ModelConfig):
        self.store, self.prepared, self.config = store, prepared, config

    def __len__(self) -> int:
        return len(self.store)

    def take(self, windows: Tensor) -> ClipStore:
        return self._rescaled(self.store.take(windows))

    def whole(self, sample: shards.Sample) -> ClipStore:
        return self._rescaled(self.store.whole(sample))

    def _rescaled(self, clips: ClipStore) -> ClipStore:
        def over(latents: Tensor) -> Tensor:
            return to_scaled(to_raw(latents.float().flatten(0, 1), self.prepared), self.config).view_as(latents)

        return replace(clips, latents=over(clips.latents), stills=over(clips.stills))


def open_store(
    data: Path, config: ModelConfig, *, held_out: bool | None, device: str, frames: int | None = None
) -> ClipStore | ShardStore:
    """A folder of `prepare`, or a file of stored clips. held_out: the clips that are kept from training (one in ten),
    or the others; None: all. Raises ValueError for those of another model."""
    if data.is_dir():
        frames = frames or config.motion_frames + config.clip_frames
        return ShardStore(data, config, frames=frames, held_out=held_out, device=device)
    store = ClipStore.load(data, device=device)
    _check_cells(store.latents.shape[2:], config, data.name, "give clips that were made for it")
    kept = torch.arange(len(store)) % HELD_OUT == HELD_OUT - 1
    return store if held_out is None else store.take((kept == held_out).nonzero()[:, 0])


def _check_cells(found: Sequence[int], config: ModelConfig, name: str, remedy: str) -> None:
    cells = (config.latent_channels, config.latent_size, config.latent_size)
    if tuple(found) != cells:
        raise ValueError(f"{name} holds latents of {tuple(found)}, model '{config.name}' needs {cells}: {remedy}")


def is_held_out(sample: shards.Sample) -> bool:
    """Whether a clip is of a video that is kept from training."""
    return int(sample.name[:8], 16) % HELD_OUT == 0

"""Progress, previews, cancelling and status text of a running node; writes videos to the output folder."""

from __future__ import annotations

import itertools
import json
import logging
import sys
import time
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import comfy.model_management as management
import comfy.utils
import folder_paths
import numpy as np
from comfy.cli_args import args
from torch import Tensor

from ...emo_model.outputs.background_writer import SerialExecutor
from ...emo_model.outputs.video import GENERATED, VideoWriter
from .previews import Animation


def tell(hidden, text: str, more: str = "") -> None:
    """Log a sentence and show it in the running node, whose id `hidden` has; more: for the log only, such as paths."""
    logging.info("EMO: %s", f"{text} {more}".strip())
    show(hidden, text)


def show(hidden, text: str) -> None:
    """Show a sentence in the running node, or in the one that the page shows in its place."""
    server = sys.modules.get("server")  # None in tests, which run without one
    if server is not None and hidden.unique_id is not None:
        server.PromptServer.instance.send_progress_text(text, hidden.unique_id.split(".")[0])


def is_part(hidden) -> bool:
    """Whether a node is one of those that another is made of: the id of such a node of '3' is '3.0.0.5'."""
    return hidden.unique_id is not None and "." in hidden.unique_id


class Progress:
    """One progress bar for a whole node, with an animated preview if ComfyUI's --preview-method enables it.

    `with Progress(...)`: the preview runs on a thread that ends with the block.
    """

    def __init__(self, total: int, *, previewer=None, size: int | None = None):
        """previewer: see `previews.previewer_of`; size: see `previews.Animation`."""
        self.total, self.done = total, 0
        self.bar = comfy.utils.ProgressBar(total)
        self.began = None  # (time, steps done) when this run's own work began
        self.animation = None if previewer is None else Animation(previewer, size, self._send)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_) -> None:
        if self.animation is not None:
            self.animation.stop()

    def set(self, done: int, total: int) -> None:
        """`update` for work whose total is known only after it has started."""
        self.total = total
        self.update(done)

    def update(self, done: int, latents: Tensor | None = None) -> None:
        """latents (B, C, F, h, w) scaled: frames to preview. Raises ComfyUI's exception if the user cancelled."""
        management.throw_exception_if_processing_interrupted()
        self.done = done
        if self.animation is not None and latents is not None:
            self.animation.show(latents)
        self._send(None)

    def show_still(self, previewer, latents: Tensor) -> None:
        """Send the middle frame of latents (1, C, F, h, w), where there is no animation."""
        if self.animation is None:
            middle = latents[:, :, latents.shape[2] // 2].detach().float()
            self._send(previewer.decode_latent_to_preview_image("JPEG", middle))

    def begin(self) -> None:
        """Start measuring time."""
        self.began = (time.monotonic(), self.done)

    @property
    def seconds_per_step(self) -> float | None:
        """Since `begin`; None before the first step."""
        if self.began is None or self.done <= self.began[1]:
            return None
        return (time.monotonic() - self.began[0]) / (self.done - self.began[1])

    def _send(self, preview: tuple | None) -> None:
        self.bar.update_absolute(self.done, self.total, preview)


def write_video(
    blocks: Iterable[np.ndarray | tuple[np.ndarray, list[Fraction]]],
    *,
    frames: int,
    prefix: str,
    fps: float,
    audio: tuple[Tensor, int] | None,
    quality: int,
    codec: str,
    hidden,
    last: Tensor | None = None,
    tick: Fraction | None = None,
    comment: str = GENERATED,
) -> tuple[Path, str]:
    """blocks of frames (F, H, W, 3) uint8, `frames` in all -> a new mp4 in the output folder: (path, subfolder).

    tick: see `VideoWriter`; blocks are then frames and their times. comment: what the file says of itself.
    One block is written while the next is computed, so two are in memory. The workflow (from `hidden`) and `last`, the
    latents (1, C, n, h, w) of the last frames, are stored in the file unless ComfyUI runs with --disable-metadata.
    After an error or a cancel nothing remains in the folder. Raises if the prefix leads outside the output folder, and
    OSError before anything is written if too little disk is free.
    """
    blocks = iter(blocks)
    first = next(blocks)
    height, width = (first[0] if tick else first).shape[1:3]
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory(), width, height
    )
    path = Path(folder) / f"{name}_{counter:05}_.mp4"
    with (
        VideoWriter(
            path,
            fps=fps,
            width=width,
            height=height,
            audio=audio,
            crf=quality,
            codec=codec,
            metadata={"comment": comment, **workflow_of(hidden)},
            keeps_part=False,
            expected=frames,
            tick=tick,
        ) as video,
        SerialExecutor() as writer,
    ):
        for block in itertools.chain([first], blocks):
            writer.submit(video.write, *(block if tick else (block,)))
        video.last = None if args.disable_metadata else last
    return path, subfolder


def workflow_of(hidden) -> dict[str, str]:
    """Metadata from which the page restores the graph; empty if ComfyUI runs with --disable-metadata.

    ComfyUI adds the nodes' fingerprints to the prompt ('is_changed'); those of other packs name files of the machine.
    """
    if args.disable_metadata:
        return {}
    values = dict(hidden.extra_pnginfo or {})
    if hidden.prompt is not None:
        values["prompt"] = {
            number: {key: value for key, value in node.items() if key != "is_changed"}
            for number, node in hidden.prompt.items()
        }
    return {key: json.dumps(value) for key, value in values.items()}

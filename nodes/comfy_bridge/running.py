"""While a node runs: the bar with its previews, cancelling, and the video that grows in the output folder."""

from __future__ import annotations

import contextvars
import itertools
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import comfy.latent_formats
import comfy.model_management as management
import comfy.utils
import folder_paths
import latent_preview
import numpy as np
import torch
from comfy.cli_args import args
from PIL import Image
from torch import Tensor

from ...emo_model.config import ModelConfig
from ...emo_model.inputs.behind import InTurn
from ...emo_model.inputs.media import VideoWriter

ANIMATION_FPS = 12  # frames of the preview per second, at most


def tell(hidden, text: str) -> None:
    """A sentence in the log and in the node that runs; `hidden` has its id."""
    logging.info("EMO: %s", text)
    show(hidden, text)


def show(hidden, text: str) -> None:
    """A sentence in the node that runs."""
    server = sys.modules.get("server")  # not there without one, in tests
    if server is not None and hidden.unique_id is not None:
        server.PromptServer.instance.send_progress_text(text, hidden.unique_id)


class Progress:
    """One bar over all that a node does; with a moving picture where ComfyUI's --preview-method wants one.

    `with Progress(...)`: the picture moves in a thread of its own, which ends with the block.
    """

    def __init__(self, total: int, *, config: ModelConfig | None = None, device: torch.device | None = None):
        self.total, self.done = total, 0
        self.bar = comfy.utils.ProgressBar(total)
        self.began = None  # (time, steps done) when work began that is not an earlier run's
        self.animation = None
        colours = None if config is None else _colours(config)
        previewer = None if colours is None else latent_preview.get_previewer(device, colours)
        if previewer is not None:
            self.animation = _Animation(previewer, config.image_size, self._send)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_) -> None:
        if self.animation is not None:
            self.animation.stop()

    def set(self, done: int, total: int) -> None:
        """`update` for work that knows its extent only when it has begun."""
        self.total = total
        self.update(done)

    def update(self, done: int, latents: Tensor | None = None) -> None:
        """latents (B, C, F, h, w) scaled: the frames to be shown. Raises ComfyUI's exception when the user has cancelled."""
        management.throw_exception_if_processing_interrupted()
        self.done = done
        if self.animation is not None and latents is not None:
            self.animation.show(latents)
        self._send(None)

    def begin(self) -> None:
        """From here on, time is measured."""
        self.began = (time.monotonic(), self.done)

    @property
    def seconds_per_step(self) -> float | None:
        """Since `begin`; None before the first step."""
        if self.began is None or self.done <= self.began[1]:
            return None
        return (time.monotonic() - self.began[0]) / (self.done - self.began[1])

    def _send(self, preview: tuple | None) -> None:
        self.bar.update_absolute(self.done, self.total, preview)


def _colours(config: ModelConfig) -> comfy.latent_formats.LatentFormat | None:
    """How latents look: the model's own colours, or Stable Diffusion's where its VAE is used; None: nobody knows."""
    if config.latent_rgb:
        colours = comfy.latent_formats.LatentFormat()
        colours.latent_channels = config.latent_channels
        *colours.latent_rgb_factors, colours.latent_rgb_factors_bias = map(list, config.latent_rgb)
        return colours
    return comfy.latent_formats.SD15() if config.autoencoder is None else None


class _Animation:
    """The frames of the latest estimate, one after another, until it is stopped."""

    def __init__(self, previewer, size: int, send: Callable[[tuple], None]):
        self.previewer, self.size, self.send = previewer, size, send
        self.latents, self.ended = None, threading.Event()
        context = contextvars.copy_context()  # knows which node runs
        self.thread = threading.Thread(target=context.run, args=(self._run,), name="EMO preview", daemon=True)

    def show(self, latents: Tensor) -> None:
        self.latents = latents.detach().float()
        if self.thread.ident is None:  # a thread that has ended, by a cancelled run or a broken previewer, stays so
            self.thread.start()

    def stop(self) -> None:
        self.ended.set()
        if self.thread.is_alive():
            self.thread.join()

    @torch.inference_mode()
    def _run(self) -> None:
        number = 0
        while True:
            latents = self.latents
            frame = latents[:, :, number % latents.shape[2]]
            kind, picture, limit = self.previewer.decode_latent_to_preview_image("JPEG", frame)
            if picture.width < self.size:
                picture = picture.resize((self.size, self.size), Image.Resampling.BICUBIC)
            if self.ended.is_set():
                return
            try:
                self.send((kind, picture, limit))
            except management.InterruptProcessingException:
                management.interrupt_current_processing(True)  # it was raised here, but it is meant for the run
                return
            number += 1
            if self.ended.wait(1 / ANIMATION_FPS):
                return


def write_video(blocks: Iterable[np.ndarray], *, prefix: str, fps: float, audio: tuple[Tensor, int] | None, quality: int,
                codec: str, hidden, last: Tensor | None = None) -> tuple[Path, str]:
    """blocks of frames (F, H, W, 3) uint8 -> a new mp4 in the output folder: (path, subfolder).

    A block is written while the next is made, so that two are in memory. `hidden` has the workflow that is written into the
    file, and `last` the latents (1, C, n, h, w) of its last frames, unless ComfyUI was started with --disable-metadata. Raises
    when the prefix leads out of the output folder.
    """
    blocks = iter(blocks)
    first = next(blocks)
    height, width = first.shape[1:3]
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory(), width, height)
    path = Path(folder) / f"{name}_{counter:05}_.mp4"
    with VideoWriter(path, fps=fps, width=width, height=height, audio=audio, crf=quality, codec=codec,
                     metadata=workflow_of(hidden)) as video, InTurn() as turn:
        for block in itertools.chain([first], blocks):
            turn.do(video.write, block)
        video.last = None if args.disable_metadata else last
    return path, subfolder


def workflow_of(hidden) -> dict[str, str]:
    """What the page needs to restore the graph from a file; nothing if ComfyUI was started with --disable-metadata."""
    if args.disable_metadata:
        return {}
    values = {**(hidden.extra_pnginfo or {}), **({"prompt": hidden.prompt} if hidden.prompt is not None else {})}
    return {key: json.dumps(value) for key, value in values.items()}

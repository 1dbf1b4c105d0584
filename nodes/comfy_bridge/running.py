"""While a node runs: the bar with its previews, cancelling, and the video that grows in the output folder."""

from __future__ import annotations

import itertools
import json
import logging
import sys
from collections.abc import Iterable
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
from ...emo_model.inputs.media import VideoWriter


def tell(hidden, text: str) -> None:
    """A sentence in the log and in the node that runs; `hidden` has its id."""
    logging.info("EMO: %s", text)
    server = sys.modules.get("server")  # not there without one, in tests
    if server is not None and hidden.unique_id is not None:
        server.PromptServer.instance.send_progress_text(text, hidden.unique_id)


class Progress:
    """One bar over all that a node does, with a picture where ComfyUI's --preview-method wants one."""

    def __init__(self, total: int, *, config: ModelConfig | None = None, device: torch.device | None = None):
        self.total = total
        self.bar = comfy.utils.ProgressBar(total)
        self.previewer = None
        if config is not None and config.latent_rgb:
            colours = comfy.latent_formats.LatentFormat()
            colours.latent_channels = config.latent_channels
            *colours.latent_rgb_factors, colours.latent_rgb_factors_bias = map(list, config.latent_rgb)
            self.previewer = latent_preview.get_previewer(device, colours)

    def set(self, done: int, total: int) -> None:
        """`update` for work that knows its extent only when it has begun."""
        self.total = total
        self.update(done)

    def update(self, done: int, latents: Tensor | None = None) -> None:
        """latents (B, C, F, h, w) scaled: the middle frame is shown. Raises ComfyUI's exception when the user has cancelled."""
        management.throw_exception_if_processing_interrupted()
        preview = None
        if self.previewer is not None and latents is not None:
            frame = latents[:, :, latents.shape[2] // 2].float()
            kind, picture, limit = self.previewer.decode_latent_to_preview_image("JPEG", frame)
            preview = (kind, picture.resize((picture.width * 8, picture.height * 8), Image.Resampling.BICUBIC), limit)
        self.bar.update_absolute(done, self.total, preview)


def write_video(blocks: Iterable[np.ndarray], *, prefix: str, fps: float, audio: tuple[Tensor, int] | None, quality: int,
                hidden) -> tuple[Path, str]:
    """blocks of frames (F, H, W, 3) uint8 -> a new mp4 in the output folder: (path, subfolder). Holds one block in memory.

    `hidden` has the workflow that is written into the file. Raises when the prefix leads out of the output folder.
    """
    blocks = iter(blocks)
    first = next(blocks)
    height, width = first.shape[1:3]
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory(), width, height)
    path = Path(folder) / f"{name}_{counter:05}_.mp4"
    with VideoWriter(path, fps=fps, width=width, height=height, audio=audio, crf=quality, metadata=workflow_of(hidden)) as video:
        for block in itertools.chain([first], blocks):
            video.write(block)
    return path, subfolder


def workflow_of(hidden) -> dict[str, str]:
    """What the page needs to restore the graph from a file; nothing if ComfyUI was started with --disable-metadata."""
    if args.disable_metadata:
        return {}
    values = {**(hidden.extra_pnginfo or {}), **({"prompt": hidden.prompt} if hidden.prompt is not None else {})}
    return {key: json.dumps(value) for key, value in values.items()}

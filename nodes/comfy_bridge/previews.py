"""Animated preview of a running sampler: decoded frames of the latest clean-latents estimate."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import comfy.latent_formats
import comfy.model_management as management
import latent_preview
import torch
import torch.nn.functional as F
from comfy.cli_args import LatentPreviewMethod, args
from PIL import Image
from torch import Tensor

from ...emo_model.auxiliary.motion_decoder import MotionDecoder
from ...emo_model.config import ModelConfig
from ...emo_model.outputs.portrait_decoder import PortraitDecoder
from .portraits import PortraitVAE, is_bound

ANIMATION_FPS = 12  # frames of the preview per second, at most
LARGEST, SMALL = 512, 256  # pixels of a previewed portrait's long side: animated, and one still per clip


def previewer_of(config: ModelConfig, device: torch.device, vae):
    """The decoder of previews, or None if ComfyUI's --preview-method disables them; vae: the reference's."""
    if args.preview_method == LatentPreviewMethod.NoPreviews:
        return None
    if config.motion_decoder is not None:
        return PortraitPreviewer(vae) if is_bound(vae) else None
    return latent_preview.get_previewer(device, comfy.latent_formats.SD15())


def still_previewer_of(config: ModelConfig, vae):
    """The decoder of one small still per clip, for where there are no animated previews; None for picture VAEs."""
    return PortraitPreviewer(vae, largest=SMALL) if config.motion_decoder is not None and is_bound(vae) else None


class PortraitPreviewer:
    """Decodes small previews of the warped portrait; the interface is that of core's previewers.

    It runs on the CPU with its own copy of the weights: the VAE's may be offloaded while the sampler runs.
    """

    def __init__(self, vae: PortraitVAE, *, largest: int = LARGEST):
        config, fit = vae.made_for, vae.portrait.fit
        with torch.device("meta"):
            network = MotionDecoder(config)
        weights = {
            name: weight.detach().to("cpu", torch.float32, copy=True)
            for name, weight in vae.first_stage_model.state_dict().items()
        }
        network.load_state_dict(weights, assign=True)
        scale = min(1.0, min(largest, args.preview_size) / max(fit.width, fit.height))
        width, height = (max(2, round(length * scale)) for length in (fit.width, fit.height))
        picture = (
            F.interpolate(vae.picture.cpu(), size=(height, width), mode="area") if scale < 1 else vae.picture.cpu()
        )
        small = replace(
            fit,
            width=width,
            height=height,
            left=round(fit.left * scale),
            top=round(fit.top * scale),
            side=max(2, round(fit.side * scale)),
        )
        self.config = config
        self.decoder = PortraitDecoder(network.eval(), config, picture.clamp(-1, 1), replace(vae.portrait, fit=small))

    def decode_latent_to_preview_image(self, preview_format: str, x0: Tensor) -> tuple[str, Image.Image, int]:
        """x0 (1, C, h, w) scaled latents of a frame."""
        picture = Image.fromarray(self.decoder.decode(x0.float().cpu())[0])
        return preview_format, picture, max(picture.size)  # ComfyUI would upscale smaller ones


class Animation:
    """Sends the frames of the latest estimate in a loop until it is stopped.

    size: side in pixels to which smaller pictures (of latent previewers) are upscaled; None: they are sent unchanged.
    """

    def __init__(self, previewer, size: int | None, send: Callable[[tuple], None]):
        self.previewer, self.size, self.send = previewer, size, send
        self.latents, self.ended = None, threading.Event()
        context = contextvars.copy_context()  # identifies the running node
        self.thread = threading.Thread(target=context.run, args=(self._run,), name="EMO preview", daemon=True)

    def show(self, latents: Tensor) -> None:
        self.latents = latents.detach().float()
        if self.thread.ident is None:  # a thread that ended (cancel, failing previewer) is not restarted
            self.thread.start()

    def stop(self) -> None:
        self.ended.set()
        if self.thread.is_alive():
            self.thread.join()

    @torch.inference_mode()
    def _run(self) -> None:
        number = 0
        while True:
            latents, began = self.latents, time.monotonic()
            frame = latents[:, :, number % latents.shape[2]]
            kind, picture, limit = self.previewer.decode_latent_to_preview_image("JPEG", frame)
            if self.size is not None and picture.width < self.size:
                picture = picture.resize((self.size, self.size), Image.Resampling.BICUBIC)
            if self.ended.is_set():
                return
            try:
                self.send((kind, picture, limit))
            except management.InterruptProcessingException:
                management.interrupt_current_processing(True)  # raised on this thread, but meant for the run
                return
            number += 1
            took = time.monotonic() - began
            if self.ended.wait(max(1 / ANIMATION_FPS - took, 3 * took)):  # a quarter of a core at most
                return

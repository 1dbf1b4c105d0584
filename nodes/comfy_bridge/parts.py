"""The parts of a checkpoint, each with the face that ComfyUI gives its kind: EMO, VAE, audio encoder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import comfy.model_management as management
import comfy.model_patcher
import numpy as np
import torch
from comfy_execution.graph_utils import ExecutionBlocker
from einops import rearrange
from torch import Tensor

from ...emo_model.acceleration.compile import compile_blocks
from ...emo_model.acceleration.cuda_graphs import CudaGraphs, capture_steps
from ...emo_model.acceleration.group_norm import use_own_group_norm
from ...emo_model.cache.keys import weights_of
from ...emo_model.checkpoints import load
from ...emo_model.config import ModelConfig
from ...emo_model.estimate import activation_bytes
from ...emo_model.inputs.decoded import encode_again
from ...emo_model.inputs.vae import to_raw, to_scaled
from ...emo_model.models.emo import Emo
from ...emo_model.types import ReferenceFeatures
from ..conversions import frame_bytes
from .audio import BuiltInAudioEncoder
from .files import model_path
from .management import Made, interruptible, is_out_of_memory, keep, managed, or_smaller, patcher_of
from .portraits import PortraitVAE

GIB = 1024**3


@dataclass(frozen=True, eq=False)
class EmoModel:
    """An Emo and its ModelPatcher.

    compute: the type it calculates in, which need not be the one it is stored in; weights: a hash of all of them; graphs:
    in place of `Emo.predict`.
    """

    config: ModelConfig
    patcher: comfy.model_patcher.ModelPatcher
    compute: torch.dtype
    weights: str
    graphs: CudaGraphs | None = None

    @classmethod
    def of(cls, emo: Emo, config: ModelConfig, *, compiled: bool = False, cuda_graphs: bool = False) -> EmoModel:
        device = management.get_torch_device()
        weights = sum(weight.numel() for weight in emo.parameters())
        stored = management.unet_dtype(device=device, model_params=weights, weight_dtype=next(emo.parameters()).dtype)
        compute = management.unet_manual_cast(stored, device) or stored
        emo = managed(use_own_group_norm(emo.to(stored).to(memory_format=torch.channels_last)))
        compiled = compiled and compile_blocks(emo, device=device)
        graphs = capture_steps(emo, device=device) if cuda_graphs else None
        patcher = patcher_of(emo, device, management.unet_offload_device(), is_static=compiled or graphs is not None)
        return cls(config, patcher, compute, weights_of(emo) + compiled * " compiled" + (graphs is not None) * " CUDA graphs",
                   graphs)

    @property
    def fingerprint(self) -> str:
        """Another one for other weights, also where ComfyUI has patched them."""
        return self.weights + (f" {self.patcher.patches_uuid}" if self.patcher.patches else "")

    @property
    def weight_bytes(self) -> int:
        return self.patcher.model_size()

    @property
    def device(self) -> torch.device:
        return self.patcher.load_device

    def run(self, work: Callable[[Emo, bool, int], Made], *, frames: int, fewer: int | None = None) -> Made:
        """work(emo, False, frames) with the Emo on its device; where memory runs out, once more as work(emo, True, 2 * frames).

        Then ComfyUI leaves more of the weights where they came from, so that there is twice the room for `frames` frames at a
        time, and the work should evaluate one thing after the other. fewer: the frames at a time of work that does so; where
        `frames` would not fit beside all of the weights, but those might, it is asked to from the beginning.
        """
        def attempt(is_short: bool) -> Made:
            with self.loaded(frames=frames, times=1 + is_short) as emo:
                if is_short or fewer is None or self.has_room(frames):
                    return work(emo, is_short, frames * (1 + is_short))
                logging.info("EMO: there is no room for %.1f GiB beside all of the weights; the halves of guidance are evaluated "
                             "one after the other", self.activation_bytes(frames) / GIB)
                management.load_models_gpu([self.patcher], memory_required=self.activation_bytes(fewer))
                return work(emo, True, fewer)

        return or_smaller(attempt, smaller="with more of the weights left off the device and less at a time, which is slower")

    def has_room(self, frames: int) -> bool:
        """Whether memory is free for `frames` frames at a time and all weights that are not on the device yet."""
        missing = max(0, self.patcher.model_size() - self.patcher.loaded_size())
        return management.get_free_memory(self.device) >= self.activation_bytes(frames) + missing

    @contextmanager
    def loaded(self, *, frames: int, times: int = 1) -> Iterator[Emo]:
        """The Emo on its device, with `times` the room for `frames` frames at a time; a cancelled run ends within a step.

        When memory runs out, says how much was asked for and what helps.
        """
        needed = self.activation_bytes(frames) * times
        free = management.get_free_memory(self.device)
        emo = self.patcher.model
        try:
            management.load_models_gpu([self.patcher], memory_required=needed)
            with interruptible(emo):
                yield emo
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            size = self.config.image_size
            raise type(error)(
                f"Out of memory on {self.device}: EMO '{self.config.name}' asked for {needed / GIB:.1f} GiB beside its weights "
                f"({self.patcher.model_size() / GIB:.1f} GiB, of which parts may stay off the device) for {frames} frames of "
                f"{size}x{size}, and {free / GIB:.1f} GiB were free. Close other programs, choose a model with a smaller "
                "picture, or start ComfyUI with --reserve-vram 1, --novram (no weights stay on the device) or --cpu.") from error
        finally:
            if self.graphs is not None:
                self.graphs.forget()  # their memory, of which ComfyUI does not know

    def read_portrait(self, latents: Tensor, identity: Tensor | None = None) -> ReferenceFeatures:
        """latents (1, C, h, w) scaled, identity (1, D) a face embedding or None -> what the reference net sees in them."""
        def read(emo: Emo, is_short: bool, room: int) -> ReferenceFeatures:
            return emo.encode_reference(latents.to(self.device, self.compute), identity).map(keep)

        return self.run(read, frames=2)  # it keeps what it sees, about as much again

    def reencoding(self, vae, *, frames: int) -> Callable[[Tensor], Tensor]:
        """What sends motion frames (1, C, n, h, w) through any VAE to pictures and back; for use inside `loaded`.

        The VAE may take the networks' place on the device meanwhile, so they are asked for again, with room for `frames` frames.
        """
        def reencode(latents: Tensor) -> Tensor:
            pictures = vae.decode(rearrange(to_raw(latents, self.config), "1 c n h w -> n c h w"))
            reencoded = to_scaled(encode_picture(vae, pictures, self.config), self.config)
            management.load_models_gpu([self.patcher], memory_required=self.activation_bytes(frames))
            return rearrange(reencoded, "n c h w -> 1 c n h w").to(latents)

        return reencode

    def activation_bytes(self, frames: int) -> int:
        """A generous guess of the memory that one evaluation needs beside the weights."""
        return activation_bytes(self.config, frames, self.compute.itemsize)


def load_model(name: str, *, compiled: bool = False, cuda_graphs: bool = False) -> tuple[
        EmoModel, BuiltInAudioEncoder | ExecutionBlocker, PortraitVAE | ExecutionBlocker]:
    """The parts of a checkpoint; one that it does not bring along tells whoever uses it what to load instead."""
    bundle = load.load_model(model_path(name))
    config = bundle.config
    audio_encoder = ExecutionBlocker(f"'{name}' brings no audio encoder along. Connect core's loader of audio encoders with a "
                                     "wav2vec2 model.")
    vae = ExecutionBlocker(f"'{name}' brings no VAE along. Connect 'Load VAE' with the VAE of Stable Diffusion 1.5.")
    if bundle.audio_encoder is not None:
        audio_encoder = BuiltInAudioEncoder(bundle.audio_encoder)
    if bundle.motion_decoder is not None:
        vae = PortraitVAE(bundle.motion_decoder, config)
    emo = EmoModel.of(bundle.emo, config, compiled=compiled, cuda_graphs=cuda_graphs)
    logging.info("EMO '%s': %dx%d at %g fps, computes in %s on %s", config.name, config.image_size, config.image_size,
                 config.fps, emo.compute, emo.device)
    if "sampling" in bundle.card:
        logging.info("EMO: '%s' is made for %d steps and audio_guidance %g; set them in EMO Sampler", name, bundle.sampling.steps,
                     bundle.sampling.audio_guidance)
    return emo, audio_encoder, vae


def pictures(vae, latents: Iterable[Tensor]) -> Iterator[np.ndarray]:
    """Blocks of unscaled latents (f, C, h, w) -> blocks of frames (F, H, W, 3) uint8 by any VAE."""
    if isinstance(vae, PortraitVAE):
        yield from vae.blocks(latents)
    else:
        for block in latents:
            yield frame_bytes(decode(vae, block))


def decode(vae, latents: Tensor) -> Tensor:
    """unscaled latents (F, C, h, w) -> IMAGE (F, H, W, 3) by any VAE; where memory runs out, frame by frame."""
    def attempt(is_short: bool) -> Tensor:
        return torch.cat([vae.decode(part) for part in latents.split(1 if is_short else len(latents))])

    return or_smaller(attempt, smaller="one frame at a time")


def encode_picture(vae, image: Tensor, config: ModelConfig) -> Tensor:
    """IMAGE (B, H, W, 3) -> unscaled latents of any VAE, which must be the one that the model was trained with."""
    latents = vae.encode(image)
    expected = (config.latent_channels, config.latent_size, config.latent_size)
    if tuple(latents.shape[1:]) != expected:
        remedy = "the 'vae' output of 'EMO Reference Encoder'" if config.motion_decoder else "the VAE of Stable Diffusion 1.5"
        raise ValueError(f"This VAE makes latents of {tuple(latents.shape[1:])}, but EMO '{config.name}' needs {expected}. "
                         f"Connect {remedy}.")
    return latents


def shows(vae, latents: Tensor, frames: Tensor, config: ModelConfig) -> bool:
    """Whether scaled latents (1, C, n, h, w) are those of these frames (n, H, W, 3), whatever a codec did to them.

    They are if their pictures lie about as near as those that the VAE makes of the frames: motion that is read from the faces of
    the frames is never as near as what they were made from; a picture VAE's way back and forth costs less than a codec may.
    """
    expected = (1, config.latent_channels, len(frames), config.latent_size, config.latent_size)
    if tuple(latents.shape) != expected:
        return False
    theirs = keep(decode(vae, rearrange(to_raw(latents, config), "1 c n h w -> n c h w")))
    again = keep(decode(vae, encode_picture(vae, frames, config)))
    off, usual = ((shown.to(frames) - frames).square().mean((1, 2, 3)) for shown in (theirs, again))
    return bool(off.mean().sqrt() <= (1.25 if isinstance(vae, PortraitVAE) else 2.25) * usual.mean().sqrt())


def latents_of_frames(vae, frames: Tensor, config: ModelConfig) -> Tensor:
    """IMAGE (B, H, W, 3) that this VAE, any one, had decoded -> the unscaled latents they were: nearer than `encode_picture`."""
    if isinstance(vae, PortraitVAE):
        return encode_picture(vae, frames, config)
    return encode_again(lambda some: encode_picture(vae, some, config), lambda found: decode(vae, found), keep(frames))

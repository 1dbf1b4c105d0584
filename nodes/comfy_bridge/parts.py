"""The parts of a checkpoint with ComfyUI's interfaces: EMO and its ModelPatcher, VAE, audio encoder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import comfy.model_management as management
import comfy.model_patcher
import comfy.sd
import comfy.utils
import numpy as np
import torch
from comfy.audio_encoders import audio_encoders
from comfy_execution.graph_utils import ExecutionBlocker
from einops import rearrange
from torch import Tensor

from ...emo_model.acceleration.compile import compile_blocks
from ...emo_model.acceleration.cuda_graphs import CudaGraphs, capture_steps
from ...emo_model.acceleration.group_norm import use_own_group_norm
from ...emo_model.cache.keys import weights_of
from ...emo_model.checkpoints import load
from ...emo_model.config import ModelConfig, SamplingConfig
from ...emo_model.estimate import activation_bytes
from ...emo_model.inputs.vae import to_raw, to_scaled
from ...emo_model.inputs.vae_inversion import invert_decoder
from ...emo_model.models.emo import Emo
from ...emo_model.sampling.expression import DIALS
from ...emo_model.types import ReferenceFeatures
from ..conversions import frame_bytes
from .audio import BuiltInAudioEncoder
from .files import model_path, part_path
from .management import (
    Made,
    interruptible,
    is_out_of_memory,
    kernels_of,
    managed,
    or_smaller,
    patcher_of,
    to_intermediate,
)
from .portraits import PortraitVAE

GIB = 1024**3


@dataclass(frozen=True, eq=False)
class EmoModel:
    """An Emo and its ModelPatcher.

    compute: dtype of the computation, which may differ from that of storage; weights: a hash of all weights; graphs:
    used in place of `Emo.predict`, or None; sampling: the settings that the model's card recommends; vae and
    audio_encoder: the model's own or those chosen with it, None without one; file: the loader's option.
    """

    config: ModelConfig
    patcher: comfy.model_patcher.ModelPatcher
    compute: torch.dtype
    weights: str
    graphs: CudaGraphs | None = None
    sampling: SamplingConfig = SamplingConfig()
    vae: comfy.sd.VAE | None = None
    audio_encoder: object | None = None
    file: str = ""

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
        return cls(
            config,
            patcher,
            compute,
            weights_of(emo) + kernels_of(emo) + compiled * " compiled" + (graphs is not None) * " CUDA graphs",
            graphs,
        )

    @property
    def fingerprint(self) -> str:
        """Changes with the weights, including ComfyUI's patches."""
        return self.weights + (f" {self.patcher.patches_uuid}" if self.patcher.patches else "")

    @property
    def weight_bytes(self) -> int:
        return self.patcher.model_size()

    @property
    def device(self) -> torch.device:
        return self.patcher.load_device

    def run(self, work: Callable[[Emo, bool, int], Made], *, frames: int, fewer: int | None = None) -> Made:
        """work(emo, False, frames) with the Emo on its device; if memory runs out, work(emo, True, 2 * frames).

        The retry requests twice the memory, so ComfyUI offloads more weights; the work should evaluate sequentially.
        fewer: frames at a time of sequential work, which is chosen at once if `frames` do not fit beside all weights.
        """

        def attempt(is_short: bool) -> Made:
            with self.loaded(frames=frames, times=1 + is_short) as emo:
                if is_short or fewer is None or self.has_room(frames):
                    return work(emo, is_short, frames * (1 + is_short))
                logging.info(
                    "EMO: %.1f GiB do not fit beside all weights; guidance branches are evaluated one after the other",
                    self.activation_bytes(frames) / GIB,
                )
                management.load_models_gpu([self.patcher], memory_required=self.activation_bytes(fewer))
                return work(emo, True, fewer)

        return or_smaller(
            attempt, smaller="with more weights offloaded and guidance branches one after the other, which is slower"
        )

    def has_room(self, frames: int) -> bool:
        """Whether free memory suffices for `frames` frames at a time and the weights not yet on the device."""
        missing = max(0, self.patcher.model_size() - self.patcher.loaded_size())
        return management.get_free_memory(self.device) >= self.activation_bytes(frames) + missing

    @contextmanager
    def loaded(self, *, frames: int, times: int = 1) -> Iterator[Emo]:
        """The Emo on its device, with memory for `times` x `frames` frames at a time.

        Cancelling takes effect within a step. An out-of-memory error is raised again with the requested sizes and what
        to do.
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
                f"Out of memory on {self.device}: EMO '{self.config.name}' requested {needed / GIB:.1f} GiB beside its "
                f"weights ({self.patcher.model_size() / GIB:.1f} GiB, which may be offloaded) for {frames} frames of "
                f"{size}x{size}; {free / GIB:.1f} GiB were free. Close other programs, use a model with a smaller "
                "image size, or start ComfyUI with --reserve-vram 1, --novram (offload all weights) or "
                "--cpu."
            ) from error
        finally:
            if self.graphs is not None:
                self.graphs.forget()  # frees memory that ComfyUI does not track

    def read_portrait(self, latents: Tensor, identity: Tensor | None = None) -> ReferenceFeatures:
        """latents (1, C, h, w) scaled, identity (1, D) a face embedding or None -> reference features."""

        def read(emo: Emo, is_short: bool, room: int) -> ReferenceFeatures:
            return emo.encode_reference(latents.to(self.device, self.compute), identity).map(to_intermediate)

        return self.run(read, frames=2)  # the features take about as much again

    def reencoding(self, vae, *, frames: int) -> Callable[[Tensor], Tensor]:
        """A function that decodes and re-encodes motion frames (1, C, n, h, w) with any VAE; for use inside `loaded`.

        The VAE may displace the networks on the device, so they are loaded again with memory for `frames` frames.
        """

        def reencode(latents: Tensor) -> Tensor:
            pictures = vae.decode(rearrange(to_raw(latents, self.config), "1 c n h w -> n c h w"))
            reencoded = to_scaled(encode_picture(vae, pictures, self.config), self.config)
            management.load_models_gpu([self.patcher], memory_required=self.activation_bytes(frames))
            return rearrange(reencoded, "n c h w -> 1 c n h w").to(latents)

        return reencode

    def activation_bytes(self, frames: int) -> int:
        """Upper estimate of the memory of one evaluation beside the weights."""
        return activation_bytes(self.config, frames, self.compute.itemsize)


def load_model(
    name: str, *, compiled: bool = False, cuda_graphs: bool = False, parts: dict[str, str] | None = None
) -> tuple[EmoModel, object | ExecutionBlocker, comfy.sd.VAE | ExecutionBlocker]:
    """The parts of a checkpoint: EMO, AUDIO_ENCODER, VAE. A missing part blocks its users with a sentence about what to
    load instead.

    parts: files of the VAE ("vae") and of the audio encoder ("audio_encoders") in these folders of ComfyUI, for models
    without their own. Raises ValueError for a VAE beside a model that has one, and for a file that is none.
    """
    parts = parts or {}
    bundle = load.load_model(model_path(name))
    config = bundle.config
    if "vae" in parts and bundle.motion_decoder is not None:
        raise ValueError(
            f"Set 'vae_name' to \"model's own\": '{name}' has a decoder of its own and takes no other VAE."
        )
    emo = replace(
        EmoModel.of(bundle.emo, config, compiled=compiled, cuda_graphs=cuda_graphs),
        sampling=bundle.sampling,
        vae=_vae_of(parts) if bundle.motion_decoder is None else PortraitVAE(bundle.motion_decoder, config),
        audio_encoder=_audio_encoder_of(parts)
        or (None if bundle.audio_encoder is None else BuiltInAudioEncoder(bundle.audio_encoder)),
        file=name,
    )
    logging.info(
        "EMO '%s': %dx%d at %g fps, computes in %s on %s",
        config.name,
        config.image_size,
        config.image_size,
        config.fps,
        emo.compute,
        emo.device,
    )
    return (
        emo,
        emo.audio_encoder or ExecutionBlocker(_lacks_encoder(name)),
        emo.vae or ExecutionBlocker(_lacks_vae(name)),
    )


def _vae_of(parts: dict[str, str]) -> comfy.sd.VAE | None:
    if "vae" not in parts:
        return None
    weights, metadata = comfy.utils.load_torch_file(
        part_path("vae", parts["vae"]), safe_load=True, return_metadata=True
    )
    vae = comfy.sd.VAE(sd=weights, metadata=metadata)
    vae.throw_exception_if_invalid()
    return vae


def _audio_encoder_of(parts: dict[str, str]):
    if "audio_encoders" not in parts:
        return None
    name = parts["audio_encoders"]
    weights = comfy.utils.load_torch_file(part_path("audio_encoders", name), safe_load=True)
    encoder = audio_encoders.load_audio_encoder_from_sd(weights)
    if encoder is None:
        raise ValueError(f"Choose another 'audio_encoder_name': '{name}' is no audio encoder that ComfyUI knows.")
    return encoder


def own_vae(model: EmoModel) -> comfy.sd.VAE:
    """The model's own VAE. Raises ValueError for a model without one."""
    if model.vae is None:
        raise ValueError(_lacks_vae(model.file))
    return model.vae


def own_audio_encoder(model: EmoModel | None):
    """The model's own audio encoder. Raises ValueError for a model without one, and without a model."""
    if model is None:
        raise ValueError("Connect 'model' of 'Load EMO Model': its audio encoder encodes the voice.")
    if model.audio_encoder is None:
        raise ValueError(_lacks_encoder(model.file))
    return model.audio_encoder


def _lacks_vae(name: str) -> str:
    return (
        f"'{name}' contains no VAE. Choose that of Stable Diffusion 1.5 as 'vae_name' of 'Load EMO Model', or connect "
        "'Load VAE' to 'vae'."
    )


def _lacks_encoder(name: str) -> str:
    return (
        f"'{name}' contains no audio encoder. Choose the wav2vec2 model that it was trained with as "
        "'audio_encoder_name' of 'Load EMO Model', or connect core's audio encoder loader to 'audio_encoder'."
    )


def decode_blocks(vae, latents: Iterable[Tensor]) -> Iterator[np.ndarray]:
    """Decode blocks of unscaled latents (f, C, h, w) to blocks of frames (F, H, W, 3) uint8 with any VAE."""
    if isinstance(vae, PortraitVAE):
        yield from vae.blocks(latents)
    else:
        for block in latents:
            yield frame_bytes(decode(vae, block))


def decode(vae, latents: Tensor) -> Tensor:
    """Decode unscaled latents (F, C, h, w) to IMAGE (F, H, W, 3) with any VAE; frame by frame if memory runs out."""

    def attempt(is_short: bool) -> Tensor:
        return torch.cat([vae.decode(part) for part in latents.split(1 if is_short else len(latents))])

    return or_smaller(attempt, smaller="one frame at a time")


def encode_picture(vae, image: Tensor, config: ModelConfig) -> Tensor:
    """Encode IMAGE (B, H, W, 3) to unscaled latents. Raises ValueError if the VAE does not fit the model."""
    latents = vae.encode(image)
    expected = (config.latent_channels, config.latent_size, config.latent_size)
    if tuple(latents.shape[1:]) != expected:
        own = "the 'vae' output of 'EMO Reference Encoder'"
        remedy = own if config.motion_decoder else "the VAE of Stable Diffusion 1.5"
        raise ValueError(
            f"The VAE's latents are {tuple(latents.shape[1:])}, but EMO '{config.name}' needs {expected}. "
            f"Connect {remedy}."
        )
    return latents


def latents_of_frames(vae, latents: Tensor, frames: Tensor, config: ModelConfig) -> Tensor | None:
    """Scaled latents (faces, C, n, h, w) that a video carries -> those of the VAE's portrait (1, C, n, h, w), if they
    belong to the frames (n, H, W, 3), see `latents_match_frames`; else None.

    Of several faces it is the one whose latents come nearest to the frames in the square around the portrait's head.
    """
    if len(latents) > 1:
        if not (isinstance(vae, PortraitVAE) and all(_fits(own, frames, config) for own in latents.split(1))):
            return None

        def distance(own: Tensor) -> float:
            theirs = to_intermediate(decode(vae, rearrange(to_raw(own, config), "1 c n h w -> n c h w")))
            away = rearrange(theirs.to(frames) - frames, "n h w c -> n c h w")
            return vae.portrait.fit.inside(away).square().mean().item()

        latents = min(latents.split(1), key=distance)
    return latents if latents_match_frames(vae, latents, frames, config) else None


def latents_match_frames(vae, latents: Tensor, frames: Tensor, config: ModelConfig) -> bool:
    """Whether scaled latents (1, C, n, h, w), with or without dials, belong to these frames (n, H, W, 3), despite a
    lossy codec.

    They do if they decode to about the frames, measured against the error of a VAE round trip of the frames: at most
    1.25 times it for motion latents, 2.25 times for a picture VAE, whose round trip costs less than a codec may.
    """
    if not _fits(latents, frames, config):
        return False
    theirs = to_intermediate(decode(vae, rearrange(to_raw(latents, config), "1 c n h w -> n c h w")))
    again = to_intermediate(decode(vae, encode_picture(vae, frames, config)))
    off, usual = ((shown.to(frames) - frames).square().mean((1, 2, 3)) for shown in (theirs, again))
    return bool(off.mean().sqrt() <= (1.25 if isinstance(vae, PortraitVAE) else 2.25) * usual.mean().sqrt())


def _fits(latents: Tensor, frames: Tensor, config: ModelConfig) -> bool:
    """Whether latents are (1, C, n, h, w) of n frames and this model, with or without dials."""
    expected = (1, config.latent_channels, len(frames), config.latent_size, config.latent_size)
    return (
        latents.ndim == 5
        and tuple(latents[:, : config.latent_channels].shape) == expected
        and latents.shape[1] in (config.latent_channels, config.latent_channels + len(DIALS))
    )


def encode_decoded_frames(vae, frames: Tensor, config: ModelConfig) -> Tensor:
    """Latents of IMAGE (B, H, W, 3) that this VAE decoded earlier, unscaled; closer than `encode_picture`."""
    if isinstance(vae, PortraitVAE):
        return encode_picture(vae, frames, config)
    return invert_decoder(
        lambda image: encode_picture(vae, image, config), lambda samples: decode(vae, samples), to_intermediate(frames)
    )

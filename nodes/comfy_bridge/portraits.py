"""The motion decoder with the face of a VAE, bound to one portrait; and the face finder."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import replace

import comfy.model_management as management
import comfy.sd
import numpy as np
import torch
from torch import Tensor, nn

from ...emo_model.cache.keys import content_of
from ...emo_model.checkpoints.mediapipe import load_face_finder
from ...emo_model.config import ModelConfig
from ...emo_model.inputs.face import apply_fit
from ...emo_model.inputs.faces import Face, NoFaceError, choose_face
from ...emo_model.inputs.followed import motion_of_frames
from ...emo_model.inputs.vae import to_raw, to_scaled
from ...emo_model.models.motion_decoder import PATCH
from ...emo_model.outputs.portrait_decoder import AT_ONCE, PortraitDecoder
from ...emo_model.types import Portrait
from ..conversions import Framing
from .management import managed, patcher_of, stop_if_cancelled

PAINT = "Paint over the face with 'Open in MaskEditor' on 'Load Image' and connect its MASK to 'face'"
ALIVE = 40  # numbers at once, per cell and channel of the decoder's finest features and per pixel of the picture; generous


class PortraitVAE(comfy.sd.VAE):
    """The motion decoder as a VAE that core's nodes accept.

    Load EMO Model makes it without a portrait; it then neither decodes nor encodes. `bound` gives the one that does, for frames
    of the whole picture; both share the network and its ModelPatcher.
    """

    def __init__(self, decoder: nn.Module, config: ModelConfig):
        super().__init__(sd={"pixel_space_vae": torch.tensor(1.0)})  # all attributes that this ComfyUI knows; then our network
        self.made_for = config
        self.downscale_ratio = self.upscale_ratio = config.vae_factor
        self.latent_channels = config.latent_channels
        self.disable_offload = False
        self.size = None  # of the network in bytes; newer ComfyUI counts it again
        self.vae_dtype = management.vae_dtype(self.device, [torch.float32])
        self.first_stage_model = managed(decoder.to(self.vae_dtype))
        self.patcher = patcher_of(self.first_stage_model, self.device, management.vae_offload_device())
        self.picture: Tensor | None = None  # (1, 3, H, W) in [-1, 1]
        self.portrait: Portrait | None = None

    def bound(self, picture: Tensor, portrait: Portrait) -> PortraitVAE:
        """The VAE of one portrait. picture: (1, 3, H, W) in [-1, 1], the one that `portrait` was read from."""
        made = copy.copy(self)
        made.picture, made.portrait = picture, portrait
        return made

    @property
    def is_bound(self) -> bool:
        return self.portrait is not None

    @property
    def content(self) -> str:
        """A hash of the portrait; "" without one."""
        return content_of(self.picture) if self.is_bound else ""

    def blocks(self, latents: Iterable[Tensor]) -> Iterator[np.ndarray]:
        """Blocks of unscaled latents (f, C, h, w) -> blocks of frames of the whole picture (up to 8, H, W, 3) uint8.

        Raises ValueError without a portrait, and for latents of another kind.
        """
        self._check_bound("decode")
        management.load_models_gpu([self.patcher], memory_required=self._bytes())
        decoder = PortraitDecoder(self.first_stage_model, self.made_for, self.picture, self.portrait, device=self.device,
                                  dtype=self.vae_dtype)
        for block in latents:
            self._check_latents(block)
            for part in block.split(AT_ONCE):
                stop_if_cancelled()
                management.load_models_gpu([self.patcher], memory_required=self._bytes())  # other models may have come between
                yield decoder.decode(to_scaled(part.float().to(self.device), self.made_for))

    def decode(self, samples_in: Tensor, vae_options: dict | None = None) -> Tensor:
        """samples (F, C, h, w) unscaled -> IMAGE (F, H, W, 3)."""
        self._check_bound("decode")
        self._check_latents(samples_in)
        frames = torch.empty(len(samples_in), *self.picture.shape[2:], 3, device=self.output_device)
        done = 0
        for block in self.blocks([samples_in]):
            frames[done:done + len(block)] = torch.from_numpy(block).to(frames) / 255
            done += len(block)
        return frames

    def encode(self, pixel_samples: Tensor) -> Tensor:
        """IMAGE (F, H, W, C) of the whole picture, as large as the portrait's -> unscaled motion latents (F, C, h, w)."""
        self._check_bound("encode")
        height, width = self.picture.shape[2:]
        seen = tuple(pixel_samples.shape[1:3])
        if seen != (height, width):
            raise ValueError(f"Give frames of {width}x{height} pixels, the size of the portrait's picture: these are "
                             f"{seen[1]}x{seen[0]}.")
        frames = pixel_samples[..., :3].movedim(-1, 1).float().cpu() * 2 - 1
        latents = motion_of_frames(load_face_finder(), frames, self.portrait, self.made_for)
        return to_raw(latents, self.made_for).to(self.output_device)

    def decode_tiled(self, samples: Tensor, *_, **__) -> Tensor:
        """As `decode`, which takes little memory anyway."""
        return self.decode(samples)

    def encode_tiled(self, pixel_samples: Tensor, *_, **__) -> Tensor:
        return self.encode(pixel_samples)

    def _bytes(self) -> int:
        parts, size = self.made_for.motion_decoder, self.made_for.image_size
        network = AT_ONCE * parts.channels[0] * (size // PATCH) ** 2 + AT_ONCE * parts.mouth_channels * parts.mouth_cells**2 * 4
        return ALIVE * (network + self.picture[0, 0].numel()) * 4

    def _check_bound(self, what: str) -> None:
        if not self.is_bound:
            raise ValueError(f"Connect the 'vae' output of 'EMO Reference Encoder' instead: the VAE of 'Load EMO Model' does not "
                             f"know the portrait yet, without which it cannot {what}.")

    def _check_latents(self, latents: Tensor) -> None:
        config = self.made_for
        expected = (config.latent_channels, config.latent_size, config.latent_size)
        if tuple(latents.shape[1:]) != expected:
            raise ValueError(f"Connect the LATENT of 'EMO Clips To Latent': these latents are {tuple(latents.shape[1:])}, and "
                             f"the motion latents of EMO '{config.name}' are {expected}.")


def bind(vae, picture: Tensor, portrait: Portrait, config: ModelConfig) -> PortraitVAE:
    """The VAE of one portrait, from that of the model. Raises ValueError where `vae` is not of a model of this kind."""
    if not isinstance(vae, PortraitVAE) or _kind(vae.made_for) != _kind(config):
        raise ValueError("Connect the 'vae' output of the same 'Load EMO Model' to 'vae': EMO "
                         f"'{config.name}' moves the portrait's own pixels with a decoder of its own.")
    return vae.bound(picture, portrait)


def bound_to(vae, reference):
    """The VAE to use for `reference` (or None): the reference's own where there is none, or one that knows no portrait."""
    own = None if reference is None else reference.vae
    is_free = vae is None or (isinstance(vae, PortraitVAE) and not vae.is_bound)
    return own if is_free and isinstance(own, PortraitVAE) else vae


def knows_portrait(vae) -> bool:
    """Whether a VAE decodes to frames of the whole picture."""
    return isinstance(vae, PortraitVAE) and vae.is_bound


def framing(vae, reference, *, is_decoded: bool) -> Framing:
    """What frames show: those that `vae` decoded (is_decoded), or pictures that came as they are, of `reference` or None."""
    if is_decoded and knows_portrait(vae):
        return Framing(vae.portrait.fit, is_whole=True)
    if reference is None:
        return Framing()
    return Framing(reference.portrait.fit, reference.whole, None if knows_portrait(reference.vae) and not is_decoded else False)


def _kind(config: ModelConfig) -> tuple:
    return config.motion_decoder, config.latent_channels, config.latent_size, config.latent_scale, config.image_size


def face_of(pixels: Tensor, which: str, box: tuple[float, float, float, float] | None = None) -> tuple[Face, list[Face]]:
    """The face of a picture (1, 3, H, W) in [-1, 1] that is animated, and all that are in it.

    which: see `inputs.faces.choose_face`; box: left, top, right, bottom in pixels of what is taken for a face, whatever it is.
    Raises ValueError with what to do on the page.
    """
    finder = load_face_finder()
    if box is not None:
        face = finder.mesh_in(pixels, box)
        return face, [face]
    try:
        faces = finder.find(pixels)
        return choose_face(faces, which), faces
    except NoFaceError as error:
        raise ValueError(f"{PAINT}, or use another picture. {error}") from None
    except ValueError as error:
        raise ValueError(f"Set 'which_face' to another face: {error}.") from None


def mesh_of(reference) -> Tensor:
    """The face mesh (468, 3) in pixels of the fitted square, found where the model did not want one; the largest face of several.

    Raises ValueError with what to do on the page.
    """
    portrait, fit = reference.portrait, reference.portrait.fit
    if portrait.mesh is not None:
        return portrait.mesh
    picture = torch.from_numpy(reference.whole.still).permute(2, 0, 1)[None].float() / 127.5 - 1
    try:
        mesh = choose_face(load_face_finder().find(apply_fit(picture, replace(fit, size=fit.side)).clamp(-1, 1))).mesh
    except NoFaceError as error:
        raise ValueError(f"Set 'mode' to 'box' or 'mask'. {error}") from None
    return mesh * (fit.size / fit.side)

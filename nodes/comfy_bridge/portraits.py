"""The motion decoder with the interface of a VAE, bound to one portrait; and face detection."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import comfy.model_management as management
import comfy.sd
import numpy as np
import torch
from torch import Tensor, nn

from ...emo_model.auxiliary.motion_decoder import PATCH
from ...emo_model.cache.keys import content_of
from ...emo_model.checkpoints.mediapipe import load_face_finder
from ...emo_model.config import ModelConfig
from ...emo_model.inputs.face import apply_fit
from ...emo_model.inputs.faces import Face, NoFaceError, choose_face
from ...emo_model.inputs.media import to_uint8
from ...emo_model.inputs.motion_of_frames import motion_of_frames
from ...emo_model.inputs.portrait import find_faces
from ...emo_model.inputs.vae import to_raw, to_scaled
from ...emo_model.inputs.voice_schedule import LETTERS
from ...emo_model.outputs.portrait_decoder import AT_ONCE, PortraitDecoder
from ...emo_model.outputs.run_report import RunReport, WatchedFace
from ...emo_model.outputs.several_faces import GroupDecoder, in_step, last_in_step
from ...emo_model.sampling.expression import DIALS
from ...emo_model.types import Portrait
from ..conversions import Framing
from .management import managed, patcher_of, stop_if_cancelled

PAINT = "Paint over the face with 'Open in MaskEditor' on 'Load Image' and connect its MASK to 'face'"
EASING = 0.5  # seconds in which a face comes to rest whose voice ends before the others'
ALIVE = 40  # live floats per cell and channel of the finest features, and per pixel of the picture: an upper bound


class PortraitVAE(comfy.sd.VAE):
    """The motion decoder as a VAE for core's nodes.

    Load EMO Model returns it without a portrait; it then neither decodes nor encodes. `bound` returns a copy for one
    portrait, which decodes to frames of the whole picture; both share the network and its ModelPatcher.
    """

    def __init__(self, decoder: nn.Module, config: ModelConfig):
        super().__init__(sd={"pixel_space_vae": torch.tensor(1.0)})  # sets the attributes of this ComfyUI version
        self.made_for = config
        self.downscale_ratio = self.upscale_ratio = config.vae_factor
        self.latent_channels = config.latent_channels
        self.disable_offload = False
        self.size = None  # bytes of the network; newer ComfyUI computes it
        self.vae_dtype = management.vae_dtype(self.device, [torch.float32])
        self.first_stage_model = managed(decoder.to(self.vae_dtype))
        self.patcher = patcher_of(self.first_stage_model, self.device, management.vae_offload_device())
        self.picture: Tensor | None = None  # (1, 3, H, W) in [-1, 1]
        self.portrait: Portrait | None = None

    def bound(self, picture: Tensor, portrait: Portrait) -> PortraitVAE:
        """A copy for one portrait. picture: (1, 3, H, W) in [-1, 1], the one that `portrait` was cropped from."""
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

        Raises ValueError if unbound, and for latents of another shape.
        """
        self._check_bound("decode")
        management.load_models_gpu([self.patcher], memory_required=self._bytes())
        decoder = PortraitDecoder(
            self.first_stage_model, self.made_for, self.picture, self.portrait, device=self.device, dtype=self.vae_dtype
        )
        for block in latents:
            self._check_latents(block)
            for part in block.split(AT_ONCE):
                stop_if_cancelled()
                # again: other models may have been loaded in between
                management.load_models_gpu([self.patcher], memory_required=self._bytes())
                yield decoder.decode(to_scaled(part.float().to(self.device), self.made_for))

    def decode(self, samples_in: Tensor, vae_options: dict | None = None) -> Tensor:
        """samples (F, C, h, w) unscaled -> IMAGE (F, H, W, 3)."""
        self._check_bound("decode")
        self._check_latents(samples_in)
        frames = torch.empty(len(samples_in), *self.picture.shape[2:], 3, device=self.output_device)
        done = 0
        for block in self.blocks([samples_in]):
            frames[done : done + len(block)] = torch.from_numpy(block).to(frames) / 255
            done += len(block)
        return frames

    def encode(self, pixel_samples: Tensor) -> Tensor:
        """IMAGE (F, H, W, C) of the whole picture, at the portrait's size -> unscaled motion latents (F, C, h, w)."""
        self._check_bound("encode")
        height, width = self.picture.shape[2:]
        seen = tuple(pixel_samples.shape[1:3])
        if seen != (height, width):
            raise ValueError(
                f"Connect frames of {width}x{height} pixels, the size of the portrait's picture: these "
                f"are {seen[1]}x{seen[0]}."
            )
        frames = pixel_samples[..., :3].movedim(-1, 1).float().cpu() * 2 - 1
        latents = motion_of_frames(load_face_finder(), frames, self.portrait, self.made_for)
        return to_raw(latents, self.made_for).to(self.output_device)

    def decode_tiled(self, samples: Tensor, *_, **__) -> Tensor:
        """`decode`, whose memory is bounded already."""
        return self.decode(samples)

    def encode_tiled(self, pixel_samples: Tensor, *_, **__) -> Tensor:
        return self.encode(pixel_samples)

    def _bytes(self) -> int:
        parts, size = self.made_for.motion_decoder, self.made_for.image_size
        network = (
            AT_ONCE * parts.channels[0] * (size // PATCH) ** 2
            + AT_ONCE * parts.mouth_channels * parts.mouth_cells**2 * 4
        )
        return ALIVE * (network + self.picture[0, 0].numel()) * 4

    def _check_bound(self, what: str) -> None:
        if not self.is_bound:
            raise ValueError(
                "Connect the 'vae' output of 'EMO Reference Encoder' instead: the VAE of 'Load EMO Model' "
                f"is not bound to a portrait and cannot {what}."
            )

    def _check_latents(self, latents: Tensor) -> None:
        config = self.made_for
        expected = (config.latent_channels, config.latent_size, config.latent_size)
        with_dials = (config.latent_channels + len(DIALS), *expected[1:])
        if tuple(latents.shape[1:]) not in (expected, with_dials):
            of_whom = {4: " (Stable Diffusion's, of pictures)", 16: " (SD3's or FLUX's, of pictures)"}.get(
                latents.shape[1]
            )
            raise ValueError(
                "Connect the LATENT of 'EMO Clips To Latent', or decode with the VAE that these latents belong to and "
                f"connect 'images': they are {tuple(latents.shape[1:])}{of_whom or ''}, the motion latents of EMO "
                f"'{config.name}' are {expected}."
            )


def bind(vae, picture: Tensor, portrait: Portrait, config: ModelConfig) -> PortraitVAE:
    """The model's VAE bound to one portrait. Raises ValueError if `vae` does not belong to the model of `config`."""
    if not isinstance(vae, PortraitVAE) or _kind(vae.made_for) != _kind(config):
        raise ValueError(
            "Connect the 'vae' output of the same 'Load EMO Model', or disconnect 'vae': EMO "
            f"'{config.name}' has a decoder of its own, and the VAE at 'vae' is another."
        )
    return vae.bound(picture, portrait)


def resolve_vae(vae, reference):
    """`vae`, or the VAE of `reference` if `vae` is None or not bound to a portrait."""
    own = None if reference is None else reference.vae
    is_unbound = isinstance(vae, PortraitVAE) and not vae.is_bound
    return own if vae is None or (is_unbound and isinstance(own, PortraitVAE)) else vae


def decode_together(faces: Sequence, *, frames: int) -> Iterator[np.ndarray]:
    """Blocks of frames (up to 8, H, W, 3) uint8 of several faces of one picture, `frames` in all.

    faces: `FaceClips`; a face whose clips end earlier comes to rest. Raises ValueError for faces of different pictures.
    """
    vaes = [face.reference.vae for face in faces]
    patchers = list({id(vae.patcher): vae.patcher for vae in vaes}.values())
    needed = max(vae._bytes() for vae in vaes)
    management.load_models_gpu(patchers, memory_required=needed)
    fits = [vae.portrait.fit for vae in vaes]
    decoder = GroupDecoder(
        [
            PortraitDecoder(
                vae.first_stage_model,
                vae.made_for,
                vae.picture,
                vae.portrait,
                device=vae.device,
                dtype=vae.vae_dtype,
                others=[other for other in fits if other is not vae.portrait.fit],
            )
            for vae in vaes
        ]
    )
    easing = round(EASING * faces[0].clips.fps)
    rests = [vae.portrait.latents for vae in vaes]
    for latents in in_step([face.clips for face in faces], rests, frames=frames, easing=easing):
        stop_if_cancelled()
        management.load_models_gpu(patchers, memory_required=needed)
        yield decoder.decode([own.to(vae.device) for own, vae in zip(latents, vaes, strict=True)])


def last_together(faces: Sequence, *, frames: int) -> Tensor:
    """Scaled latents (faces, C, n, h, w) of the last frames that `decode_together` decodes, for `EMO Continue From`."""
    clips = [face.clips for face in faces]
    count = clips[0].config.motion_frames
    return last_in_step(
        [one.last(min(one.frames, count), with_dials=True) for one in clips],
        [face.reference.vae.portrait.latents for face in faces],
        gaps=[frames - one.frames for one in clips],
        count=count,
        easing=round(EASING * clips[0].fps),
    )


def is_bound(vae) -> bool:
    """Whether a VAE decodes to frames of the whole picture."""
    return isinstance(vae, PortraitVAE) and vae.is_bound


def watch(decoded: Sequence[tuple], *, fps: float) -> RunReport | None:
    """What reads the frames of (VAE, clips or None) of each face; None without any, and for VAEs without a portrait."""
    if not decoded or not all(is_bound(vae) for vae, _ in decoded):
        return None
    faces = {
        letter: WatchedFace.of(vae.portrait, None if clips is None else clips.heard)
        for letter, (vae, clips) in zip(LETTERS, decoded, strict=False)
    }
    return RunReport(load_face_finder(), to_uint8(decoded[0][0].picture)[0], faces, fps=fps)


def framing(vae, reference, *, is_decoded: bool) -> Framing:
    """What frames show: decoded by `vae` (is_decoded), or given images; reference: their portrait, if known."""
    if is_decoded and is_bound(vae):
        return Framing(vae.portrait.fit, is_whole=True)
    if reference is None:
        return Framing()
    return Framing(
        reference.portrait.fit, reference.whole, None if is_bound(reference.vae) and not is_decoded else False
    )


def _kind(config: ModelConfig) -> tuple:
    return config.motion_decoder, config.latent_channels, config.latent_size, config.latent_scale, config.image_size


def face_of(
    pixels: Tensor, which: str, box: tuple[float, float, float, float] | None = None
) -> tuple[Face, list[Face]]:
    """The face to animate in a picture (1, 3, H, W) in [-1, 1], and all detected ones.

    which: see `inputs.faces.choose_face`; box: left, top, right, bottom in pixels of a region that is used as the face
    without detection. Raises ValueError that names the input to change.
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


def faces_of(pixels: Tensor, boxes: Sequence[tuple] | None = None) -> dict[str, Face]:
    """The faces of a picture (1, 3, H, W) in [-1, 1] by letter, from the left; in `boxes` in the order of these.

    Raises ValueError that names the input to change.
    """
    try:
        return find_faces(load_face_finder(), pixels, boxes)
    except NoFaceError as error:
        raise ValueError(f"Connect 'masks' with a mask for each face, or use another picture. {error}") from None
    except ValueError as error:
        raise ValueError(f"Connect other 'masks' or 'boxes': {error}.") from None


def mesh_of(reference) -> Tensor:
    """The face mesh (468, 3) in pixels of the cropped square; detected (largest face) if the reference has none.

    Raises ValueError that names the input to change.
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

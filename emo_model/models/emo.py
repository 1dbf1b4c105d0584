"""The parts of EMO together (arXiv 2402.17485, figure 2): encode the portrait, prepare a clip, predict its noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import ModelConfig
from ..types import ClipConditions, MotionFrames, ReferenceFeatures
from .audio_projection import AudioProjection, WindowProjection
from .context import CachedContext, Context
from .face_locator import FaceLocator
from .identity_projection import IdentityProjection
from .speed_layers import SpeedLayers
from .unet import Backbone, ReferenceNet


class LocatedFace(NamedTuple):
    """A face mask after encoding: features (B, C, 1, h, w); for Hallo regions (B, 3, N) by level."""

    features: Tensor
    regions: tuple[Tensor, ...]


class Emo(nn.Module):
    """Reference net, backbone, face locator, audio projection and speed layers of one model.

    Hallo's has no speed layers, but identity tokens. Runs on the device and in the dtype of its inputs; moves nothing.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.reference_net = ReferenceNet(config)
        self.backbone = Backbone(config)
        self.face_locator = FaceLocator(config)
        self.audio_projection = WindowProjection(config) if config.hallo else AudioProjection(config)
        self.speed_layers = SpeedLayers(config) if config.speed_centres else None
        self.identity_projection = IdentityProjection(config) if config.hallo else None
        cells = (config.latent_size, config.latent_size)
        shapes = torch.zeros(config.latent_channels, config.noise_shapes, *cells) if config.noise_shapes else None
        self.register_buffer("noise_shapes", shapes)  # of the noise in training, see sampling/noise.py; None: white

    def encode_reference(self, portrait: Tensor, identity: Tensor | None = None) -> ReferenceFeatures:
        """portrait (B, C, h, w) scaled latents -> features (B, N, C) by layer.

        identity (B, D): the face embedding, for models with identity tokens; None: unknown, as zeros.
        Differs from EMO: the portrait is encoded once per video, not once per clip together with the motion frames.
        """
        size = (self.config.latent_channels, self.config.latent_size, self.config.latent_size)
        if tuple(portrait.shape[1:]) != size:
            raise ValueError(
                f"the portrait's latents are {tuple(portrait.shape[1:])}, model '{self.config.name}' "
                f"needs {size}: encode the portrait with the VAE that belongs to this model, at its size"
            )
        if self.identity_projection is None:
            return ReferenceFeatures(self.reference_net(portrait))
        no_face = portrait.new_zeros(len(portrait), self.config.hallo.identity_width)
        face = no_face if identity is None else identity.to(portrait)
        if face.shape != no_face.shape:
            raise ValueError(
                f"the face embedding is {tuple(face.shape)}, model '{self.config.name}' needs {tuple(no_face.shape)}: "
                "use the face recogniser that the model was trained with, or none"
            )
        tokens = self.identity_projection(torch.cat([no_face, face]))  # (2 B, M, D)
        return self._encode_with_identity(portrait, rearrange(tokens, "(two b) m d -> b two m d", two=2))

    def encode_motion(self, motion: MotionFrames, *, like: ReferenceFeatures) -> ReferenceFeatures:
        """Features (B, n, N, C) of the motion frames by layer; `like` are the portrait's.

        Before the first clip: zero maps, or (Hallo) the portrait n times.
        """
        count = self.config.motion_frames
        if motion.latents is None and self.config.hallo is None:
            return like.map(lambda x: x.new_zeros(len(x), count, *x.shape[1:]))
        if motion.latents is None:
            return replace(like, identity=None).map(lambda x: x[:, None].expand(-1, count, -1, -1))
        if motion.latents.shape[2] != count:
            raise ValueError(f"{motion.latents.shape[2]} motion frames given, this model was built for {count}")
        pictures = rearrange(motion.latents, "b c m h w -> (b m) c h w")
        if self.identity_projection is None:
            features = ReferenceFeatures(self.reference_net(pictures))
        else:
            tokens = like.identity.repeat_interleave(count, dim=0)
            features = replace(self._encode_with_identity(pictures, tokens), identity=None)
        return features.map(lambda x: rearrange(x, "(b m) n c -> b m n c", m=count))

    def _encode_with_identity(self, pictures: Tensor, identity: Tensor) -> ReferenceFeatures:
        """pictures (B, C, h, w) encoded with both of their identity tokens (B, 2, M, D): no face's, the portrait's."""
        no_face, face = identity.unbind(1)
        return ReferenceFeatures(self.reference_net(pictures, face), self.reference_net(pictures, no_face), identity)

    def locate_face(self, mask: Tensor, regions: Tensor | None, *, like: ReferenceFeatures) -> LocatedFace:
        """mask (B, 1, H, W) and regions (B, 3, h, w) of a `FaceMask`; `like` are the portrait's features.

        The mask may have as many channels as the face locator (Hallo's own picture).
        """
        like = next(iter(like.features.values()))
        features = self.face_locator(mask.to(like))[:, :, None]
        if regions is None:
            return LocatedFace(features, ())
        regions, sizes = regions.to(like), [self.config.latent_size]
        while len(sizes) < len(self.config.channels):
            sizes.append((sizes[-1] + 1) // 2)
        levels = (F.interpolate(regions.float(), size=(n, n), mode="bilinear", antialias=True) for n in sizes)
        return LocatedFace(features, tuple(level.flatten(2).to(like) for level in levels))

    def prepare(
        self,
        reference: ReferenceFeatures,
        motion: ReferenceFeatures | None,
        clip: ClipConditions,
        *,
        face: LocatedFace | None = None,
        region_weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> Context:
        """The conditions of a clip; face: of `locate_face`, if known; region_weights: see `SamplingConfig`."""
        face = self.locate_face(clip.face_mask, clip.regions, like=reference) if face is None else face
        device, dtype = face.features.device, face.features.dtype
        speed = None if self.speed_layers is None else self.speed_layers(clip.speed.to(device), dtype=dtype)
        audio = self.audio_projection(clip.audio.to(device, dtype))
        context = Context(reference, motion, audio, speed, face.features, reference.identity)
        if self.config.hallo is None:
            return context
        if not face.regions:
            raise ValueError(
                f"model '{self.config.name}' needs the regions of pose, face and lips: give a face mask with regions "
                "(in ComfyUI: connect 'EMO Face Mask Builder' to 'face_mask')"
            )
        weights = torch.tensor(region_weights, device=device, dtype=dtype)
        return replace(context, regions=face.regions, region_weights=weights)

    def cache(self, context: Context) -> CachedContext:
        """Keys and values of the context in every layer, computed once for all denoising steps."""
        face = None if context.face is None else context.face[:, :, 0]
        return CachedContext(self.backbone.cache(context), face, context.regions, context.region_weights)

    def embed_timesteps(self, timesteps: Sequence[int], like: Tensor) -> Tensor:
        """The embeddings of all steps, (S, T); a row is the `timestep` of `predict`."""
        return self.backbone.embed_timesteps(torch.tensor(timesteps, device=like.device), like)

    def predict(self, noisy: Tensor, timestep: Tensor, context: Context | CachedContext) -> Tensor:
        """noisy (B, C, F, h, w), timestep (B,) -> the prediction (noise or velocity: config.prediction).

        timestep: or (1, T), its row of `embed_timesteps`.
        """
        cached = context if isinstance(context, CachedContext) else self.cache(context)
        face = cached.face
        if face is not None and self.config.hallo is None:
            noisy, face = noisy + face[:, :, None], None
        return self.backbone(
            noisy, timestep, cached.layers, face=face, regions=cached.regions, region_weights=cached.region_weights
        )

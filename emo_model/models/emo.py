"""The parts of EMO together (arXiv 2402.17485, figure 2): read the portrait, prepare a clip, predict its noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import ModelConfig
from ..types import ClipConditions, MotionFrames, ReferenceFeatures
from .audio_projection import AudioProjection, WindowProjection
from .backbone import Backbone
from .face_locator import FaceLocator
from .identity_projection import IdentityProjection
from .reference_net import ReferenceNet
from .speed_layers import SpeedLayers


@dataclass(frozen=True, eq=False)
class Context:
    """What every denoising step of a clip reads; parts that are None are skipped (see Backbone).

    reference and motion: features by layer; audio: (B, F, M, D) tokens; speed: (B, F, D); face: (B, C, 1, h, w), added to the
    noise. For Hallo: identity (B, 2, M, D), the tokens of nobody and of who is shown; regions (B, 3, N) by level; region_weights
    (3,).
    """

    reference: ReferenceFeatures | None
    motion: ReferenceFeatures | None
    audio: Tensor | None
    speed: Tensor | None
    face: Tensor
    identity: Tensor | None = None
    regions: tuple[Tensor, ...] = ()
    region_weights: Tensor | None = None

    def without_audio(self) -> Context:
        """The unconditional half of audio guidance: silent tokens are zeros."""
        return replace(self, audio=torch.zeros_like(self.audio))

    def without_reference(self) -> Context:
        """The unconditional half of reference guidance: a portrait of zeros.

        Hallo's has none at all, no face mask, and motion frames that are read as nobody's.
        """
        if self.identity is None:
            return replace(self, reference=self.reference.map(torch.zeros_like))
        motion = None if self.motion is None else ReferenceFeatures(self.motion.nobody)
        return replace(self, reference=None, motion=motion, face=torch.zeros_like(self.face), identity=self.identity.flip(1))


class Emo(nn.Module):
    """Reference net, backbone, face locator, audio projection and speed layers of one model (Hallo: no speed, identity tokens).

    Runs on the device and in the dtype of what it is given; moves nothing.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.reference_net = ReferenceNet(config)
        self.backbone = Backbone(config)
        self.face_locator = FaceLocator(config)
        self.audio_projection = WindowProjection(config) if config.audio_tokens else AudioProjection(config)
        self.speed_layers = SpeedLayers(config) if config.speed_centres else None
        self.identity_projection = IdentityProjection(config) if config.identity_tokens else None

    def encode_reference(self, portrait: Tensor, identity: Tensor | None = None) -> ReferenceFeatures:
        """portrait (B, C, h, w) scaled latents -> features (B, N, C) by layer.

        identity (B, D): the face embedding, for models with identity tokens; None is nobody's.
        Differs from EMO: the portrait is read once per video, not once per clip together with the motion frames.
        """
        size = (self.config.latent_channels, self.config.latent_size, self.config.latent_size)
        if tuple(portrait.shape[1:]) != size:
            raise ValueError(f"the portrait's latents are {tuple(portrait.shape[1:])}, model '{self.config.name}' needs {size}: "
                             "encode the portrait with the VAE that belongs to this model, at its size")
        if self.identity_projection is None:
            return ReferenceFeatures(self.reference_net(portrait))
        nobody = portrait.new_zeros(len(portrait), self.config.identity_width)
        shown = nobody if identity is None else identity.to(portrait)
        if shown.shape != nobody.shape:
            raise ValueError(f"the face embedding is {tuple(shown.shape)}, model '{self.config.name}' needs "
                             f"{tuple(nobody.shape)}: use the face recogniser that the model was trained with, or none")
        tokens = self.identity_projection(torch.cat([nobody, shown]))  # (2 B, M, D)
        return self._read_as(portrait, rearrange(tokens, "(who b) m d -> b who m d", who=2))

    def encode_motion(self, motion: MotionFrames, *, like: ReferenceFeatures) -> ReferenceFeatures:
        """Features (B, n, N, C) of the motion frames by layer; `like` are the portrait's.

        Before the first clip: zero maps, or the portrait n times, as config.first_motion_frames says.
        """
        count = self.config.motion_frames
        if motion.latents is None and self.config.first_motion_frames == "zeros":
            return like.map(lambda x: x.new_zeros(len(x), count, *x.shape[1:]))
        if motion.latents is None:
            return replace(like, identity=None).map(lambda x: x[:, None].expand(-1, count, -1, -1))
        if motion.latents.shape[2] != count:
            raise ValueError(f"{motion.latents.shape[2]} motion frames given, this model was built for {count}")
        pictures = rearrange(motion.latents, "b c m h w -> (b m) c h w")
        if self.identity_projection is None:
            features = ReferenceFeatures(self.reference_net(pictures))
        else:
            features = replace(self._read_as(pictures, like.identity.repeat_interleave(count, dim=0)), identity=None)
        return features.map(lambda x: rearrange(x, "(b m) n c -> b m n c", m=count))

    def _read_as(self, pictures: Tensor, identity: Tensor) -> ReferenceFeatures:
        """pictures (B, C, h, w) read with both of their identity tokens (B, 2, M, D): as nobody's and as who is shown."""
        nobody, shown = identity.unbind(1)
        return ReferenceFeatures(self.reference_net(pictures, shown), self.reference_net(pictures, nobody), identity)

    def prepare(self, reference: ReferenceFeatures, motion: ReferenceFeatures | None, clip: ClipConditions) -> Context:
        """Everything that stays the same over the denoising steps of a clip."""
        like = next(iter(reference.features.values()))
        device, dtype = like.device, like.dtype
        context = Context(reference, motion,
                          self.audio_projection(clip.audio.to(device, dtype)),
                          None if self.speed_layers is None else self.speed_layers(clip.speed.to(device), dtype=dtype),
                          self.face_locator(clip.face_mask.to(device, dtype))[:, :, None], reference.identity)
        if not self.config.audio_transformers:
            return context
        if clip.regions is None:
            raise ValueError(f"model '{self.config.name}' moves pose, face and lips apart and needs to know where they are: give "
                             "the face mask with its regions (in ComfyUI: connect 'EMO Face Mask Builder' to 'face_mask')")
        return replace(context, regions=self._region_levels(clip.regions.to(device, dtype)),
                       region_weights=torch.tensor(clip.region_weights, device=device, dtype=dtype))

    def _region_levels(self, regions: Tensor) -> tuple[Tensor, ...]:
        """regions (B, 3, h, w) -> (B, 3, N) at the size of each level of the backbone."""
        sizes = [self.config.latent_size]
        while len(sizes) < len(self.config.channels):
            sizes.append((sizes[-1] + 1) // 2)
        return tuple(F.interpolate(regions.float(), size=(size, size), mode="bilinear", antialias=True).flatten(2).to(regions)
                     for size in sizes)

    def predict(self, noisy: Tensor, timestep: Tensor, context: Context) -> Tensor:
        """noisy (B, C, F, h, w), timestep (B,) -> the model's prediction (noise or velocity, as config.prediction says)."""
        face = context.face
        if not self.config.face_after_conv_in:
            noisy, face = noisy + face, None
        return self.backbone(noisy, timestep, reference=None if context.reference is None else context.reference.features,
                             motion=None if context.motion is None else context.motion.features,
                             audio=context.audio, speed=context.speed, face=face,
                             identity=None if context.identity is None else context.identity[:, 1],
                             regions=context.regions, region_weights=context.region_weights)

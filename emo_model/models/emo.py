"""The parts of EMO together (arXiv 2402.17485, figure 2): read the portrait, prepare a clip, predict its noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor, nn

from ..config import ModelConfig
from ..types import ClipConditions, MotionFrames, ReferenceFeatures
from .audio_projection import AudioProjection
from .backbone import Backbone
from .face_locator import FaceLocator
from .reference_net import ReferenceNet
from .speed_layers import SpeedLayers


@dataclass(frozen=True, eq=False)
class Context:
    """What every denoising step of a clip reads; parts that are None are skipped (see Backbone).

    reference and motion: features by layer; audio: (B, F, M, D) tokens; speed: (B, F, D); face: (B, C, 1, h, w), added to the noise.
    """

    reference: ReferenceFeatures
    motion: ReferenceFeatures | None
    audio: Tensor | None
    speed: Tensor | None
    face: Tensor

    def without_audio(self) -> Context:
        """The unconditional half of audio guidance: silent tokens are zeros."""
        return replace(self, audio=torch.zeros_like(self.audio))

    def without_reference(self) -> Context:
        """The unconditional half of reference guidance: a portrait of zeros."""
        return replace(self, reference=ReferenceFeatures({name: torch.zeros_like(x) for name, x in self.reference.features.items()}))


class Emo(nn.Module):
    """Reference net, backbone, face locator, audio projection and speed layers of one model.

    Runs on the device and in the dtype of what it is given; moves nothing.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.reference_net = ReferenceNet(config)
        self.backbone = Backbone(config)
        self.face_locator = FaceLocator(config)
        self.audio_projection = AudioProjection(config)
        self.speed_layers = SpeedLayers(config)

    def encode_reference(self, portrait: Tensor) -> ReferenceFeatures:
        """portrait (B, C, h, w) scaled latents -> features (B, N, C) by layer.

        Differs from EMO: the portrait is read once per video, not once per clip together with the motion frames.
        """
        size = (self.config.latent_channels, self.config.latent_size, self.config.latent_size)
        if tuple(portrait.shape[1:]) != size:
            raise ValueError(f"the portrait's latents are {tuple(portrait.shape[1:])}, model '{self.config.name}' needs {size}: "
                             "encode the portrait with the VAE that belongs to this model, at its size")
        return ReferenceFeatures(self.reference_net(portrait))

    def encode_motion(self, motion: MotionFrames, *, like: ReferenceFeatures) -> ReferenceFeatures:
        """Features (B, n, N, C) of the motion frames by layer; zero maps, shaped after `like`, for the first clip."""
        count = self.config.motion_frames
        if motion.latents is None:
            return ReferenceFeatures({name: x.new_zeros(len(x), count, *x.shape[1:]) for name, x in like.features.items()})
        if motion.latents.shape[2] != count:
            raise ValueError(f"{motion.latents.shape[2]} motion frames given, this model was built for {count}")
        features = self.reference_net(rearrange(motion.latents, "b c m h w -> (b m) c h w"))
        return ReferenceFeatures({name: rearrange(x, "(b m) n c -> b m n c", m=count) for name, x in features.items()})

    def prepare(self, reference: ReferenceFeatures, motion: ReferenceFeatures | None, clip: ClipConditions) -> Context:
        """Everything that stays the same over the denoising steps of a clip."""
        like = next(iter(reference.features.values()))
        device, dtype = like.device, like.dtype
        return Context(reference, motion,
                       self.audio_projection(clip.audio.to(device, dtype)),
                       self.speed_layers(clip.speed.to(device), dtype=dtype),
                       self.face_locator(clip.face_mask.to(device, dtype))[:, :, None])

    def predict(self, noisy: Tensor, timestep: Tensor, context: Context) -> Tensor:
        """noisy (B, C, F, h, w), timestep (B,) -> the model's prediction (noise or velocity, as config.prediction says)."""
        return self.backbone(noisy + context.face, timestep, reference=context.reference.features,
                             motion=None if context.motion is None else context.motion.features,
                             audio=context.audio, speed=context.speed)

"""The parts of EMO together (arXiv 2402.17485, figure 2): read the portrait, prepare a clip, predict its noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import ModelConfig
from ..types import ClipConditions, FaceMask, MotionFrames, ReferenceFeatures
from .audio_projection import AudioProjection, WindowProjection
from .backbone import Backbone
from .context import Context, Projected, Scene, project
from .face_locator import FaceLocator
from .identity_projection import IdentityProjection
from .reference_net import ReferenceNet
from .speed_layers import SpeedLayers
from .unet import Inner


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
        self.audio_projection = WindowProjection(config) if config.hallo else AudioProjection(config)
        self.speed_layers = SpeedLayers(config) if config.speed_centres else None
        self.identity_projection = IdentityProjection(config) if config.hallo else None
        cells = (config.latent_size, config.latent_size)
        shapes = torch.zeros(config.latent_channels, config.noise_shapes, *cells) if config.noise_shapes else None
        self.register_buffer("noise_shapes", shapes)  # of the noise that it was trained on, see sampling/noise.py; None: white

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
        nobody = portrait.new_zeros(len(portrait), self.config.hallo.identity_width)
        shown = nobody if identity is None else identity.to(portrait)
        if shown.shape != nobody.shape:
            raise ValueError(f"the face embedding is {tuple(shown.shape)}, model '{self.config.name}' needs "
                             f"{tuple(nobody.shape)}: use the face recogniser that the model was trained with, or none")
        tokens = self.identity_projection(torch.cat([nobody, shown]))  # (2 B, M, D)
        return self._read_as(portrait, rearrange(tokens, "(who b) m d -> b who m d", who=2))

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
            features = replace(self._read_as(pictures, like.identity.repeat_interleave(count, dim=0)), identity=None)
        return features.map(lambda x: rearrange(x, "(b m) n c -> b m n c", m=count))

    def _read_as(self, pictures: Tensor, identity: Tensor) -> ReferenceFeatures:
        """pictures (B, C, h, w) read with both of their identity tokens (B, 2, M, D): as nobody's and as who is shown."""
        nobody, shown = identity.unbind(1)
        return ReferenceFeatures(self.reference_net(pictures, shown), self.reference_net(pictures, nobody), identity)

    def settle(self, reference: ReferenceFeatures, face_mask: FaceMask) -> Scene:
        """What stays the same over a video, or as long as its face mask does; `reference` are the portrait's features."""
        project = self.backbone.project_reference
        seen = replace(reference, features=project(reference.features),
                       nobody=None if reference.nobody is None else project(reference.nobody))
        return Scene(seen, *self._place_face(face_mask.mask, face_mask.regions, like=next(iter(reference.features.values()))))

    def move_face(self, scene: Scene, face_mask: FaceMask) -> Scene:
        """The scene under another face mask."""
        return Scene(scene.reference, *self._place_face(face_mask.mask, face_mask.regions, like=scene.face))

    def hear(self, windows: Tensor) -> Tensor:
        """windows (B, F, K, L, D) around the frames of clips -> the tokens that audio-attention reads, (B, F, M, width)."""
        return self.audio_projection(windows)

    def prepare(self, scene: Scene | ReferenceFeatures, motion: ReferenceFeatures | None, clip: ClipConditions, *,
                tokens: Tensor | None = None) -> Context:
        """Everything that stays the same over the denoising steps of a clip; of a video's only clip, the portrait will do.

        tokens: what `hear` makes of the clip's windows, if that was done before, for many clips at once.
        """
        if isinstance(scene, ReferenceFeatures):
            like = next(iter(scene.features.values()))
            scene = Scene(scene, *self._place_face(clip.face_mask, clip.regions, like=like))
        device, dtype = scene.face.device, scene.face.dtype
        context = Context(scene.reference, motion, self.hear(clip.audio.to(device, dtype)) if tokens is None else tokens,
                          None if self.speed_layers is None else self.speed_layers(clip.speed.to(device), dtype=dtype),
                          scene.face, scene.reference.identity)
        if self.config.hallo is None:
            return context
        if not scene.regions:
            raise ValueError(f"model '{self.config.name}' moves pose, face and lips apart and needs to know where they are: give "
                             "the face mask with its regions (in ComfyUI: connect 'EMO Face Mask Builder' to 'face_mask')")
        weights = torch.tensor(clip.region_weights, device=device, dtype=dtype)
        return replace(context, regions=scene.regions, region_weights=weights)

    def _place_face(self, mask: Tensor, regions: Tensor | None, *, like: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """`face` and `regions` of a scene. mask: of one channel, or of as many as the face locator has (Hallo's own picture)."""
        return self._locate(mask, like), () if regions is None else self._region_levels(regions.to(like))

    def _locate(self, mask: Tensor, like: Tensor) -> Tensor:
        """mask (B, 1, H, W) -> (B, C, 1, h, w)."""
        return self.face_locator(mask.to(like))[:, :, None]

    def _region_levels(self, regions: Tensor) -> tuple[Tensor, ...]:
        """regions (B, 3, h, w) -> (B, 3, N) at the size of each level of the backbone."""
        sizes = [self.config.latent_size]
        while len(sizes) < len(self.config.channels):
            sizes.append((sizes[-1] + 1) // 2)
        return tuple(F.interpolate(regions.float(), size=(size, size), mode="bilinear", antialias=True).flatten(2).to(regions)
                     for size in sizes)

    def project(self, *contexts: Context) -> Projected:
        """Contexts of one clip as the backbone's layers read them; several are groups of a batch, to be evaluated together."""
        return project(self.backbone, contexts)

    def project_time(self, timesteps: Sequence[int], like: Context | Scene) -> Tensor:
        """The timesteps of all steps at once: (S, T), of which a row is a step's `timestep` in `predict`."""
        return self.backbone.project_time(torch.tensor(timesteps, device=like.face.device), like.face)

    def predict(self, noisy: Tensor, timestep: Tensor, context: Context | Projected, *, inner: Inner | None = None) -> Tensor:
        """noisy (B, C, F, h, w), timestep (B,) -> the model's prediction (noise or velocity, as config.prediction says).

        timestep: or (1, T), its row of `project_time`.
        Of a context that was projected from several, (G B, C, F, h, w): what each of them says about the same noisy latents.
        inner: keeps, or spares, what the coarser levels say (see `UNet.walk`).
        """
        ready = context if isinstance(context, Projected) else self.project(context)
        face = ready.face
        if self.config.hallo is None:
            noisy, face = noisy + face[:, :, None], None
        return self.backbone(noisy, timestep, ready.layers, face=face, regions=ready.regions,
                             region_weights=ready.region_weights, inner=inner)

"""Backbone: the denoising UNet with reference-attention, audio-attention and temporal modules (EMO, 'Backbone Network')."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import ModelConfig
from .audio_transformer import AudioTransformer
from .blocks import Look, SpatialTransformer
from .group_norm import GroupNorm
from .seen import Answer, KeysValues, Seen, Zeros, into, look, per_frame
from .temporal import TemporalModule
from .unet import Beside, Inner, UNet


class ReferenceAddition(nn.Module):
    """Adds the portrait's features of the same cell; nothing at first (zero weights)."""

    def __init__(self, channels: int):
        super().__init__()
        self.proj = nn.Linear(channels, channels)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def project(self, reference: Tensor | Zeros, *, like: Tensor | None = None) -> Answer:
        """What is added for features (B, N, C) of the portrait, or for `ZEROS`, then as `like` is."""
        if isinstance(reference, Zeros):
            reference = like.new_zeros(1, 1, self.proj.in_features)
        return Answer(self.proj(reference))

    def forward(self, x: Tensor, reference: Tensor | Answer) -> Tensor:
        """x (B F, C, H, W), which is written into, reference (B, N, C), projected or not -> x (B F, C, H, W)."""
        answer = (reference if isinstance(reference, Answer) else self.project(reference)).answer
        height = 1 if answer.shape[1] == 1 else x.shape[-2]
        return into(x, per_frame(rearrange(answer, "b (h w) c -> b c h w", h=height), len(x)))


class Backbone(UNet):
    """EMO leaves open: how levels without attention see the portrait. Ours do not, or, with config.reference_addition, add the
    reference net's features of the same cell: heads move little, so most of a picture lies where it lies in the portrait.
    """

    def __init__(self, config: ModelConfig):
        audio_module = (lambda channels, width: AudioTransformer(config, channels, width)) if config.hallo else None
        super().__init__(config, attention=lambda channels: SpatialTransformer(config, channels, is_backbone=True),
                         motion_module=lambda channels: TemporalModule(config, channels), audio_module=audio_module)
        self.reference_additions = nn.ModuleDict()
        if config.reference_addition:
            levels = list(zip(config.channels, config.attention_levels, strict=True))
            for kind, order, layers in (("down", levels, config.layers_per_block),
                                        ("up", levels[::-1], config.layers_per_block + 1)):
                self.reference_additions.update({
                    f"{kind}_blocks_{level}_resnets_{index}": ReferenceAddition(width)
                    for level, (width, has_attention) in enumerate(order) if not has_attention for index in range(layers)})
        self.conv_norm_out = GroupNorm(config.norm_groups, config.channels[0], eps=1e-5)
        self.conv_out = nn.Conv2d(config.channels[0], config.latent_channels, 3, padding=1)

    def addition(self, name: str) -> ReferenceAddition | None:
        """What adds the portrait's features at the place of that name."""
        return self.reference_additions[name.replace(".", "_")] if name.replace(".", "_") in self.reference_additions else None

    def project_reference(self, features: dict[str, Tensor]) -> dict[str, KeysValues | Answer]:
        """The portrait's features {name: (B, N, C)} as the layers read them: keys and values, or what is added."""
        readers = {name: beside.attention or self.addition(name) for name, beside in self.places()}
        return {name: reader.project(features[name]) for name, reader in readers.items() if reader is not None}

    def forward(self, noisy: Tensor, timestep: Tensor, seen: dict[str, Seen], *, face: Look = None,
                regions: tuple[Tensor, ...] = (), region_weights: Tensor | None = None, inner: Inner | None = None) -> Tensor:
        """noisy (B, C, F, H, W), timestep (B,) -> prediction (G B, C, F, H, W), of groups if what is `seen` has any.

        timestep: or what `project_time` made of it, (1 or B, T), which saves doing so in each step.
        seen: what each layer looks at, by its name; what is None is skipped: EMO's first stage trains on single frames, without
        motion, voice or speed. For Hallo: face (B, C0, H, W) joins the features of the first convolution; regions (B, 3, N) by
        level and region_weights (3,) for the audio modules. inner: see `UNet.walk`.
        """
        frames = noisy.shape[2]
        time = self.project_time(timestep, noisy) if timestep.ndim == 1 else timestep

        def visit(name: str, beside: Beside, x: Tensor) -> Tensor:
            here = seen[name]
            if beside.attention is not None:
                x, _ = beside.attention(x, reference=here.reference, audio=here.audio, identity=here.identity, codes=here.codes)
            elif here.reference is not None:
                x = look(x, here.reference, lambda reference, x: self.addition(name)(x, reference))
            if beside.audio_module is not None and here.audio is not None:
                x = beside.audio_module(x, here.audio, regions[beside.level], region_weights)
            if beside.motion_module is not None and here.motion is not None:
                x = look(x, here.motion, lambda motion, x: beside.motion_module(x, motion, here.speed))
            return x

        x = self.walk(rearrange(noisy, "b c f h w -> (b f) c h w"), time, visit,
                      first=lambda x: look(x, face, lambda face, x: x if face is None else into(x, per_frame(face, len(x)))),
                      inner=inner)
        return rearrange(self.conv_out(F.silu(self.conv_norm_out(x))), "(b f) c h w -> b c f h w", f=frames)

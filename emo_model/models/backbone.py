"""Backbone: the denoising UNet with reference-attention, audio-attention and temporal modules (EMO, 'Backbone Network')."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from ..config import ModelConfig
from .audio_transformer import AudioTransformer
from .blocks import SpatialTransformer
from .temporal import TemporalModule
from .unet import Beside, UNet


class ReferenceAddition(nn.Module):
    """Adds the portrait's features of the same cell; nothing at first (zero weights)."""

    def __init__(self, channels: int):
        super().__init__()
        self.proj = nn.Linear(channels, channels)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        """x (B F, C, H, W), reference (B, N, C) -> x (B F, C, H, W)."""
        height = x.shape[-2]
        seen = rearrange(self.proj(reference), "b (h w) c -> b c h w", h=height)
        return x + seen.repeat_interleave(len(x) // len(seen), dim=0)


class Backbone(UNet):
    """EMO leaves open: how levels without attention see the portrait. Ours do not, or, with config.reference_addition, add the
    reference net's features of the same cell: heads move little, so most of a picture lies where it lies in the portrait.
    """

    def __init__(self, config: ModelConfig):
        audio_module = (lambda channels, width: AudioTransformer(config, channels, width)) if config.audio_transformers else None
        super().__init__(config, attention=lambda channels: SpatialTransformer(config, channels, is_backbone=True),
                         motion_module=lambda channels: TemporalModule(config, channels), audio_module=audio_module)
        self.reference_additions = nn.ModuleDict()
        if config.reference_addition:
            levels = list(zip(config.channels, config.attention_levels))
            for kind, order, layers in (("down", levels, config.layers_per_block), ("up", levels[::-1], config.layers_per_block + 1)):
                self.reference_additions.update({
                    f"{kind}_blocks_{level}_resnets_{index}": ReferenceAddition(width)
                    for level, (width, has_attention) in enumerate(order) if not has_attention for index in range(layers)})
        self.conv_norm_out = nn.GroupNorm(config.norm_groups, config.channels[0], eps=1e-5)
        self.conv_out = nn.Conv2d(config.channels[0], config.latent_channels, 3, padding=1)

    def forward(self, noisy: Tensor, timestep: Tensor, *, reference: dict[str, Tensor] | None, motion: dict[str, Tensor] | None,
                audio: Tensor | None, speed: Tensor | None, face: Tensor | None = None, identity: Tensor | None = None,
                regions: tuple[Tensor, ...] = (), region_weights: Tensor | None = None) -> Tensor:
        """noisy (B, C, F, H, W), timestep (B,), audio (B, F, M, D), speed (B, F, D) -> prediction (B, C, F, H, W).

        reference {name: (B, N, C)} and motion {name: (B, n, N, C)} by layer name. What is None is skipped: EMO's first
        stage trains on single frames, without motion, voice or speed. For Hallo: face (B, C0, 1, H, W) joins the features of
        the first convolution; identity (B, M, D); regions (B, 3, N) by level and region_weights (3,) for the audio modules.
        """
        frames = noisy.shape[2]
        voice = None if audio is None else rearrange(audio, "b f m d -> (b f) m d")

        def visit(name: str, beside: Beside, x: Tensor) -> Tensor:
            if beside.attention is not None:
                portrait = None if reference is None else reference[name]
                x, _ = beside.attention(x, reference=portrait, audio=voice, identity=identity)
            elif self.reference_additions:
                x = self.reference_additions[name.replace(".", "_")](x, reference[name])
            if beside.audio_module is not None and voice is not None:
                x = beside.audio_module(x, voice, regions[beside.level], region_weights)
            if beside.motion_module is not None and motion is not None:
                x = beside.motion_module(x, motion[name], speed)
            return x

        time = self.embed_time(timestep, noisy).repeat_interleave(frames, dim=0)
        added = None if face is None else repeat(face, "b c 1 h w -> (b f) c h w", f=frames)
        x = self.walk(rearrange(noisy, "b c f h w -> (b f) c h w"), time, visit, added=added)
        return rearrange(self.conv_out(F.silu(self.conv_norm_out(x))), "(b f) c h w -> b c f h w", f=frames)

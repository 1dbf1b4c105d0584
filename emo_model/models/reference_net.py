"""Reference net: the SD 1.5 UNet without time, voice or noise; its features carry who is portrayed (EMO, 'ReferenceNet')."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import ModelConfig
from .blocks import SpatialTransformer
from .unet import Beside, UNet


class ReferenceNet(UNet):
    """Features are what each self-attention reads; where a level has no attention, the resnet's output.

    EMO leaves open: what is taken at levels without attention, and whether text cross-attention stays. Ours has none.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(config, attention=lambda channels: SpatialTransformer(config, channels, is_backbone=False))
        self.reads_resnets = config.hallo is None
        last = self.up_blocks[-1]  # nothing after its last feature is read, so nothing is built
        if config.attention_levels[0]:
            last.attentions[-1] = SpatialTransformer(config, config.channels[0], is_backbone=False, is_last_feature=True)

    def forward(self, latents: Tensor, identity: Tensor | None = None) -> dict[str, Tensor]:
        """latents (B, C, H, W) scaled and clean, identity tokens (B, M, D) if the model has any -> {layer name: (B, N, C)}."""
        features = {}

        def keep(name: str, beside: Beside, x: Tensor) -> Tensor:
            if beside.attention is not None:
                x, features[name] = beside.attention(x, identity=identity)
            elif self.reads_resnets:
                features[name] = x.flatten(2).transpose(1, 2)
            return x

        time = self.project_time(torch.zeros(len(latents), device=latents.device), latents)
        self.walk(latents, time, keep)
        return features

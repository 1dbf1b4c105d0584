"""Face locator: a few convolutions on the face mask, added to the noisy latents (EMO, 'Face Locator').

Hallo's takes a mask of three channels and is added to the output of the backbone's first convolution.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..config import ModelConfig


class FaceLocator(nn.Module):
    """EMO leaves open: the layers. Ours halve the mask down to latent cells; zero output before training."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        widths = config.face_locator_channels
        if 2 ** (len(widths) - 1) != config.vae_factor:
            raise ValueError(
                f"{len(widths)} face_locator_channels halve the mask {len(widths) - 1} times, "
                f"but a latent cell is {config.vae_factor} pixels wide"
            )
        outside = config.channels[0] if config.hallo else config.latent_channels
        self.mask_channels = config.hallo.face_mask_channels if config.hallo else 1
        self.conv_in = nn.Conv2d(self.mask_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for width, wider in zip(widths, widths[1:], strict=False):
            self.blocks += [nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, wider, 3, stride=2, padding=1)]
        self.conv_out = nn.Conv2d(widths[-1], outside, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, mask: Tensor) -> Tensor:
        """mask (B, 1, H, W) in 0..1 -> (B, C, h, w), C of the latents or of the backbone's first features."""
        x = F.silu(self.conv_in(mask.expand(-1, self.mask_channels, -1, -1)))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out(x)

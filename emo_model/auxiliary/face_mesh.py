"""MediaPipe's face mesh: 468 points on a face in a picture of 192x192 pixels (arXiv 1907.06724)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .face_detector import BlazeBlock

INPUT_SIZE = 192  # pixels
POINTS = 468
WIDTHS = (16, 16, 32, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128, 128)  # channels of the blocks
STRIDES = (1, 1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 2, 1, 1)
HEAD_WIDTH = 32


class FaceMesh(nn.Module):
    """Predicts the mesh from an upright crop around one face, 1.5 times as large as the face."""

    def __init__(self):
        super().__init__()
        channels = WIDTHS[0]
        self.conv_in = nn.Conv2d(3, channels, 3, stride=2)
        self.activation = nn.PReLU(channels)
        self.blocks = nn.ModuleList()
        for out_channels, stride in zip(WIDTHS, STRIDES, strict=True):
            self.blocks.append(BlazeBlock(channels, out_channels, stride=stride, activation=nn.PReLU))
            channels = out_channels
        self.mesh_head = _Head(channels, blocks=3, values=POINTS * 3)
        self.presence_head = _Head(channels, blocks=1, values=1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """pixels (B, 3, 192, 192) in 0..1 -> points (B, 468, 3), x, y, z in pixels; presence (B,) of a face in 0..1."""
        x = self.activation(self.conv_in(F.pad(pixels, (0, 1, 0, 1))))
        for block in self.blocks:
            x = block(x)
        return self.mesh_head(x).view(-1, POINTS, 3), self.presence_head(x).flatten().sigmoid()


class _Head(nn.Module):
    """(B, C, 6, 6) -> (B, values, 1, 1)."""

    def __init__(self, channels: int, *, blocks: int, values: int):
        super().__init__()
        strides = (2, 1, 1)[:blocks]
        self.blocks = nn.Sequential(*(BlazeBlock(channels, channels, stride=n, activation=nn.PReLU) for n in strides))
        self.narrow = nn.Conv2d(channels, HEAD_WIDTH, 1)
        self.activation = nn.PReLU(HEAD_WIDTH)
        self.last_block = BlazeBlock(HEAD_WIDTH, HEAD_WIDTH, activation=nn.PReLU)
        self.conv_out = nn.Conv2d(HEAD_WIDTH, values, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.last_block(self.activation(self.narrow(self.blocks(x)))))

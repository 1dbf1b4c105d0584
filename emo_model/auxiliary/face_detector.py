"""BlazeFace, short range: a face detector for pictures of 128x128 pixels (arXiv 1907.05047; MediaPipe's weights)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INPUT_SIZE = 128  # pixels
GRIDS = ((16, 2), (8, 6))  # cells across, anchors in a cell
KEYPOINTS = 6  # eye at the left of the picture, eye at its right, nose tip, mouth, ear at the left, ear at the right
# channels and stride of each block
WIDTHS = ((24, 1), (28, 1), (32, 2), (36, 1), (42, 1), (48, 2), (56, 1), (64, 1), (72, 1), (80, 1), (88, 1))
DEEP_WIDTHS = ((96, 2), (96, 1), (96, 1), (96, 1), (96, 1))
LOGIT_LIMIT = 80.0  # MediaPipe's 100 overflows in float32


class BlazeBlock(nn.Module):
    """Depthwise and pointwise convolution beside a shortcut, whose new channels are zero; a stride is a max-pool.

    activation: makes a module for a number of channels.
    """

    def __init__(self, channels: int, out_channels: int, *, stride: int = 1, activation=lambda channels: nn.ReLU()):
        super().__init__()
        self.stride = stride
        self.new_channels = out_channels - channels
        padding = 1 if stride == 1 else 0
        self.depthwise = nn.Conv2d(channels, channels, 3, stride=stride, padding=padding, groups=channels)
        self.pointwise = nn.Conv2d(channels, out_channels, 1)
        self.activation = activation(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, C', H / stride, W / stride)."""
        shortcut = x if self.stride == 1 else F.max_pool2d(x, 2)
        if self.new_channels:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))
        if self.stride == 2:
            x = F.pad(x, (0, 1, 0, 1))  # TensorFlow's 'same' padding of even sizes: right and below only
        return self.activation(shortcut + self.pointwise(self.depthwise(x)))


class FaceDetector(nn.Module):
    """896 anchors: 2 in each of 16x16 cells, then 6 in each of 8x8 cells."""

    def __init__(self):
        super().__init__()
        channels = WIDTHS[0][0]
        self.conv_in = nn.Conv2d(3, channels, 5, stride=2)
        self.blocks, self.deep_blocks = nn.ModuleList(), nn.ModuleList()
        for blocks, widths in ((self.blocks, WIDTHS), (self.deep_blocks, DEEP_WIDTHS)):
            for out_channels, stride in widths:
                blocks.append(BlazeBlock(channels, out_channels, stride=stride))
                channels = out_channels
        (_, anchors), (_, deep_anchors) = GRIDS
        values = 4 + 2 * KEYPOINTS
        self.scores, self.deep_scores = nn.Conv2d(WIDTHS[-1][0], anchors, 1), nn.Conv2d(channels, deep_anchors, 1)
        self.boxes = nn.Conv2d(WIDTHS[-1][0], anchors * values, 1)
        self.deep_boxes = nn.Conv2d(channels, deep_anchors * values, 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """pixels (B, 3, 128, 128) in [-1, 1] -> scores (B, 896) in 0..1, offsets (B, 896, 16) for `decode_boxes`."""
        x = F.relu(self.conv_in(F.pad(pixels, (1, 2, 1, 2))))
        for block in self.blocks:
            x = block(x)
        deep = x
        for block in self.deep_blocks:
            deep = block(deep)
        logits = torch.cat([_by_anchor(self.scores(x), 1), _by_anchor(self.deep_scores(deep), 1)], 1)
        values = 4 + 2 * KEYPOINTS
        offsets = torch.cat([_by_anchor(self.boxes(x), values), _by_anchor(self.deep_boxes(deep), values)], 1)
        return logits[..., 0].clamp(-LOGIT_LIMIT, LOGIT_LIMIT).sigmoid(), offsets


def _by_anchor(x: Tensor, values: int) -> Tensor:
    """(B, anchors x values, H, W) -> (B, H x W x anchors, values)."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, values)


def anchor_centres() -> Tensor:
    """(896, 2): x and y of every anchor, as a fraction of the picture."""
    grids = []
    for cells, anchors in GRIDS:
        middles = (torch.arange(cells) + 0.5) / cells
        y, x = torch.meshgrid(middles, middles, indexing="ij")
        grids.append(torch.stack([x, y], -1).reshape(-1, 1, 2).expand(-1, anchors, -1).reshape(-1, 2))
    return torch.cat(grids)


def decode_boxes(offsets: Tensor) -> Tensor:
    """offsets (B, 896, 16) of the detector -> (B, 896, 8, 2), x and y as fractions of the picture.

    The points are the corners left-top and right-bottom, then the 6 keypoints.
    """
    points = offsets.reshape(*offsets.shape[:2], -1, 2) / INPUT_SIZE
    anchors = anchor_centres().to(points)[:, None]
    centre, half = points[:, :, :1] + anchors, points[:, :, 1:2] / 2
    return torch.cat([centre - half, centre + half, points[:, :, 2:] + anchors], 2)

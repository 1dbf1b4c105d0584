"""Group norm that keeps the memory layout of pictures.

torch's own copies channels-last pictures to another layout on a GPU, and the next convolution copies them back. On a
CPU it leaves them, but takes several times as long where groups are narrow, and loses digits where the mean is large.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NARROW, MANY_CELLS = 8, 128  # channels of a group, cells of a picture: where torch's own is slow on a CPU


def use_own_group_norm(module: nn.Module) -> nn.Module:
    """Replace the group norms inside `module` by ours, with the same parameters; returns the module."""
    for parent in list(module.modules()):
        for name, norm in parent.named_children():
            if type(norm) is nn.GroupNorm:
                own = GroupNorm(norm.num_groups, norm.num_channels, eps=norm.eps, device="meta").train(norm.training)
                own.weight, own.bias = norm.weight, norm.bias
                setattr(parent, name, own)
    return module


class GroupNorm(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """F.group_norm to rounding; x (B, C, H, W) in channels-last stays so."""
    is_pixelwise = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    if not is_pixelwise or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return F.group_norm(x, groups, weight, bias, eps)
    batch, channels, height, width = x.shape
    is_slow = channels < NARROW * groups and height * width >= MANY_CELLS and x.dtype == torch.float32
    if x.device.type == "cpu" and not is_slow:
        return F.group_norm(x, groups, weight, bias, eps)
    rows = x.permute(0, 2, 3, 1).view(batch, height * width, channels)
    normed = (_by_products if x.device.type == "cpu" else _by_moments)(rows, groups, weight, bias, eps)
    return normed.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _by_moments(rows: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Two passes over rows (B, N, C): one for mean and deviation, one to scale and shift."""
    weight, bias = weight.view(groups, -1), bias.view(groups, -1)
    deviation, mean = torch.std_mean(rows.unflatten(2, (groups, -1)), dim=(1, 3), correction=0)  # (B, G)
    # the root of a square and eps, which no half precision overflows; eps is a number, not copied to the device
    scale = weight / torch.hypot(deviation, torch.tensor(eps**0.5, dtype=rows.dtype))[..., None]
    shift = torch.addcmul(bias, mean[..., None], scale, value=-1)  # (B, G, C / G)
    return torch.addcmul(shift.flatten(1)[:, None], rows, scale.flatten(1)[:, None])


def _by_products(rows: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Sums as products with ones, for which a CPU has its fastest code."""
    batch, cells, channels = rows.shape
    each = rows.new_full((1, 1, cells), 1 / cells).expand(batch, -1, -1)

    def mean(x: Tensor) -> Tensor:
        return (each @ x).view(batch, groups, -1).mean(2, keepdim=True)  # (B, G, 1)

    centred = rows - mean(rows).expand(-1, -1, channels // groups).reshape(batch, 1, channels)
    scale = weight.view(groups, -1) * (mean(centred.square()) + eps).rsqrt()
    return torch.addcmul(bias, centred, scale.view(batch, 1, channels), out=centred)

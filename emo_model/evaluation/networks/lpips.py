"""LPIPS on AlexNet (Zhang et al., arXiv 1801.03924), version 0.1."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checkpoints.files import open_tensors

_CONVS = {
    0: (3, 64, 11, 4, 2),
    3: (64, 192, 5, 1, 2),
    6: (192, 384, 3, 1, 1),
    8: (384, 256, 3, 1, 1),
    10: (256, 256, 3, 1, 1),
}
_POOLED = (3, 6)  # a pooling comes before these
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
LEAST = 63  # pixels of the shorter side, below which AlexNet has nothing left


class Lpips(nn.Module):
    """Distance of two pictures; 0 if they are the same."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleDict({str(k): nn.Conv2d(*shape[:3], *shape[3:]) for k, shape in _CONVS.items()})
        self.heads = nn.ParameterList(nn.Parameter(torch.zeros(1, shape[1], 1, 1)) for shape in _CONVS.values())

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] -> (B,)."""
        shift, scale = (one.new_tensor(values)[:, None, None] for values in (_SHIFT, _SCALE))
        x, y = (one - shift) / scale, (other - shift) / scale
        total = one.new_zeros(len(one))
        for (place, conv), head in zip(self.convs.items(), self.heads, strict=True):
            if int(place) in _POOLED:
                x, y = F.max_pool2d(x, 3, 2), F.max_pool2d(y, 3, 2)
            x, y = conv(x).relu(), conv(y).relu()
            apart = (_unit(x) - _unit(y)).square()
            total = total + F.conv2d(apart, head).mean((1, 2, 3))
        return total


def _unit(values: Tensor) -> Tensor:
    return values / (values.square().sum(1, keepdim=True).sqrt() + 1e-10)


def load_lpips(alexnet: str | Path, heads: str | Path) -> Lpips:
    """alexnet: torchvision's alexnet-owt-7be5be79.pth; heads: alex.pth of the package lpips (weights/v0.1); both as
    they are, or as safetensors. Nothing in them is executed. Raises OSError and ValueError."""
    network, files = Lpips(), {}
    names = {f"convs.{k}.{part}": f"features.{k}.{part}" for k in _CONVS for part in ("weight", "bias")}
    names |= {f"heads.{k}": f"lin{k}.model.1.weight" for k in range(len(_CONVS))}
    opened = {"convs": open_tensors(alexnet), "heads": open_tensors(heads)}
    for name, wanted in network.state_dict().items():
        file, key = opened[name.split(".")[0]], names[name]
        if file.shapes.get(key) != tuple(wanted.shape):
            raise ValueError(f"{file.path.name} has no {key} of {tuple(wanted.shape)}; see docs/evaluation.md")
        files[name] = file.read(key).float()
    network.load_state_dict(files)
    return network.eval().requires_grad_(False)

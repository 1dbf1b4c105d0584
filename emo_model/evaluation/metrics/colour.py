"""Mean colours in CIE L*a*b*, where a distance of about 2 is just seen: of the whole picture, and of the face."""

from __future__ import annotations

import torch
from torch import Tensor

from ..instruments import FaceBox, cut

FACE_SIDE = 2.0
"""Side of the square of skin, in distances from eyes to mouth: from the brows to the lower lip."""

_FROM_LINEAR = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_WHITE = (0.95047, 1.0, 1.08883)  # D65


def measure(pictures: Tensor, box: FaceBox) -> dict[str, Tensor]:
    """pictures (T, 3, H, W) in [-1, 1] -> lab, face_lab: (T, 3) mean L* 0..100, a*, b*; box: of the portrait."""
    where = box.tensor(len(pictures)).to(pictures)
    face = cut(pictures, where[:, :2], FACE_SIDE * where[:, 2], 32)
    return {"lab": lab(pictures).mean((2, 3)).cpu(), "face_lab": lab(face).mean((2, 3)).cpu()}


def lab(pictures: Tensor) -> Tensor:
    """sRGB (T, 3, H, W) in [-1, 1] -> L*, a*, b* under D65, the same shape (CIE 15, IEC 61966-2-1)."""
    stored = pictures.float().add(1).div(2).clamp(0, 1)
    linear = torch.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("ij,tjhw->tihw", linear.new_tensor(_FROM_LINEAR), linear) / linear.new_tensor(_WHITE)[:, None, None]
    root = torch.where(xyz > (6 / 29) ** 3, xyz.clamp(min=1e-6) ** (1 / 3), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def distance(one: Tensor, other: Tensor) -> Tensor:
    """(..., 3) -> (...): CIE 1976 colour difference."""
    return (one - other).norm(dim=-1)

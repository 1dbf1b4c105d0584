"""The flow of smiles and brows on a portrait: smooth fields around the corners of its mouth, its cheeks and its brows.

Differs from EMO: motion latents have no channel for them, and the decoder's network moves a mouth without smiling. The
fields move the portrait before the head does, so a smile stays in its place on a turning head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..inputs import face_geometry as geometry

# points, (right, down) that a full smile moves them, for the face's left half as the picture has it, and reach of the
# field; all in distances of the outer eye corners
SMILE = (
    ((61, 291), (-0.068, -0.072), 0.15),  # corners of the mouth
    ((205, 425), (-0.012, -0.032), 0.17),  # cheeks
    ((13, 14), (0.0, 0.012), 0.17),  # the lips' middle, which stays as the corners rise
)
BROW_RISE, BROW_FALL = 0.085, 0.050  # of raised and of lowered brows
BROW_FROWN = 0.022  # how far lowered ones come together
BROW_WIDTH, BROW_ABOVE = 0.21, 0.20  # reach of the field along a brow, and towards the hair
LID_GAP = 0.36  # of the gap between brow and upper lid: reach of the field towards the eye, which keeps its shape
STEEPEST = 1.2  # rise of a brow in reaches towards the eye
LIDS = (159, 386)  # points of the upper lids


def expression_flow(mesh: Tensor, dials: Tensor, flow: Tensor) -> Tensor:
    """mesh (468, 3) of the portrait in cells of flow; dials (F, 2): smile and brows; flow (F, 2, n, n) backward, in
    cells -> (F, 2, n, n): what to add to flow."""
    size = flow.shape[-1]
    y, x = torch.meshgrid(*(torch.arange(size, device=flow.device) + 0.5 for _ in range(2)), indexing="ij")
    place = torch.stack([x, y]) + flow
    field = _Fields.of(mesh.to(flow))
    away = torch.zeros_like(flow)
    for _ in range(3):  # the field tells where places go, and where they come from is wanted
        away = -field.at(place + away, dials.to(flow))
    return away


class _Fields:
    """Displacements of a portrait's places; axes (2, 2): right and down in its picture; eyes: their distance in
    cells."""

    def __init__(self, mesh: Tensor, axes: Tensor, eyes: Tensor):
        self.mesh, self.axes, self.eyes = mesh, axes, eyes

    @classmethod
    def of(cls, mesh: Tensor) -> _Fields:
        right = F.normalize((mesh[263] - mesh[33])[:2], dim=0)
        eyes = (mesh[263] - mesh[33]).norm()
        return cls(mesh[:, :2], torch.stack([right, torch.stack([-right[1], right[0]])]), eyes)

    def at(self, place: Tensor, dials: Tensor) -> Tensor:
        """place (F, 2, n, n) in cells, dials (F, 2) -> displacement (F, 2, n, n)."""
        smile, brows = dials[:, :, None, None].unbind(1)
        moved = torch.zeros_like(place)
        for points, (right, down), reach in SMILE:
            for point, side in zip(points, (1, -1), strict=True):
                u, v = self._local(place, self.mesh[point])
                bell = smile * torch.exp(-(u**2 + v**2) / (2 * reach**2))
                moved += self._along(bell * side * right, bell * down)
        frown = BROW_FROWN * (-brows).clamp(min=0)
        for row, lid, side in zip((geometry.LEFT_BROW, geometry.RIGHT_BROW), LIDS, (1, -1), strict=True):
            brow = self.mesh[list(row)].mean(0)
            below = (LID_GAP * ((self.mesh[lid] - brow) / self.eyes @ self.axes[1])).clamp(min=0.02)
            u, v = self._local(place, brow)
            reach = torch.where(v < 0, BROW_ABOVE, below)
            bell = torch.exp(-((u / BROW_WIDTH) ** 4) / 2 - v**2 / (2 * reach**2))
            rise = torch.where(brows > 0, -brows * (STEEPEST * below).clamp(max=BROW_RISE), -BROW_FALL * brows)
            moved += self._along(bell * side * frown, bell * rise)
        return moved

    def _local(self, place: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
        """Right and down of a centre (2,), in distances of the eyes."""
        away = (place - centre[:, None, None]) / self.eyes
        return tuple(torch.einsum("fchw,c->fhw", away, axis) for axis in self.axes)

    def _along(self, right: Tensor, down: Tensor) -> Tensor:
        return self.eyes * (right[:, None] * self.axes[0, :, None, None] + down[:, None] * self.axes[1, :, None, None])

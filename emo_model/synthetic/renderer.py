"""Pictures of drawn talking heads: 2.5-D, shaded, anti-aliased by distance, batched on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from .canvas import Pose, Sheet, bell, ramp, wide
from .eyes import paint_eyes, paint_glasses
from .face import face_distance, paint_beard, paint_ears, paint_marks, paint_nose, paint_skin
from .hair import Hair, paint_hat
from .identities import Identities
from .lips import paint_mouth
from .motion import FaceMotion
from .scene import paint_background, paint_body


def render(
    identities: Identities, motion: FaceMotion, *, size: int, device: torch.device | str | None = None, chunk: int = 8
) -> Tensor:
    """Picture i shows identity i in moment i: B people and tracks (B,) -> (B, 3, size, size) float32 in [-1, 1].

    Memory for working is that of `chunk` pictures. Painted at `size` directly, meant for 64 and more.
    """
    if len(identities) != len(motion):
        raise ValueError(
            f"{len(identities)} identities but {len(motion)} moments; repeat the identities, one for each picture"
        )
    if device is not None:
        identities, motion = identities.to(device), motion.to(device)
    pictures = torch.empty(len(identities), 3, size, size, device=identities.skin.device)
    for start in range(0, len(identities), chunk):
        part = slice(start, start + chunk)
        pictures[part] = _paint(identities[part], motion[part], size)
    return pictures


@torch.no_grad()
def _paint(who: Identities, motion: FaceMotion, size: int) -> Tensor:
    pose = Pose(who, motion)
    sheet = Sheet.blank(len(who), size, pose.scale)
    px, py = pose.head(sheet.u, sheet.v)
    chart = pose.chart(px, py)
    face = face_distance(px, py, who, pose, wide(motion.opening * (1 - 0.9 * motion.closure)))
    hair = Hair(who, pose, px, py, chart, face)
    paint_background(sheet, who, pose)
    paint_body(sheet, who, pose, face, lambda: hair.paint_back(sheet))
    paint_ears(sheet, who, pose, px, py)
    paint_skin(sheet, who, pose, px, py, chart, face, hair.front)
    lw = wide(who.ink_width)
    sheet.paint(who.ink, sheet.line(face, lw) * (lw > 0) * ramp(py, -0.35, -0.1))
    _paint_some(sheet, who, motion, (who.wrinkles > 0) | (who.freckles > 0), paint_marks)
    _paint_some(sheet, who, motion, who.beard > 0, paint_beard)
    paint_nose(sheet, who, pose)
    paint_mouth(sheet, who, motion, pose)
    paint_eyes(sheet, who, motion, pose)
    hair.paint_front(sheet)
    _paint_some(sheet, who, motion, who.glasses > 0, paint_glasses)
    _paint_some(sheet, who, motion, (who.hat > 0) & (who.hat < 4), paint_hat)
    _paint_some(sheet, who, motion, who.strokes > 0, paint_strokes)
    return sheet.rgb.clamp_(0, 1).mul_(2).sub_(1)


def _paint_some(sheet: Sheet, who: Identities, motion: FaceMotion, chosen: Tensor, paint) -> None:
    """paint(sheet, who, motion, pose) on those pictures alone that need it: most wear no hat."""
    index = chosen.nonzero()[:, 0]
    if not len(index):
        return
    who, motion = who[index], motion[index]
    pose = Pose(who, motion)
    part = Sheet(sheet.rgb[index], sheet.u, sheet.v, sheet.pixel[index])
    paint(part, who, motion, pose)
    sheet.rgb[index] = part.rgb


def paint_strokes(sheet: Sheet, who: Identities, motion: FaceMotion, pose: Pose) -> None:
    """Dabs of painterly pictures: the canvas's own light and dark, still while the head moves."""
    u, v = sheet.u, sheet.v
    a, b = wide(who.phase[:, 0]), wide(who.phase[:, 1])
    turn = 0.9 + 0.5 * torch.sin(u * 1.9 + a) + 0.5 * torch.sin(v * 1.7 + b)
    across, along = (u * turn.cos() + v * turn.sin()) * 15, (v * turn.cos() - u * turn.sin()) * 5.5
    column = across.floor()
    along = along + (torch.sin(column * 12.9898 + a) * 437.585).remainder(1.0)
    row = along.floor()
    mess = (torch.sin(column * 12.9898 + row * 78.233 + b) * 437.585).remainder(1.0) - 0.5
    dab = mess * bell(((across - column - 0.5) / 0.62).square()) * bell(((along - row - 0.5) / 0.62).square())
    warm = torch.stack((1 + 0.30 * dab, 1 + 0.26 * dab, 1 + 0.20 * dab), 1)
    sheet.rgb.mul_(1 + (warm - 1) * who.strokes[:, None, None, None])

"""What stands behind and below a drawn head: background, neck, shoulders and clothes."""

from __future__ import annotations

import torch
from torch import Tensor

from .canvas import Pose, Sheet, bell, ramp, soft_max, wide
from .identities import BACKGROUNDS, COLLARS, Identities


def paint_background(sheet: Sheet, who: Identities, pose: Pose) -> None:
    """Out of focus, so painted at half the size; moves with a tenth of the head: it is far away."""
    size = sheet.rgb.shape[-1]
    axis = (torch.arange(size // 2, device=sheet.rgb.device, dtype=torch.float32) + 0.5) * (4 / size) - 1
    u = axis[None, None, :] + 0.1 * (wide(who.head_x) - pose.u)
    v = axis[None, :, None] + 0.1 * (wide(who.head_y) - pose.v)
    turn = wide(who.background_turn)
    along = u * turn.cos() + v * turn.sin()  # (B, H / 2, W / 2)
    gradient, glow, stripes, bokeh, room = (
        wide((who.background_kind == index).float()) for index in range(len(BACKGROUNDS))
    )
    mix = 0.5 + 0.5 * along
    radius = (u - 0.25 * turn.sin()).square() + (v + 0.2).square()
    mix = mix + glow * (1.15 - ramp(radius, 0, 1.7) * 1.3 - mix)
    saw = (along * 3.2 + turn).remainder(1.0)
    mix = mix + stripes * (ramp((saw - 0.5).abs(), 0.20, 0.30) * 0.5 + 0.2 - mix)
    rgb = torch.lerp(
        who.background[:, :, None, None], who.background_second[:, :, None, None], mix.clamp_(0, 1)[:, None]
    )
    lights = torch.zeros_like(mix)
    for spot in range(who.background_spots.shape[1]):
        x, y, r = (wide(part) for part in who.background_spots[:, spot].unbind(-1))
        distance = ((u - x).square() + (v - y).square()).sqrt()
        lights = lights + (1 - lights) * 0.45 * ramp(r - distance, -0.01, 0.05)
    back = Sheet(rgb, u, v, pose.scale)
    pale = torch.ones_like(who.background)
    back.paint(who.background_second.lerp(pale, 0.35), bokeh * lights)
    # a room: a wall with a window or picture, and what may be a shelf
    x, y, _ = (wide(part) for part in who.background_spots[:, 0].unbind(-1))
    side = torch.where(x > 0, 0.72, -0.72)
    frame = torch.maximum((u - side).abs() - 0.26, (v + 0.42 + 0.1 * y).abs() - 0.34)
    back.paint(who.background * 0.72, ramp(-frame, -0.03, 0.03) * room)
    back.paint(who.background_second.lerp(pale, 0.5), ramp(-frame, 0.03, 0.08) * room)
    shelf = (v - 0.38 - 0.1 * x).abs() - 0.03
    back.paint(who.background * 0.62, ramp(-shelf, -0.02, 0.02) * room * 0.8)
    rgb.mul_((1 - 0.16 * ramp(u.square() + v.square(), 0.5, 2.2))[:, None])
    sheet.rgb.copy_(torch.nn.functional.interpolate(rgb, size=(size, size), mode="bilinear", align_corners=False))


def _lower(sheet: Sheet, distance: Tensor) -> tuple[Sheet, Tensor]:
    """The rows in which a neck may be."""
    top = sheet.rgb.shape[-2] * 9 // 16
    return Sheet(sheet.rgb[:, :, top:], sheet.u, sheet.v[:, top:], sheet.pixel), distance[:, top:]


def paint_body(sheet: Sheet, who: Identities, pose: Pose, chin: Tensor, back_hair) -> None:
    """chin: (B, H, W) distance to the face, for its shadow; back_hair(): paints between shoulders and neck."""
    sheet, chin = _lower(sheet, chin)
    x, y = (sheet.u - pose.body_u) / pose.body_scale, (sheet.v - pose.body_v) / pose.body_scale
    collar = [wide((who.collar == index).float()) for index in range(len(COLLARS))]
    crew, vee, shirt, turtle, hood = collar
    light = wide(who.light[:, 0])
    far = x.abs()
    width = wide(who.shoulders)
    top = 1.20 + 0.26 * ramp(far, 0.18, 1.15) * (1 + 0.15 * (width < 1.1)) + 2.4 * (far - width).clamp(min=0).square()
    shoulders = (top - y) * 0.86
    lw = wide(who.ink_width)
    cover = sheet.cover(shoulders)
    before = cover
    depth = wide(who.shade_depth)
    fold = torch.sin(x * 9 + wide(who.phase[:, 0])) * torch.sin(y * 4 + x * 3)
    tone = 1 - depth * (
        0.42 * ramp(far - 0.25 * light * x.sign(), 0.35, 1.4) + 0.10 * fold * ramp(wide(who.shade_soft), 0.2, 0.6)
    )
    stripes = ramp(torch.sin((y - 0.12 * x.square()) * 42).mul(wide(who.cloth_stripes)), 0.1, 0.4)
    color = (
        torch.lerp(who.cloth[:, :, None, None], who.cloth_second[:, :, None, None], stripes[:, None]) * tone[:, None]
    )
    sheet.paint(color, cover)
    sheet.paint(who.ink, sheet.line(shoulders, lw) * (lw > 0))
    # hood behind the neck
    hooded = soft_max((x / 0.62).square() + ((y - 1.22) / 0.30).square() - 1, torch.full_like(x, -9.0), 0.1) * 0.25
    sheet.paint(who.cloth * 0.82, sheet.cover(hooded) * hood)
    back_hair()

    # neck: its top follows the head, its foot the body
    px, py = pose.head(sheet.u, sheet.v)
    share = ramp(y, 0.55, 1.35)
    nx = torch.lerp(px + 0.08 * pose.sin_yaw, x, share)
    neck_width = wide(who.neck) + 0.10 * ramp(y, 1.05, 1.42)
    neck = nx.abs() - neck_width
    hollow = torch.where(
        (vee + shirt) > 0,
        (far * 1.9 + y - 1.68) * 0.5,
        ((x / 0.44).square() + ((y - 1.18) / 0.19).square()).clamp(min=1e-6).sqrt().sub(1) * 0.2,
    )
    skin = torch.minimum(torch.maximum(neck, y - 1.26), soft_max(hollow, 1.14 - y, 0.06) + 9 * turtle)
    skin = torch.maximum(skin, 0.35 - y)
    tone = ramp(nx * light * 2.2 + 0.25, -0.55, 0.9) * 0.55 + 0.30
    tone = torch.where(wide(who.shade_soft) < 0.2, ramp(tone, 0.30, 0.36) * 0.6 + 0.2, tone)
    color = torch.lerp(who.skin[:, :, None, None], who.skin_shadow[:, :, None, None], ((1 - tone) * depth)[:, None])
    bare = sheet.cover(skin)
    sheet.paint(color, bare)
    sheet.paint(who.ink, sheet.line(skin, lw * 0.8) * (lw > 0) * (y > 0.9))
    # shirt collar, crew rim, turtleneck
    flap = torch.maximum(
        (far + (y - 1.68) * 0.53).abs() - 0.02 - 0.21 * ramp(y, 1.72, 1.18),
        torch.maximum(1.10 + 0.06 * far - y, y - 1.70 + 0.5 * (far - 0.12).abs()),
    )
    sheet.paint(who.cloth.lerp(torch.ones_like(who.cloth), 0.22), sheet.cover(flap) * shirt)
    sheet.paint(who.cloth * 0.55, sheet.line(flap, 0.018) * shirt)
    rim = soft_max(hollow.abs() - 0.030, 1.19 - y, 0.03)
    sheet.paint(who.cloth * 0.80, sheet.cover(rim) * (crew + hood))
    tube = torch.maximum(nx.abs() - neck_width - 0.045, torch.maximum(1.02 - y - 0.05 * x.square(), y - 1.45))
    roll = 1 - 0.3 * ramp((nx.abs() / (neck_width + 0.045)), 0.3, 1.1)
    sheet.paint(who.cloth[:, :, None, None] * roll[:, None], sheet.cover(tube) * turtle)
    sheet.paint(who.cloth * 0.5, sheet.line((y - 1.16 + 0.05 * x.square()), 0.02) * sheet.cover(tube) * turtle * 0.6)
    # the head's shadow
    sheet.shade(
        1 - 0.62 * 0.62,
        bell((chin.clamp(min=0) / 0.46).square()) * (depth.clamp(max=0.8) + 0.12) * torch.maximum(before, bare),
    )

"""Skin of a drawn head: outline with a falling jaw, light, cheeks, wrinkles, nose, ears, beard."""

from __future__ import annotations

import torch
from torch import Tensor

from .canvas import Pose, Sheet, bell, ramp, superellipse, wide
from .identities import Identities
from .motion import FaceMotion

JAW_DROP = 0.115
"""How far the chin falls when the mouth opens fully, in head units."""


def face_distance(px: Tensor, py: Tensor, who: Identities, pose: Pose, opening: Tensor) -> Tensor:
    """Distance to the outline in head units, px and py in the head's plane."""
    below = py.clamp(min=0)
    x = px - pose.sin_yaw * (0.06 + 0.17 * below)
    y = py - pose.sin_pitch * 0.16
    low = y.clamp(min=0)
    y = torch.where(y > 0, y / (1 + JAW_DROP * opening), y)
    taper = 1 - wide(who.jaw_taper) * low.clamp(max=1.1).square() * 0.9
    r = superellipse(x / (wide(who.face_width) * taper), y, wide(who.jaw_square))
    return (r - 1) * (0.80 * torch.ones_like(r))


def skin_tone(who: Identities, pose: Pose, px: Tensor, py: Tensor) -> tuple[Tensor, Tensor]:
    """Shade (1 lit .. 0 shadow) and gloss of a head as a ball."""
    nx, ny = px / pose.width, py / HEIGHT_SHADE
    nz = (1 - nx * nx - ny * ny).clamp(min=0.02).sqrt()
    lx, ly, lz = (wide(part) for part in who.light.unbind(-1))
    lit = nx * lx + ny * ly + nz * lz
    soft = wide(who.shade_soft)
    shade = ramp(lit, wide(who.shade_edge) - soft * 0.55, wide(who.shade_edge) + soft * 0.55)
    gloss = ramp(lit, 0.80, 1.05) * ramp(soft, 0.2, 0.6)
    return shade, gloss


HEIGHT_SHADE = 1.12


def paint_ears(sheet: Sheet, who: Identities, pose: Pose, px: Tensor, py: Tensor) -> None:
    size = wide(who.ear_size)
    lw = wide(who.ink_width)
    depth = wide(who.shade_depth)
    scarf = (who.hat != 4).float()
    for side in (-1.0, 1.0):
        x = px - side * (wide(who.face_width) * (0.97 * pose.cos_yaw + 0.02)) + pose.sin_yaw * 0.04
        y = py - wide(who.eye_y) - 0.10 + pose.sin_pitch * 0.05
        x = (x * side - 0.1 * y) / 0.58
        r = ((x / size).square() + (y / (size * 1.18)).square()).clamp(min=1e-8).sqrt()
        distance = (r - 1) * size * 0.6
        alpha = sheet.cover(distance) * wide(scarf)
        tone = 1 - depth * (0.25 + 0.35 * (wide(who.light[:, 0]) * side < 0))
        color = torch.lerp(who.skin_shadow, who.skin, (0.25 + 0.5 * tone.reshape(-1, 1)).clamp(0, 1))
        sheet.paint(color.lerp(who.blush, 0.35), alpha)
        sheet.paint(
            who.skin_shadow * 0.86,
            bell(((x - 0.01) / (size * 0.62)).square() + ((y + 0.01) / (size * 0.8)).square()) * alpha * 0.8,
        )
        sheet.paint(who.ink, sheet.line(distance, lw) * (lw > 0) * wide(scarf))


def paint_skin(
    sheet: Sheet, who: Identities, pose: Pose, px: Tensor, py: Tensor, chart, distance: Tensor, hair: Tensor
) -> None:
    """hair: distance to the front hair, which throws a shadow."""
    x, y, _ = chart
    shade, gloss = skin_tone(who, pose, px - 0.10 * pose.sin_yaw, py)
    depth = wide(who.shade_depth)
    soft = ramp(wide(who.shade_soft), 0.2, 0.6)  # 1: modelled, 0: cel or flat
    shade = 1 - (1 - shade) * depth
    under_hair = (
        (1 - (hair.clamp(min=0) / (0.04 + 0.10 * soft)).clamp(max=1)).square() * (0.25 + 0.45 * depth) * (y < 0.3)
    )
    socket = (
        bell(((x.abs() - wide(who.eye_x)) / 0.30).square() + ((y - wide(who.eye_y) + 0.03) / 0.22).square())
        * 0.22
        * soft
    )
    lower = bell((x / 0.30).square() + ((y - wide(who.mouth_y) - 0.20) / 0.07).square()) * 0.26 * soft
    cheek_line = bell(((x.abs() - 0.50) / 0.16).square() + ((y - 0.52) / 0.34).square()) * 0.12 * soft
    shade = shade * (1 - under_hair.clamp(0, 0.8)) * (1 - (socket + lower + cheek_line) * depth)
    rgb = torch.lerp(who.skin_shadow[:, :, None, None], who.skin[:, :, None, None], shade[:, None])
    blush = bell(((x.abs() - 0.43) / 0.27).square() + ((y - 0.36) / 0.20).square()) * wide(who.blush_amount)
    blush = blush + bell((x / 0.16).square() + ((y - wide(who.nose_y)) / 0.13).square()) * 0.35 * wide(who.blush_amount)
    rgb.lerp_(who.blush[:, :, None, None] * (0.55 + 0.45 * shade[:, None]), blush[:, None])
    lightened = (
        gloss * 0.55
        + soft * bell((x / 0.26).square() + ((y + 0.36) / 0.18).square()) * 0.16
        + soft * bell(((x.abs() - 0.40) / 0.16).square() + ((y - 0.26) / 0.10).square()) * 0.18
    )
    lightened = lightened + soft * bell((x / 0.16).square() + ((y - 0.90) / 0.09).square()) * 0.14
    rgb.lerp_(who.skin_light[:, :, None, None], (lightened * shade)[:, None].clamp(0, 1))
    # the rim turns away from the light; in drawings it takes a line instead
    rgb.mul_((1 - 0.20 * soft * depth * (1 + distance / 0.16).clamp(0, 1).square())[:, None])
    sheet.paint(rgb, sheet.cover(distance))


def paint_nose(whole: Sheet, who: Identities, pose: Pose) -> None:
    sheet = whole.window(*pose.place(wide(0 * who.nose_y), wide(who.nose_y - 0.10), lift=0.10), 0.23, 0.32)
    x, y, _ = pose.chart(*pose.head(sheet.u, sheet.v))
    lift = ramp(y, -0.25, 0.30) * 0.15
    x, y = x - lift * pose.sin_yaw * pose.width, y - lift * pose.sin_pitch
    tip, width, depth = wide(who.nose_y), wide(who.nose_width), wide(who.nose_depth)
    soft = ramp(wide(who.shade_soft), 0.2, 0.6)
    light = wide(who.light[:, 0])
    strength = depth * (0.35 + 0.65 * wide(who.shade_depth))
    # bridge: one side lit, the other shaded
    along = ramp(y, -0.22, 0.10) * (1 - ramp(y, tip - 0.04, tip + 0.05))
    away = torch.where(light > 0, -1.0, 1.0)
    dark = bell(((x - away * (0.055 + 0.30 * width * ramp(y, 0.0, tip))) / 0.075).square()) * along
    sheet.paint(who.skin_shadow, dark * 0.55 * strength * soft)
    sheet.paint(who.skin_light, bell((x / 0.045).square()) * along * 0.50 * soft * depth)
    # tip and wings
    ball = (x / (width * 0.80)).square() + ((y - tip + 0.015) / (width * 0.72)).square()
    sheet.paint(who.skin.lerp(who.blush, 0.25), bell(ball * 0.8) * 0.6 * soft * depth)
    wings = bell(((x.abs() - width * 0.80) / (width * 0.42)).square() + ((y - tip - 0.025) / 0.062).square())
    sheet.paint(who.skin_shadow, wings * 0.45 * strength * soft)
    under = bell((x / (width * 1.15)).square() + ((y - tip - 0.075) / 0.055).square())
    sheet.paint(who.skin_shadow * 0.90, under * 0.75 * strength * (0.35 + 0.65 * soft))
    nostrils = bell(
        ((x.abs() - width * 0.46) / (width * 0.36)).square()
        + ((y - tip - 0.052 - 0.03 * (x.abs() - width * 0.46)) / 0.030).square()
    )
    sheet.paint(who.skin_shadow * 0.52, nostrils * 0.85 * depth)
    sheet.paint(
        who.skin_light.lerp(torch.ones_like(who.skin), 0.35),
        bell(((x + away * 0.02) / (width * 0.36)).square() + ((y - tip + 0.035) / 0.045).square())
        * 0.65
        * soft
        * depth,
    )
    # drawn noses: a hook along one side, and for anime a dash
    flat = 1 - soft
    hook = sheet.line(((x - away * -0.02).square() / (width * 1.6) + (y - tip - 0.055)), 0.028) * ramp(
        width * 0.9 - x.abs(), -0.02, 0.03
    )
    sheet.paint(who.ink.lerp(who.skin_shadow, 0.45), hook * flat * 0.9 * ramp(depth, 0.2, 0.6))
    sheet.put_back()


def paint_marks(whole: Sheet, who: Identities, motion: FaceMotion, pose: Pose) -> None:
    """Freckles and the lines of age."""
    sheet = whole.window(*pose.place(wide(0 * who.eye_y), wide(who.eye_y + 0.05)), 0.52, 0.48)
    x, y, depth = pose.chart(*pose.head(sheet.u, sheet.v))
    cover = ramp(depth, 0.05, 0.3)
    cells_x, cells_y = x * 19 + wide(who.phase[:, 0]), y * 19 + wide(who.phase[:, 1])
    column, line = cells_x.floor(), cells_y.floor()
    mess = torch.sin(column * 12.9898 + line * 78.233) * 43.5453
    mess = mess - mess.floor()
    other = (mess * 57.31).remainder(1.0)
    spot = bell(
        ((cells_x - column - 0.25 - 0.5 * mess) / 0.25).square()
        + ((cells_y - line - 0.25 - 0.5 * other) / 0.25).square()
    )
    where = bell((x / 0.60).square() + ((y - 0.26) / 0.24).square()) * ((mess * 7.7 + other).remainder(1.0) > 0.42)
    sheet.paint(who.skin_shadow * 0.80, spot * where * wide(who.freckles) * 0.75 * cover)
    old = wide(who.wrinkles)
    side = x.abs()
    fold = (
        sheet.line(side - 0.20 - 0.55 * (y - wide(who.nose_y)) - 0.05, 0.02)
        * ramp(y, wide(who.nose_y), wide(who.nose_y) + 0.05)
        * (1 - ramp(y, 0.58, 0.68))
    )
    brow = sheet.line((y + 0.42 + 0.05 * torch.cos(x * 5)), 0.02) + sheet.line(
        (y + 0.53 + 0.05 * torch.cos(x * 5)), 0.02
    )
    brow = brow * ramp(0.42 - side, 0, 0.2)
    bag = sheet.line(
        (side - wide(who.eye_x)).square() * 1.4 + wide(who.eye_y + who.eye_height * 0.75) + 0.055 - y - 0.02, 0.02
    ) * ramp(0.17 - (side - wide(who.eye_x)).abs(), 0, 0.06)
    crow = (
        sheet.line((y - wide(who.eye_y) - 0.02).abs() - (side - wide(who.eye_x + who.eye_width) - 0.02) * 0.45, 0.016)
        * ramp(side, wide(who.eye_x + who.eye_width) + 0.02, wide(who.eye_x + who.eye_width) + 0.05)
        * (1 - ramp(side, 0.60, 0.66))
    )
    sheet.paint(who.skin_shadow * 0.88, ((fold + bag) * 0.62 + brow * 0.5 + crow * 0.5).clamp(max=1) * old * cover)
    sheet.put_back()


def paint_beard(whole: Sheet, who: Identities, motion: FaceMotion, pose: Pose) -> None:
    """Full beards and stubble follow the jaw; the moustache belongs to the mouth."""
    sheet = whole.window(*pose.place(wide(0 * who.eye_y), wide(0 * who.eye_y + 0.62)), 0.60, 0.48)
    px, py = pose.head(sheet.u, sheet.v)
    x, y, _ = pose.chart(px, py)
    distance = face_distance(px, py, who, pose, wide(motion.opening * (1 - 0.9 * motion.closure)))
    dense = wide(who.beard)
    side = x.abs()
    top = wide(who.mouth_y) + 0.03 - 0.62 * ramp(side, 0.30, 0.68) - 0.04
    wave = 0.016 * torch.sin(px * 46 + wide(who.phase[:, 2])) + 0.012 * torch.sin(px * 83)
    jaw = distance - wide(who.beard_length) * ramp(py, 0.35, 1.0) * (1 + wave * 9) * torch.ones_like(px)
    shape = torch.maximum(jaw, (top - y) * 0.8 + wave)
    edge = 0.03 + 0.10 * (dense < 0.5)
    alpha = ramp(-shape, -0.004, edge) * (py > 0.0)
    strands = 0.5 + 0.25 * torch.sin(px * 60 + py * 17) + 0.25 * torch.sin(px * 97 - py * 23 + 2)
    tone = (
        0.66 + 0.24 * strands * ramp(wide(who.shade_soft), 0.1, 0.5) - 0.18 * ramp(py, 0.6, 1.1) * wide(who.shade_depth)
    )
    sheet.paint(who.whiskers[:, :, None, None] * tone[:, None], alpha * dense)
    sheet.put_back()

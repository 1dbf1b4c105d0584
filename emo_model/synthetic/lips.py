"""The mouth of a drawn head: lips that the four tracks shape, teeth, tongue, moustache."""

from __future__ import annotations

import torch
from torch import Tensor

from .canvas import Pose, Sheet, bell, ramp, wide
from .identities import Identities
from .motion import FaceMotion


def mouth_shape(who: Identities, motion: FaceMotion) -> tuple[Tensor, Tensor, Tensor]:
    """Half width of the lips, distance of the inner edges above and below the line where they meet; (B, 1, 1) each."""
    opening = wide(motion.opening * (1 - 0.92 * motion.closure)).clamp(0, 1)
    width = wide(motion.width)
    half = wide(who.mouth_width) * (1 + 0.17 * width.clamp(min=0) + 0.36 * width.clamp(max=0) - 0.07 * opening)
    tuck = wide(motion.tuck)
    up = opening * 0.062 + 0.048 * tuck * (1 - opening)
    down = opening * (0.245 - 0.05 * width.clamp(0, 1)) * (1 - 0.55 * tuck) + 0.012 * tuck
    return half, up, down


def paint_mouth(whole: Sheet, who: Identities, motion: FaceMotion, pose: Pose) -> None:
    sheet = whole.window(*pose.place(wide(0 * who.mouth_y), wide(who.mouth_y + 0.06)), 0.40, 0.34)
    x, y, _ = pose.chart(*pose.head(sheet.u, sheet.v))
    down = y - wide(who.mouth_y)
    half, up, fall = mouth_shape(who, motion)
    closure, tuck, width = wide(motion.closure), wide(motion.tuck), wide(motion.width)
    rounded = (-width).clamp(min=0)
    soft = ramp(wide(who.shade_soft), 0.2, 0.6)
    drawn = 1 - soft
    t = x / half
    square = t.square()
    arc = (1 - square).clamp(min=0)
    arch = arc.sqrt() * 0.45 + arc * 0.55  # inner edges: between a parabola and an ellipse
    corner = -(wide(who.smile) + 0.018 * width.clamp(min=0)) * (square - 0.35) * (1 - 0.5 * rounded)  # corners up
    # the upper lip's middle dips a little
    line = corner + 0.012 * bell((t / 0.35).square()) * (1 - wide(motion.opening))
    top, bottom = line - up * arch, line + fall * arch - 0.035 * tuck * arc
    thin = (1 - 0.62 * closure) * (1 + 0.30 * rounded)
    bow = 1 - 0.20 * bell((t / 0.20).square()) + 0.12 * bell(((t.abs() - 0.28) / 0.3).square())
    upper = top - wide(who.lip_upper) * thin * (arc.sqrt() * 0.35 + arc * 0.65) * bow * (
        1 - 0.12 * wide(motion.opening)
    )
    lower = bottom + wide(who.lip_lower) * thin * (1 - 0.60 * tuck) * (arc.sqrt() * 0.55 + arc * 0.45) * (
        1 - 0.15 * wide(motion.opening)
    )

    within = 1 - square
    lips = torch.maximum(upper - down, down - lower)
    lips = torch.maximum(lips, (x.abs() - half) * 0.8)
    inner = torch.maximum(torch.maximum(top - down, down - bottom), (x.abs() - half * 0.985) * 0.8)

    # moustache below everything
    hair_top = -0.175 + 0.07 * (x / 0.22).square()
    stache = torch.maximum(
        torch.maximum(hair_top + 0.055 * ramp(x.abs(), 0.05, 0.30) - down, down - upper + 0.008 * drawn - 0.012 * soft),
        x.abs() - wide(who.mouth_width) * 1.12,
    )
    strands = 0.5 + 0.5 * torch.sin(x * 70 + x.sign() * down * 40)
    full = wide(who.moustache)
    edge = 0.02 + 0.05 * (full < 0.5)
    sheet.paint(
        who.whiskers[:, :, None, None] * (0.62 + 0.30 * strands * soft)[:, None], ramp(-stache, -0.006, edge) * full
    )
    goatee = wide(((who.moustache > 0.85) & (who.moustache < 0.93)).float())
    patch = (x / 0.15).square() + ((down - 0.62 * fall - 0.21) / 0.10).square() - 1
    sheet.paint(who.whiskers * 0.95, ramp(-patch, 0, 0.5) * goatee)
    # a clear rim of skin around lips in a beard
    sheet.paint(who.skin.lerp(who.skin_shadow, 0.35), ramp(-(lips - 0.022), 0, 0.02) * wide(who.beard) * 0.55)

    # skin below the lip and beside the corners
    sheet.paint(
        who.skin_shadow,
        bell((x / (half * 0.8)).square() + ((down - (fall + wide(who.lip_lower) * thin + 0.055)) / 0.045).square())
        * 0.42
        * soft
        * wide(who.shade_depth),
    )
    sheet.paint(
        who.skin_shadow * 0.8,
        bell(((x.abs() - half) / 0.055).square() + ((down - corner) / 0.045).square()) * 0.50 * soft,
    )

    # lips
    painted = sheet.cover(lips)
    sheet.paint(who.skin, painted * drawn)  # pale drawn lips let no beard shine through
    height = ((down - line) / (0.5 * (wide(who.lip_upper + who.lip_lower)) + up + fall)).clamp(-1, 1)
    tone = 1 - 0.18 * soft * ramp(-height, -0.05, 0.4) - 0.12 * ramp(square, 0.4, 1.0)
    color = who.lips[:, :, None, None] * tone[:, None]
    strength = 1 - drawn * 0.45 * wide((who.femininity < 0.5).float())
    sheet.paint(color, painted * strength)
    shine = bell(
        ((x + 0.10 * half * wide(who.light[:, 0]).sign() * -1) / (half * 0.42)).square()
        + ((down - bottom - wide(who.lip_lower) * thin * 0.42) / (wide(who.lip_lower) * 0.36 * thin + 0.004)).square()
    )
    sheet.paint(
        who.lips.lerp(torch.ones_like(who.lips), 0.62), shine * painted * (0.62 * soft + 0.12) * (1 - 0.8 * closure)
    )
    sheet.paint(who.lips * 0.55, sheet.line(lips, wide(who.ink_width) * 0.75) * drawn * ramp(within, -0.1, 0.3) * 0.6)

    # inside: throat, tongue, teeth
    gap = (up + fall - 0.035 * tuck).clamp(min=0)
    inside = sheet.cover(inner) * ramp(gap, 0.004, 0.02)
    throat = who.lips.new_tensor([0.23, 0.05, 0.07]).expand_as(who.lips)
    depth = ramp((down - top) / (gap + 0.02), 0.1, 0.9)
    sheet.paint(throat[:, :, None, None] * (0.55 + 0.55 * depth)[:, None], inside)
    tongue = (x / (half * 0.62)).square() + ((down - bottom - 0.015) / (0.055 + 0.36 * gap)).square() - 1
    sheet.paint(
        who.lips.new_tensor([0.80, 0.36, 0.38]).expand_as(who.lips),
        ramp(-tongue, -0.05, 0.55) * inside * ramp(gap, 0.08, 0.16) * 0.92,
    )
    sheet.paint(
        who.lips.new_tensor([0.50, 0.16, 0.20]).expand_as(who.lips),
        bell((x / (half * 0.07)).square()) * ramp(-tongue, 0.1, 0.6) * inside * 0.45 * ramp(gap, 0.12, 0.2),
    )
    reach = half * 0.86
    bite = (x / reach).square()
    band = (0.070 + 0.014 * width + 0.03 * tuck) * (1 - 0.30 * bite) * (1 - 0.45 * rounded)
    teeth = torch.maximum((top - 0.02 - down), down - (top.maximum(line - up) + band.clamp(min=0.02)))
    teeth = torch.maximum(teeth, (x.abs() - reach))
    lit = 1 - 0.42 * ramp(bite, 0.25, 1.0) - 0.20 * bell(((down - top) / 0.03).square())
    gaps = 1 - 0.16 * bell((((x / 0.062).remainder(1.0) - 0.5) / 0.13).square()) * ramp(sheet.pixel, 0.06, 0.02)
    sheet.paint(who.tooth[:, :, None, None] * (lit * gaps)[:, None], sheet.cover(teeth) * inside)
    low = torch.maximum(bottom - 0.040 * (1 - 0.4 * (x / (half * 0.6)).square()) - down, x.abs() - half * 0.58)
    sheet.paint(
        who.tooth[:, :, None, None] * (0.80 * lit)[:, None],
        sheet.cover(low) * inside * ramp(fall, 0.13, 0.20) * ramp(width, -0.7, -0.1),
    )
    # where the lips meet
    meet = sheet.line(down - 0.5 * (top + bottom), 0.026) * ramp(within, -0.06, 0.12)
    sheet.paint(who.lips * 0.38, meet * (1 - ramp(gap, 0.0, 0.035)) * 0.88)
    sheet.paint(who.lips * 0.35, sheet.line(inner, 0.014) * inside.clamp(max=1) * 0.7)
    sheet.put_back()

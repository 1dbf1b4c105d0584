"""The mouth of a drawn head: lips that the four tracks shape, teeth, tongue, moustache."""

from __future__ import annotations

import torch
from torch import Tensor

from .canvas import Pose, Sheet, bell, ramp, wide
from .identities import Identities
from .motion import FaceMotion


def mouth_shape(who: Identities, motion: FaceMotion) -> tuple[Tensor, Tensor, Tensor]:
    """Half width of the lips, and how far the inner edges lie above and below the line where they meet; (B, 1, 1) each."""
    opening = wide(motion.opening * (1 - .92 * motion.closure)).clamp(0, 1)
    width = wide(motion.width)
    half = wide(who.mouth_width) * (1 + .17 * width.clamp(min=0) + .36 * width.clamp(max=0) - .07 * opening)
    tuck = wide(motion.tuck)
    up = opening * .062 + .048 * tuck * (1 - opening)
    down = opening * (.245 - .05 * width.clamp(0, 1)) * (1 - .55 * tuck) + .012 * tuck
    return half, up, down


def paint_mouth(whole: Sheet, who: Identities, motion: FaceMotion, pose: Pose) -> None:
    sheet = whole.window(*pose.place(wide(0 * who.mouth_y), wide(who.mouth_y + .06)), .40, .34)
    x, y, _ = pose.chart(*pose.head(sheet.u, sheet.v))
    down = y - wide(who.mouth_y)
    half, up, fall = mouth_shape(who, motion)
    closure, tuck, width = wide(motion.closure), wide(motion.tuck), wide(motion.width)
    rounded = (-width).clamp(min=0)
    soft = ramp(wide(who.shade_soft), .2, .6)
    drawn = 1 - soft
    t = x / half
    square = t.square()
    arc = (1 - square).clamp(min=0)
    arch = arc.sqrt() * .45 + arc * .55  # inner edges: between a parabola and an ellipse
    corner = -(wide(who.smile) + .018 * width.clamp(min=0)) * (square - .35) * (1 - .5 * rounded)  # corners up
    line = corner + .012 * bell((t / .35).square()) * (1 - wide(motion.opening))  # the upper lip's middle dips a little
    top, bottom = line - up * arch, line + fall * arch - .035 * tuck * arc
    thin = (1 - .62 * closure) * (1 + .30 * rounded)
    bow = 1 - .20 * bell((t / .20).square()) + .12 * bell(((t.abs() - .28) / .3).square())
    upper = top - wide(who.lip_upper) * thin * (arc.sqrt() * .35 + arc * .65) * bow * (1 - .12 * wide(motion.opening))
    lower = bottom + wide(who.lip_lower) * thin * (1 - .60 * tuck) * (arc.sqrt() * .55 + arc * .45) * (1 - .15 * wide(motion.opening))

    within = 1 - square
    lips = torch.maximum(upper - down, down - lower)
    lips = torch.maximum(lips, (x.abs() - half) * .8)
    inner = torch.maximum(torch.maximum(top - down, down - bottom), (x.abs() - half * .985) * .8)

    # moustache below everything
    hair_top = wide(who.mouth_y) * 0 - .165 + .05 * (x / .22).square()
    stache = torch.maximum(torch.maximum(hair_top + .055 * ramp(x.abs(), .05, .30) - down, down - upper - .02), x.abs() - wide(who.mouth_width) * 1.12)
    strands = .5 + .5 * torch.sin(x * 70 + x.sign() * down * 40)
    full = wide(who.moustache)
    edge = .02 + .05 * (full < .5)
    sheet.paint((who.hair * .88)[:, :, None, None] * (.62 + .30 * strands * soft)[:, None], ramp(-stache, -.006, edge) * full)
    goatee = wide(((who.moustache > .85) & (who.moustache < .93)).float())
    patch = (x / .15).square() + ((down - .62 * fall - .21) / .10).square() - 1
    sheet.paint((who.hair * .8), ramp(-patch, 0, .5) * goatee)
    # a clear rim of skin around lips in a beard
    sheet.paint(who.skin.lerp(who.skin_shadow, .35), ramp(-(lips - .022), 0, .02) * wide(who.beard) * .55)

    # skin below the lip and beside the corners
    sheet.paint(who.skin_shadow, bell((x / (half * .8)).square() + ((down - (fall + wide(who.lip_lower) * thin + .055)) / .045).square()) * .42 * soft * wide(who.shade_depth))
    sheet.paint(who.skin_shadow * .8, bell(((x.abs() - half) / .055).square() + ((down - corner) / .045).square()) * .50 * soft)

    # lips
    painted = sheet.cover(lips)
    height = ((down - line) / (.5 * (wide(who.lip_upper + who.lip_lower)) + up + fall)).clamp(-1, 1)
    tone = 1 - .18 * soft * ramp(-height, -.05, .4) - .12 * ramp(square, .4, 1.0)
    color = who.lips[:, :, None, None] * tone[:, None]
    strength = 1 - drawn * .45 * wide((who.femininity < .5).float())
    sheet.paint(color, painted * strength)
    shine = bell(((x + .10 * half * wide(who.light[:, 0]).sign() * -1) / (half * .42)).square() + ((down - bottom - wide(who.lip_lower) * thin * .42) / (wide(who.lip_lower) * .36 * thin + .004)).square())
    sheet.paint(who.lips.lerp(torch.ones_like(who.lips), .62), shine * painted * (.62 * soft + .12) * (1 - .8 * closure))
    sheet.paint(who.lips * .55, sheet.line(lips, wide(who.ink_width) * .75) * drawn * ramp(within, -.1, .3) * .6)

    # inside: throat, tongue, teeth
    gap = (up + fall - .035 * tuck).clamp(min=0)
    inside = sheet.cover(inner) * ramp(gap, .004, .02)
    throat = who.lips.new_tensor([.23, .05, .07]).expand_as(who.lips)
    depth = ramp((down - top) / (gap + .02), .1, .9)
    sheet.paint(throat[:, :, None, None] * (.55 + .55 * depth)[:, None], inside)
    tongue = (x / (half * .62)).square() + ((down - bottom - .015) / (.055 + .36 * gap)).square() - 1
    sheet.paint(who.lips.new_tensor([.80, .36, .38]).expand_as(who.lips), ramp(-tongue, -.05, .55) * inside * ramp(gap, .08, .16) * .92)
    sheet.paint(who.lips.new_tensor([.50, .16, .20]).expand_as(who.lips), bell((x / (half * .07)).square()) * ramp(-tongue, .1, .6) * inside * .45 * ramp(gap, .12, .2))
    reach = half * .86
    bite = (x / reach).square()
    band = (.070 + .014 * width + .03 * tuck) * (1 - .30 * bite) * (1 - .45 * rounded)
    teeth = torch.maximum((top - .02 - down), down - (top.maximum(line - up) + band.clamp(min=.02)))
    teeth = torch.maximum(teeth, (x.abs() - reach))
    lit = 1 - .42 * ramp(bite, .25, 1.0) - .20 * bell(((down - top) / .03).square())
    gaps = 1 - .16 * bell((((x / .062).remainder(1.0) - .5) / .13).square()) * ramp(sheet.pixel, .06, .02)
    sheet.paint(who.tooth[:, :, None, None] * (lit * gaps)[:, None], sheet.cover(teeth) * inside)
    low = torch.maximum(bottom - .040 * (1 - .4 * (x / (half * .6)).square()) - down, x.abs() - half * .58)
    sheet.paint(who.tooth[:, :, None, None] * (.80 * lit)[:, None], sheet.cover(low) * inside * ramp(fall, .13, .20) * ramp(width, -.7, -.1))
    # where the lips meet
    meet = sheet.line(down - .5 * (top + bottom), .026) * ramp(within, -.06, .12)
    sheet.paint(who.lips * .38, meet * (1 - ramp(gap, .0, .035)) * .88)
    sheet.paint(who.lips * .35, sheet.line(inner, .014) * inside.clamp(max=1) * .7)
    sheet.put_back()

"""Eyes, brows and glasses of a drawn head, each eye in a window of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from .canvas import Pose, Sheet, bell, ramp, wide
from .identities import Identities
from .motion import FaceMotion


def paint_eyes(whole: Sheet, who: Identities, motion: FaceMotion, pose: Pose) -> None:
    for side, blink in ((-1.0, motion.blink_left), (1.0, motion.blink_right)):
        center = pose.place(side * wide(who.eye_x), wide(who.eye_y - 0.07))
        sheet = whole.window(*center, 0.285, 0.30)
        x, y, _ = pose.chart(*pose.head(sheet.u, sheet.v))
        _paint_eye(sheet, who, motion, side, wide(blink), x, y)
        _paint_brow(sheet, who, motion, side, x, y)
        sheet.put_back()


def _paint_eye(
    sheet: Sheet, who: Identities, motion: FaceMotion, side: float, blink: Tensor, x: Tensor, y: Tensor
) -> None:
    out = side * x - wide(who.eye_x)  # towards the temple
    down = y - wide(who.eye_y) + wide(who.eye_tilt) * out
    w, h = wide(who.eye_width), wide(who.eye_height)
    soft = ramp(wide(who.shade_soft), 0.2, 0.6)
    anime = wide((who.style == 3).float())
    t = (out / w).square()
    arc = (1 - t).clamp(min=0)
    arc = arc * (0.55 + 0.45 * arc) + 0.45 * arc * (1 - arc)  # fuller than a parabola
    arc = torch.where(t < 1, arc, 1 - t)
    lean = 1 + 0.16 * out / w  # the upper lid is highest a little outside the middle
    # anime lids are squarer
    squeeze = motion.brow.clamp(-0.5, 0)
    upper_open = -h * arc * lean * (1 + 0.12 * wide(squeeze)) - 0.02 * anime * arc
    lower = h * 0.74 * arc
    shut = h * 0.46 * arc + 0.02
    lid = (blink * 1.0).clamp(0, 1)
    upper = torch.lerp(upper_open, shut, lid)
    lower = torch.lerp(lower, shut, lid * 0.85)
    distance = torch.maximum(upper - down, down - lower) * 0.9
    distance = torch.maximum(distance, out.abs() - w)
    open_share = (1 - lid * 1.02).clamp(0, 1)
    inside = sheet.cover(distance + 0.5 * sheet.pixel * (open_share < 0.25)) * ramp(open_share, 0.02, 0.14)

    # lid above: a crease, and while closing the lid itself
    lid_zone = torch.maximum(upper_open - 0.012 - down, down - upper)
    sheet.paint(who.skin.lerp(who.skin_shadow, 0.30), sheet.cover(lid_zone) * 0.75 * ramp(lid, 0.0, 0.15))
    crease = upper_open * 1.18 - 0.030 - 0.01 * soft
    sheet.paint(
        who.skin_shadow * 0.78,
        sheet.line(down - crease, 0.022) * ramp(1.0 - t, 0, 0.4) * (0.50 - 0.2 * anime) * (1 - 0.5 * lid),
    )
    sheet.paint(
        who.skin_shadow * 0.85, bell((t - 0.0) * 0.8) * bell(((down - lower - 0.03) / 0.06).square()) * 0.30 * soft
    )

    # white, iris, pupil, light
    white = who.tooth.new_tensor([0.985, 0.98, 0.97]) * torch.ones_like(who.skin)
    ball = 1 - 0.20 * bell(((down - upper_open) / (h * 0.95)).square()) - 0.16 * ramp(t, 0.35, 1.0) * soft
    sheet.paint(white[:, :, None, None] * ball[:, None], inside)
    size = wide(who.iris_size)
    gx = wide(motion.gaze_x) * w * 0.78
    gy = wide(motion.gaze_y) * h * 0.70
    ix = side * out - gx  # picture-wise, so that both eyes look the same way
    iy = down - gy + h * 0.06
    tall = 1 - 0.14 * anime
    r = (ix.square() + (iy * tall).square()).clamp(min=1e-9).sqrt() / size
    iris = sheet.cover((r - 1) * size) * inside
    glow = 0.60 + 0.62 * ramp(iy / size, -0.7, 0.9) + 0.16 * torch.sin(torch.atan2(iy, ix) * 11) * soft * (r > 0.45)
    color = (who.iris[:, :, None, None] * glow[:, None]).clamp(0, 1)
    sheet.paint(color, iris)
    sheet.paint(who.iris * 0.30, ramp(r, 0.74, 0.98) * iris * (0.80 - 0.2 * anime))
    sheet.paint(who.ink * 0.35, sheet.cover((r - (0.46 + 0.04 * anime)) * size) * inside)
    # the lid's shadow
    sheet.paint(who.ink * 0.5, bell(((down - upper) / (h * 0.55)).square()) * inside * (down > upper - 0.05) * 0.42)
    glint = torch.ones_like(who.skin)
    gl = torch.where(wide(who.light[:, 0]) > 0, 1.0, -1.0)
    spot = ((ix - gl * size * 0.33).square() + (iy + size * 0.36).square()).clamp(min=1e-9).sqrt() - size * (
        0.24 + 0.05 * anime
    )
    sheet.paint(glint, sheet.cover(spot) * inside * 0.96)
    spot = ((ix + gl * size * 0.36).square() + (iy - size * 0.42).square()).clamp(min=1e-9).sqrt() - size * 0.14
    sheet.paint(glint, sheet.cover(spot) * inside * (0.35 + 0.35 * anime))
    # inner corner
    sheet.paint(
        who.blush, bell(((out + w * 0.93) / (0.16 * w)).square() + ((down) / (0.3 * h)).square()) * inside * 0.8
    )

    # lash line and lashes
    lash = wide(who.lashes)
    along = out / w
    thick = (0.016 + 0.022 * lash + 0.012 * anime) * (0.62 + 0.38 * along.clamp(-1, 1)) * ramp(
        1.16 - along.abs(), 0, 0.25
    ) + 0.004
    ends = ramp(1.10 - along.abs(), 0, 0.12)
    stroke = (upper - 0.006 - down).abs() - thick * 0.5 - 0.004
    dark = torch.lerp(who.brow * 0.40, who.ink * 0.5, 0.6)
    sheet.paint(dark, sheet.cover(stroke) * ends * (0.62 + 0.38 * lash.clamp(max=1)))
    flick_y = upper + (along - 0.95) * 0.0 - (along - 0.80).clamp(min=0) * 0.30 * w * 1.4
    wing = torch.maximum(
        (down - flick_y + 0.004).abs() - 0.012 * ramp(1.42 - along, 0, 0.5), (along - 0.9).abs() - 0.44
    )
    sheet.paint(dark, sheet.cover(wing) * ramp(lash, 0.55, 0.8) * (1 - 0.5 * lid) * 0.85)
    sheet.paint(
        dark,
        sheet.line(down - lower, 0.014) * ramp(1.0 - t, 0, 0.3) * (0.34 + 0.20 * (1 - soft)) * ramp(along, -1.0, 0.2),
    )


def _paint_brow(sheet: Sheet, who: Identities, motion: FaceMotion, side: float, x: Tensor, y: Tensor) -> None:
    out = (side * x - wide(who.eye_x)) / wide(who.eye_width)
    raised = wide(motion.brow)
    center = wide(who.eye_y + who.brow_y) - raised * 0.075
    line = (
        center
        + (wide(who.brow_tilt) - 0.06 * raised.clamp(max=0)) * 0.16 * -out
        - wide(who.brow_arch) * (0.8 - 0.55 * (out - 0.10).square())
    )
    body = ramp(out, -1.28, -0.85) * (1 - ramp(out, 0.55, 1.42)).sqrt()
    thickness = wide(who.brow_thickness) * body * (1 - 0.22 * out.clamp(-1, 1))
    hairs = 0.004 * torch.sin(out * 34 + (y - line) * 60) * ramp(wide(who.shade_soft), 0.2, 0.6)
    distance = (y - line).abs() - thickness + hairs
    sheet.paint(who.brow, sheet.cover(distance) * ramp(thickness, 0.003, 0.012) * 0.92)


def paint_glasses(whole: Sheet, who: Identities, motion: FaceMotion, pose: Pose) -> None:
    lift = 0.07
    worn = wide(who.glasses)
    sheet = whole.window(*pose.place(wide(0 * who.eye_y), wide(who.eye_y), lift=lift), 0.66, 0.30)
    x, y, _ = pose.chart(*pose.head(sheet.u, sheet.v))
    x, y = x - lift * pose.sin_yaw * pose.width, y - lift * pose.sin_pitch
    w, h, rim = wide(who.glasses_width), wide(who.glasses_height), wide(who.glasses_rim)
    corner = torch.minimum(w, h) * wide(who.glasses_round) * 0.98
    ax, ay = (x.abs() - wide(who.eye_x) - 0.005).abs(), (y - wide(who.eye_y) - 0.015).abs()
    qx, qy = ax - w + corner, ay - h + corner
    lens = (
        (qx.clamp(min=0).square() + qy.clamp(min=0).square()).clamp(min=1e-9).sqrt()
        + torch.maximum(qx, qy).clamp(max=0)
        - corner
    )
    glass = sheet.cover(lens)
    sheet.paint(
        torch.ones_like(who.skin), glass * worn * (0.05 + 0.10 * ramp(torch.sin((x + 0.8 * y) * 7 + 1), 0.75, 0.9))
    )
    bridge = torch.maximum(
        (y - wide(who.eye_y) + 0.03 + 0.25 * x.square()).abs() - rim, x.abs() - (wide(who.eye_x) - w + 0.01)
    )
    temple = torch.maximum((y - wide(who.eye_y) + 0.04).abs() - rim * 0.8, (wide(who.eye_x) + w - 0.01 - x.abs()))
    temple = torch.maximum(temple, x.abs() - wide(who.face_width) * 1.02)
    rims = sheet.line(lens, rim * 1.7).maximum(sheet.cover(bridge)).maximum(sheet.cover(temple))
    sheet.shade(0.75, sheet.line(lens + 0.0 * x, rim * 3.5) * worn * 0.25)
    sheet.paint(who.glasses_color, rims * worn)
    sheet.put_back()

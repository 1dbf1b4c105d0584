"""Hair and hats of a drawn head: one shape with parameters for every style, painted once behind the face and once
before it."""

from __future__ import annotations

import torch
from torch import Tensor

from .canvas import Pose, Sheet, bell, ramp, soft_max, wide
from .face import face_distance
from .identities import Identities
from .motion import FaceMotion

CROWN = -0.14
"""Height of the widest part of the skull, in head units."""


class Hair:
    """Distances (B, H, W) of the hair of B heads, shared by its layers and by its shadow on the face."""

    def __init__(self, who: Identities, pose: Pose, px: Tensor, py: Tensor, chart, face: Tensor):
        x, y, _ = chart
        self.who, self.pose, self.px, self.py = who, pose, px, py
        side, top = wide(who.hair_side), wide(who.hair_top)
        self.scarf = wide((who.hat == 4).float())
        cap_x = px + 0.05 * pose.sin_yaw
        cap_y = py + 0.03 * pose.sin_pitch
        self.angle = torch.atan2(cap_x, -(cap_y + 0.05))  # 0 at the crown, signed to the sides
        curl, wave = wide(who.hair_curl), wide(who.hair_wave)
        ruffle = wave * (
            torch.sin(self.angle * 9 + wide(who.phase[:, 0]))
            + 0.6 * torch.sin(self.angle * 17 + wide(who.phase[:, 1]))
            + 1.0 * curl * torch.sin(self.angle * 29)
        )
        spiky = wide((who.hair_style == 5).float())
        peaks = ((self.angle * 3.6 + wide(who.phase[:, 2]) * 0.2).remainder(1.0) - 0.5).abs() * 2
        ruffle = ruffle + spiky * (0.17 * peaks - 0.06) * ramp(1.9 - self.angle.abs(), 0, 0.4)
        wing = wide(who.face_width) + side + 0.02
        flow = wave * torch.sin(py * 8 + wide(who.phase[:, 3])) * ramp(py, 0.2, 0.7)  # long hair waves on its way down
        tall = 1 + CROWN + top + 0.035
        above = cap_y - CROWN
        ey = torch.where(above < 0, above / tall, above / (wide(who.hair_round) * 0.92))
        r = ((cap_x.abs() - flow).clamp(min=0) / wing).square() + ey.square()
        self.cap = (r.clamp(min=1e-6).sqrt() - 1) * (0.5 * (wing + tall)) - ruffle
        quiff = wide((who.hair_style == 3).float())
        lifted = (
            ((px - 0.10 * wide(who.hair_part).sign() - 0.12 * pose.sin_yaw) / 0.52).square()
            + ((py + 0.86 - 0.10 * pose.sin_pitch) / 0.30).square()
        ).sqrt().sub(1) * 0.32
        self.cap = torch.where(quiff > 0, torch.minimum(self.cap, lifted - 0.6 * ruffle), self.cap)
        # hairline, in the face's chart
        off = x - wide(who.hair_part)
        swept = wide(who.hair_sweep) * (off.abs() * 1.15).clamp(max=1.3).pow(1.7)
        teeth = (
            (x * wide(who.hair_jags) * 0.5 + 0.3 * off.sign() + wide(who.phase[:, 3]) * 0.3).remainder(1.0) - 0.5
        ).abs() * 2 - 0.5
        line = wide(who.hairline) + swept - wide(who.hair_jag) * teeth * 1.5 + 0.4 * ruffle
        edge = wide(who.hair_open) - 0.03 + 0.07 * ramp(y, -0.25, 0.45) + 0.05 * wave * torch.sin(y * 7)
        # hair beside the temples stays
        self.open = torch.maximum(
            soft_max((line - y) * 0.9, x.abs() - edge, 0.26), face + 0.02 - 2 * ramp(py, 0.10, 0.45)
        )
        self.open = torch.where(
            self.scarf > 0, (((x / 0.66).square() + ((y - 0.17) / 0.86).square()).sqrt() - 1) * 0.7, self.open
        )
        ends = (
            py
            - wide(who.hair_sides)
            - 0.05 * torch.sin(px * 21 + wide(who.phase[:, 1])) * (wide(who.hair_sides) > 0.4)
            - 0.10 * px.square()
        )
        cap = torch.where(
            self.scarf > 0,
            (((px / (wide(who.face_width) + 0.10)).square() + ((py - 0.0) / 1.12).square()).sqrt() - 1) * 0.9,
            self.cap,
        )
        front = torch.maximum(cap, -self.open)
        self.front = torch.where(self.scarf > 0, front, torch.maximum(front, ends))
        ring = wide((who.hair_style == 11).float())
        self.front = torch.where(
            ring * (1 - self.scarf) > 0, soft_max(self.front, -0.24 - py - 0.5 * (px.abs() - 0.7), 0.10), self.front
        )
        self.front = torch.where(
            wide((who.hair_style == 0).float()) * (1 - self.scarf) > 0, torch.full_like(px, 9.0), self.front
        )

    def color(self, tone: Tensor, gloss: Tensor) -> Tensor:
        who = self.who
        base = who.hair[:, :, None, None] * tone[:, None]
        base = torch.lerp(base, who.hair_light[:, :, None, None], gloss[:, None])
        cloth = who.hat_color[:, :, None, None] * (0.55 + 0.45 * tone)[:, None]
        return torch.lerp(base, cloth, self.scarf[:, None])

    def paint_back(self, sheet: Sheet) -> None:
        """What hangs behind the neck; it lags behind the face when the head turns."""
        who, pose = self.who, self.pose
        shift = 0.22 * pose.sin_yaw
        x = self.px + shift
        long = wide(who.hair_back)
        wing = wide(who.face_width) + wide(who.hair_side) - 0.03 + 0.10 * ramp(self.py, 0, 1.2)
        flow = wide(who.hair_wave) * torch.sin(self.py * 8 + wide(who.phase[:, 3])) * 1.3
        ends = (
            self.py
            - long
            - 0.028 * torch.sin(self.px * 17 + wide(who.phase[:, 2]))
            - 0.02 * torch.sin(self.px * 41)
            + 0.25 * (x / wing).square() * (long < 1.2)
        )
        distance = soft_max(soft_max(x.abs() - wing - flow, -0.1 - self.py, 0.3), ends, 0.12)
        strands = torch.sin(x * 31 + 3 * flow) * 0.5 + torch.sin(x * 57 + 1) * 0.3
        soft = ramp(wide(who.shade_soft), 0.2, 0.6)
        tone = 0.58 + 0.10 * strands * (0.4 + 0.6 * soft) - 0.10 * ramp(self.py, 0.3, 1.3)
        alpha = sheet.cover(distance) * (long > 0) * (1 - self.scarf)
        sheet.paint(self.color(tone, torch.zeros_like(tone)), alpha)
        lw = wide(who.ink_width)
        sheet.paint(who.ink, sheet.line(distance, lw) * (lw > 0) * (long > 0) * (1 - self.scarf))
        bun = self.bun()
        tone = 0.72 + 0.12 * torch.sin(self.px * 30 + self.py * 12)
        shown = (wide(who.hair_bun) > 0) * (1 - self.scarf)
        sheet.paint(self.color(tone, torch.zeros_like(tone)), sheet.cover(bun) * shown)
        sheet.paint(who.ink, sheet.line(bun, lw) * (lw > 0) * shown)

    def bun(self) -> Tensor:
        size = wide(self.who.hair_bun)
        x, y = (
            self.px + 0.18 * self.pose.sin_yaw - 0.25 * wide(self.who.hair_part),
            self.py + 1.14 + 0.20 * self.pose.sin_pitch,
        )
        return ((x.square() + y.square()).clamp(min=1e-8).sqrt() - size) - 0.012 * torch.sin(self.angle * 20)

    def paint_front(self, sheet: Sheet) -> None:
        who = self.who
        px, py = self.px, self.py
        lw = wide(who.ink_width)
        soft = ramp(wide(who.shade_soft), 0.2, 0.6)
        curl = wide(who.hair_curl)
        # strands run from the parting over the skull and then down
        root = px - 0.35 * wide(who.hair_part)
        fan = torch.atan2(root, -(py - 0.35).clamp(max=-0.02))
        s = fan * 3.2 + 0.35 * px
        s = s + 0.10 * torch.sin(s * 3.7 + wide(who.phase[:, 2]))
        strands = (
            0.45 * torch.sin(s * 9 + wide(who.phase[:, 0]))
            + 0.33 * torch.sin(s * 17 + 2.1 + wide(who.phase[:, 1]))
            + 0.22 * torch.sin(s * 31 + 4)
        )
        knots = torch.sin(px * 26 + 2.0 * torch.sin(py * 19)) * torch.sin(py * 26 + 2.0 * torch.sin(px * 17 + 1))
        strands = torch.lerp(strands, knots, curl) * (1 - self.scarf)
        nx, ny = px / (wide(who.face_width) + wide(who.hair_side)), (py - CROWN) / 1.1
        lx, ly, lz = (wide(part) for part in who.light.unbind(-1))
        nz = (1 - nx * nx - ny * ny).clamp(min=0.02).sqrt()
        lit = nx * lx + ny * ly + nz * lz
        tone_soft = 0.62 + 0.42 * ramp(lit, -0.2, 0.9) + 0.105 * strands
        tone_flat = 0.92 + 0.06 * (strands > 0.25) - 0.12 * wide(who.shade_depth) * (lit < 0.25)
        tone = torch.lerp(tone_flat, tone_soft, soft)
        shine = bell(((py + 0.66 + 0.25 * px.square() - 0.12 * lx * px) / 0.17).square()) * ramp(lit, 0.1, 0.9)
        gloss = shine * (0.45 + 0.55 * strands).clamp(0, 1) * 0.62 * soft
        flat_shine = ramp(shine + 0.16 * strands, 0.40, 0.46) * 0.45 * (1 - soft) * wide((who.style == 3).float())
        gloss = (gloss + flat_shine) * (1 - curl * 0.6) * (1 - self.scarf)
        rim = bell((self.front.clamp(max=0) / 0.09).square()) * 0.22 * soft
        tone = tone * (1 - rim)
        alpha = sheet.cover(self.front) * wide(who.hair_alpha)
        sheet.paint(self.color(tone, gloss), alpha)
        ink = sheet.line(self.front, lw) * (lw > 0) * wide(who.hair_alpha)
        sheet.paint(who.ink, ink)
        inner = ((s * 2.2).remainder(1.0) - 0.5).abs() - 0.03
        sheet.paint(who.ink, sheet.cover(inner * 0.3 + 0.01) * alpha * (lw > 0) * (1 - curl) * 0.35 * (1 - self.scarf))


def paint_hat(sheet: Sheet, who: Identities, motion: FaceMotion, pose: Pose) -> None:
    px, py = pose.head(sheet.u, sheet.v)
    x, y, depth = pose.chart(px, py)
    hair = Hair(who, pose, px, py, (x, y, depth), face_distance(px, py, who, pose, 0 * pose.scale))
    lw = wide(who.ink_width)
    soft = ramp(wide(who.shade_soft), 0.2, 0.6)
    kind = who.hat
    beanie, cap, band = (wide((kind == index).float()) for index in (1, 2, 3))
    wing = wide(who.face_width) + wide(who.hair_side).clamp(max=0.16) + 0.06
    dome = ((px + 0.04 * pose.sin_yaw) / wing).square() + (
        (py - CROWN) / (1.04 + 0.04 * beanie + wide(who.hair_top).clamp(max=0.12))
    ).square()
    dome = (dome.clamp(min=1e-6).sqrt() - 1) * 0.95
    curve = 0.10 * (x / 0.7).square()
    low = y + 0.46 - curve * 0.6
    hat = soft_max(dome, low, 0.05)
    nx, ny = px / wing, py
    lit = nx * wide(who.light[:, 0]) - (ny + 0.9) * 0.5
    knit = 0.07 * torch.sin(x * 44) * beanie
    tone = 1 - 0.42 * wide(who.shade_depth) * ramp(-lit, -0.7, 0.6) * (0.35 + 0.65 * soft) + knit
    alpha = sheet.cover(hat) * (beanie + cap)
    sheet.paint(who.hat_color[:, :, None, None] * tone[:, None], alpha)
    sheet.paint(who.ink, sheet.line(hat, lw) * (lw > 0) * (beanie + cap))
    seam = sheet.line(x - 0.35 * pose.sin_yaw, 0.02) + sheet.line(x.abs() - 0.42 - 0.3 * (y + 1.1), 0.016)
    sheet.paint(who.hat_color * 0.62, seam.clamp(max=1) * alpha * cap * 0.6)
    # beanie: a folded rim; cap: a brim that stands off the forehead
    fold = soft_max((low + 0.09).abs() - 0.115, dome - 0.035, 0.10)
    rib = 1 - 0.16 * ramp(torch.sin(x * 60), -0.2, 0.9)
    sheet.paint(who.hat_trim[:, :, None, None] * (tone * rib)[:, None], sheet.cover(fold) * beanie)
    sheet.paint(who.ink, sheet.line(fold, lw) * (lw > 0) * beanie)
    bx, by = px - 0.34 * pose.sin_yaw, py + 0.47 - 0.34 * pose.sin_pitch - 0.16 * (px - 0.34 * pose.sin_yaw).square()
    brim = ((bx / (wide(who.face_width) * 0.98)).square() + ((by + 0.02) / 0.13).square()).clamp(min=1e-6).sqrt().sub(
        1
    ) * 0.13
    shade = 1 - 0.35 * ramp(by, -0.10, 0.12)
    sheet.paint(who.hat_trim[:, :, None, None] * shade[:, None], sheet.cover(brim) * cap)
    sheet.paint(who.ink, sheet.line(brim, lw.clamp(min=0.012)) * cap * 0.55)
    # a hair band lies on the hair
    strap = torch.maximum((hair.cap + 0.02), (y + 0.70 - 0.22 * x.square() * 1.2).abs() - 0.065)
    strap = torch.maximum(strap, -hair.open - 0.1)
    sheet.paint(
        who.hat_color[:, :, None, None] * (1 - 0.3 * ramp(px.abs(), 0.3, 0.9))[:, None], sheet.cover(strap) * band
    )
    sheet.paint(who.ink, sheet.line(strap, lw) * (lw > 0) * band)

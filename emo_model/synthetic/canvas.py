"""The sheet that heads are painted on: signed distances, the pose of a head, and small windows into the picture."""

from __future__ import annotations

import torch
from torch import Tensor

from .identities import Identities
from .motion import FaceMotion

HEIGHT = 1.16
"""Vertical radius of the ellipsoid that carries the features, in head units; the horizontal one is a sixth over the
face's."""


def wide(value: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1)."""
    return value[:, None, None]


def ramp(value: Tensor, low, high) -> Tensor:
    """Smoothstep: 0 at low, 1 at high."""
    t = ((value - low) * (1 / (high - low))).clamp_(0, 1)
    return t * t * (3 - 2 * t)


def bell(square: Tensor) -> Tensor:
    """A soft spot without tails: (1 - d^2)^2 of a squared distance, 0 beyond 1."""
    return (1 - square).clamp_(min=0).square_()


def soft_max(a: Tensor, b: Tensor, k: float) -> Tensor:
    """Maximum with a rounded corner of size k."""
    h = (k - (a - b).abs()).clamp_(min=0)
    return torch.maximum(a, b) + h * h * (0.25 / k)


def superellipse(x: Tensor, y: Tensor, power) -> Tensor:
    """|x|^p + |y|^p to the 1/p: 1 on the rim."""
    return (x.abs().clamp(min=1e-4).pow(power) + y.abs().clamp(min=1e-4).pow(power)).pow(1 / power)


class Pose:
    """Where the head of each of B pictures is. Picture coordinates u, v are -1..1, right and down."""

    def __init__(self, who: Identities, motion: FaceMotion):
        self.scale = wide(who.head_size * motion.scale)
        self.u, self.v = wide(who.head_x + motion.x), wide(who.head_y + motion.y)
        self.body_u, self.body_v = wide(who.head_x + 0.35 * motion.x), wide(who.head_y + 0.35 * motion.y)
        self.body_scale = wide(who.head_size * (1 + 0.5 * (motion.scale - 1)))
        self.cos_roll, self.sin_roll = wide(motion.roll.cos()), wide(motion.roll.sin())
        self.cos_yaw, self.sin_yaw = wide(motion.yaw.cos()), wide(motion.yaw.sin())
        self.cos_pitch, self.sin_pitch = wide(motion.pitch.cos()), wide(motion.pitch.sin())
        self.width = wide(who.face_width * 1.16)

    def head(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Picture -> head plane: roll, place and size undone."""
        du, dv = (u - self.u) / self.scale, (v - self.v) / self.scale
        return self.cos_roll * du + self.sin_roll * dv, self.cos_roll * dv - self.sin_roll * du

    def chart(self, px: Tensor, py: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Head plane -> the face seen from the front (x, y) and how far the point faces us (depth, 0 at the rim)."""
        x, y = px / self.width, py / HEIGHT
        square = x * x + y * y
        beyond = square.clamp(min=0.998).rsqrt_().mul_(0.99899950)  # points outside slide onto the rim
        x, y = x * beyond, y * beyond
        z = (1 - square).clamp_(min=0.002).sqrt_()
        turned = y * self.sin_pitch + z * self.cos_pitch
        cy = y * self.cos_pitch - z * self.sin_pitch
        cx = x * self.cos_yaw - turned * self.sin_yaw
        return cx * self.width, cy * HEIGHT, z

    def place(self, x: Tensor, y: Tensor, lift=0.0) -> tuple[Tensor, Tensor]:
        """Face seen from the front -> picture; x, y: (B, 1, 1). lift: how far above the skin, in head depths."""
        cx, cy = x / self.width, y / HEIGHT
        z = (1 - cx * cx - cy * cy).clamp(min=0.002).sqrt() + lift
        x = cx * self.cos_yaw + z * self.sin_yaw
        z = z * self.cos_yaw - cx * self.sin_yaw
        y = cy * self.cos_pitch + z * self.sin_pitch
        return self.out(x * self.width, y * HEIGHT)

    def out(self, px: Tensor, py: Tensor) -> tuple[Tensor, Tensor]:
        """Head plane -> picture."""
        return (
            self.u + self.scale * (self.cos_roll * px - self.sin_roll * py),
            self.v + self.scale * (self.sin_roll * px + self.cos_roll * py),
        )


class Sheet:
    """Pixels (B, 3, h, w) in 0..1 at picture coordinates u, v; `pixel` is a pixel's size in head units."""

    def __init__(self, rgb: Tensor, u: Tensor, v: Tensor, pixel: Tensor):
        self.rgb, self.u, self.v, self.pixel = rgb, u, v, pixel

    def cover(self, distance: Tensor) -> Tensor:
        """Share of a pixel inside a shape: distance < 0."""
        return (0.5 - distance / self.pixel).clamp_(0, 1)

    def line(self, distance: Tensor, width) -> Tensor:
        """Share of a pixel on a line of this width along distance = 0; thin lines fade, they do not vanish."""
        reach = 0.5 * width / self.pixel
        return (reach + 0.5 - (distance / self.pixel).abs()).clamp_(min=0).minimum((2 * reach).clamp(max=1))

    def paint(self, color: Tensor, alpha: Tensor) -> None:
        """color: (B, 3) or (B, 3, h, w); alpha: (B, h, w)."""
        self.rgb.lerp_(color[:, :, None, None] if color.ndim == 2 else color, alpha[:, None])

    def shade(self, factor: Tensor, alpha: Tensor) -> None:
        """Multiply by a tint (B, 3) or number where alpha is 1."""
        if not torch.is_tensor(factor):
            self.rgb.mul_((1 - (1 - factor) * alpha)[:, None])
        else:
            self.rgb.mul_(1 - (1 - factor[:, :, None, None]) * alpha[:, None])

    @classmethod
    def blank(cls, count: int, size: int, scale: Tensor) -> Sheet:
        axis = (torch.arange(size, device=scale.device, dtype=torch.float32) + 0.5) * (2 / size) - 1
        return cls(
            torch.empty(count, 3, size, size, device=scale.device),
            axis[None, None, :],
            axis[None, :, None],
            (2 / size) / scale,
        )

    def window(self, u: Tensor, v: Tensor, width: float, height: float) -> Window:
        """A part of the picture around u, v (B, 1, 1), sizes as shares of the picture; its pixels are copies until
        `put_back`."""
        size = self.rgb.shape[-1]
        w, h = min(size, round(width * size)), min(size, round(height * size))
        left = ((u.reshape(-1) + 1) * (size / 2) - w / 2).round().long().clamp(0, size - w)
        top = ((v.reshape(-1) + 1) * (size / 2) - h / 2).round().long().clamp(0, size - h)
        columns = left[:, None] + torch.arange(w, device=u.device)
        rows = top[:, None] + torch.arange(h, device=u.device)
        index = (rows[:, :, None] * size + columns[:, None, :]).flatten(1)[:, None].expand(-1, 3, -1)
        rgb = self.rgb.flatten(2).gather(2, index).unflatten(2, (h, w))
        return Window(
            self, index, rgb, self.u[0, 0][columns][:, None, :], self.v[0, :, 0][rows][:, :, None], self.pixel
        )


class Window(Sheet):
    def __init__(self, whole: Sheet, index: Tensor, rgb: Tensor, u: Tensor, v: Tensor, pixel: Tensor):
        super().__init__(rgb, u, v, pixel)
        self.whole, self.index = whole, index

    def put_back(self) -> None:
        self.whole.rgb.flatten(2).scatter_(2, self.index, self.rgb.flatten(2))

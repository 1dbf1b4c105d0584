"""The inside of a mouth, painted: teeth that hang from the skull, lower teeth and tongue on the jaw, in the light of
the skin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

OVER = 3  # samples along each side of a pixel
_TEETH = 10  # upper and lower row alike


@dataclass(frozen=True, eq=False)
class MouthLook:
    """A person's mouth; lengths in outer eye distances, colours 0..255.

    upper, lower: (T, 5) of each tooth: left, right, length beyond the row's line, tilt, brightness; sorted from left to
    right.
    """

    upper: np.ndarray
    lower: np.ndarray
    enamel: np.ndarray
    gum: np.ndarray
    tongue: np.ndarray
    throat: np.ndarray
    upper_line: float  # how far the upper teeth reach below the shut lips' line
    lower_line: float  # the same of the lower teeth on the jaw, less a constant
    arch: float  # half the width of the row that shows
    tongue_height: float
    gap_dark: float


def sample_look(
    seed: int,
    *,
    half_width: float,
    skin: np.ndarray,
    lips: np.ndarray,
    face: np.ndarray,
    teeth: np.ndarray | None = None,
) -> MouthLook:
    """A mouth for a person whose lips are 2 * half_width wide, in the colours (3,) of their skin, their lips and the
    lightest parts of their face; teeth: their own, where the picture shows them."""
    dice = np.random.default_rng(seed)
    size = dice.uniform(0.88, 1.14)
    crooked = dice.choice([0.15, 0.5, 1.0, 2.0], p=[0.3, 0.4, 0.2, 0.1])
    spread = dice.choice([0.0, 0.006], p=[0.85, 0.15])
    gap = dice.uniform(0.008, 0.02) if dice.random() < 0.12 else 0.0
    widths = np.array([0.098, 0.075, 0.078, 0.062, 0.055]) * size
    upper = _row(dice, widths, np.array([0.0, -0.013, -0.004, -0.014, -0.02]), crooked, spread, gap)
    widths = np.array([0.058, 0.062, 0.066, 0.06, 0.055]) * size
    lower = _row(dice, widths, np.array([0.0, 0.0, 0.004, -0.004, -0.01]), 1.5 * crooked, 0.0, 0.0)
    bright = float(np.clip(skin @ [0.299, 0.587, 0.114], 25, 235))
    chroma = float(np.clip(max(_chroma(skin) / 0.42, 0.9 * _chroma(lips) / 0.42), 0.0, 1.15))
    warm = dice.uniform(0.0, 1.0)
    enamel = np.array([1.0, 0.965 - 0.05 * warm * chroma, 0.88 - 0.16 * warm * chroma])
    enamel = 1 + (enamel - 1) * chroma
    cast = skin / max(bright, 1.0)
    typical = np.array([1.24, 0.94, 0.76])
    enamel = enamel * (1 + 0.45 * chroma * (cast / (1 + (typical - 1) * chroma) - 1))  # colour of the light
    light = float(face @ [0.299, 0.587, 0.114])
    level = min(232.0, 0.55 * (bright * dice.uniform(1.12, 1.32) + 16) + 0.45 * light)
    enamel = enamel / (enamel @ [0.299, 0.587, 0.114]) * level
    if teeth is not None:
        enamel = 0.3 * enamel + 0.7 * teeth
    flesh = 0.55 * lips + 0.45 * bright * (1 + (np.array([1.25, 0.72, 0.70]) - 1) * chroma)
    tongue = flesh * dice.uniform(0.80, 1.0)
    upper_line, lower_line = dice.uniform(0.020, 0.075) * size, dice.uniform(-0.055, 0.0)
    arch, tongue_height = half_width * dice.uniform(0.88, 1.0), dice.uniform(0.08, 0.16)
    gap_dark = dice.uniform(0.15, 0.45)
    throat = dice.uniform(0.27, 0.48) * flesh * np.array([1.0, 0.85, 0.85]) ** chroma
    gum = 0.80 * flesh
    return MouthLook(upper, lower, enamel, gum, tongue, throat, upper_line, lower_line, arch, tongue_height, gap_dark)


def _chroma(colour: np.ndarray) -> float:
    return float((colour.max() - colour.min()) / max(colour.max(), 1.0))


def _row(dice, widths, lengths, crooked, spread, gap):
    sides = []
    for side in (-1, 1):
        edge = gap / 2
        for width, length in zip(widths, lengths, strict=True):
            width = width * (1 + 0.05 * crooked * dice.standard_normal())
            ends = sorted((side * edge, side * (edge + width)))
            sides.append(
                [
                    *ends,
                    length + 0.004 * crooked * dice.standard_normal(),
                    0.05 * crooked * dice.standard_normal(),
                    1 + 0.025 * crooked * dice.standard_normal(),
                ]
            )
            edge += width + spread
    return np.array(sorted(sides))


@cache
def kernel():
    """The compiled painter."""
    from numba import njit

    @njit(cache=True)
    def tooth(table, x):
        """Which tooth is at x: number, and place across it in -1..1; number -1 between teeth."""
        for n in range(table.shape[0]):
            if table[n, 0] <= x < table[n, 1]:
                middle = (table[n, 0] + table[n, 1]) / 2
                return n, (x - middle) / ((table[n, 1] - table[n, 0]) / 2)
        return -1, 0.0

    @njit(cache=True)
    def paint(out, mask, contour, count, to_skull, jaw, has_teeth, upper, lower, colours, numbers, strength):
        """Paint into out (S, S, 3) uint8 and mask (S, S).

        contour (3, K, 2): upper and lower inner lip in pixels, from corner to corner, and the lower edge of the
        picture's own upper teeth, which are left alone if has_teeth; to_skull (2, 3): pixels to the skull's plane in
        eye distances, origin at the middle of the shut lips; jaw: how far the jaw has dropped; colours (4, 3): enamel,
        gum, tongue, throat; numbers: upper_line, lower_line, arch, tongue_height, gap_dark, pixels per eye distance,
        light at the left and at the right.
        """
        size = out.shape[0]
        n = OVER
        ax, ay = contour[0, 0, 0], contour[0, 0, 1]
        bx, by = contour[0, count - 1, 0], contour[0, count - 1, 1]
        long = math.sqrt((bx - ax) ** 2 + (by - ay) ** 2)
        if long < 1.5:
            return
        ex, ey = (bx - ax) / long, (by - ay) / long
        left = right = ax
        top = bottom = ay
        # lips as height over the line between the corners
        cells = 96
        above = np.full(cells + 1, 1e9)
        below = np.full(cells + 1, -1e9)
        own = np.full(cells + 1, -1e9)
        for row in range(3 if has_teeth else 2):
            for p in range(count - 1):
                x0 = (contour[row, p, 0] - ax) * ex + (contour[row, p, 1] - ay) * ey
                y0 = -(contour[row, p, 0] - ax) * ey + (contour[row, p, 1] - ay) * ex
                x1 = (contour[row, p + 1, 0] - ax) * ex + (contour[row, p + 1, 1] - ay) * ey
                y1 = -(contour[row, p + 1, 0] - ax) * ey + (contour[row, p + 1, 1] - ay) * ex
                first = max(0, int(math.ceil(min(x0, x1) / long * cells - 1e-6)))
                last = min(cells, int(math.floor(max(x0, x1) / long * cells + 1e-6)))
                for cell in range(first, last + 1):
                    x = cell * long / cells
                    share = 0.5 if abs(x1 - x0) < 1e-6 else min(max((x - x0) / (x1 - x0), 0.0), 1.0)
                    y = y0 + share * (y1 - y0)
                    if row == 0:
                        above[cell] = min(above[cell], y)
                    elif row == 1:
                        below[cell] = max(below[cell], y)
                    else:
                        own[cell] = max(own[cell], y)
            for p in range(count):
                left, right = min(left, contour[row, p, 0]), max(right, contour[row, p, 0])
                top, bottom = min(top, contour[row, p, 1]), max(bottom, contour[row, p, 1])
        for cell in range(cells + 1):
            above[cell] = max(above[cell], own[cell])
        unit = numbers[5]
        for y in range(max(0, int(top) - 1), min(size, int(bottom) + 2)):
            for x in range(max(0, int(left) - 1), min(size, int(right) + 2)):
                red = green = blue = 0.0
                inside = 0
                for sub in range(n * n):
                    px = x + (sub % n + 0.5) / n
                    py = y + (sub // n + 0.5) / n
                    along = (px - ax) * ex + (py - ay) * ey
                    if along <= 0 or along >= long:
                        continue
                    h = -(px - ax) * ey + (py - ay) * ex
                    place = along / long * cells
                    cell = min(int(place), cells - 1)
                    share = place - cell
                    if above[cell] > 1e8 or above[cell + 1] > 1e8 or below[cell] < -1e8 or below[cell + 1] < -1e8:
                        continue
                    high = above[cell] * (1 - share) + above[cell + 1] * share
                    low = below[cell] * (1 - share) + below[cell + 1] * share
                    if h < high or h > low:
                        continue
                    inside += 1
                    u = to_skull[0, 0] * px + to_skull[0, 1] * py + to_skull[0, 2]
                    v = to_skull[1, 0] * px + to_skull[1, 1] * py + to_skull[1, 2]
                    w = v - jaw  # the same in the jaw
                    round_ = min(1.0, abs(u) / numbers[2])
                    side = 1 - 0.52 * round_ * round_  # the rows curve back into the dark
                    # how much light falls in: less far behind the upper lip and in the corners
                    under = (h - high) / unit
                    over = (low - h) / unit
                    corner = min(along, long - along) / unit
                    light = (1 - 0.42 * math.exp(-under / 0.020)) * (1 - 0.30 * math.exp(-over / 0.018))
                    light *= numbers[6] + (numbers[7] - numbers[6]) * min(max(2 * along / long - 0.5, 0.0), 1.0)
                    light *= 1 - 0.28 * math.exp(-corner / 0.03)
                    # throat, a little lighter below
                    lit = 0.70 + 0.30 * min(1.0, under / 0.15)
                    cheek = 0.62 * math.exp(-corner / 0.045)  # the cheek's inside, near the corners
                    r = (colours[3, 0] + (0.62 * colours[1, 0] - colours[3, 0]) * cheek) * lit
                    g = (colours[3, 1] + (0.62 * colours[1, 1] - colours[3, 1]) * cheek) * lit
                    b = (colours[3, 2] + (0.62 * colours[1, 2] - colours[3, 2]) * cheek) * lit
                    # tongue: a mound on the jaw
                    hump = 0.085 - numbers[3] * (1 - (u / (numbers[2] * 0.86)) ** 2)
                    deep = w - hump
                    if abs(u) < numbers[2] * 0.86:
                        soft = min(1.0, max(0.0, deep / 0.03))
                        soft = soft * soft * (3 - 2 * soft)
                        groove = 1 - 0.16 * math.exp(-((u / 0.02) ** 2))
                        shade = (0.55 + 0.45 * min(1.0, max(0.0, deep) / 0.06)) * groove * (1 - 0.35 * round_ * round_)
                        r += (colours[2, 0] * shade - r) * soft
                        g += (colours[2, 1] * shade - g) * soft
                        b += (colours[2, 2] * shade - b) * soft
                    # lower teeth stand on the jaw
                    k, across = tooth(lower, u)
                    if k >= 0:
                        line = numbers[1] + 0.030 - lower[k, 2] + lower[k, 3] * across * 0.03 + 0.012 * across**6
                        line += 0.02 * round_ * round_
                        edge = (w - line) / 0.006
                        cover = min(1.0, max(0.0, edge))
                        if cover > 0:
                            gum = min(1.0, max(0.0, (w - line - 0.075) / 0.012))
                            tone = lower[k, 4] * side * 0.94 * (1 - numbers[4] * abs(across) ** 8)
                            tone *= 0.9 + 0.1 * min(1.0, (w - line) / 0.05)
                            cr = colours[0, 0] * tone * (1 - gum) + colours[1, 0] * gum * side * 0.8
                            cg = colours[0, 1] * tone * (1 - gum) + colours[1, 1] * gum * side * 0.8
                            cb = colours[0, 2] * tone * (1 - gum) + colours[1, 2] * gum * side * 0.8
                            r += (cr - r) * cover
                            g += (cg - g) * cover
                            b += (cb - b) * cover
                    # upper teeth hang from the skull, in front of all else
                    k, across = tooth(upper, u)
                    if k >= 0 and not has_teeth:
                        line = numbers[0] + upper[k, 2] + upper[k, 3] * across * 0.04
                        line -= 0.016 * abs(across) ** 5 + 0.014 * round_ * round_
                        cover = min(1.0, max(0.0, (line - v) / 0.006))
                        if cover > 0:
                            root = line - 0.115 - 0.02 * (1 - across * across)
                            gum = min(1.0, max(0.0, (root - v) / 0.010))
                            tone = upper[k, 4] * side * (1 - numbers[4] * abs(across) ** 8)
                            tone *= 0.90 + 0.10 * min(1.0, max(0.0, (line - v) / 0.04))
                            tone += 0.05 * math.exp(-(((across + 0.25) / 0.3) ** 2)) * side
                            cr = colours[0, 0] * tone * (1 - gum) + colours[1, 0] * gum * side
                            cg = colours[0, 1] * tone * (1 - gum) + colours[1, 1] * gum * side
                            cb = colours[0, 2] * tone * (1 - gum) + colours[1, 2] * gum * side
                            r += (cr - r) * cover
                            g += (cg - g) * cover
                            b += (cb - b) * cover
                    red += r * light
                    green += g * light
                    blue += b * light
                if inside:
                    share = strength * inside / (n * n)
                    mask[y, x] = share
                    out[y, x, 0] = int(out[y, x, 0] * (1 - share) + min(255.0, red / inside) * share + 0.5)
                    out[y, x, 1] = int(out[y, x, 1] * (1 - share) + min(255.0, green / inside) * share + 0.5)
                    out[y, x, 2] = int(out[y, x, 2] * (1 - share) + min(255.0, blue / inside) * share + 0.5)

    return paint

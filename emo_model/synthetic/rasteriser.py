"""Triangles to flow, and flow to a picture, compiled (numba): the fast path of the puppets."""

from __future__ import annotations

import math
from functools import cache


@cache
def kernels():
    """The compiled functions (draw, sample). Raises ImportError that says what to install."""
    try:
        from numba import njit
    except ImportError as reason:
        raise ImportError("Puppets need numba to draw at speed: pip install numba (librosa brings it too).") from reason

    @njit(cache=True, fastmath=False)
    def draw(points, move, corners, parts, flow, part, depth):
        """points (P, 3) in pixels, move (P, 2) source minus place -> flow (2, S, S), nearest part (S, S) uint8."""
        size = flow.shape[1]
        flow[:] = 0
        part[:] = 0
        depth[:] = 1e9
        for t in range(corners.shape[0]):
            i, j, k = corners[t, 0], corners[t, 1], corners[t, 2]
            x0, y0, x1, y1, x2, y2 = points[i, 0], points[i, 1], points[j, 0], points[j, 1], points[k, 0], points[k, 1]
            area = (y1 - y2) * (x0 - x2) + (x2 - x1) * (y0 - y2)
            if abs(area) < 1e-9:
                continue
            top = max(0, int(math.ceil(min(y0, y1, y2) - 0.5)))
            bottom = min(size - 1, int(math.floor(max(y0, y1, y2) - 0.5)))
            left = max(0, int(math.ceil(min(x0, x1, x2) - 0.5)))
            right = min(size - 1, int(math.floor(max(x0, x1, x2) - 0.5)))
            back = 1e4 if parts[t] > 0 else 0.0
            da, db = (y1 - y2) / area, (y2 - y0) / area
            for y in range(top, bottom + 1):
                py = y + 0.5
                fixed_a = (x2 - x1) * (py - y2) / area
                fixed_b = (x0 - x2) * (py - y2) / area
                for x in range(left, right + 1):
                    px = x + 0.5 - x2
                    a = da * px + fixed_a
                    b = db * px + fixed_b
                    c = 1 - a - b
                    if a >= -1e-4 and b >= -1e-4 and c >= -1e-4:
                        z = a * points[i, 2] + b * points[j, 2] + c * points[k, 2] + back
                        if z < depth[y, x]:
                            depth[y, x] = z
                            part[y, x] = parts[t]
                            flow[0, y, x] = a * move[i, 0] + b * move[j, 0] + c * move[k, 0]
                            flow[1, y, x] = a * move[i, 1] + b * move[j, 1] + c * move[k, 1]

    @njit(cache=True, fastmath=False)
    def look(part, flow, eyes):
        """Fill openings with what stays in the head while lids and lips slide over it: eyeballs (parts 2, 3), which
        turn, and the teeth of a mouth that the picture shows open (part 1).

        eyes (3, 96): see Puppet._opening_numbers.
        """
        size = flow.shape[1]
        for y in range(size):
            for x in range(size):
                which = part[y, x]
                if which < 1:
                    continue
                e = eyes[which - 1]
                if e[14] == 0:
                    continue
                px, py = x + 0.5, y + 0.5
                # where the rigid eye was in the portrait
                sx = px + e[0] * px + e[1] * py + e[2]
                sy = py + e[3] * px + e[4] * py + e[5]
                # along the eye in -1..1, and across in the same unit
                rx, ry = sx - e[6], sy - e[7]
                u = (rx * e[8] + ry * e[9]) / e[10]
                v = (-rx * e[9] + ry * e[8]) / e[10]
                edge = min(1.0, abs(u))
                fall = 1 - edge * edge * math.sqrt(edge)
                nu, nv = u - e[11] * fall, v - e[12] * fall
                if e[13] != 0:
                    place = min(max((nu + 1) * 8, 0.0), 15.999)
                    cell = int(place)
                    share = place - cell
                    high = e[16 + cell] * (1 - share) + e[17 + cell] * share
                    low = e[33 + cell] * (1 - share) + e[34 + cell] * share
                    pad = min(0.012, 0.25 * (low - high))
                    high += pad
                    low -= pad
                    old = nv
                    nv = min(max(nv, high), max(high, low))
                    nv = old + (nv - old) * e[13]
                place = min(max((u + 1) * 8, 0.0), 15.999)
                cell = int(place)
                share = place - cell
                high = e[50 + cell] * (1 - share) + e[51 + cell] * share
                low = e[67 + cell] * (1 - share) + e[68 + cell] * share
                near = min(max(min(v - high, low - v) / e[15], 0.0), 1.0)
                fx = e[0] * px + e[1] * py + e[2] + ((nu - u) * e[8] - (nv - v) * e[9]) * e[10]
                fy = e[3] * px + e[4] * py + e[5] + ((nu - u) * e[9] + (nv - v) * e[8]) * e[10]
                flow[0, y, x] += (fx - flow[0, y, x]) * near
                flow[1, y, x] += (fy - flow[1, y, x]) * near

    @njit(cache=True, fastmath=False)
    def sample(picture, flow, out):
        """picture (S, S, 3) uint8 at place + flow, bilinear, edges repeated."""
        size = picture.shape[0]
        for y in range(size):
            for x in range(size):
                fx, fy = flow[0, y, x], flow[1, y, x]
                if fx == 0 and fy == 0:
                    for c in range(3):
                        out[y, x, c] = picture[y, x, c]
                    continue
                sx = min(max(x + fx, 0.0), size - 1.0)
                sy = min(max(y + fy, 0.0), size - 1.0)
                x0, y0 = int(sx), int(sy)
                x1, y1 = min(x0 + 1, size - 1), min(y0 + 1, size - 1)
                ax, ay = sx - x0, sy - y0
                for c in range(3):
                    upper = picture[y0, x0, c] * (1 - ax) + picture[y0, x1, c] * ax
                    lower = picture[y1, x0, c] * (1 - ax) + picture[y1, x1, c] * ax
                    out[y, x, c] = int(upper * (1 - ay) + lower * ay + 0.5)

    return draw, look, sample

"""How the skin of a face follows the tracks of FaceMotion: lips, lids and brows are led, the skin between is pulled
along."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from . import face_geometry as geometry
from .face_geometry import FACE, fine_row

UPPER_OUTER, LOWER_OUTER = np.array(geometry.UPPER_LIP_OUTER), np.array(geometry.LOWER_LIP_OUTER)
UPPER_INNER, LOWER_INNER = np.array(fine_row(geometry.UPPER_LIP_INNER)), np.array(fine_row(geometry.LOWER_LIP_INNER))
EYES = tuple(
    (np.array(fine_row(upper)), np.array(fine_row(lower)))
    for upper, lower in (
        (geometry.LEFT_EYE_UPPER, geometry.LEFT_EYE_LOWER),
        (geometry.RIGHT_EYE_UPPER, geometry.RIGHT_EYE_LOWER),
    )
)
CREASES = geometry.LID_CREASES
ORBITS = ((225, 224, 223, 222, 221), (441, 442, 443, 444, 445))  # between crease and brow
BAGS = ((110, 24, 23, 22, 26), (256, 252, 253, 254, 339))  # below the lower lids
# fmt: off
CHIN = {
    152: 0.95, 175: 0.97, 199: 1.0, 200: 1.0, 148: 0.93, 377: 0.93, 176: 0.86, 400: 0.86, 149: 0.74, 378: 0.74,
    150: 0.56, 379: 0.56, 136: 0.38, 365: 0.38, 172: 0.20, 397: 0.20, 58: 0.08, 288: 0.08,
}
# fmt: on
CHEEKS = {205: 1.0, 425: 1.0, 50: 0.85, 280: 0.85, 36: 0.7, 266: 0.7, 117: 0.4, 346: 0.4, 187: 0.55, 411: 0.55}
# fmt: off
STILL = (
    132, 93, 234, 127, 162, 21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 1, 2, 4, 5, 6,
    168, 195, 197, 94, 19, 98, 327, 48, 278, 45, 275, 122, 351, 193, 417, 151, 9, 8,
)
# fmt: on


@cache
def _neighbours() -> np.ndarray:
    corners, part = geometry.triangles()
    skin = corners[(part == 0) & (corners < FACE).all(1)].numpy()
    edges = np.concatenate([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]])
    return np.unique(np.sort(edges, axis=1), axis=0)


@cache
def _handles() -> np.ndarray:
    rows = [UPPER_OUTER, LOWER_OUTER, UPPER_INNER, LOWER_INNER, *(row for eye in EYES for row in eye)]
    more = [
        *CREASES[0],
        *CREASES[1],
        *ORBITS[0],
        *ORBITS[1],
        *BAGS[0],
        *BAGS[1],
        *geometry.LEFT_BROW,
        *geometry.RIGHT_BROW,
        *CHIN,
        *CHEEKS,
        *STILL,
    ]
    return np.unique(np.concatenate([*rows, np.array(more)]))


class Skin:
    """The face of one person in its own frame; q (520, 3) in outer eye distances, x right, y down, z backward.

    drop: how far the lower lip falls when the mouth opens fully, eye distances.
    """

    def __init__(self, q: np.ndarray, *, drop: float):
        self.q, self.handles = q, _handles()
        self.middle = (q[13] + q[14]) / 2
        self.half = abs(q[291, 0] - q[61, 0]) / 2
        self.inner_half = abs(q[308, 0] - q[78, 0]) / 2
        gap = q[14, 1] - q[13, 1]
        self.is_open = False  # whether the picture shows the mouth's inside
        self.gap = max(0.0, gap - 0.12 * self.half)  # the mesh sees a little gap in shut mouths
        self.drop = max(0.5 * drop, drop - 0.6 * self.gap)
        self.pull = self._pull()
        self._slot = {point: slot for slot, point in enumerate(self.handles)}

    def _pull(self) -> np.ndarray:
        """(520, handles): harmonic weights, so that free points rest in the mean of their neighbours."""
        first, second = _neighbours().T
        weight = 1 / (((self.q[first, :2] - self.q[second, :2]) ** 2).sum(1) + 4e-4)
        laplacian = np.zeros((FACE, FACE))
        np.add.at(laplacian, (first, second), -weight)
        np.add.at(laplacian, (second, first), -weight)
        laplacian[np.diag_indices(FACE)] = -laplacian.sum(1) + 1e-9
        free = np.setdiff1d(np.arange(FACE), self.handles)
        pull = np.zeros((FACE, len(self.handles)))
        pull[self.handles, np.arange(len(self.handles))] = 1
        pull[free] = np.linalg.solve(laplacian[np.ix_(free, free)], -laplacian[np.ix_(free, self.handles)])
        return pull

    def move(self, tracks: dict[str, np.ndarray]) -> np.ndarray:
        """Tracks of (F,) -> displacement (F, 520, 3) within the head."""
        frames = len(tracks["opening"])
        d = np.zeros((frames, FACE, 3))
        self.lead_mouth(d, tracks)
        self._eyes(d, tracks)
        self._brows(d, tracks)
        return self.pull @ d[:, self.handles]

    def jaw(self, tracks: dict[str, np.ndarray]) -> np.ndarray:
        """(F,): how far the jaw has dropped, eye distances."""
        return self.drop * tracks["opening"] * (1 - 0.85 * tracks["closure"])

    def lead_mouth(self, d: np.ndarray, tracks: dict[str, np.ndarray]) -> None:
        """Into d (F, 520, 3): the displacement of lips, chin and cheeks; the skin between follows by `pull`."""
        q, middle = self.q, self.middle
        fall = self.jaw(tracks)[:, None]
        width, press, tuck, smile = (tracks[name][:, None] for name in ("width", "closure", "tuck", "smile"))
        spread, round_ = np.maximum(width, 0), np.maximum(-width, 0)
        corner = 0.40

        def shape(points, half):
            t = np.clip((q[points, 0] - middle[0]) / half, -1, 1)
            return t, (1 - np.abs(t) ** 2.3) ** 0.72

        for points, lower, inner in (
            (UPPER_OUTER, 0, 0),
            (LOWER_OUTER, 1, 0),
            (UPPER_INNER, 0, 1),
            (LOWER_INNER, 1, 1),
        ):
            t, round_profile = shape(points, self.inner_half if inner else 0.95 * self.half)
            wide_t = np.clip((q[points, 0] - middle[0]) / self.half, -1.05, 1.05)
            flat = 1 - wide_t**2
            down = fall * (corner * (1 - round_profile) + (1.0 if lower else -0.06) * round_profile)
            down -= 0.012 * spread * wide_t**2
            out = wide_t * (0.068 * spread - 0.105 * round_) - 0.22 * fall * wide_t
            if not inner:  # pursed lips swell, spread lips grow thin
                down += (0.017 * round_ - 0.006 * spread) * (1 if lower else -1) * flat
            out += 0.075 * smile * wide_t
            down += smile * (0.014 * flat - 0.055 * wide_t**2)
            d[:, points, 0], d[:, points, 1] = out, down
            d[:, points, 2] = -0.06 * round_ * flat
        self._close(d, press)
        self._tuck(d, tuck)
        jaw = fall - 0.010 * tuck - 0.008 * press
        for point, share in CHIN.items():
            d[:, point, 1] = jaw[:, 0] * share
        for point, share in CHEEKS.items():
            side = np.sign(q[point, 0] - middle[0])
            d[:, point, 1] = share * (-0.030 * smile[:, 0])
            d[:, point, 0] = share * side * 0.014 * smile[:, 0]
            if point in (205, 425, 187, 411):
                d[:, point, 1] += (0.12 if point in (205, 425) else 0.20) * fall[:, 0]
                d[:, point, 0] += side * (0.012 * spread[:, 0] - 0.018 * round_[:, 0])
        for point, side in ((98, -1), (327, 1), (48, -1), (278, 1)):  # wings of the nose
            d[:, point, 0] = side * 0.010 * smile[:, 0]
            d[:, point, 1] = -0.006 * smile[:, 0]

    def _close(self, d: np.ndarray, press: np.ndarray) -> None:
        """Bring inner lips together and press them."""
        y = self.q[:, 1] + d[..., 1]
        gap = y[:, LOWER_INNER] - y[:, UPPER_INNER]
        rest = self.q[LOWER_INNER, 1] - self.q[UPPER_INNER, 1]
        line = 0.003 if self.is_open else 0.35 * np.clip(rest, 0, 0.12 * self.half)
        left = np.minimum(line, np.maximum(gap, 0))  # the dark line between shut lips
        less = press * (gap - left)
        up, down = UPPER_INNER, LOWER_INNER
        d[:, up[1:-1], 1] += 0.4 * less[:, 1:-1]
        d[:, down[1:-1], 1] -= 0.6 * less[:, 1:-1]
        middle_up, middle_down = 0.4 * less[:, ::2], 0.6 * less[:, ::2]
        for outer, inner, shift in ((UPPER_OUTER, up[::2], middle_up), (LOWER_OUTER, down[::2], -middle_down)):
            thick = self.q[inner, 1] - self.q[outer, 1]  # > 0 above, < 0 below
            d[:, outer[1:-1], 1] += (0.75 * shift + 0.30 * press * thick)[:, 1:-1]

    def _tuck(self, d: np.ndarray, tuck: np.ndarray) -> None:
        """The lower lip slides under the upper teeth."""
        y = self.q[:, 1] + d[..., 1]
        gap = (y[:, LOWER_INNER] - y[:, UPPER_INNER])[:, 1:-1]
        t = np.clip((self.q[LOWER_INNER, 0] - self.middle[0]) / self.inner_half, -1, 1)[1:-1]
        flat = 1 - t * t
        rise = tuck * np.minimum(0.45 * np.maximum(gap, 0), 0.05) * flat
        d[:, LOWER_INNER[1:-1], 1] -= rise
        thick = self.q[LOWER_OUTER, 1] - self.q[LOWER_INNER[::2], 1]
        d[:, LOWER_OUTER[1:-1], 1] -= rise[:, 1::2] + (tuck * (0.42 * thick))[:, 1:-1]
        lift = 0.018 * tuck
        d[:, UPPER_INNER[1:-1], 1] -= lift * flat
        d[:, UPPER_OUTER[1:-1], 1] -= lift * flat[1::2]

    def _eyes(self, d: np.ndarray, tracks: dict[str, np.ndarray]) -> None:
        q, squint = self.q, tracks["squint"][:, None]
        smile, brow = tracks["smile"][:, None], tracks["brow"][:, None]
        look_down = self.gaze(tracks)[1][:, None]
        for side, name in enumerate(("blink_left", "blink_right")):
            upper, lower = EYES[side]
            shut = tracks[name][:, None]
            half = np.linalg.norm(q[upper[-1], :2] - q[upper[0], :2]) / 2
            opening = q[lower, :2] - q[upper, :2]  # (17, 2)
            t = np.linspace(-1, 1, len(upper))
            flat = 1 - t**2
            follow = look_down * half * flat * (1 - shut)
            rise = (0.10 * shut + 0.30 * np.minimum(squint + 0.35 * smile, 1))[..., None]
            low = -rise * opening
            low[..., 1] += 0.35 * follow
            reach = (shut * 1.02 + (1 - shut) * 0.14 * squint)[..., None]
            high = reach * (opening + low) + (1 - reach) * np.stack([0 * follow, 0.6 * follow], -1)
            d[:, lower[1:-1], :2] = low[:, 1:-1]
            d[:, upper[1:-1], :2] = high[:, 1:-1]
            middle = high[:, 2:-2:2]  # at the lid's own inner points (7)
            d[:, CREASES[side], :2] = 0.40 * middle + np.stack([0 * brow, -0.012 * brow], -1)
            d[:, ORBITS[side], :2] = 0.12 * middle[:, 1:-1] + np.stack([0 * brow, -0.030 * brow - 0.006 * squint], -1)
            d[:, BAGS[side], :2] = 0.45 * low[:, 4:-4:2][:, [0, 1, 2, 3, 4]]

    def _brows(self, d: np.ndarray, tracks: dict[str, np.ndarray]) -> None:
        brow, squint = tracks["brow"][:, None], tracks["squint"][:, None]
        up, down = np.maximum(brow, 0), np.maximum(-brow, 0)
        for points, side in ((geometry.LEFT_BROW, -1), (geometry.RIGHT_BROW, 1)):
            points = np.array(points)
            x = np.abs(self.q[points, 0])
            inner = np.clip(1 - (x - 0.10) / 0.45, 0, 1)
            d[:, points, 1] = -up * (0.055 - 0.010 * inner) + down * (0.018 + 0.018 * inner) + 0.014 * squint
            d[:, points, 0] = -side * inner * (0.016 * down + 0.008 * squint)
        for point, share in ((151, 0.45), (9, 0.35), (8, 0.2)):
            d[:, point, 1] = -share * (0.05 * up - 0.02 * down)[:, 0]

    @staticmethod
    def gaze(tracks: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """How far both irises have moved, in half lengths of an eye."""
        return 0.34 * np.tanh(2.4 * tracks["gaze_x"]), 0.17 * np.tanh(2.4 * tracks["gaze_y"])


def rotation(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """(F,) each -> (F, 3, 3) for coordinates right, down, backward."""
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)

    def matrix(*rows):
        return np.stack([np.stack(row, -1) for row in rows], -2)

    c, s = np.cos(yaw), np.sin(yaw)
    about_y = matrix((c, zero, -s), (zero, one, zero), (s, zero, c))
    c, s = np.cos(pitch), np.sin(pitch)
    about_x = matrix((one, zero, zero), (zero, c, -s), (zero, s, c))
    c, s = np.cos(roll), np.sin(roll)
    about_z = matrix((c, -s, zero), (s, c, zero), (zero, zero, one))
    return about_z @ about_x @ about_y


def gentle_depth(points: np.ndarray, *, steepest: float) -> np.ndarray:
    """points (N, 3) -> depth (N,) that changes by at most `steepest` pixels a pixel, as near to theirs as that allows.

    A surface no steeper than 1 / tan(turn) does not fold over when it is turned.
    """
    apart = steepest * np.linalg.norm(points[:, None, :2] - points[None, :, :2], axis=-1)
    near, far = (points[None, :, 2] + apart).min(1), (points[None, :, 2] - apart).max(1)
    return (near + far) / 2


def as_arrays(motion) -> dict[str, np.ndarray]:
    """FaceMotion (F,) or () -> float64 arrays (F,) by name."""
    names = (
        "opening",
        "width",
        "closure",
        "tuck",
        "yaw",
        "pitch",
        "roll",
        "x",
        "y",
        "scale",
        "blink_left",
        "blink_right",
        "gaze_x",
        "gaze_y",
        "brow",
        "smile",
        "squint",
    )
    return {name: np.atleast_1d(torch.as_tensor(getattr(motion, name)).double().cpu().numpy()) for name in names}

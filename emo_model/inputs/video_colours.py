"""Decoded frames as players show them: upright, with square pixels, in sRGB; HDR is tone mapped."""

from __future__ import annotations

from functools import cache

import numpy as np

PQ, HLG = 16, 18  # FFmpeg's numbers of the transfer curves SMPTE 2084 and ARIB STD-B67
BT_2020 = 9  # of the primaries
PAPER_WHITE = 203.0  # nits of diffuse white in HDR (ITU-R BT.2408)
HLG_PEAK = 1000.0  # nits
KNEE = 0.75  # of diffuse white; what is brighter is compressed
TO_BT_709 = (  # linear BT.2020 -> linear BT.709 (ITU-R BT.2087)
    (1.6605, -0.5876, -0.0728),
    (-0.1246, 1.1329, -0.0083),
    (-0.0182, -0.1006, 1.1187),
)


def shown_size(frame, *, ratio: float = 1.0) -> tuple[int, int]:
    """Height and width at which a PyAV frame is shown, its pixels `ratio` times as wide as high."""
    ratio = ratio if 0.1 < ratio < 10 else 1.0
    size = round(frame.height / min(ratio, 1.0)), round(frame.width * max(ratio, 1.0))
    return size[::-1] if _quarters(frame) % 2 else size


def to_srgb(frame, size: tuple[int, int]) -> np.ndarray:
    """A PyAV frame -> (H, W, 3) uint8 of `size`, turned as the file says; transparency is dropped."""
    height, width = size[::-1] if _quarters(frame) % 2 else size
    resized = {}
    if (height, width) != (frame.height, frame.width):
        is_small = min(height / frame.height, width / frame.width) < 0.5
        resized = {"height": height, "width": width, "interpolation": "AREA" if is_small else "BICUBIC"}
    if int(frame.color_trc) in (PQ, HLG):
        pixels = _tone_mapped(frame.reformat(format="rgb48le", **resized).to_ndarray(), frame)
    else:
        pixels = frame.reformat(format="rgb24", **resized).to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, _quarters(frame)))


def _quarters(frame) -> int:
    return round(getattr(frame, "rotation", 0) / 90)


def _tone_mapped(deep: np.ndarray, frame) -> np.ndarray:
    """(H, W, 3) uint16 with an HDR curve -> uint8 sRGB, diffuse white at white's knee."""
    light = _linear_table(int(frame.color_trc))[deep]
    if int(frame.color_trc) == HLG:  # the display's gamma on luminance (ITU-R BT.2100)
        luminance = np.maximum(light @ np.float32([0.2627, 0.6780, 0.0593]), 1e-6)
        light = light * (luminance**0.2)[..., None] * np.float32(HLG_PEAK / PAPER_WHITE)
    if int(frame.color_primaries) == BT_2020:
        light = light @ np.float32(TO_BT_709).T
    light = np.maximum(light, 0)
    peak = light.max(-1, keepdims=True)
    room = 1 - KNEE
    kept = np.where(peak > KNEE, KNEE + room * np.tanh((peak - KNEE) / (3 * room)), peak)
    light = light * (kept / np.maximum(peak, 1e-6))
    coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-6) ** (1 / 2.4) - 0.055)
    return (coded * 255 + 0.5).clip(0, 255).astype(np.uint8)


@cache
def _linear_table(curve: int) -> np.ndarray:
    """(65536,) float32: coded value -> light; of PQ in units of diffuse white, of HLG of the scene, 0..1."""
    coded = np.arange(65536) / 65535
    if curve == PQ:
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        power = coded ** (1 / m2)
        nits = 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
        return (nits / PAPER_WHITE).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12).astype(np.float32)

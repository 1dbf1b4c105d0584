"""A picture with the letters of its faces on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

COLOURS = ((230, 60, 90), (40, 130, 230), (30, 160, 80), (220, 140, 20))
LARGE = 0.3  # height of a letter, in widths of its face


def lettered(picture: Tensor, boxes: Mapping[str, Sequence[float]]) -> Tensor:
    """picture (1, 3, H, W) in [-1, 1], boxes of faces (left, top, right, bottom) in its pixels by letter -> the same
    picture with a frame around each face and its letter above it."""
    from PIL import Image, ImageDraw

    pixels = ((picture[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0)
    image = Image.fromarray(pixels.cpu().numpy())
    draw = ImageDraw.Draw(image)
    for number, (letter, (left, top, right, bottom)) in enumerate(boxes.items()):
        colour, size = COLOURS[number % len(COLOURS)], max(12, round(LARGE * (right - left)))
        line = max(1, size // 12)
        draw.rectangle((left, top, right, bottom), outline=colour, width=line)
        high = min(max(0, top - size), image.height - size)
        draw.rectangle((left, high, left + size, high + size), fill=colour)
        draw.text((left + size / 2, high + size / 2), letter, fill="white", font=_font(0.8 * size), anchor="mm")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1


def _font(size: float):
    from PIL import ImageFont

    return ImageFont.load_default(size)

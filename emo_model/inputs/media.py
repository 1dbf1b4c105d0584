"""Reads pictures and the last frames of videos (Pillow, PyAV)."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .sound_decoding import open_media


def read_picture(path: str | Path) -> Tensor:
    """Any picture that Pillow reads, EXIF orientation applied -> (1, 3, H, W) in [-1, 1]; transparency becomes white.

    Raises FileNotFoundError, or ValueError for a file that is not a picture or is truncated.
    """
    name = Path(path).name
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not a picture that Pillow can read; use a PNG, JPEG or WebP file") from None
    except Image.DecompressionBombError:
        raise ValueError(
            f"{name} has more than {2 * Image.MAX_IMAGE_PIXELS / 1e6:.0f} million pixels, Pillow's limit "
            "against decompression bombs; scale it down, to about 2048 pixels a side"
        ) from None
    except OSError as error:
        if error.errno is not None:  # from the file system, not the decoder
            raise
        raise ValueError(f"{name} is damaged ({error}); save or download it again") from None
    if picture.mode.startswith("I"):  # 16-bit grey; Pillow would clip everything above 255 to white
        picture = Image.fromarray((np.asarray(picture) / 257).clip(0, 255).astype(np.uint8))
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    pixels = torch.from_numpy(np.array(Image.alpha_composite(white, picture).convert("RGB")))
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def to_uint8(pixels: Tensor) -> np.ndarray:
    """pixels (F, 3, H, W) in [-1, 1] -> (F, H, W, 3) uint8."""
    return ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def last_frames(
    source: str | Path | BinaryIO, count: int, *, since: float = 0.0, until: float | None = None
) -> np.ndarray:
    """The last `count` frames (F, H, W, 3) uint8 of a video, or all if it has fewer; only its end is decoded.

    since, until: trim window in seconds (start times of frames); until None: to the end.
    """
    with av.open(source, metadata_errors="replace") if hasattr(source, "read") else open_media(source) as container:
        stream = container.streams.video[0]
        tail = collections.deque(maxlen=count)
        end = container.duration if until is None else round(until * av.time_base)
        for back in (2, 20, None):  # seconds before the end
            start = 0 if back is None or not end else max(0, end - back * av.time_base)
            container.seek(start)  # to the preceding key frame
            for frame in container.decode(stream):
                begins = frame.time or 0.0  # some files have no timestamps
                if until is not None and begins >= until:
                    break
                if not since or begins >= since:  # a first frame may start before 0
                    tail.append(frame)
            if len(tail) == count or start == 0:
                break
            tail.clear()
        frames = [frame.to_ndarray(format="rgb24") for frame in tail]
        return np.stack(frames) if frames else np.zeros((0, stream.height, stream.width, 3), np.uint8)

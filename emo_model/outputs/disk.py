"""How much of a disk a video takes, and whether that much is free: asked before anything is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from torch import Tensor

VIDEO_BYTES, GRAIN_BYTES = 0.02, 0.008  # of the file, per pixel and frame, and more for each unit of grain: two to six
# times what moving heads take at any quality
GRAIN = 10.0  # of a picture that is not known: 0.1 bytes a pixel
QUALITY = 17  # constant rate factor to which these belong; six more halve them
SMALLEST_FILES = 40  # from this factor on the headers are what is left
MOST_BYTES = 2.0  # per pixel and frame: more than the pixels before they are compressed
SOUND_BYTES = 48_000  # of the file, per second


def video_bytes(
    frames: int,
    *,
    fps: float,
    width: int,
    height: int,
    grain: float = GRAIN,
    quality: int = QUALITY,
    sound_bytes: float = SOUND_BYTES,
) -> int:
    """At most about what an mp4 takes. grain: see `grain_of`; quality: CRF, 0 to 51; sound_bytes: per second."""
    a_pixel = (VIDEO_BYTES + GRAIN_BYTES * grain) * 2 ** ((QUALITY - min(quality, SMALLEST_FILES)) / 6)
    return round(frames * (width * height * min(a_pixel, MOST_BYTES) + sound_bytes / fps))


def check_video(
    folder: str | Path,
    frames: int,
    *,
    fps: float,
    width: int,
    height: int,
    grain: float = GRAIN,
    quality: int = QUALITY,
    sound_bytes: float = SOUND_BYTES,
) -> None:
    """Raises OSError with the numbers if `folder`'s disk has too little room; arguments as those of `video_bytes`."""
    needed = video_bytes(
        frames, fps=fps, width=width, height=height, grain=grain, quality=quality, sound_bytes=sound_bytes
    )
    check_disk(
        [(folder, needed)],
        what="The video",
        details=f"{frames} frames of {width}x{height} pixels",
        remedy="Make room, or take a smaller picture, a lower quality or a shorter sound.",
    )


def grain_of(picture: Tensor | np.ndarray) -> float:
    """How much neighbouring pixels differ, 0..255, in the rows of a picture: (1, 3, H, W) in [-1, 1] or uint8, or a
    frame (H, W, 3) uint8; at most 400 rows are read."""
    if isinstance(picture, np.ndarray):
        rows = picture[:: max(1, picture.shape[0] // 200)].astype(np.float32)
        return float(np.abs(np.diff(rows, axis=1)).mean()) if rows.shape[1] > 1 else 0.0
    rows = picture[:, :, :: max(1, picture.shape[2] // 200)]
    rows = rows if rows.is_floating_point() else rows / 127.5
    return 127.5 * rows.diff(dim=-1).abs().mean().item() if rows.shape[-1] > 1 else 0.0


def check_disk(needs: Iterable[tuple[str | Path, int]], *, what: str, details: str, remedy: str) -> None:
    """needs: folders, which need not exist, and bytes that will be written into them; those on one disk are added.

    Raises OSError '(what) needs about .. on the disk of .., and .. are free: (details). (remedy)'.
    """
    disks: dict[int, list] = {}  # by file system: a folder on it, and bytes
    for folder, more in needs:
        place = _existing(Path(folder))
        disks.setdefault(os.stat(place).st_dev, [place, 0])[1] += more
    for place, needed in disks.values():
        free = shutil.disk_usage(place).free
        if needed > free:
            raise OSError(
                f"{what} needs about {size(needed)} on the disk of {place}, and {size(free)} are free: {details}. "
                f"{remedy}"
            )


def size(count: float) -> str:
    """Bytes for a sentence: '54 kB', '3.2 MB', '1.20 GB'."""
    if count < 1e6:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e6:.1f} MB" if count < 1e8 else f"{count / 1e9:.2f} GB"


def _existing(folder: Path) -> Path:
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())

"""The last latents of a video, carried in its own file: who continues it need not search the pictures for them.

They lie in a box of their own behind everything else of the mp4, which players pass over and other programs leave out when they
write the video again.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

BOX = b"comfyui-emo tail"  # ISO/IEC 14496-12: a box 'uuid' and the 16 bytes of whose it is
_MOST = 2**26  # bytes; no model has motion frames so large


def append_latents(path: Path, latents: Tensor) -> None:
    """latents (1, C, n, h, w), the last frames of the finished mp4 at `path`; kept in half precision."""
    data = save({"latents": latents.detach().to("cpu", torch.float16).contiguous()})
    with open(path, "ab") as file:
        file.write(struct.pack(">I4s", 24 + len(data), b"uuid") + BOX + data)


def read_latents(source: str | Path | BinaryIO) -> Tensor | None:
    """The (1, C, n, h, w) float32 of `append_latents`; None where a video carries none."""
    if hasattr(source, "read"):
        place = source.tell()
        try:
            return _read(source)
        finally:
            source.seek(place)
    with open(source, "rb") as file:
        return _read(file)


def _read(file: BinaryIO) -> Tensor | None:
    end, start = file.seek(0, os.SEEK_END), 0
    while start + 24 <= end:
        file.seek(start)
        size, kind, whose = struct.unpack(">I4s16s", file.read(24))
        size = struct.unpack(">Q", whose[:8])[0] if size == 1 else size
        if kind == b"uuid" and whose == BOX and 24 < size <= min(_MOST, end - start):
            try:
                latents = load(file.read(size - 24)).get("latents")
            except SafetensorError:
                return None
            return latents.float() if latents is not None and latents.ndim == 5 and latents.isfinite().all() else None
        if size < 8:  # up to the end of the file, or no mp4
            return None
        start += size
    return None

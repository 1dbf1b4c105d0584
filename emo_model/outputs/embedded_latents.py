"""Embeds the last latents of a video in its mp4, so that a continuation need not re-encode frames.

They are stored in an mp4 box of their own at the end of the file; players skip it, and programs that rewrite the video
drop it.
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

BOX = b"comfyui-emo tail"  # the 16-byte id of a 'uuid' box (ISO/IEC 14496-12)
_MOST = 2**26  # bytes; larger than the motion frames of any model


def append_latents(path: Path, latents: Tensor) -> None:
    """Append latents (faces, C, n, h, w) of the last frames to the finished mp4 at `path`, in half precision."""
    data = save({"latents": latents.detach().to("cpu", torch.float16).contiguous()})
    with open(path, "ab") as file:
        file.write(struct.pack(">I4s", 24 + len(data), b"uuid") + BOX + data)


def read_latents(source: str | Path | BinaryIO) -> Tensor | None:
    """Latents (faces, C, n, h, w) float32 written by `append_latents`; None if the video has none."""
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
        size, kind, box_id = struct.unpack(">I4s16s", file.read(24))
        size = struct.unpack(">Q", box_id[:8])[0] if size == 1 else size
        if kind == b"uuid" and box_id == BOX and 24 < size <= min(_MOST, end - start):
            try:
                latents = load(file.read(size - 24)).get("latents")
            except SafetensorError:
                return None
            return latents.float() if latents is not None and latents.ndim == 5 and latents.isfinite().all() else None
        if size < 8:  # 0: to the end of the file; others: not an mp4
            return None
        start += size
    return None

"""Reads pictures, and frames of videos: the last ones, or one after the other (Pillow, PyAV)."""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import torch
from torch import Tensor

from .files import check_readable
from .picture_files import read_pixels, to_float
from .sound_decoding import open_media


def read_picture(path: str | Path) -> Tensor:
    """Any picture that Pillow reads, as viewers show it -> (1, 3, H, W) float32 in [-1, 1]; transparency becomes white.

    See `picture_files.read_pixels`, which also says what is raised.
    """
    return to_float(read_pixels(path))


def to_uint8(pixels: Tensor) -> np.ndarray:
    """pixels (F, 3, H, W) in [-1, 1] -> (F, H, W, 3) uint8."""
    return ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def last_frames(
    source: str | Path | BinaryIO, count: int, *, since: float = 0.0, until: float | None = None
) -> np.ndarray:
    """The last `count` frames (F, H, W, 3) uint8 of a video, or all if it has fewer; only its end is decoded.

    Frames are turned as the file's metadata says. since, until: trim window in seconds (start times of frames); until
    None: to the end. Raises OSError or ValueError for a file without frames that can be decoded.
    """
    is_file = not hasattr(source, "read")
    name = check_readable(source, "the video").name if is_file else "the video"
    try:
        with open_media(source) if is_file else av.open(source, metadata_errors="replace") as container:
            if not container.streams.video:
                raise ValueError(f"{name} has no pictures in it; use a file with a video track")
            frames = [upright(frame) for frame in _tail(container, count, since, until)]
            size = container.streams.video[0].height, container.streams.video[0].width
    except av.error.FFmpegError as error:
        raise ValueError(
            f"{name} is not a video that PyAV can read, or is cut off ({error.strerror}); export or copy it again"
        ) from None
    if not frames and not since and until is None:
        raise ValueError(f"{name} has no frames that can be decoded; export or copy it again")
    return np.stack(frames) if frames else np.zeros((0, *size, 3), np.uint8)


class VideoFile:
    """The pictures of a video file, read one after the other at a constant rate, as players show them.

    width, height: after turning as the metadata says; fps: the file's average; seconds: as the file states, 0 if it
    does not. Frame k is what is shown at (k + 0.5) / fps from the file's time 0, which is that of its sound, too: where
    frames are missing one is repeated, where there are too many some are left out. most_seconds: the rest is not read.
    Raises OSError or ValueError.
    """

    def __init__(self, path: str | Path, *, most_seconds: float | None = None):
        self.path, self.most_seconds = check_readable(path, "the video"), most_seconds
        try:
            with open_media(self.path) as container:
                if not container.streams.video:
                    raise ValueError(f"{self.path.name} has no pictures in it; use a file with a video track")
                stream = container.streams.video[0]
                rate = stream.average_rate or stream.guessed_rate
                if not rate:
                    raise ValueError(f"{self.path.name} states no frame rate; export it again")
                self.fps, self.has_sound = float(rate), bool(container.streams.audio)
                self.seconds = (container.duration or 0) / av.time_base
                first = next(iter(decodable(container, stream)), None)
        except av.error.FFmpegError as error:
            raise ValueError(f"{self.path.name} is not a video that PyAV can read ({error.strerror})") from None
        if first is None:
            raise ValueError(f"{self.path.name} has no frames that can be decoded; export or copy it again")
        self.height, self.width = upright(first).shape[:2]

    def __iter__(self) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 each. A damaged rest ends the video."""
        most = None if self.most_seconds is None else max(1, round(self.most_seconds * self.fps))
        return itertools.islice(self._shown(), most)

    def _shown(self) -> Iterator[np.ndarray]:
        shown, number = None, 0
        with open_media(self.path) as container, contextlib.suppress(av.error.FFmpegError):
            for count, frame in enumerate(decodable(container, container.streams.video[0])):
                time = count / self.fps if frame.time is None else frame.time
                while shown is not None and (number + 0.5) / self.fps < time:
                    yield shown
                    number += 1
                shown = upright(frame)
        if shown is not None:
            yield shown

    def blocks(self, count: int) -> Iterator[np.ndarray]:
        """`count` frames at a time, (F, H, W, 3); fewer at the end."""
        waiting = []
        for frame in self:
            waiting.append(frame)
            if len(waiting) == count:
                yield np.stack(waiting)
                waiting = []
        if waiting:
            yield np.stack(waiting)


def _tail(container, count: int, since: float, until: float | None) -> Iterable:
    stream = container.streams.video[0]
    tail = collections.deque(maxlen=count)
    end = container.duration if until is None else round(until * av.time_base)
    for back in (2, 20, None):  # seconds before the end
        start = 0 if back is None or not end else max(0, end - back * av.time_base)
        container.seek(start)  # to the preceding key frame
        for frame in decodable(container, stream):
            begins = frame.time or 0.0  # some files have no timestamps
            if until is not None and begins >= until:
                break
            if not since or begins >= since:  # a first frame may start before 0
                tail.append(frame)
        if len(tail) == count or start == 0:
            break
        tail.clear()
    return tail


def decodable(container, stream) -> Iterator:
    """Frames of packets that can be decoded; a damaged one is skipped, as players do."""
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue
        yield from frames


def upright(frame) -> np.ndarray:
    """(H, W, 3), turned by the angle in the metadata, as phones write it."""
    quarters = round(getattr(frame, "rotation", 0) / 90)
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), quarters))

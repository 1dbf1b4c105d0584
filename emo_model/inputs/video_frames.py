"""Frames of a video file one after the other, with their own times (PyAV)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np

from .files import check_readable
from .media import decodable, upright
from .sound_decoding import open_media

FINEST_TICK = Fraction(1, 90_000)  # of times that are stated more finely, or not at all
USUAL_RATE = Fraction(25)


class VideoFrames:
    """A video that can be read more than once, frame by frame; memory does not grow with its length.

    source: a file, or one that is open for reading in binary; since, until: trim window in seconds (start times of
    frames), until None: to the end. name: for messages; size: height and width of the upright frames; rate: mean frames
    per second; tick: seconds of which all times are multiples. Raises OSError or ValueError for a file without frames
    that can be decoded.
    """

    def __init__(self, source: str | Path | BinaryIO, *, since: float = 0.0, until: float | None = None):
        self.source = source
        self.since, self.until = (  # 0.2 as a float is a little more than a fifth
            None if limit is None else Fraction(limit).limit_denominator(10**6) for limit in (since, until)
        )
        self.is_file = not hasattr(source, "read")
        self.name = check_readable(source, "the video").name if self.is_file else "the video"
        try:
            with self._open() as container:
                if not container.streams.video:
                    raise ValueError(f"{self.name} has no pictures in it; use a file with a video track")
                stream = container.streams.video[0]
                rate, base = stream.average_rate or stream.guessed_rate, stream.time_base
                self.rate = Fraction(rate) if rate and 1 <= rate <= 240 else USUAL_RATE
                self.tick = Fraction(base) if base and base >= FINEST_TICK else FINEST_TICK
        except av.error.FFmpegError as error:
            raise ValueError(
                f"{self.name} is not a video that PyAV can read, or is cut off ({error.strerror}); export or copy it "
                "again"
            ) from None
        first = next(self._decoded(), None)
        if first is None:
            raise ValueError(
                f"{self.name} has no frames that can be decoded"
                + ("; export or copy it again" if not since and until is None else " between the chosen times")
            )
        self.size = first[1].shape[:2]

    def __iter__(self) -> Iterator[tuple[Fraction, np.ndarray]]:
        """Seconds since the first frame, rising, and the frame (H, W, 3) uint8, turned as the file says. Frames of
        another size than the first are scaled to it."""
        begin, before = None, None
        for seconds, picture in self._decoded(self.size):
            begin = seconds if begin is None else begin
            ticks = round((seconds - begin) / self.tick)
            ticks = 0 if before is None else max(ticks, before + 1)
            before = ticks
            yield ticks * self.tick, picture

    def _open(self):
        if self.is_file:
            return open_media(self.source)
        self.source.seek(0)
        return av.open(self.source, metadata_errors="replace")

    def _decoded(self, size: tuple[int, int] | None = None) -> Iterator[tuple[Fraction, np.ndarray]]:
        try:
            with self._open() as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                for number, frame in enumerate(decodable(container, stream)):
                    stated = None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base
                    seconds = number / self.rate if stated is None else Fraction(stated)
                    if self.until is not None and seconds >= self.until:
                        return
                    if self.since and seconds < self.since:
                        continue
                    picture = upright(frame)
                    if size is not None and picture.shape[:2] != size:
                        wide, tall = size[::-1] if round(getattr(frame, "rotation", 0) / 90) % 2 == 0 else size
                        picture = upright(frame.reformat(width=wide, height=tall))
                    yield seconds, np.ascontiguousarray(picture[: size[0], : size[1]] if size else picture)
        except av.error.FFmpegError as error:  # what was decoded before stays of use
            if size is None:
                raise ValueError(
                    f"{self.name} is not a video that PyAV can read, or is cut off ({error.strerror}); export or copy "
                    "it again"
                ) from None


class GivenFrames:
    """Frames that are in memory, at a constant rate, with what `VideoFrames` offers.

    picture: the frame (H, W, 3) uint8 of a number below `count`. Raises ValueError if there is none.
    """

    def __init__(self, picture: Callable[[int], np.ndarray], count: int, rate: Fraction | float):
        if count < 1:
            raise ValueError("the video has no frames (0 pictures); use another")
        self.picture, self.count, self.name = picture, count, "the video"
        self.rate = Fraction(rate).limit_denominator(1001)
        self.tick, self.size = 1 / self.rate, picture(0).shape[:2]

    def __iter__(self) -> Iterator[tuple[Fraction, np.ndarray]]:
        for number in range(self.count):
            yield number / self.rate, np.array(self.picture(number))

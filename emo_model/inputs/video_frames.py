"""The pictures of videos, one after the other, at their own times or a constant rate, in flat memory (PyAV)."""

from __future__ import annotations

import collections
import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .files import check_readable
from .sound_decoding import FROM_ZERO, open_media
from .video_colours import shown_size, to_srgb

FINEST_TICK = Fraction(1, 90_000)  # of times that are stated more finely, or not at all
USUAL_RATE = Fraction(25)  # of files that state none
LONGEST_HOLD = 1  # seconds that one picture is repeated for; a longer gap in the time stamps is a cut
BACKWARDS = Fraction(1, 2)  # seconds; a larger step back is a new count, as where recordings were joined
DAY = 86_400  # seconds; a larger step is one, too
MICROSECONDS = 1_000_000  # FFmpeg's clock


@dataclass(frozen=True, eq=False)
class TimedFrame:
    """number: of the frame at the constant rate, its middle is at (number + 0.5) / fps s of the file; pixels: (H, W, 3)
    uint8; is_cut: time stamps or size jump before it."""

    number: int
    pixels: np.ndarray
    is_cut: bool


class VideoFrames:
    """The pictures of a video as players show them; read them as often as needed.

    source: a file, or one that is open for reading in binary; since, until: trim window in seconds of the file, until
    None: to the end; long_side: larger pictures are downscaled to it. Pictures are turned as the metadata says,
    stretched to square pixels, brought to sRGB (HDR is tone mapped), and fitted into the size of the first. Time 0 is
    that of `sound_decoding`. Damaged packets are skipped; `notes` says what was found, complete after a reading.

    name: for messages; size: height and width; rate: mean frames per second; tick: seconds of which all times are
    multiples. Raises OSError or ValueError for a file without pictures that can be decoded.
    """

    def __init__(
        self,
        source: str | Path | BinaryIO,
        *,
        since: float = 0.0,
        until: float | None = None,
        long_side: int | None = None,
    ):
        from av.error import FFmpegError

        self.source, self.notes = source, ()
        self.since, self.until = (  # 0.2 as a float is a little more than a fifth
            None if limit is None else Fraction(limit).limit_denominator(10**6) for limit in (since, until)
        )
        self.name = "the video" if hasattr(source, "read") else check_readable(source, "the video").name
        try:
            with open_media(source) as container:
                stream = _pictures(container)
                if stream is None:
                    raise ValueError(f"{self.name} has no pictures in it; use a file with a video track")
                rate, base = stream.average_rate or stream.guessed_rate, stream.time_base
                self._ratio, starts = float(stream.sample_aspect_ratio or 1), container.start_time
                self._origin = Fraction(0 if container.format.name in FROM_ZERO else starts or 0, MICROSECONDS)
                self.rate = Fraction(rate) if rate and 1 <= rate <= 240 else USUAL_RATE
                self.tick = Fraction(base) if base and base >= FINEST_TICK else FINEST_TICK
                self.has_sound = bool(container.streams.audio)
        except FFmpegError as error:
            raise ValueError(
                f"{self.name} is not a video that PyAV can read, or is cut off ({error.strerror}); export or copy it "
                "again"
            ) from None
        first = next(self._decoded(), None)
        if first is None:
            raise ValueError(f"{self.name} has no frames that can be decoded; export or copy it again")
        self._first_size = self.size = shown_size(first, ratio=self._ratio)
        if long_side is not None and max(self.size) > long_side:
            self.size = _fitted(self.size, (long_side, long_side))

    def __iter__(self) -> Iterator[tuple[Fraction, np.ndarray]]:
        """Seconds since the first frame, rising, and the frame (H, W, 3) uint8: each once, at its own time."""
        begin, before = None, -1
        for seconds, frame, _ in self._timed():
            begin = seconds if begin is None else begin
            before = max(round((seconds - begin) / self.tick), before + 1)
            yield before * self.tick, self._pixels(frame)
        if begin is None:
            raise self._nothing_between()

    def retimed(self, fps: float) -> Iterator[TimedFrame]:
        """What is shown in the middle of each frame's time, whatever the rate of the file, constant or not."""
        number, now, current, pixels, is_cut = 0, 0, None, None, True
        for seconds, frame, jumps in self._timed():
            if current is None:
                number = max(0, _first_at(seconds, fps))
            else:
                for at in range(number, _first_at(min(seconds, now + LONGEST_HOLD), fps)):
                    pixels = self._pixels(current) if pixels is None else pixels
                    yield TimedFrame(at, pixels, is_cut)
                    number, is_cut = at + 1, False
                if seconds > now + LONGEST_HOLD:
                    number, is_cut = max(number, _first_at(seconds, fps)), True
                    self._note("pictures are missing for more than a second")
                is_cut = is_cut or jumps
            current, now, pixels = frame, seconds, None
        if current is not None:
            for at in range(number, max(_first_at(now + 1 / self.rate, fps), number + is_cut)):
                pixels = self._pixels(current) if pixels is None else pixels
                yield TimedFrame(at, pixels, is_cut)
                is_cut = False

    def shown(self) -> Iterator[np.ndarray]:
        """Frame k (H, W, 3) uint8 is what is shown at (k + 0.5) / rate from time 0, however long it is shown."""
        count, last = 0, None
        for frame in self.retimed(float(self.rate)):
            for _ in range(count, frame.number):
                yield frame.pixels if last is None else last
            yield frame.pixels
            count, last = frame.number + 1, frame.pixels

    def blocks(self, count: int) -> Iterator[np.ndarray]:
        """What is `shown`, `count` frames at a time, (F, H, W, 3); fewer at the end."""
        waiting = []
        for frame in self.shown():
            waiting.append(frame)
            if len(waiting) == count:
                yield np.stack(waiting)
                waiting = []
        if waiting:
            yield np.stack(waiting)

    def last(self, count: int) -> np.ndarray:
        """The last `count` frames (F, H, W, 3) uint8, or all if there are fewer; only the end is decoded."""
        for back in (2, 20, None):  # seconds before the end
            tail = collections.deque(self._timed(back), maxlen=count)
            if len(tail) == count:
                break
        if not tail:
            raise self._nothing_between()
        return np.stack([self._pixels(frame) for _, frame, _ in tail])

    def _nothing_between(self) -> ValueError:
        return ValueError(f"{self.name} has no frames that can be decoded between the chosen times; change them")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes += (text,)

    def _pixels(self, frame) -> np.ndarray:
        """(H, W, 3) uint8; where the size changes within a video, smaller pictures get black borders."""
        size = shown_size(frame, ratio=self._ratio)
        inside = self.size if size == self._first_size else _fitted(size, self.size)
        pixels = to_srgb(frame, inside)
        if inside == self.size:
            return pixels
        whole = np.zeros((*self.size, 3), np.uint8)
        top, left = ((outer - inner) // 2 for outer, inner in zip(self.size, inside, strict=True))
        whole[top : top + inside[0], left : left + inside[1]] = pixels
        return whole

    def _timed(self, back: float | None = None) -> Iterator[tuple[Fraction, object, bool]]:
        """(seconds, PyAV frame, whether a cut precedes it) of the trim window; times rise. back: see `_decoded`."""
        step, now, moved, size = 1 / self.rate, None, 0, None
        for frame in self._decoded(back):
            is_stated = frame.pts is not None and frame.time_base is not None
            next_one = 0 if now is None else now + step
            seconds = frame.pts * frame.time_base - self._origin + moved if is_stated else next_one
            jumps = now is not None and (seconds < now - BACKWARDS or seconds > now + DAY)
            if jumps:
                moved += next_one - seconds
                seconds = next_one
                self._note("the time stamps jump")
            elif now is not None and seconds <= now:
                continue
            if self.until is not None and seconds >= self.until:
                return
            if size not in (None, (frame.height, frame.width)):
                jumps = True
                self._note("the size of the pictures changes")
            now, size = seconds, (frame.height, frame.width)
            if not self.since or seconds >= self.since:  # a first frame may begin before 0
                yield seconds, frame, jumps

    def _decoded(self, back: float | None = None) -> Iterator:
        """PyAV frames; those of the last `back` seconds of the window and some before, if the file can be sought."""
        from av.error import FFmpegError

        with open_media(self.source) as container:
            stream, damaged, self.notes = _pictures(container), 0, ()
            # Not by frames: such threads still decode when a reader stops early; freeing the decoder waits for them and
            # holds Python's lock, and one that waits for that lock stops the whole process.
            stream.thread_type = "SLICE"
            end = container.duration if self.until is None else round(self.until * MICROSECONDS)
            if back is not None and end:
                with contextlib.suppress(FFmpegError):
                    container.seek(max(0, end - back * MICROSECONDS))  # to the preceding key frame
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets, None)
                except FFmpegError:
                    self._note("the file is damaged, nothing can be read after that")
                    break
                if packet is None:
                    break
                try:
                    frames = packet.decode()
                except FFmpegError:
                    damaged += 1
                    continue
                yield from frames
        if damaged:
            self._note(f"{damaged} damaged packet{'s' * (damaged > 1)} skipped")


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


def _pictures(container):
    """The first video track that is no cover picture, or None."""
    from av.stream import Disposition

    return next((one for one in container.streams.video if not one.disposition & Disposition.attached_pic), None)


def _first_at(seconds: Fraction, fps: float) -> int:
    """The first frame whose middle is not before `seconds`."""
    return math.ceil(float(seconds) * fps - 0.5 - 1e-6)


def _fitted(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """A size of the same shape that just fits into the box."""
    scale = min(outer / inner for outer, inner in zip(box, size, strict=True))
    return tuple(min(outer, max(2, round(inner * scale))) for outer, inner in zip(box, size, strict=True))

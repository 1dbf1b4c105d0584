"""Videos of any kind at one frame rate, upright and in sRGB, frame by frame: memory does not grow with their length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from .files import check_readable
from .sound_decoding import FROM_ZERO, open_media

LONGEST_HOLD = 1.0  # seconds that one picture is repeated for; a longer gap in the time stamps is a cut
BACKWARDS = 0.5  # seconds; a larger step back is a new count, as where recordings were joined
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


@dataclass(frozen=True, eq=False)
class TimedFrame:
    """number: of the frame at the constant rate, its middle is at (number + 0.5) / fps s of the file; pixels: (H, W, 3)
    uint8; is_cut: time stamps or size jump before it."""

    number: int
    pixels: np.ndarray
    is_cut: bool


class VideoFrames:
    """The pictures of a video file at `fps`, as players show them; iterate for `TimedFrame`s, as often as needed.

    The picture that is shown in the middle of a frame's time is the frame, whatever the file's own rate, constant or
    not. Pictures are turned as the metadata says, stretched to square pixels, brought to sRGB (HDR is tone mapped), and
    downscaled if a side exceeds `long_side`. Time 0 is that of `sound_decoding`. Damaged packets are skipped; `notes`
    says what was found, complete after an iteration. Raises OSError or ValueError for a file without pictures.
    """

    def __init__(self, path: str | Path, *, fps: float, long_side: int = 1280):
        import av

        self.path, self.fps, self.long_side = check_readable(path, "the video"), fps, long_side
        self.notes: tuple[str, ...] = ()
        try:
            with open_media(self.path) as container:
                stream = _pictures(container)
                if stream is None:
                    raise ValueError(f"{self.path.name} has no moving pictures in it; use a file with a video track")
                self.stated_seconds = 0.0 if container.duration is None else container.duration / av.time_base
        except av.error.FFmpegError as error:
            raise ValueError(
                f"{self.path.name} is not a video that PyAV can read, or is cut off ({error.strerror}); export or copy "
                "it again"
            ) from None

    def __iter__(self) -> Iterator[TimedFrame]:
        with open_media(self.path) as container:
            stream = _pictures(container)
            stream.thread_type = "AUTO"
            yield from _Retimed(self, container, stream).frames()


class _Retimed:
    """One reading of a file."""

    def __init__(self, video: VideoFrames, container, stream):
        self.video, self.container, self.stream = video, container, stream
        starts = container.start_time
        self.origin = 0.0 if container.format.name in FROM_ZERO or starts is None else starts / 1_000_000
        rate = stream.average_rate or stream.guessed_rate
        self.step = float(1 / rate) if rate else 1 / video.fps
        self.damaged, self.found = 0, []
        self._kept: tuple = (None, None)

    def frames(self) -> Iterator[TimedFrame]:
        fps, number, is_cut, moved = self.video.fps, 0, True, 0.0
        current, now, size, jumps = None, 0.0, None, False
        for frame in self._decoded():
            time = now + self.step if frame.time is None else frame.time - self.origin + moved
            if current is None:
                number = max(0, _first_at(time, fps))
            elif time < now - BACKWARDS or (frame.time is not None and time > now + 86_400):
                moved += now + self.step - time
                time, jumps = now + self.step, True
                self._note("the time stamps jump")
            elif time <= now:
                continue
            else:
                jumps = False
            if current is not None:
                until = min(time, now + LONGEST_HOLD)
                for at in range(number, _first_at(until, fps)):
                    yield TimedFrame(at, self._pixels(current), is_cut)
                    number, is_cut = at + 1, False
                if time > now + LONGEST_HOLD:
                    number, is_cut = max(number, _first_at(time, fps)), True
                    self._note("pictures are missing for more than a second")
                is_cut = is_cut or jumps
            if size is not None and size != (frame.width, frame.height):
                is_cut = True
                self._note("the size of the pictures changes")
            current, now, size = frame, time, (frame.width, frame.height)
        if current is not None:
            for at in range(number, max(_first_at(now + self.step, fps), number + is_cut)):
                yield TimedFrame(at, self._pixels(current), is_cut)
                is_cut = False
        if self.damaged:
            self._note(f"{self.damaged} damaged packet{'s' * (self.damaged > 1)} skipped")
        self.video.notes = tuple(self.found)

    def _note(self, text: str) -> None:
        if text not in self.found:
            self.found.append(text)

    def _decoded(self) -> Iterator:
        from av.error import FFmpegError

        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError:
                self._note("the file is damaged, nothing can be read after that")
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except FFmpegError:
                self.damaged += 1
                continue
            yield from frames

    def _pixels(self, frame) -> np.ndarray:
        """(H, W, 3) uint8; the last one is kept, since slow videos repeat pictures."""
        if self._kept[0] is not frame:
            ratio = self.stream.sample_aspect_ratio
            self._kept = frame, to_srgb(frame, self.video.long_side, float(ratio) if ratio else 1.0)
        return self._kept[1]


def _pictures(container):
    """The first video track that is no cover picture, or None."""
    from av.stream import Disposition

    return next((one for one in container.streams.video if not one.disposition & Disposition.attached_pic), None)


def _first_at(seconds: float, fps: float) -> int:
    """The first frame whose middle is not before `seconds`."""
    return int(np.ceil(seconds * fps - 0.5 - 1e-6))


def to_srgb(frame, long_side: int, ratio: float = 1.0) -> np.ndarray:
    """A PyAV frame, with pixels of width / height `ratio` -> (H, W, 3) uint8, upright, at most `long_side` a side."""
    ratio = ratio if 0.1 < ratio < 10 else 1.0
    width, height = frame.width * max(ratio, 1.0), frame.height / min(ratio, 1.0)
    scale = min(1.0, long_side / max(width, height))
    size = {"width": max(2, round(width * scale)), "height": max(2, round(height * scale))}
    if size == {"width": frame.width, "height": frame.height}:
        size = {}
    how = {"interpolation": "AREA"} if scale < 0.5 else {"interpolation": "BICUBIC"} if size else {}
    if int(frame.color_trc) in (PQ, HLG):
        pixels = _tone_mapped(frame.reformat(format="rgb48le", **size, **how).to_ndarray(), frame)
    else:
        pixels = frame.reformat(format="rgb24", **size, **how).to_ndarray()
    quarters = round(getattr(frame, "rotation", 0) / 90)
    return np.ascontiguousarray(np.rot90(pixels, quarters))


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

"""mp4 files, written frame by frame (PyAV)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.audio.resampler import AudioResampler
from torch import Tensor

from ..inputs.audio import SoundFile
from ..inputs.voices import MixedSound
from .destination import check_destination, new_partial, publish
from .disk import QUALITY, check_video, grain_of
from .embedded_latents import append_latents

GENERATED = "Generated with ComfyUI-EMO from a still picture and a voice"
DUBBED = "Dubbed with ComfyUI-EMO: the mouth was generated from another voice"
"""Metadata tag 'comment' of every video; of dubbed ones the second."""

BT_601, LIMITED, SRGB = 5, 1, (1, 13)
"""FFmpeg's enum values for converted RGB: colour matrix, range, (primaries, transfer curve)."""

MOST_PIXELS = 16384  # a side; libx264's limit


class VideoWriter:
    """Writes an mp4 incrementally: `with VideoWriter(...) as video: video.write(frames)`. Buffers one second of sound.

    fps: frames per second, stored as a fraction; width, height: an odd last row or column is repeated, since H.264
    requires even sizes; audio: (waveform (C, T) float in [-1, 1], sample rate), a `SoundFile` or a `MixedSound`; crf: 0
    (lossless) to 51; preset: x264's; metadata: text to store, such as a workflow; the tag that the video is generated
    is always written.
    codec: "aac" plays everywhere, "flac" is lossless for up to 24 bits. Both keep the rate, the channels, the first
    sample at time 0 and the number of samples (AAC: by the file's edit list); formats that AAC does not support (rates
    such as 192 kHz, more than 6 channels) are written as FLAC. More than 8 channels are mixed to mono. Sound that ends
    within one frame of the video's end is kept, longer sound is trimmed.
    last: set it to the latents (1, C, n, h, w) of the last frames to embed them (`outputs.embedded_latents`). The file
    has a new, random name until it is complete (`partial`); after an error a playable part remains there if a frame was
    written and `keeps_part` is set. A link is written through.
    tick: None for frames at a constant rate; else frames have times of their own, which `write` is given: multiples of
    so many seconds, and fps is their mean rate.
    expected: number of frames to come; the first `write` then raises OSError, with nothing written, if too little disk
    is free for them. Raises OSError or ValueError as `check_destination` and `check_size` do.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: float,
        width: int,
        height: int,
        audio: tuple[Tensor, int] | SoundFile | MixedSound | None = None,
        crf: int = QUALITY,
        preset: str = "veryfast",
        codec: str = "aac",
        metadata: dict[str, str] | None = None,
        keeps_part: bool = True,
        expected: int | None = None,
        tick: Fraction | None = None,
    ):
        check_size(width, height)
        self.expected, self.crf = expected, crf
        self.path, self.keeps_part = check_destination(path), keeps_part
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.partial = new_partial(self.path)
        try:
            self._open(fps, width, height, audio, crf, preset, codec, metadata, tick)
        except BaseException:
            with contextlib.suppress(AttributeError, av.error.FFmpegError):
                self.container.close()  # Windows removes no open file
            with contextlib.suppress(OSError):
                self.partial.unlink(missing_ok=True)
            raise

    def _open(
        self,
        fps: float,
        width: int,
        height: int,
        audio: tuple[Tensor, int] | SoundFile | MixedSound | None,
        crf: int,
        preset: str,
        codec: str,
        metadata: dict[str, str] | None,
        tick: Fraction | None,
    ) -> None:
        self.rate = Fraction(fps).limit_denominator(1001)
        self.tick, self.until = tick or 1 / self.rate, Fraction(0)  # until: seconds, the end of the last frame
        self.width, self.height = width, height
        self.frames = 0
        self.last: Tensor | None = None
        self.sound = None if audio is None else _Sound(audio, codec)
        options = {"movflags": "use_metadata_tags+faststart"}
        if self.sound is not None:
            options["movie_timescale"] = str(self.sound.rate)  # otherwise the sound's length is rounded to milliseconds
        self.container = av.open(str(self.partial.absolute()), "w", options=options)
        for key, value in {"comment": GENERATED, **(metadata or {})}.items():
            self.container.metadata[key] = value
        options = {"crf": str(crf), "preset": preset}
        # x264's AVX-512 code for the macroblock tree reads memory that was never written: two runs' files may differ
        if torch.backends.cpu.get_cpu_capability().startswith("AVX"):
            options["x264-params"] = "asm=avx2"
        self.video = self.container.add_stream("libx264", rate=self.rate, options=options)
        self.video.width, self.video.height = width + width % 2, height + height % 2
        self.video.pix_fmt = "yuv420p"
        colours = self.video.codec_context  # players assume BT.709 for large untagged pictures
        colours.colorspace, colours.color_range = BT_601, LIMITED
        colours.color_primaries, colours.color_trc = SRGB
        self.video.time_base = colours.time_base = self.tick
        if self.sound is not None:
            self.sound.begin(self.container)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind, error, trace) -> None:
        is_complete = False
        try:
            with contextlib.ExitStack() as closing:
                if kind is not None:
                    # e.g. a full disk, already reported by `error`
                    closing.enter_context(contextlib.suppress(av.error.FFmpegError))
                closing.callback(self.container.close)
                if self.frames:
                    if self.sound is not None:
                        self.sound.end(self.until, self.until + 1 / self.rate)
                    self.container.mux(self.video.encode(None))
            if kind is None:
                if self.last is not None:
                    append_latents(self.partial, self.last)
                is_complete = True
        finally:
            if not is_complete and not (self.frames and self.keeps_part and _plays(self.partial)):
                self.partial.unlink(missing_ok=True)
        if is_complete:
            publish(self.partial, self.path)

    def write(self, frames: np.ndarray, times: Sequence[Fraction] | None = None) -> None:
        """frames (F, H, W, 3) uint8; times: seconds at which they begin, rising, if the writer has a `tick`."""
        if frames.shape[1:] != (self.height, self.width, 3):
            raise ValueError(
                f"frames of {frames.shape[2]}x{frames.shape[1]} cannot be written to a video of "
                f"{self.width}x{self.height}"
            )
        if not self.frames and self.expected is not None and len(frames):
            self._check_disk(frames[0])
        if self.width % 2 or self.height % 2:
            frames = np.pad(frames, ((0, 0), (0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        for number, picture in enumerate(frames):
            begins = self.frames / self.rate if times is None else times[number]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = round(begins / self.tick), self.tick
            self.container.mux(self.video.encode(frame))
            self.frames, self.until = self.frames + 1, begins + 1 / self.rate
        if self.sound is not None:
            self.sound.write(self.until)

    def _check_disk(self, picture: np.ndarray) -> None:
        check_video(
            self.path.parent,
            self.expected,
            fps=float(self.rate),
            width=self.width,
            height=self.height,
            grain=grain_of(picture),
            quality=self.crf,
            sound_bytes=0 if self.sound is None else self.sound.bytes_per_second,
        )


def check_size(width: int, height: int) -> None:
    """Raises ValueError for frames that H.264 cannot store."""
    if not (1 <= width <= MOST_PIXELS and 1 <= height <= MOST_PIXELS):
        raise ValueError(
            f"frames of {width}x{height} pixels cannot be written: H.264 takes 1 to {MOST_PIXELS} pixels a side. Scale "
            "the picture down, for example to a longer side of 1920 pixels"
        )


def _plays(path: Path) -> bool:
    """Whether a file has a frame that can be decoded."""
    try:
        with av.open(str(path.absolute())) as container:
            return next(container.decode(video=0), None) is not None
    except (av.error.FFmpegError, IndexError):
        return False


def sound_bytes(rate: int, channels: int, codec: str) -> int:
    """At most about what a second of sound takes in the file; arguments as the `VideoWriter`'s."""
    channels = 1 if channels > max(_LAYOUTS) else channels
    return channels * (_bit_rate(rate) // 8 if _codec(rate, channels, codec) == "aac" else 3 * rate)


def _codec(rate: int, channels: int, codec: str) -> str:
    return "flac" if codec == "flac" or rate not in _AAC_RATES or channels > _AAC_CHANNELS else "aac"


def _bit_rate(rate: int) -> int:
    """Of a channel of AAC, which has at most 6 bits per sample."""
    return min(128_000, 5 * rate)


class _Sound:
    """The sound track of a growing video: samples are read from their source as the frames advance."""

    def __init__(self, audio: tuple[Tensor, int] | SoundFile | MixedSound, codec: str):
        if not isinstance(audio, tuple):
            self.rate, self.channels, self.blocks = audio.rate, audio.channels, audio.blocks()
        else:
            waveform, self.rate = audio
            self.channels = len(waveform)
            self.blocks = (waveform[:, start : start + self.rate] for start in range(0, waveform.shape[1], self.rate))
        self.is_mixed = self.channels > max(_LAYOUTS)
        if self.is_mixed:
            self.channels = 1
        self.codec, self.layout = _codec(self.rate, self.channels, codec), _LAYOUTS[self.channels]
        self.bytes_per_second = sound_bytes(self.rate, self.channels, codec)
        self.written, self.waiting = 0, torch.zeros(self.channels, 0)  # waiting: read but not written

    def begin(self, container) -> None:
        self.container = container
        self.stream = container.add_stream(self.codec, rate=self.rate, layout=self.layout)
        if self.codec == "flac":
            self.stream.codec_context.format = "s32"  # 24 bits of them
        else:
            self.stream.bit_rate = _bit_rate(self.rate) * self.channels
        self.convert = AudioResampler(self.stream.codec_context.format.name, self.layout, self.rate)

    def write(self, seconds: Fraction) -> None:
        """Write all samples before `seconds`."""
        until = round(seconds * self.rate)
        self._read(until)
        self._encode(self.waiting[:, : until - self.written])

    def end(self, seconds: Fraction, at_most: Fraction) -> None:
        """Write the samples before `seconds`, or all of them if they end before `at_most`; close the stream."""
        self.write(seconds)
        most = round(at_most * self.rate)
        self._read(most + 1)
        if self.written + self.waiting.shape[1] <= most:
            self._encode(self.waiting)
        for part in self.convert.resample(None):
            self.container.mux(self.stream.encode(part))
        self.container.mux(self.stream.encode(None))

    def _read(self, until: int) -> None:
        while self.written + self.waiting.shape[1] < until and (block := next(self.blocks, None)) is not None:
            block = block.float().cpu()
            self.waiting = torch.cat([self.waiting, block.mean(0, keepdim=True) if self.is_mixed else block], dim=1)

    def _encode(self, samples: Tensor) -> None:
        self.waiting = self.waiting[:, samples.shape[1] :]
        for block in samples.split(self.rate, dim=1):
            if not block.shape[1]:
                continue
            side_by_side = block.T.contiguous().view(1, -1).numpy()  # interleaved: PyAV has no format with eight planes
            frame = av.AudioFrame.from_ndarray(side_by_side, format="flt", layout=self.layout)
            frame.sample_rate, frame.pts, frame.time_base = self.rate, self.written, Fraction(1, self.rate)
            for part in self.convert.resample(frame):
                self.container.mux(self.stream.encode(part))
            self.written += block.shape[1]


_AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000)
_AAC_CHANNELS = 6  # with a layout that players support
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
SOUND_CODECS = ("aac", "flac")

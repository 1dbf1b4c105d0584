"""Decodes sound as players play it: time stamps are obeyed, a damaged packet costs its own time and no more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

JITTER = 0.03  # seconds by which time stamps may be off without meaning anything: some files round them to milliseconds
OVERLAP = 0.1  # seconds; a larger step back is a new count, as where recordings were joined
LONGEST_PAUSE = 3600.0  # seconds; a larger step is no pause
PADDING = 8192  # samples after the length that an mp4 states, which encoders append to fill their last block
FROM_ZERO = {
    "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska,webm",
}  # formats whose time begins at 0; others begin where they begin
MISSING = 0.25  # seconds; lengths in headers are rounded
UNREAD = 0.2  # share of a file that is not sound; less is headers
GUESSED = {"mp3", "aac"}  # formats whose length is estimated from the bit rate: nothing is missing because of it
WITHOUT_EXTRAS = {"ogg", "matroska,webm"}  # formats that hold little beside the sound if they have one track
CANCELLED = 0.1  # of the channels' power: where less is left of their mean, they are opposite
FULL_SCALE = 64.0  # of float samples; larger ones are whole numbers of 16 or 32 bits that were stored as float
STRETCH, SILENT = 4096, 1e-4  # samples; a stretch's variance against that of everything, below which it is silent
OFFSET_STEP = 2.0**-24  # of full scale, to which the constant part is rounded: the same however the sound is split


def open_media(source: str | Path | BinaryIO):
    """Open a file, or one that is open for reading in binary, with PyAV; use with `with`."""
    import av  # imported here and below: training uses these modules without PyAV

    if hasattr(source, "read"):
        source.seek(0)
        return av.open(source, metadata_errors="replace")
    # absolute: FFmpeg parses text before a colon as a protocol; old files have tags in any encoding
    return av.open(str(Path(source).absolute()), metadata_errors="replace")


def sound_stream(container):
    """The audio track that players choose: the first that is marked default, else the first. Raises IndexError."""
    from av.stream import Disposition

    tracks = container.streams.audio
    return next((track for track in tracks if track.disposition & Disposition.default), tracks[0])


@dataclass(frozen=True)
class Losses:
    """packets: damaged ones, skipped; silent: seconds without sound between the first sample and the last."""

    packets: int = 0
    silent: float = 0.0
    missing: float = 0.0  # seconds at the end that the file states, but does not have
    unread: float = 0.0  # share of the file's bytes that were passed over
    is_cut: bool = False  # the file ends with an error

    @property
    def summary(self) -> str:
        """A sentence; "" where there is nothing to say."""
        parts = []
        if self.packets:
            parts.append(f"{self.packets} damaged packet{'s' * (self.packets > 1)} skipped")
        if self.silent > 0:
            parts.append(f"{self.silent:.2f} s where the file has no sound are silent")
        if self.missing > 0:
            parts.append(f"the last {self.missing:.2f} s that the file states are not in it")
        if self.unread > 0:
            parts.append(f"{self.unread:.0%} of the file is damaged and was passed over")
        if self.is_cut:
            parts.append("the file is damaged, nothing can be read after that")
        return "; ".join(parts)


class SoundDecoder:
    """Blocks (C, T) float32 of an open file's sound, from its time 0 on; `losses` is complete when they are.

    rate, channels: of the first block; what is stored in another form later is converted to it.
    Raises FFmpegError where nothing can be decoded.
    """

    def __init__(self, container):
        self.container, self.stream = container, sound_stream(container)
        self.losses = Losses()
        self.rate = self.channels = 0
        self._packets = self._bytes = 0
        self.end: float | None = None
        self._is_after_loss = False
        self._converter, self._form = None, None

    def blocks(self) -> Iterator[Tensor]:
        position, moved = 0, 0.0  # samples so far; seconds between the file's clock and ours
        self._begin()  # not at the first time stamp: frames before it may have none
        for samples, seconds in self._converted():
            if seconds is not None:
                gap = round((seconds - self.origin + moved) * self.rate) - position
                allowed = 0 if self._is_after_loss or position == 0 else round(JITTER * self.rate)
                if gap > allowed:
                    if gap > LONGEST_PAUSE * self.rate or self._is_beyond(position + gap):
                        moved -= gap / self.rate
                    else:
                        self.losses = replace(self.losses, silent=self.losses.silent + gap / self.rate)
                        yield from torch.zeros(self.channels, gap).split(self.rate, dim=1)
                        position += gap
                elif gap < -allowed:
                    if gap < -OVERLAP * self.rate:
                        moved -= gap / self.rate
                    else:
                        samples = samples[:, -gap:]
                self._is_after_loss = False
            position += samples.shape[1]
            if samples.shape[1]:
                yield samples
        if position:
            self._count_missing(position / self.rate)

    def _begin(self) -> None:
        starts = self.container.start_time
        self.origin = 0.0 if self.container.format.name in FROM_ZERO or starts is None else starts / 1_000_000
        stream = self.stream
        if stream.duration is not None:
            self.end = float((stream.duration + (stream.start_time or 0)) * stream.time_base) - self.origin
        else:
            self.end = None if self.container.duration is None else self.container.duration / 1_000_000

    def _count_missing(self, seconds: float) -> None:
        missing = 0.0 if self.end is None else self.end - seconds
        if missing > max(MISSING, 0.02 * seconds) and self.container.format.name not in GUESSED:
            self.losses = replace(self.losses, missing=missing)
        size = self.container.size
        if self.container.format.name in WITHOUT_EXTRAS and len(self.container.streams) == 1 and size > 0:
            unread = 1 - self._bytes / size
            if unread > UNREAD:
                self.losses = replace(self.losses, unread=unread)

    def _is_beyond(self, position: int) -> bool:
        return self.end is not None and position > (self.end + 1) * self.rate

    def _converted(self) -> Iterator[tuple[Tensor, float | None]]:
        """(samples, the time of the first by the file's clock)."""
        for frame in self._frames():
            form = frame.rate, frame.layout.name, frame.format.name
            if form != self._form:
                yield from self._flush()
                self._convert_from(frame, form)
            seconds = None if frame.pts is None else float(frame.pts * frame.time_base)
            for part in self._converter.resample(frame):
                yield self._tensor(part), seconds
                seconds = None
        yield from self._flush()

    def _convert_from(self, frame, form: tuple) -> None:
        from av.audio.resampler import AudioResampler

        if not self.rate:
            self.rate, self.layout, self.channels = frame.rate, frame.layout, frame.layout.nb_channels
        # interleaved: PyAV has no format with eight planes
        self._converter, self._form = AudioResampler("flt", self.layout, self.rate), form

    def _flush(self) -> Iterator[tuple[Tensor, None]]:
        if self._converter is not None:
            for part in self._converter.resample(None):
                yield self._tensor(part), None

    def _tensor(self, part) -> Tensor:
        return torch.from_numpy(part.to_ndarray()).view(-1, self.channels).T

    def _frames(self) -> Iterator:
        from av.error import FFmpegError

        first, packets = None, self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError as error:
                if not self.rate:
                    raise
                self.losses = replace(self.losses, is_cut=True)
                first, packet = first or error, None
            if packet is None:
                break
            try:
                frames = packet.decode()
            except FFmpegError as error:
                first, self._is_after_loss = first or error, True
                self.losses = replace(self.losses, packets=self.losses.packets + 1)
                continue
            self._packets += 1
            self._bytes += packet.size
            yield from (frame for frame in frames if frame.samples and frame.rate)
        if first is not None and (not self.rate or self.losses.packets > self._packets):
            raise first


def until_stated_end(blocks: Iterable[Tensor], end: int | None) -> Iterator[Tensor]:
    """Blocks (C, T) without the padding after sample `end`; all of them where far more follows than padding."""
    position, beyond = 0, []
    for block in blocks:
        inside = block.shape[1] if end is None else max(0, min(block.shape[1], end - position))
        position += block.shape[1]
        if inside:
            yield block[:, :inside]
        if inside < block.shape[1]:
            beyond.append(block[:, inside:])
            if position - end > PADDING:
                yield from beyond
                beyond, end = [], None


def in_seconds(blocks: Iterable[Tensor], rate: int) -> Iterator[Tensor]:
    """The same samples (C, T) in blocks of about a second, for work that is slow in small pieces."""
    waiting, count = [], 0
    for block in blocks:
        waiting.append(block)
        count += block.shape[1]
        if count >= rate:
            yield torch.cat(waiting, dim=1)
            waiting, count = [], 0
    if waiting:
        yield torch.cat(waiting, dim=1)


@dataclass(frozen=True)
class Hearing:
    """What the samples of a recording mean, and how its channels become one for the audio encoder.

    samples: number of them; bad: the first sample that is NaN or infinite, or None; scale: factor to [-1, 1]; signs: of
    the channels, where they are opposite and would cancel; offset: the constant part, which no loudspeaker plays, in
    steps of `OFFSET_STEP`: the mean of a silent stretch, if there is one, else of everything, so that silence stays
    silent where the voice alone is lopsided.
    """

    samples: int = 0
    bad: int | None = None
    scale: float = 1.0
    signs: tuple[float, ...] | None = None
    offset: float = 0.0

    @classmethod
    def of(cls, blocks: Iterable[Tensor]) -> Hearing:
        samples, peak, sums, products = 0, 0.0, 0.0, 0.0
        quiet, quiet_means, rest = math.inf, 0.0, None  # variance and means of the quietest stretch
        for block in blocks:
            if not block.shape[1]:
                continue
            low, high = (bound.item() for bound in block.aminmax())
            if not (abs(low) < torch.inf and abs(high) < torch.inf):
                return cls(samples, bad=samples + int((~block.isfinite()).any(0).nonzero()[0]))
            samples, peak = samples + block.shape[1], max(peak, -low, high)
            sums = sums + block.sum(1, dtype=torch.float64)
            products = products + (block @ block.T).double()
            variance, own, rest = _quietest(block if rest is None else torch.cat([rest, block], 1))
            if variance < quiet:
                quiet, quiet_means = variance, own
        if not samples or peak == 0:
            return cls(samples)
        scale = 1.0 if peak <= FULL_SCALE else 2.0**-15 if peak <= 2**16 else 2.0**-31
        means = sums / samples
        covariance = products / samples - means[:, None] * means
        signs = _signs(covariance)
        weights = torch.ones_like(means) if signs is None else torch.tensor(signs, dtype=torch.float64)
        weights = weights / len(means)
        means = quiet_means if quiet < SILENT * covariance.diagonal().sum() else means
        offset = round(scale * float(weights @ means) / OFFSET_STEP) * OFFSET_STEP
        return cls(samples, None, scale, signs, offset)

    def scaled(self, block: Tensor) -> Tensor:
        """(C, T) -> (C, T) in [-1, 1]."""
        return block if self.scale == 1 else block * self.scale

    def mono(self, block: Tensor) -> Tensor:
        """(C, T) in [-1, 1] -> (T,) as the audio encoder hears it: channels averaged."""
        heard = (block if self.signs is None else block * block.new_tensor(self.signs)[:, None]).mean(0)
        return heard - self.offset if self.offset else heard


def _quietest(sound: Tensor) -> tuple[float, Tensor, Tensor]:
    """sound (C, T) -> of its quietest whole stretch the variance, summed over channels, and the means (C,); and what is
    left of the sound behind the last one. Of less than a stretch: infinity and zeros."""
    whole = sound.shape[1] // STRETCH * STRETCH
    if not whole:
        return math.inf, sound.new_zeros(len(sound), dtype=torch.float64), sound
    stretches = sound[:, :whole].double().unflatten(1, (-1, STRETCH))
    variances = stretches.var(-1, unbiased=False).sum(0)
    least = int(variances.argmin())
    return float(variances[least]), stretches[:, least].mean(-1), sound[:, whole:]


def _signs(covariance: Tensor) -> tuple[float, ...] | None:
    """Signs of the channels after the loudest, where their mean would be nearly silent; None where it is not."""
    count, powers = len(covariance), covariance.diagonal()
    if count < 2 or covariance.sum() / count**2 >= CANCELLED * powers.mean():
        return None
    signs = torch.where(covariance[powers.argmax()] < 0, -1.0, 1.0).to(covariance)
    kept = signs @ covariance @ signs / count**2
    return tuple(signs.tolist()) if kept >= 2 * CANCELLED * powers.mean() else None

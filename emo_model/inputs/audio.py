"""Sound files, resampling, and chunked or lazy audio encoding: one row of features per video frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..types import AudioFeatures

SAMPLE_RATE = 16000  # input rate of audio encoders
STRIDE = 320  # samples per encoder feature (50 Hz), ours, wav2vec 2.0 and Whisper


def open_media(path: str | Path):
    """Open a file with PyAV; use with `with`."""
    import av  # imported here and below: training uses this module without PyAV

    # absolute: FFmpeg parses text before a colon as a protocol; old files have tags in any encoding
    return av.open(str(Path(path).absolute()), metadata_errors="replace")


class SoundFile:
    """The sound of an audio or video file that PyAV opens, read in blocks.

    rate: samples per second; channels; samples: number per channel.
    Raises FileNotFoundError, or ValueError for a file without sound or with damaged sound.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        import av

        try:
            with open_media(path) as container:
                if not container.streams.audio:
                    raise ValueError(f"{self.path.name} has no sound in it")
                stream = container.streams.audio[0]
                if stream.codec_context is None or not stream.rate or not stream.channels:
                    raise ValueError(
                        f"PyAV cannot decode the sound of {self.path.name}; use a WAV, FLAC, MP3 or Ogg file"
                    )
                self.rate, self.channels = stream.rate, stream.channels
            self.samples = 0
            for block in self.blocks():
                if not block.isfinite().all():
                    raise ValueError(
                        f"{self.path.name} has NaN or infinite samples after "
                        f"{self.samples / self.rate:.2f} s; export the file again"
                    )
                self.samples += block.shape[1]
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):  # from the file system, not the decoder
                raise
            raise ValueError(
                f"{self.path.name} is not a sound file that PyAV can read, or is damaged "
                f"({error.strerror}); use a WAV, FLAC, MP3 or Ogg file"
            ) from None

    def blocks(self) -> Iterator[Tensor]:
        """Blocks (C, T) float32 in [-1, 1] as stored in the file, usually some milliseconds."""
        from av.audio.resampler import AudioResampler

        with open_media(self.path) as container:
            stream = container.streams.audio[0]
            flat = AudioResampler("flt", stream.layout, self.rate)  # interleaved: PyAV has no format with eight planes
            for frame in container.decode(stream):
                yield from (
                    torch.from_numpy(part.to_ndarray()).view(-1, self.channels).T for part in flat.resample(frame)
                )
            yield from (torch.from_numpy(part.to_ndarray()).view(-1, self.channels).T for part in flat.resample(None))


def read_audio(path: str | Path) -> tuple[Tensor, int]:
    """A whole sound file -> (waveform (C, T) float32, sample rate). Raises like `SoundFile`."""
    file = SoundFile(path)
    return torch.cat([torch.zeros(file.channels, 0), *file.blocks()], dim=1), file.rate


def resample(waveform: Tensor | SoundFile, rate: int | None = None) -> Tensor:
    """waveform (C, T) in [-1, 1] at `rate`, or a file -> (round(T * 16000 / rate),) at 16 kHz, float32 on the CPU.

    Channels are averaged. Works in blocks of one second, so only the result is held beside the input.
    """
    blocks, samples = resampled(waveform, rate)
    result, filled = torch.zeros(samples), 0
    for piece in blocks:
        piece = piece[: samples - filled]
        result[filled : filled + len(piece)] = piece
        filled += len(piece)
    return result


def resampled(waveform: Tensor | SoundFile, rate: int | None = None) -> tuple[Iterator[Tensor], int]:
    """`resample` as lazy blocks (T,), and the total number of samples.

    The blocks may add up to a few samples more or less; the caller trims them or pads with silence.
    """
    if isinstance(waveform, SoundFile):
        samples, rate, blocks = waveform.samples, waveform.rate, waveform.blocks()
    elif waveform.ndim != 2:
        raise ValueError(f"a waveform must be (channels, samples), got {tuple(waveform.shape)}")
    else:
        samples = waveform.shape[1]
        blocks = (waveform[:, start : start + rate] for start in range(0, samples, rate))
    return _at_16_khz((block.float().mean(0).cpu() for block in blocks), rate), round(samples * SAMPLE_RATE / rate)


def _at_16_khz(blocks: Iterator[Tensor], rate: int) -> Iterator[Tensor]:
    """Blocks (T,) at `rate` -> blocks at 16 kHz."""
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    import av
    from av.audio.resampler import AudioResampler

    resampler, start = AudioResampler("fltp", "mono", SAMPLE_RATE), 0
    for block in blocks:
        frame = av.AudioFrame.from_ndarray(block[None].contiguous().numpy(), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, start
        start += len(block)
        yield from (torch.from_numpy(piece.to_ndarray()[0]) for piece in resampler.resample(frame))
    if start:
        yield from (torch.from_numpy(piece.to_ndarray()[0]) for piece in resampler.resample(None))


def encode_long(
    encode: Callable[[Tensor], Tensor], sound: Tensor, *, chunk_seconds: float = 20.0, context_seconds: float = 13.5
) -> Tensor:
    """Encode sound (T,) at 16 kHz in chunks -> (T50, L, D) on the CPU; memory is that of the result.

    encode: (B, T) -> (B, T // 320, L, D), like `AudioEncoder`. Each chunk is encoded with `context_seconds` on both
    sides; if that covers the encoder's receptive field (`AudioEncoder.context_seconds`; it does by default) the result
    is exact. wav2vec 2.0 and Whisper have unlimited receptive fields: for them it is approximate. Sound shorter than
    one feature is padded with silence.
    """
    layers = LayersInTime(
        encode, iter(sound.split(SAMPLE_RATE)), len(sound), chunk_seconds=chunk_seconds, context_seconds=context_seconds
    )
    return layers.until(len(layers))


class LayersInTime:
    """Encoder layers (T50, L, D) on the CPU, computed chunk by chunk on demand; see `encode_long`.

    blocks: the sound (T,) at 16 kHz, padded with silence or trimmed to `samples`. They are read only as far as the next
    chunk needs, and released after it.
    """

    def __init__(
        self,
        encode: Callable[[Tensor], Tensor],
        blocks: Iterator[Tensor],
        samples: int,
        *,
        chunk_seconds: float = 20.0,
        context_seconds: float = 13.5,
    ):
        self.encode, self.blocks, self.samples = encode, blocks, max(samples, STRIDE)
        self.chunk, self.context = round(chunk_seconds * 50), math.ceil(context_seconds * 50)
        self.steps = self.samples // STRIDE
        if self.steps <= self.chunk + 2 * self.context:
            self.chunk = self.steps
        self.encoded, self.layers = 0, torch.empty(0)
        self.sound, self.begin = torch.zeros(0), 0  # samples read that are still needed; the position of the first

    def __len__(self) -> int:
        return self.steps

    @torch.no_grad()
    def until(self, step: int) -> Tensor:
        """At least the first `step` rows (step, L, D)."""
        while self.encoded < min(step, self.steps):
            start, stop = self.encoded, min(self.encoded + self.chunk, self.steps)
            begin, end = max(0, start - self.context), min(stop + self.context, self.steps)
            sound = self._between(begin * STRIDE, self.samples if end == self.steps else end * STRIDE)
            piece = self.encode(sound[None])[0, start - begin : stop - begin]
            if not start:
                self.layers = torch.empty(self.steps, *piece.shape[1:])
            self.layers[start:stop] = piece.float().cpu()
            self.encoded = stop
        return self.layers[: self.encoded]

    def _between(self, begin: int, end: int) -> Tensor:
        """Samples `begin` to `end`; those before `begin` are released."""
        parts = [self.sound[begin - self.begin :]]
        missing = end - begin - len(parts[0])
        while missing > 0:
            block = next(self.blocks, None)
            parts.append(torch.zeros(missing) if block is None else block)
            missing -= len(parts[-1])
        self.sound, self.begin = torch.cat(parts), begin
        return self.sound[: end - begin]


def features_per_frame(layers: Tensor, *, layer_rate: float = 50.0, fps: float, seconds: float) -> AudioFeatures:
    """layers (T50, L, D), feature i centred at (i + 0.5) / layer_rate -> features at the centre of each video frame.

    A sound of `seconds` has round(seconds * fps) frames, at least 1. Linear interpolation, clamped at the ends.
    EMO leaves open: how features at 50 Hz become one per video frame.
    """
    if not len(layers):
        raise ValueError("the audio encoder returned no features: use a sound of at least 0.02 s")
    frames = range(max(1, round(seconds * fps)))
    return AudioFeatures(
        at_frames(layers.float().cpu(), frames, layer_rate=layer_rate, fps=fps), fps=float(fps), seconds=float(seconds)
    )


def at_frames(layers: Tensor, frames: range, *, layer_rate: float = 50.0, fps: float) -> Tensor:
    """Rows (F, L, D) of `features_per_frame` for a range of frames; reads only the layers around them."""
    numbers = torch.arange(frames.start, frames.stop, dtype=torch.float64)
    place = ((numbers + 0.5) * (layer_rate / fps) - 0.5).clamp(0, len(layers) - 1)
    low = place.floor().long().clamp(max=max(0, len(layers) - 2))
    high = (low + 1).clamp(max=len(layers) - 1)
    return torch.lerp(layers[low], layers[high], (place - low).float()[:, None, None])


class FramesInTime:
    """Rows (F, L, D) of `features_per_frame`, computed lazily: the first clip need not wait for the last."""

    ndim = 3

    def __init__(self, layers: LayersInTime, count: int, *, layer_rate: float = 50.0, fps: float):
        self.layers, self.count, self.layer_rate, self.fps = layers, count, layer_rate, fps

    def __len__(self) -> int:
        return self.count

    @property
    def shape(self) -> torch.Size:
        return torch.Size((self.count, *self.layers.until(1).shape[1:]))

    @property
    def nbytes(self) -> int:
        """Bytes once all rows are computed."""
        return self.layers.until(1).shape[1:].numel() * 4 * len(self.layers)

    def __getitem__(self, numbers: Tensor) -> Tensor:
        """numbers: any shape of frame numbers -> (*shape, L, D)."""
        first, last = int(numbers.min()), int(numbers.max())
        layers = self.layers.until(math.floor((last + 1) * self.layer_rate / self.fps) + 2)
        return at_frames(layers, range(first, last + 1), layer_rate=self.layer_rate, fps=self.fps)[numbers - first]


def encode_lazily(
    encode: Callable[[Tensor], Tensor], sound: SoundFile | tuple[Tensor, int], *, fps: float
) -> AudioFeatures:
    """Features of a sound file, or a waveform (C, T) and its sample rate: `features_per_frame` of `encode_long`,
    computed clip by clip while the video is sampled."""
    if isinstance(sound, SoundFile):
        given, seconds = (sound,), sound.samples / sound.rate
    else:
        given, seconds = sound, sound[0].shape[1] / sound[1]
    layers = LayersInTime(encode, *resampled(*given))
    return AudioFeatures(FramesInTime(layers, max(1, round(seconds * fps)), fps=fps), fps=float(fps), seconds=seconds)

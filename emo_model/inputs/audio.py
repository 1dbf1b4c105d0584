"""Sound to what the backbone hears: sound files, resampling, encoding in pieces or in time, one row of features per frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..types import AudioFeatures

SAMPLE_RATE = 16000  # of everything an audio encoder hears
STRIDE = 320  # samples per encoder feature, of ours as of wav2vec 2.0 and Whisper: 50 a second


def open_media(path: str | Path):
    """A file that PyAV reads: its container, to be used with `with`."""
    import av  # here and below, since training where there is no PyAV needs the rest of this file

    # absolute: FFmpeg takes what is before a colon for a protocol; tags of old files are in any encoding
    return av.open(str(Path(path).absolute()), metadata_errors="replace")


class SoundFile:
    """The sound of any file that PyAV opens, video files too, read a piece at a time.

    rate: samples per second; channels; samples: how many of each channel.
    Raises FileNotFoundError, or ValueError for a file without sound, or with sound that is damaged.
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
                    raise ValueError(f"the sound of {self.path.name} is of a kind that PyAV cannot read; give a WAV, FLAC, MP3 "
                                     "or Ogg file")
                self.rate, self.channels = stream.rate, stream.channels
            self.samples = 0
            for block in self.blocks():
                if not block.isfinite().all():
                    raise ValueError(f"{self.path.name} has samples that are not numbers (NaN or infinite), after "
                                     f"{self.samples / self.rate:.2f} s; make the file again")
                self.samples += block.shape[1]
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):  # the file system's, not the decoder's
                raise
            raise ValueError(f"{self.path.name} is not a sound file that PyAV can read, or is damaged ({error.strerror}); give a "
                             "WAV, FLAC, MP3 or Ogg file") from None

    def blocks(self) -> Iterator[Tensor]:
        """(C, T) float32 in [-1, 1], as the file has them: mostly some milliseconds."""
        from av.audio.resampler import AudioResampler

        with open_media(self.path) as container:
            stream = container.streams.audio[0]
            flat = AudioResampler("flt", stream.layout, self.rate)  # side by side: PyAV has no eight planes
            for frame in container.decode(stream):
                yield from (torch.from_numpy(part.to_ndarray()).view(-1, self.channels).T for part in flat.resample(frame))
            yield from (torch.from_numpy(part.to_ndarray()).view(-1, self.channels).T for part in flat.resample(None))


def read_audio(path: str | Path) -> tuple[Tensor, int]:
    """A sound as a whole -> (waveform (C, T) float32, sample rate). Raises what `SoundFile` does."""
    file = SoundFile(path)
    return torch.cat([torch.zeros(file.channels, 0), *file.blocks()], dim=1), file.rate


def resample(waveform: Tensor | SoundFile, rate: int | None = None) -> Tensor:
    """waveform (C, T) in [-1, 1] at `rate`, or a file -> (round(T * 16000 / rate),) at 16 kHz, float32 on the CPU.

    Channels are averaged. A second at a time: beside the sound itself there is only the result in memory.
    """
    blocks, samples = resampled(waveform, rate)
    result, filled = torch.zeros(samples), 0
    for piece in blocks:
        piece = piece[:samples - filled]
        result[filled:filled + len(piece)] = piece
        filled += len(piece)
    return result


def resampled(waveform: Tensor | SoundFile, rate: int | None = None) -> tuple[Iterator[Tensor], int]:
    """What `resample` gives, as blocks (T,) that are read when they are asked for, and how many samples they should have.

    The blocks may have some samples more or less; whoever puts them together cuts them, or fills up with silence.
    """
    if isinstance(waveform, SoundFile):
        samples, rate, blocks = waveform.samples, waveform.rate, waveform.blocks()
    elif waveform.ndim != 2:
        raise ValueError(f"a waveform must be (channels, samples), got {tuple(waveform.shape)}")
    else:
        samples = waveform.shape[1]
        blocks = (waveform[:, start:start + rate] for start in range(0, samples, rate))
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


def encode_long(encode: Callable[[Tensor], Tensor], sound: Tensor, *, chunk_seconds: float = 20.0,
                context_seconds: float = 13.5) -> Tensor:
    """sound (T,) at 16 kHz -> (T50, L, D) on the CPU, in pieces, so that the memory an hour needs is its result's.

    encode: (B, T) -> (B, T // 320, L, D), as `AudioEncoder`. Each piece is heard with `context_seconds` on both sides; where that
    is at least as far as the encoder hears (`AudioEncoder.context_seconds`; by default it is), pieces equal the whole. wav2vec
    2.0 and Whisper hear without limit: for them pieces are an approximation. Sound shorter than one feature is filled up with
    silence.
    """
    layers = LayersInTime(encode, iter(sound.split(SAMPLE_RATE)), len(sound), chunk_seconds=chunk_seconds,
                          context_seconds=context_seconds)
    return layers.until(len(layers))


class LayersInTime:
    """What an encoder hears in a sound, (T50, L, D) on the CPU, piece by piece as it is asked for; see `encode_long`.

    blocks: the sound (T,) at 16 kHz, `samples` in all: what is missing is silent, what is more is left out. They are read no
    further than the next piece needs, and forgotten behind it.
    """

    def __init__(self, encode: Callable[[Tensor], Tensor], blocks: Iterator[Tensor], samples: int, *, chunk_seconds: float = 20.0,
                 context_seconds: float = 13.5):
        self.encode, self.blocks, self.samples = encode, blocks, max(samples, STRIDE)
        self.chunk, self.context = round(chunk_seconds * 50), math.ceil(context_seconds * 50)
        self.steps = self.samples // STRIDE
        if self.steps <= self.chunk + 2 * self.context:
            self.chunk = self.steps
        self.heard, self.layers = 0, torch.empty(0)
        self.sound, self.begin = torch.zeros(0), 0  # what was read and may be needed again; where in the whole it begins

    def __len__(self) -> int:
        return self.steps

    @torch.no_grad()
    def until(self, step: int) -> Tensor:
        """The layers (step, L, D) or more, up to where the encoder has come."""
        while self.heard < min(step, self.steps):
            start, stop = self.heard, min(self.heard + self.chunk, self.steps)
            begin, end = max(0, start - self.context), min(stop + self.context, self.steps)
            sound = self._between(begin * STRIDE, self.samples if end == self.steps else end * STRIDE)
            piece = self.encode(sound[None])[0, start - begin:stop - begin]
            if not start:
                self.layers = torch.empty(self.steps, *piece.shape[1:])
            self.layers[start:stop] = piece.float().cpu()
            self.heard = stop
        return self.layers[:self.heard]

    def _between(self, begin: int, end: int) -> Tensor:
        """Samples `begin` to `end` of the whole; those before `begin` are not asked for again."""
        parts = [self.sound[begin - self.begin:]]
        missing = end - begin - len(parts[0])
        while missing > 0:
            block = next(self.blocks, None)
            parts.append(torch.zeros(missing) if block is None else block)
            missing -= len(parts[-1])
        self.sound, self.begin = torch.cat(parts), begin
        return self.sound[:end - begin]


def features_per_frame(layers: Tensor, *, layer_rate: float = 50.0, fps: float, seconds: float) -> AudioFeatures:
    """layers (T50, L, D), feature i centred at (i + 0.5) / layer_rate -> the features at the centre of each video frame.

    A sound of `seconds` has round(seconds * fps) frames, at least 1. Between features a straight line, beyond the ends the last.
    EMO leaves open: how features of 50 a second become one per video frame.
    """
    if not len(layers):
        raise ValueError("the audio encoder heard nothing: there are no features. Connect a sound of at least 0.02 s")
    frames = range(max(1, round(seconds * fps)))
    return AudioFeatures(at_frames(layers.float().cpu(), frames, layer_rate=layer_rate, fps=fps), fps=float(fps),
                         seconds=float(seconds))


def at_frames(layers: Tensor, frames: range, *, layer_rate: float = 50.0, fps: float) -> Tensor:
    """The rows of some frames of `features_per_frame`, (F, L, D); it looks only at the layers around them."""
    numbers = torch.arange(frames.start, frames.stop, dtype=torch.float64)
    place = ((numbers + 0.5) * (layer_rate / fps) - 0.5).clamp(0, len(layers) - 1)
    low = place.floor().long().clamp(max=max(0, len(layers) - 2))
    high = (low + 1).clamp(max=len(layers) - 1)
    return torch.lerp(layers[low], layers[high], (place - low).float()[:, None, None])


class FramesInTime:
    """Rows (F, L, D) of `features_per_frame`, heard when a clip first asks for them: the first need not wait for the last."""

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
        """Of what is in memory at the end."""
        return self.layers.until(1).shape[1:].numel() * 4 * len(self.layers)

    def __getitem__(self, numbers: Tensor) -> Tensor:
        """numbers: any shape of frame numbers -> (*shape, L, D)."""
        first, last = int(numbers.min()), int(numbers.max())
        heard = self.layers.until(math.floor((last + 1) * self.layer_rate / self.fps) + 2)
        return at_frames(heard, range(first, last + 1), layer_rate=self.layer_rate, fps=self.fps)[numbers - first]


def hear_in_time(encode: Callable[[Tensor], Tensor], sound: SoundFile | tuple[Tensor, int], *, fps: float) -> AudioFeatures:
    """The features of a file, or of a waveform (C, T) and its sample rate, as `features_per_frame` of `encode_long` has them, but
    heard clip by clip, while the video is made."""
    if isinstance(sound, SoundFile):
        given, seconds = (sound,), sound.samples / sound.rate
    else:
        given, seconds = sound, sound[0].shape[1] / sound[1]
    layers = LayersInTime(encode, *resampled(*given))
    return AudioFeatures(FramesInTime(layers, max(1, round(seconds * fps)), fps=fps), fps=float(fps), seconds=seconds)

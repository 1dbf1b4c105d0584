"""Sound to what the backbone hears: sound files, resampling, long encoding in pieces, one row of features per video frame."""

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
            self.samples = sum(block.shape[1] for block in self.blocks())
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
    if isinstance(waveform, SoundFile):
        samples, rate, blocks = waveform.samples, waveform.rate, waveform.blocks()
    elif waveform.ndim != 2:
        raise ValueError(f"a waveform must be (channels, samples), got {tuple(waveform.shape)}")
    else:
        samples = waveform.shape[1]
        blocks = (waveform[:, start:start + rate] for start in range(0, samples, rate))
    result, filled = torch.zeros(round(samples * SAMPLE_RATE / rate)), 0
    for piece in _at_16_khz((block.float().mean(0).cpu() for block in blocks), rate):
        piece = piece[:len(result) - filled]
        result[filled:filled + len(piece)] = piece
        filled += len(piece)
    return result


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


@torch.no_grad()
def encode_long(encode: Callable[[Tensor], Tensor], sound: Tensor, *, chunk_seconds: float = 40.0,
                context_seconds: float = 13.5) -> Tensor:
    """sound (T,) at 16 kHz -> (T50, L, D) on the CPU, in pieces, so that the memory an hour needs is its result's.

    encode: (B, T) -> (B, T // 320, L, D), as `AudioEncoder`. Each piece is heard with `context_seconds` on both sides; where that
    is at least as far as the encoder hears (`AudioEncoder.context_seconds`; by default it is), pieces equal the whole. wav2vec
    2.0 and Whisper hear without limit: for them pieces are an approximation. Sound shorter than one feature is filled up with
    silence.
    """
    if len(sound) < STRIDE:
        sound = torch.nn.functional.pad(sound, (0, STRIDE - len(sound)))
    steps, chunk, context = len(sound) // STRIDE, round(chunk_seconds * 50), math.ceil(context_seconds * 50)
    if steps <= chunk + 2 * context:
        return encode(sound[None])[0].float().cpu()
    result = None
    for start in range(0, steps, chunk):
        stop = min(start + chunk, steps)
        begin, end = max(0, start - context), min(stop + context, steps)
        piece = encode(sound[None, begin * STRIDE:end * STRIDE])[0, start - begin:stop - begin]
        if result is None:
            result = torch.empty(steps, *piece.shape[1:])
        result[start:stop] = piece.float().cpu()
    return result


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

"""Sound to what the backbone hears: sound files, resampling, long encoding in pieces, one row of features per video frame."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..types import AudioFeatures

SAMPLE_RATE = 16000  # of everything an audio encoder hears
STRIDE = 320  # samples per encoder feature, of ours as of wav2vec 2.0 and Whisper: 50 a second


def read_audio(path: str | Path) -> tuple[Tensor, int]:
    """The sound of any file that PyAV opens, video files too -> (waveform (C, T) float32, sample rate).

    Raises FileNotFoundError, or ValueError for a file without sound.
    """
    import av  # here, since training where there is no PyAV needs the rest of this file
    from av.audio.resampler import AudioResampler

    name = Path(path).name
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise ValueError(f"{name} has no sound in it")
            stream = container.streams.audio[0]
            rate, channels = stream.rate, stream.channels
            flat = AudioResampler("fltp", stream.layout, rate)
            pieces = [piece.to_ndarray() for frame in container.decode(stream) for piece in flat.resample(frame)]
            pieces += [piece.to_ndarray() for piece in flat.resample(None)]
    except av.error.InvalidDataError:
        raise ValueError(f"{name} is not a sound file that PyAV can read; give a WAV, FLAC, MP3 or Ogg file") from None
    waveform = np.concatenate(pieces, axis=1) if pieces else np.zeros((channels, 0), np.float32)
    return torch.from_numpy(waveform), rate


def resample(waveform: Tensor, rate: int) -> Tensor:
    """waveform (C, T) in [-1, 1] at `rate` -> (round(T * 16000 / rate),) at 16 kHz, float32 on the CPU; channels are averaged."""
    if waveform.ndim != 2:
        raise ValueError(f"a waveform must be (channels, samples), got {tuple(waveform.shape)}")
    mono = waveform.float().mean(0).cpu()
    if rate == SAMPLE_RATE:
        return mono
    import av
    from av.audio.resampler import AudioResampler

    resampler = AudioResampler("fltp", "mono", SAMPLE_RATE)
    pieces = []
    for start in range(0, len(mono), rate):  # a second at a time
        frame = av.AudioFrame.from_ndarray(mono[None, start:start + rate].contiguous().numpy(), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, start
        pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
    pieces += [piece.to_ndarray()[0] for piece in resampler.resample(None)] if pieces else []
    result = torch.from_numpy(np.concatenate(pieces)) if pieces else torch.zeros(0)
    length = round(len(mono) * SAMPLE_RATE / rate)
    return torch.nn.functional.pad(result, (0, max(0, length - len(result))))[:length]


@torch.no_grad()
def encode_long(encode: Callable[[Tensor], Tensor], sound: Tensor, *, chunk_seconds: float = 20.0,
                context_seconds: float = 4.0) -> Tensor:
    """sound (T,) at 16 kHz -> (T50, L, D) on the CPU, in pieces, so that the memory an hour needs is its result's.

    encode: (B, T) -> (B, T // 320, L, D), as `AudioEncoder`. Each piece is heard with `context_seconds` on both sides; where that
    is at least as far as the encoder hears (`AudioEncoder.context_seconds`), pieces equal the whole. wav2vec 2.0 and Whisper hear
    without limit: for them the pieces, 28 s with their context (Whisper takes 30), are an approximation. Sound shorter than one
    feature is filled up with silence.
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
    frames = max(1, round(seconds * fps))
    place = ((torch.arange(frames, dtype=torch.float64) + 0.5) * (layer_rate / fps) - 0.5).clamp(0, len(layers) - 1)
    low = place.floor().long().clamp(max=max(0, len(layers) - 2))
    high = (low + 1).clamp(max=len(layers) - 1)
    share = (place - low).float()[:, None, None]
    layers = layers.float().cpu()
    return AudioFeatures(torch.lerp(layers[low], layers[high], share), fps=float(fps), seconds=float(seconds))

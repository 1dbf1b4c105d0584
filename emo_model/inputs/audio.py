"""Sound files, resampling, and chunked or lazy audio encoding: one row of features per video frame."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

import torch
from torch import Tensor

from ..auxiliary.audio_encoder import mouth_in
from ..config import AudioEncoderConfig
from ..types import AudioFeatures
from .files import check_readable
from .sound_decoding import (
    FROM_ZERO,
    FULL_SCALE,
    Hearing,
    SoundDecoder,
    in_seconds,
    open_media,
    sound_stream,
    until_stated_end,
)

log = logging.getLogger("emo")

SAMPLE_RATE = 16000  # input rate of audio encoders
RATES = 100, 1_000_000  # lowest and highest sample rate that is resampled
STRIDE = 320  # samples per encoder feature (50 Hz), ours, wav2vec 2.0 and Whisper


class SoundFile:
    """The sound of an audio or video file that PyAV opens, read in blocks, as players play it (`sound_decoding`).

    rate: samples per second; channels; samples: number per channel; losses: what is damaged in the file; hearing: what
    its samples mean. Raises FileNotFoundError or OSError, or ValueError for a file without sound, or with damage to
    more than half of it.
    """

    def __init__(self, path: str | Path):
        import av

        self.path = check_readable(path, "the sound")
        self.hearing, self.stated_end = Hearing(), None
        try:
            with open_media(self.path) as container:
                if not container.streams.audio:
                    raise ValueError(f"{self.path.name} has no sound in it; use a file with an audio track")
                self._check_codec(sound_stream(container))
                decoder = SoundDecoder(container)
                hearing = Hearing.of(in_seconds(self._tracked(decoder), SAMPLE_RATE))
        except av.error.FFmpegError as error:
            raise ValueError(
                f"{self.path.name} is not a sound file that PyAV can read, or is damaged ({self._reason(error)}); use "
                "a WAV, FLAC, MP3 or Ogg file"
            ) from None
        self.rate, self.channels, self.losses = decoder.rate, decoder.channels, decoder.losses
        if not self.rate:
            self.rate, self.channels = decoder.stream.rate, decoder.stream.channels
        check_rate(self.rate, self.path.name)
        if hearing.bad is not None:
            raise ValueError(
                f"{self.path.name} has NaN or infinite samples after {hearing.bad / self.rate:.2f} s; export the file "
                "again"
            )
        self.hearing, self.samples = hearing, hearing.samples
        if loss := self.losses.summary:
            log.warning("%s: %s.", self.path.name, loss)
        if hearing.scale != 1:
            log.warning("%s: float samples of %d-bit size are scaled", self.path.name, -math.log2(hearing.scale) + 1)

    def blocks(self) -> Iterator[Tensor]:
        """Blocks (C, T) float32 in [-1, 1] as stored in the file, usually some milliseconds."""
        with open_media(self.path) as container:
            decoder = SoundDecoder(container)
            yield from map(self.hearing.scaled, self._tracked(decoder))

    def _tracked(self, decoder: SoundDecoder) -> Iterator[Tensor]:
        """The decoder's blocks without what an mp4's encoder appended."""
        stream, end = decoder.stream, None
        if decoder.container.format.name in FROM_ZERO and stream.duration is not None:
            end = (stream.duration + (stream.start_time or 0)) * stream.time_base
        blocks = decoder.blocks()
        first = next(blocks, None)  # tells the rate
        if first is not None:
            yield from until_stated_end(chain([first], blocks), None if end is None else round(end * decoder.rate))

    def _check_codec(self, stream) -> None:
        if stream.codec_context is None or not stream.rate or not stream.channels:
            raise ValueError(f"PyAV cannot decode the sound of {self.path.name}; use a WAV, FLAC, MP3 or Ogg file")
        if stream.codec_context.name == "pcm_f24le":  # FFmpeg takes whole numbers so stored for floating point
            raise ValueError(
                f"{self.path.name} stores 24 bits in 32, which PyAV misreads; export it with 16 or 24 bits"
            )

    def _reason(self, error) -> str:
        """FFmpeg's own words, which tell more than its number; the file is opened again to hear them."""
        import av

        before, skips = av.logging.get_level(), av.logging.get_skip_repeated()
        av.logging.set_level(av.logging.ERROR)
        av.logging.set_skip_repeated(False)
        try:
            with av.logging.Capture() as messages, contextlib.suppress(av.error.FFmpegError, IndexError):
                with open_media(self.path) as container:
                    for _ in islice(container.decode(sound_stream(container)), 1):
                        pass
        finally:
            av.logging.set_level(before)
            av.logging.set_skip_repeated(skips)
        words = " ".join(" ".join(message for _, _, message in messages[:2]).split())
        return f"{words or error.strerror:.160}"[:160]


def read_audio(path: str | Path) -> tuple[Tensor, int]:
    """A whole sound file -> (waveform (C, T) float32, sample rate). Raises like `SoundFile`."""
    file = SoundFile(path)
    return torch.cat([torch.zeros(file.channels, 0), *file.blocks()], dim=1), file.rate


def check_rate(rate: int, name: str) -> None:
    """Raises ValueError for a sample rate that no recording has; name: of the file or the input."""
    if not RATES[0] <= rate <= RATES[1]:
        raise ValueError(
            f"{name} has {rate} samples per second, and {RATES[0]} to {RATES[1]} can be read; export it again"
        )


def as_waveform(samples: Tensor, *, name: str = "the voice") -> Tensor:
    """Samples (C, T) of any type -> float32 on the CPU; whole numbers, also such that were stored as float, are scaled
    to [-1, 1].

    Raises ValueError for NaN and infinity; name: of the input, for the error.
    """
    if not samples.is_floating_point():
        middle = 128 if samples.dtype == torch.uint8 else 0
        most = {torch.uint8: 7, torch.int8: 7, torch.int16: 15, torch.int32: 31}.get(samples.dtype)
        if most is None:
            most = 15 if samples.numel() and samples.abs().max() <= 2**15 else 31
        return (samples.to("cpu", torch.float32) - middle) * 2.0**-most
    samples = samples.float().cpu()
    if not samples.numel():
        return samples
    low, high = (bound.item() for bound in samples.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        broken = (~samples.isfinite()).sum().item()
        raise ValueError(f"{broken} samples of {name} are NaN or infinite; use another recording")
    peak = max(-low, high)
    return samples if peak <= FULL_SCALE else samples * (2.0**-15 if peak <= 2**16 else 2.0**-31)


def resample(waveform: Tensor | SoundFile, rate: int | None = None) -> Tensor:
    """waveform (C, T) in [-1, 1] at `rate`, or a file -> (round(T * 16000 / rate),) at 16 kHz, float32 on the CPU.

    Channels are averaged, opposite ones after turning them, and a constant offset is removed (`Hearing`). Works in
    blocks of one second, so only the result is held beside the input.
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
        samples, rate, blocks, hearing = waveform.samples, waveform.rate, waveform.blocks(), waveform.hearing
    elif waveform.ndim != 2:
        raise ValueError(f"a waveform must be (channels, samples), got {tuple(waveform.shape)}")
    else:
        waveform = as_waveform(waveform)
        samples, hearing = waveform.shape[1], Hearing.of(waveform.split(rate, dim=1))
        blocks = (waveform[:, start : start + rate] for start in range(0, samples, rate))
    return _at_16_khz((hearing.mono(block) for block in blocks), rate), round(samples * SAMPLE_RATE / rate)


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
    encode: Callable[[Tensor], Tensor], sound: Tensor, *, chunk_seconds: float = 20.0, context_seconds: float = 14.0
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
        context_seconds: float = 14.0,
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


def heard_opening(audio: AudioFeatures, config: AudioEncoderConfig | None) -> Tensor | None:
    """(F,) how far the built-in audio encoder reads the mouth open at each frame, 0 to 1; None of another, and of the
    silence of an idle video."""
    if config is None or not config.mouth_tracks or audio.fade:
        return None
    frames = len(audio.frames) - audio.padding
    parts = torch.arange(frames).split(1000)
    return torch.cat([mouth_in(audio.frames[part].float().cpu(), config)[:, 0] for part in parts])


def silence(frames: int, *, fps: float) -> tuple[Tensor, int]:
    """A waveform (1, T) without sound that lasts for so many video frames, and its sample rate."""
    return torch.zeros(1, max(1, round(frames / fps * SAMPLE_RATE))), SAMPLE_RATE


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

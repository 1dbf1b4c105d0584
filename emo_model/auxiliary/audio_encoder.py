"""The built-in audio encoder: a small convolutional net on log-mel, trained to predict how the mouth moves.

Differs from EMO: the paper uses a wav2vec 2.0, pretrained on thousands of hours; this one is small enough to be trained
with the model, on speech whose mouth is known, and its prediction of the mouth is part of the features.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import AudioEncoderConfig

SAMPLE_RATE = 16000
STRIDE = 320  # samples per feature: 50 a second
_HOP, _WINDOW, _FFT = 160, 400, 512  # samples: mel frames 10 ms apart, 25 ms long
_LEVEL_FRAMES = 250  # mel frames to each side over which the level is averaged
# to each side the loudest level is sought; no level is less than this of it
_LOUDEST_FRAMES, _LOUDEST_SHARE = (1000, 0.02)
_LEVEL_FLOOR = 1e-6  # mean power per mel band below which sound counts as silence, about -67 dB of full scale
_DETAIL_FLOOR = 3e-4  # of the level; what lies below is not looked at

TRACK_MEAN = (0.28, 0.0, 0.12, 0.06)
TRACK_STD = (0.24, 0.34, 0.29, 0.21)
"""Of opening, width, closure, tuck in speech; features hold the tracks scaled by these to about unit variance."""


class AudioEncoder(nn.Module):
    """Sound to features at 50 per second, the same at any loudness.

    Feature i is centred at (i + 0.5) / 50 seconds. It depends on the sound up to `context_seconds` before and after.
    """

    def __init__(self, config: AudioEncoderConfig):
        super().__init__()
        self.config = config
        self.stem = nn.Conv1d(config.mel_bands, config.width, 4, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            ConvBlock(config.width, dilation=2 ** (index % 3)) for index in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.width)
        self.narrow = nn.Linear(config.width, config.features - config.mouth_tracks)
        self.feature_norm = nn.LayerNorm(config.features - config.mouth_tracks)
        self.tracks = nn.Linear(config.features - config.mouth_tracks, config.mouth_tracks)

    @property
    def context_seconds(self) -> float:
        """The receptive field to either side: the windows of the level and the convolutions' reach.

        Beyond 3 s it matters only in pauses, for the loudest level.
        """
        steps = 2 + sum(block.reach for block in self.blocks)
        return (_LEVEL_FRAMES + _LOUDEST_FRAMES + 4) * _HOP / SAMPLE_RATE + steps * STRIDE / SAMPLE_RATE

    def forward(self, waveform: Tensor) -> Tensor:
        """waveform (B, T) at 16 kHz in [-1, 1] -> (B, T // 320, 1, D). Raises ValueError below 320 samples."""
        return self.hear(self.mel(waveform)).unsqueeze(2)

    def mouth(self, features: Tensor) -> Tensor:
        """Features (B, T50, L, D) -> the mouth (B, T50, mouth_tracks): opening, width, closure, tuck, not clamped."""
        return mouth_in(features, self.config)

    def mel(self, waveform: Tensor) -> Tensor:
        """(B, T) -> power in mel bands (B, 2 * (T // 320), bands), float32; frame j is centred at (j + 0.5) / 100 s."""
        steps = waveform.shape[-1] // STRIDE
        if steps < 1:
            raise ValueError(
                f"the sound is {waveform.shape[-1]} samples long; at 16 kHz at least {STRIDE} (0.02 s) are needed"
            )
        edge = (_FFT - _HOP) // 2
        padded = F.pad(waveform[:, : steps * STRIDE].float(), (edge, edge))
        window, filters = torch.hann_window(_WINDOW).to(padded), mel_filters(self.config.mel_bands).to(padded)
        spectrum = torch.stft(padded, _FFT, _HOP, _WINDOW, window, center=False, return_complex=True)
        return rearrange(filters @ spectrum.abs().square(), "b m t -> b t m")

    def hear(self, mel: Tensor) -> Tensor:
        """Power in mel bands (B, 2 T50, bands) -> features (B, T50, D), the scaled mouth tracks last."""
        x = rearrange(level_out(mel), "b t m -> b m t").to(self.stem.weight.dtype)
        x = self.stem(x)  # (B, width, T50)
        for block in self.blocks:
            x = block(x)
        x = self.feature_norm(self.narrow(self.norm(rearrange(x, "b c t -> b t c"))))
        return torch.cat([x, self.tracks(x)], dim=-1)


class ConvBlock(nn.Module):
    """Residual dilated convolution over time, normalised over channels, so that pieces equal the whole."""

    def __init__(self, width: int, *, dilation: int, kernel: int = 5):
        super().__init__()
        self.reach = dilation * (kernel // 2)
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, kernel, dilation=dilation, padding=self.reach)
        self.out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) -> (B, C, T)."""
        normed = rearrange(self.norm(rearrange(x, "b c t -> b t c")), "b t c -> b c t")
        return x + self.out(F.gelu(self.conv(normed)))


def mouth_in(features: Tensor, config: AudioEncoderConfig) -> Tensor:
    """Features (..., L, D) -> the mouth that they hold, (..., mouth_tracks), see `AudioEncoder.mouth`."""
    scaled = features[..., 0, -config.mouth_tracks :]
    mean, std = (scaled.new_tensor(values[: scaled.shape[-1]]) for values in (TRACK_MEAN, TRACK_STD))
    return scaled * std + mean


def level_out(mel: Tensor) -> Tensor:
    """Power in mel bands (B, T, bands) -> its logarithm relative to the level of the 5 seconds around, about unit size.

    A level that lies lower counts as 17 dB below the loudest of the 10 s to either side: in a long pause there is no
    speech in the 5 s around, and the noise of the room would be taken for a voice.
    """
    level = F.avg_pool1d(
        mel.mean(-1, keepdim=True).transpose(1, 2),
        2 * _LEVEL_FRAMES + 1,
        stride=1,
        padding=_LEVEL_FRAMES,
        count_include_pad=False,
    )
    loudest = F.max_pool1d(F.pad(level, (_LOUDEST_FRAMES, _LOUDEST_FRAMES)), 2 * _LOUDEST_FRAMES + 1, stride=1)
    level = torch.maximum(level, _LOUDEST_SHARE * loudest).transpose(1, 2)
    return ((mel / level.clamp(min=_LEVEL_FLOOR) + _DETAIL_FLOOR).log() + 3) / 3


def mel_filters(bands: int) -> Tensor:
    """(bands, 257): triangles over a 512-point transform's bins at 16 kHz; Slaney's mel scale, unit area (librosa)."""

    def hertz(mel: Tensor) -> Tensor:
        return torch.where(mel < 15, mel * (200 / 3), 1000 * ((mel - 15) * (math.log(6.4) / 27)).exp())

    top = 15 + 27 * math.log(8) / math.log(6.4)  # 8 kHz
    corners = hertz(torch.linspace(0, top, bands + 2, dtype=torch.float64))
    bins = torch.linspace(0, SAMPLE_RATE / 2, _FFT // 2 + 1, dtype=torch.float64)
    rise = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    fall = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    return (torch.minimum(rise, fall).clamp(min=0) * (2 / (corners[2:] - corners[:-2]))[:, None]).float()

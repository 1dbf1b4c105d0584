"""Training of the built-in audio encoder: hear the mouth, and beside it the phoneme, in speech that was spoken for it.

Few synthetic voices must teach it many real ones, so each clip is heard through another vocal tract, room, microphone and noise;
all of it is done on the power in mel bands, where it costs next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import AudioEncoderConfig
from ..models.audio_encoder import TRACK_MEAN, TRACK_STD, AudioEncoder
from ..synthetic.speech import Speech
from ..synthetic.speech_library import SpeechLibrary
from ..synthetic.visemes import TRACKS, mouth_tracks

_MEL_RATE, _RATE = 100, 50  # mel frames and features per second
SOUNDS = ("", *"aɐɑɒæʌəɚɜɛeɪiɨyøœɔoʊuʉpbmfvwʃʒszθðtdnlrɹʁjkɡŋxhɾɲβ")
"""What the helping task tells apart: silence first, then phonemes by their first letter."""


@dataclass(frozen=True, eq=False)
class AudioBatch:
    """mel: (B, 2 T50, bands) power, distorted; tracks: (B, T50, 4); sounds: (B, T50) index into SOUNDS, -100 unknown."""

    mel: Tensor
    tracks: Tensor
    sounds: Tensor


class AudioEncoderTask(nn.Module):
    """What the training loop needs: `batch(step)`, and the loss as `forward(batch)`; deterministic by (seed, step)."""

    def __init__(self, config: AudioEncoderConfig, library: SpeechLibrary | Iterable[Speech], *, batch_size: int = 32,
                 seconds: float = 4.0, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)  # the initial weights
        self.encoder = AudioEncoder(config)
        self.tell_sounds = nn.Linear(config.features, len(SOUNDS))
        self.batch_size, self.steps, self.seed = batch_size, round(seconds * _RATE), seed
        mels, tracks, sounds = [], [], []
        with torch.no_grad():
            for speech in library:
                mels.append(self.encoder.mel(speech.waveform[None])[0])
                frames = len(mels[-1])
                tracks.append(F.pad(mouth_tracks(speech, fps=_MEL_RATE), (0, 0, 0, frames))[:frames])
                sounds.append(_sounds(speech, frames))
        self.lengths = torch.tensor([len(mel) for mel in mels])
        self.starts = torch.cat([torch.zeros(1, dtype=torch.long), self.lengths.cumsum(0)[:-1]])
        self.mels, self.tracks, self.sounds = torch.cat(mels).half(), torch.cat(tracks), torch.cat(sounds)
        if int(self.lengths.min()) < 2 * self.steps * 1.3:
            raise ValueError(f"training on pieces of {seconds} s needs prepared clips of at least {1.3 * seconds:.1f} s, "
                             f"the shortest has {int(self.lengths.min()) / _MEL_RATE:.1f} s")

    def batch(self, step: int, rank: int = 0) -> AudioBatch:
        """Pieces from anywhere, played up to 15 % faster or slower, each distorted in its own way."""
        generator = torch.Generator().manual_seed((self.seed * 1_000 + rank) * 1_000_003 + step)
        rows = torch.randint(len(self.lengths), (self.batch_size,), generator=generator)
        speed = (0.09 * torch.randn(self.batch_size, generator=generator)).clamp(-0.2, 0.2).exp()
        span = 2 * self.steps * speed
        first = torch.rand(self.batch_size, generator=generator) * (self.lengths[rows] - span - 2).clamp(min=0)
        place = first[:, None] + torch.arange(2 * self.steps) * speed[:, None]  # (B, 2 T50), mel frames within the clip
        place = torch.minimum(place, self.lengths[rows, None] - 2.0)
        low = place.floor().long()
        share, low = (place - low)[..., None], low + self.starts[rows, None]
        mel = torch.lerp(self.mels[low].float(), self.mels[low + 1].float(), share)
        tracks = torch.lerp(self.tracks[low], self.tracks[low + 1], share).unflatten(1, (self.steps, 2)).mean(2)
        device = self.tell_sounds.weight.device
        return AudioBatch(distort(mel, generator).to(device), tracks.to(device), self.sounds[low[:, 1::2]].to(device))

    def forward(self, batch: AudioBatch) -> tuple[Tensor, dict[str, float]]:
        """Squared error of the tracks and of their changes, in units of their spread, and some cross-entropy of the phonemes."""
        features = self.encoder.hear(batch.mel)  # (B, T50, D)
        wanted = (batch.tracks - batch.tracks.new_tensor(TRACK_MEAN)) / batch.tracks.new_tensor(TRACK_STD)
        heard = features[..., -wanted.shape[-1]:]
        error = (heard - wanted).square().mean((0, 1))
        change = (heard[:, 2:] - heard[:, :-2] - wanted[:, 2:] + wanted[:, :-2]).square().mean()
        sounds = F.cross_entropy(self.tell_sounds(features).flatten(0, 1), batch.sounds.flatten())
        loss = (error * error.new_tensor([1.5, 1.0, 1.0, 0.7])).mean() + 0.3 * change + 0.1 * sounds
        numbers = {name: float(value) for name, value in zip(TRACKS, error.detach(), strict=True)}
        return loss, numbers | {"change": float(change.detach()), "sounds": float(sounds.detach())}


@torch.no_grad()
def measure_audio_encoder(encoder: AudioEncoder, library: Iterable[Speech]) -> dict[str, dict[str, float]]:
    """Correlation of each track with the truth at 50 steps per second, by voice (espeak: by language) and over 'all'."""
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for speech in library:
        heard = encoder.mouth(encoder(speech.waveform[None]))[0]
        group = f"espeak:{speech.language}" if speech.engine == "espeak" else speech.voice
        truth = mouth_tracks(speech, fps=_RATE)[:len(heard)]
        for name in (group, "all"):
            pairs.setdefault(name, []).append((heard[:len(truth)], truth))
    result = {}
    for name, rows in sorted(pairs.items()):
        heard, truth = (torch.cat(side).double() for side in zip(*rows, strict=True))
        result[name] = {track: float(torch.corrcoef(torch.stack([heard[:, column], truth[:, column]]))[0, 1])
                        for column, track in enumerate(TRACKS)}
    return result


def distort(mel: Tensor, generator: torch.Generator) -> Tensor:
    """Power in mel bands (B, T, bands) as heard through another throat, room, microphone and noise, at another loudness."""
    batch, frames, bands = mel.shape

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, 1, 1, generator=generator)

    def often(share: float) -> Tensor:
        return torch.rand(batch, 1, 1, generator=generator) < share

    def smooth_curve(size: float) -> Tensor:
        """(B, 1, bands) of a few slow waves over the bands, in nepers."""
        waves = torch.cos(torch.arange(1, 6)[:, None] * math.pi * torch.linspace(0, 1, bands))  # (5, bands)
        return size * torch.randn(batch, 1, 5, generator=generator) / torch.arange(1, 6).sqrt() @ waves

    level = mel.mean((1, 2), keepdim=True)
    # a shorter or longer vocal tract: bands read from elsewhere; constant at the top
    stretch = (0.12 * torch.randn(batch, 1, 1, generator=generator)).clamp(-0.25, 0.25).exp()
    source = _warped_bands(bands, stretch[:, 0])  # (B, bands)
    low = source.floor().long().clamp(max=bands - 2)
    logs = (mel + 1e-7 * level).log()
    low = low[:, None].expand(-1, frames, -1)
    logs = torch.lerp(logs.gather(2, low), logs.gather(2, low + 1), source[:, None] - low)
    # broader formants and weaker harmonics, or the reverse
    mean = F.avg_pool1d(logs, 7, stride=1, padding=3, count_include_pad=False)
    logs = torch.where(often(0.5), mean + (logs - mean) * uniform(0.3, 1.3), logs)
    logs = logs + smooth_curve(0.7) + uniform(-0.7, 0.7) * torch.linspace(-1.5, 1.5, bands)  # microphone
    mel = logs.exp()
    # a room: decaying echoes of power
    decay = uniform(0.02, 0.15)
    taps = torch.arange(40)
    kernel = (-taps / (decay * _MEL_RATE)).exp() * (taps > 0)  # (B, 1, 40)
    kernel = kernel * torch.where(often(0.4), uniform(0.0, 0.5), torch.zeros(())) / kernel.sum(-1, keepdim=True)
    past = rearrange(F.pad(mel, (0, 0, 39, 0)), "b t m -> 1 (b m) t")
    echo = F.conv1d(past, kernel.flip(-1).repeat_interleave(bands, 0), groups=batch * bands)
    mel = mel + rearrange(echo, "1 (b m) t -> b t m", b=batch)
    # nothing above a cut-off, as on the telephone
    top = torch.where(often(0.2), uniform(0.55, 1.0), torch.ones(()))
    mel = mel * (torch.linspace(0, 1, bands) <= top).clamp(min=1e-5)
    # noise of any colour, steady or coming and going
    noise = (smooth_curve(1.0) + uniform(-1.2, 0.4) * torch.linspace(-1.5, 1.5, bands)).exp()
    noise = noise / noise.mean(-1, keepdim=True) * -(torch.rand(mel.shape, generator=generator).clamp(min=1e-6)).log()
    slow = F.interpolate(torch.randn(batch, 1, max(2, frames // 40), generator=generator), size=frames, mode="linear")
    noise = noise * torch.where(often(0.3), slow.transpose(1, 2).exp(), torch.ones(()))
    quiet = 10 ** (-uniform(3, 50) / 10)
    mel = mel + torch.where(often(0.85), quiet, torch.zeros(())) * mel.mean((1, 2), keepdim=True) * noise
    return mel * 10 ** (uniform(-30, 10) / 10)


def _warped_bands(bands: int, stretch: Tensor) -> Tensor:
    """Where each mel band is read when all frequencies are multiplied by stretch (B, 1): (B, bands) fractional band numbers."""
    top = 15 + 27 * math.log(8) / math.log(6.4)

    def hertz(mel: Tensor) -> Tensor:
        return torch.where(mel < 15, mel * (200 / 3), 1000 * ((mel - 15) * (math.log(6.4) / 27)).exp())

    def mels(hertz: Tensor) -> Tensor:
        return torch.where(hertz < 1000, hertz * (3 / 200), 15 + (hertz.clamp(min=1) / 1000).log() * (27 / math.log(6.4)))

    spacing = top / (bands + 1)
    centres = hertz(spacing * torch.arange(1, bands + 1))
    return (mels(centres / stretch) / spacing - 1).clamp(0, bands - 1)


def _sounds(speech: Speech, frames: int) -> Tensor:
    """(frames,) index into SOUNDS at 100 a second; -100, which cross-entropy leaves out, for what SOUNDS does not name."""
    result = torch.zeros(frames, dtype=torch.long)
    for ipa, start, end in speech.phonemes:
        result[round(start * _MEL_RATE):round(end * _MEL_RATE)] = SOUNDS.index(ipa[0]) if ipa[0] in SOUNDS else -100
    return result

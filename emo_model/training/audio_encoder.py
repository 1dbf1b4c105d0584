"""Training of the built-in audio encoder: hear the mouth, and beside it the phoneme, in speech that was spoken for it.

Few synthetic voices must teach it many real ones, so each clip is heard through another vocal tract, room, microphone
and noise, often over music; all of it is done on the power in mel bands, where it costs next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..auxiliary.audio_encoder import TRACK_MEAN, TRACK_STD, AudioEncoder, mel_filters
from ..config import AudioEncoderConfig
from ..synthetic.music import accompaniment, noise_bed
from ..synthetic.speech import Speech
from ..synthetic.speech_library import SpeechLibrary
from ..synthetic.visemes import TRACKS, mouth_tracks

_MEL_RATE, _RATE = 100, 50  # mel frames and features per second
TRUSTED = 0.9  # a clip's features are kept where their reading of its opening has at least this r
KEEPING = 0.3  # weight of keeping them
SOUNDS = ("", *"aɐɑɒæʌəɚɜɛeɪiɨyøœɔoʊuʉpbmfvwʃʒszθðtdnlrɹʁjkɡŋxhɾɲβ")
"""What the helping task tells apart: silence first, then phonemes by their first letter."""


@dataclass(frozen=True)
class Shares:
    """What a batch is made of. sung: of the voices; accompanied: voices with music or noise (beds) under them, so many
    decibels below the voice while it speaks; voiceless: pieces without speech, the mouth shut; plain: of all pieces,
    those without room, noise and accompaniment, so that clear speech is read precisely."""

    sung: float = 0.35
    accompanied: float = 0.5
    voiceless: float = 0.06
    plain: float = 0.25
    snr: tuple[float, float] = (-2.0, 15.0)


@dataclass(frozen=True, eq=False)
class AudioBatch:
    """mel: (B, 2 T50, bands) power, distorted; tracks: (B, T50, 4); sounds: (B, T50) index in SOUNDS, -100 unknown.

    clear: mel as it was recorded; trusted: (B,) bool, pieces with a voice that the encoder reads well whose features
    are kept.
    """

    mel: Tensor
    tracks: Tensor
    sounds: Tensor
    clear: Tensor
    trusted: Tensor


class AudioEncoderTask(nn.Module):
    """What the training loop needs: `batch(step)`, and the loss as `forward(batch)`; deterministic by (seed, step)."""

    def __init__(
        self,
        config: AudioEncoderConfig,
        library: SpeechLibrary | Iterable[Speech],
        *,
        beds: Iterable[Tensor] = (),
        shares: Shares = Shares(),
        start: dict[str, Tensor] | None = None,
        keep: AudioEncoder | None = None,
        batch_size: int = 32,
        seconds: float = 4.0,
        seed: int = 0,
    ):
        """library: spoken and sung voices, nothing mixed under them; beds: waveforms at 16 kHz of accompaniment and
        noise.

        start: weights of an encoder to go on from, of the same width and at most as many blocks; blocks that it lacks
        begin as the identity. keep: an encoder whose features keep their meaning, so that what was trained on them need
        not be trained again: the layer that reads the mouth off them rests, and the features of distorted pieces are
        drawn to those which `keep` hears in them undistorted. Raises ValueError if clips or beds are too short for
        pieces of `seconds`.
        """
        super().__init__()
        torch.manual_seed(seed)  # the initial weights
        self.encoder = AudioEncoder(config)
        self.tell_sounds = nn.Linear(config.features, len(SOUNDS))
        if start is not None:
            start_from(self.encoder, start)
        self.batch_size, self.steps, self.seed, self.shares = batch_size, round(seconds * _RATE), seed, shares
        mels, tracks, sounds, sung = [], [], [], []
        with torch.no_grad():
            for speech in library:
                mels.append(self.encoder.mel(speech.waveform[None])[0])
                frames = len(mels[-1])
                tracks.append(F.pad(mouth_tracks(speech, fps=_MEL_RATE), (0, 0, 0, frames))[:frames])
                sounds.append(_sounds(speech, frames))
                sung.append(speech.sung)
            beds = [self.encoder.mel(bed[None])[0].half() for bed in beds]
        self.lengths = torch.tensor([len(mel) for mel in mels])
        self.starts = torch.cat([torch.zeros(1, dtype=torch.long), self.lengths.cumsum(0)[:-1]])
        self.mels, self.tracks, self.sounds = torch.cat(mels).half(), torch.cat(tracks), torch.cat(sounds)
        self.rows = {kind: torch.tensor(sung).eq(kind).nonzero()[:, 0] for kind in (False, True)}
        if int(self.lengths.min()) < 2 * self.steps * 1.3:
            raise ValueError(
                f"training on pieces of {seconds} s needs prepared clips of at least {1.3 * seconds:.1f} "
                f"s, the shortest has {int(self.lengths.min()) / _MEL_RATE:.1f} s"
            )
        if beds and min(map(len, beds)) <= 2 * self.steps:
            raise ValueError(
                f"pieces of {seconds} s need beds that are longer, the shortest has "
                f"{min(map(len, beds)) / _MEL_RATE:.1f} s"
            )
        self.beds = beds
        self.kept = []  # hidden from the state that is saved
        self.trusted = torch.zeros(len(mels), dtype=torch.bool)
        if keep is not None:
            self.kept.append(keep.eval().requires_grad_(False))
            self.encoder.tracks.requires_grad_(False)
            self.encoder.feature_norm.requires_grad_(False)
            self.trusted = torch.tensor([_reads(keep, *clip) for clip in zip(mels, tracks, strict=True)])

    def batch(self, step: int, part: int = 0, parts: int = 1) -> AudioBatch:
        """Pieces from anywhere, played up to 20 % faster or slower, each distorted in its own way."""
        generator = torch.Generator().manual_seed((self.seed * 1_000 + part) * 1_000_003 + step)
        rows = self._draw_rows(generator)
        speed = (0.09 * torch.randn(self.batch_size, generator=generator)).clamp(-0.2, 0.2).exp()
        span = 2 * self.steps * speed
        first = torch.rand(self.batch_size, generator=generator) * (self.lengths[rows] - span - 2).clamp(min=0)
        place = first[:, None] + torch.arange(2 * self.steps) * speed[:, None]  # (B, 2 T50), mel frames within the clip
        place = torch.minimum(place, self.lengths[rows, None] - 2.0)
        low = place.floor().long()
        share, low = (place - low)[..., None], low + self.starts[rows, None]
        mel = torch.lerp(self.mels[low].float(), self.mels[low + 1].float(), share)
        tracks = torch.lerp(self.tracks[low], self.tracks[low + 1], share).unflatten(1, (self.steps, 2)).mean(2)
        spoken, sounds = self.sounds[low] != 0, self.sounds[low[:, 1::2]]
        recorded, trusted = mel, self.trusted[rows]
        plain, clear = (
            torch.rand(self.batch_size, generator=generator) < self.shares.plain,
            _through_tract(mel, 0.1, generator),
        )
        mel = distort_voice(mel, generator)
        if self.beds:
            mel, voiceless = self._over_beds(mel, spoken, generator)
            plain, trusted = plain & ~voiceless, trusted & ~voiceless
            tracks, sounds = tracks.masked_fill(voiceless[:, None, None], 0), sounds.masked_fill(voiceless[:, None], 0)
        mel = torch.where(plain[:, None, None], clear, distort_sound(mel, generator))
        device = self.tell_sounds.weight.device
        return AudioBatch(*(part.to(device) for part in (mel, tracks, sounds, recorded, trusted)))

    def _draw_rows(self, generator: torch.Generator) -> Tensor:
        """(B,) indices of clips, `shares.sung` of them sung where there are both kinds."""
        spoken, sung = self.rows[False], self.rows[True]
        is_sung = torch.rand(self.batch_size, generator=generator) < self.shares.sung
        chance = torch.rand(self.batch_size, generator=generator)
        if not len(sung) or not len(spoken):
            return ((chance * len(self.lengths)).long()).clamp(max=len(self.lengths) - 1)
        return torch.where(
            is_sung,
            sung[(chance * len(sung)).long().clamp(max=len(sung) - 1)],
            spoken[(chance * len(spoken)).long().clamp(max=len(spoken) - 1)],
        )

    def _over_beds(self, mel: Tensor, spoken: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """mel (B, T, bands) with beds under some of the voices and in place of some: (mel, which have no voice (B,)).

        spoken: (B, T), where the voice speaks. The powers of two sounds add up but for their random phases.
        """
        batch, frames, bands = mel.shape
        under = torch.stack([self._bed(frames, generator) for _ in range(batch)])
        under = _through_microphone(_through_tract(under, 0.2, generator), generator)
        kind = torch.rand(batch, generator=generator)
        voiceless = kind < self.shares.voiceless
        accompanied = kind < self.shares.voiceless + self.shares.accompanied
        widths = 1 / mel_filters(bands).amax(1)  # mel bands have unit area: power in Hz is value x width
        voice = (mel @ widths * spoken).sum(1) / spoken.sum(1).clamp(min=1)
        voice = torch.where(spoken.any(1), voice, (mel @ widths).mean(1))
        low, high = self.shares.snr
        snr = low + (high - low) * torch.rand(batch, generator=generator)
        gain = (voice / (under @ widths).mean(1).clamp(min=1e-12) * 10 ** (-snr / 10) * accompanied)[:, None, None]
        mel = mel * (~voiceless)[:, None, None]
        under = under * gain
        phases = (0.3 * torch.randn(mel.shape, generator=generator)).clamp(-1, 1)
        return (mel + under + 2 * phases * (mel * under).sqrt()).clamp(min=0), voiceless

    def _bed(self, frames: int, generator: torch.Generator) -> Tensor:
        """A piece of a bed (frames, bands); now and then two at once."""
        pieces = []
        for _ in range(1 + int(torch.rand((), generator=generator) < 0.2)):
            bed = self.beds[int(torch.randint(len(self.beds), (), generator=generator))]
            first = int(torch.randint(len(bed) - frames + 1, (), generator=generator))
            pieces.append(bed[first : first + frames].float())
        return torch.stack(pieces).sum(0)

    def forward(self, batch: AudioBatch) -> tuple[Tensor, dict[str, float]]:
        """Squared error of the tracks and of their changes, in units of their spread, and some cross-entropy of the
        phonemes."""
        features = self.encoder.hear(batch.mel)  # (B, T50, D)
        wanted = (batch.tracks - batch.tracks.new_tensor(TRACK_MEAN)) / batch.tracks.new_tensor(TRACK_STD)
        heard = features[..., -wanted.shape[-1] :]
        error = (heard - wanted).square().mean((0, 1))
        change = (heard[:, 2:] - heard[:, :-2] - wanted[:, 2:] + wanted[:, :-2]).square().mean()
        sounds = F.cross_entropy(self.tell_sounds(features).flatten(0, 1), batch.sounds.flatten())
        loss = (error * error.new_tensor([1.5, 1.0, 1.0, 0.7])).mean() + 0.3 * change + 0.1 * sounds
        numbers = {name: float(value) for name, value in zip(TRACKS, error.detach(), strict=True)}
        numbers |= {"change": float(change.detach()), "sounds": float(sounds.detach())}
        if self.kept and bool(batch.trusted.any()):
            with torch.no_grad():
                before = self.kept[0].to(features.device).hear(batch.clear[batch.trusted])
            moved = (features[batch.trusted] - before)[..., : -wanted.shape[-1]].square().mean()
            loss, numbers["moved"] = loss + KEEPING * moved, float(moved.detach())
        return loss, numbers


@torch.no_grad()
def measure_audio_encoder(encoder: AudioEncoder, library: Iterable[Speech]) -> dict[str, dict[str, float]]:
    """Correlation of each track with the truth at 50 steps a second, by voice (espeak: by language) and over 'all'."""
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for speech in library:
        heard = encoder.mouth(encoder(speech.waveform[None]))[0]
        group = f"espeak:{speech.language}" if speech.engine == "espeak" else speech.voice
        truth = mouth_tracks(speech, fps=_RATE)[: len(heard)]
        for name in (group, "all"):
            pairs.setdefault(name, []).append((heard[: len(truth)], truth))
    result = {}
    for name, rows in sorted(pairs.items()):
        heard, truth = (torch.cat(side).double() for side in zip(*rows, strict=True))
        result[name] = {
            track: float(torch.corrcoef(torch.stack([heard[:, column], truth[:, column]]))[0, 1])
            for column, track in enumerate(TRACKS)
        }
    return result


@torch.no_grad()
def _reads(encoder: AudioEncoder, mel: Tensor, tracks: Tensor) -> bool:
    """Whether the encoder reads the opening of a clip, mel (F, bands) and tracks (F, 4), well enough to be kept."""
    heard = encoder.mouth(encoder.hear(mel[None])[:, :, None])[0, :, 0]
    truth = tracks[: 2 * len(heard), 0].unflatten(0, (-1, 2)).mean(1)
    r = torch.corrcoef(torch.stack([heard.float(), truth]))[0, 1]
    return bool(r > TRUSTED)  # not where the mouth rests, and r is nan


def start_from(encoder: AudioEncoder, weights: dict[str, Tensor]) -> None:
    """Copy an encoder's weights; blocks of `encoder` that they lack change nothing at first.

    Raises ValueError if they do not fit.
    """
    own = encoder.state_dict()
    odd = sorted(name for name, value in weights.items() if name not in own or own[name].shape != value.shape)
    missing = sorted(name for name in own.keys() - weights.keys() if not name.startswith("blocks."))
    if odd or missing:
        raise ValueError(f"the weights to start from are of another encoder: {(odd + missing)[:5]} do not fit")
    encoder.load_state_dict({name: weights.get(name, value).float() for name, value in own.items()})
    known = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    for block in encoder.blocks[known:]:
        nn.init.zeros_(block.out.weight)
        nn.init.zeros_(block.out.bias)


def make_beds(*, minutes: float, seed: int = 0, seconds: float = 12.0, music: float = 0.65) -> list[Tensor]:
    """Accompaniment (a share of `music`) and noise for `AudioEncoderTask`, pieces of `seconds`."""
    count = max(1, round(minutes * 60 / seconds))
    return [
        (accompaniment if index < music * count else noise_bed)(seed * 1_000_003 + index, seconds)
        for index in range(count)
    ]


def distort(mel: Tensor, generator: torch.Generator) -> Tensor:
    """Power in mel bands (B, T, bands) as heard through another throat, room, microphone and noise, at another
    loudness."""
    return distort_sound(distort_voice(mel, generator), generator)


def distort_voice(mel: Tensor, generator: torch.Generator) -> Tensor:
    """The voice alone (B, T, bands): another throat, other formants, microphone and room."""
    mel = _through_tract(mel, 0.15, generator)
    logs = mel.log()
    # broader formants and weaker harmonics, or the reverse
    mean = F.avg_pool1d(logs, 7, stride=1, padding=3, count_include_pad=False)
    logs = torch.where(_often(0.5, mel, generator), mean + (logs - mean) * _uniform(0.3, 1.3, mel, generator), logs)
    mel = _through_microphone(logs.exp(), generator)
    batch, _, bands = mel.shape
    # a room: decaying echoes of power
    decay = _uniform(0.02, 0.15, mel, generator)
    taps = torch.arange(40)
    kernel = (-taps / (decay * _MEL_RATE)).exp() * (taps > 0)  # (B, 1, 40)
    wet = torch.where(_often(0.4, mel, generator), _uniform(0.0, 0.5, mel, generator), torch.zeros(()))
    kernel = kernel * wet / kernel.sum(-1, keepdim=True)
    past = rearrange(F.pad(mel, (0, 0, 39, 0)), "b t m -> 1 (b m) t")
    echo = F.conv1d(past, kernel.flip(-1).repeat_interleave(bands, 0), groups=batch * bands)
    return mel + rearrange(echo, "1 (b m) t -> b t m", b=batch)


def distort_sound(mel: Tensor, generator: torch.Generator) -> Tensor:
    """All that is heard (B, T, bands): nothing above a cut-off, noise, levelled, what a codec leaves of it, bands that
    are missing, and another loudness."""
    batch, frames, bands = mel.shape
    # nothing above a cut-off, as on the telephone
    top = torch.where(_often(0.2, mel, generator), _uniform(0.55, 1.0, mel, generator), torch.ones(()))
    mel = mel * (torch.linspace(0, 1, bands) <= top).clamp(min=1e-5)
    # noise of any colour, steady or coming and going
    colour = _smooth_curve(1.0, mel, generator) + _uniform(-1.2, 0.4, mel, generator) * torch.linspace(-1.5, 1.5, bands)
    noise = colour.exp() / colour.exp().mean(-1, keepdim=True)
    noise = noise * -(torch.rand(mel.shape, generator=generator).clamp(min=1e-6)).log()
    slow = F.interpolate(torch.randn(batch, 1, max(2, frames // 40), generator=generator), size=frames, mode="linear")
    noise = noise * torch.where(_often(0.3, mel, generator), slow.transpose(1, 2).exp(), torch.ones(()))
    quiet = 10 ** (-_uniform(3, 50, mel, generator) / 10)
    quiet = torch.where(_often(0.85, mel, generator), quiet, torch.zeros(()))
    level = mel.mean((1, 2), keepdim=True)
    mel = _through_codec(_levelled(mel + quiet * level * noise, generator), generator)
    # nothing in up to 14 bands, so that no single cue is relied on (SpecAugment, arXiv 1904.08779)
    lowest = _uniform(0, bands, mel, generator)
    lost = torch.arange(bands).sub(lowest).div(_uniform(1, 14, mel, generator))
    lost = (lost >= 0) & (lost < 1) & _often(0.5, mel, generator)
    mel = torch.where(lost, 1e-4 * level, mel)
    return mel * 10 ** (_uniform(-30, 10, mel, generator) / 10)


def _levelled(mel: Tensor, generator: torch.Generator) -> Tensor:
    """As a compressor of broadcasts does: where it is quiet for a third of a second, it becomes louder."""
    level = F.avg_pool1d(
        mel.mean(-1, keepdim=True).transpose(1, 2), 31, stride=1, padding=15, count_include_pad=False
    ).transpose(1, 2)
    mean = level.mean(1, keepdim=True).clamp(min=1e-12)
    amount = torch.where(_often(0.25, mel, generator), _uniform(0.0, 0.6, mel, generator), torch.zeros(()))
    return mel * (level / mean).clamp(1e-3, 1e3) ** -amount


def _through_codec(mel: Tensor, generator: torch.Generator) -> Tensor:
    """As a codec of few bits does: nothing is left of what lies far below its neighbours in frequency."""
    strongest = F.max_pool1d(mel, 13, stride=1, padding=6)
    threshold = 10 ** (-_uniform(12, 35, mel, generator) / 10) * _often(0.2, mel, generator)
    return torch.where(mel < threshold * strongest, 1e-3 * mel, mel)


def _uniform(low: float, high: float, mel: Tensor, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(len(mel), 1, 1, generator=generator)


def _often(share: float, mel: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(len(mel), 1, 1, generator=generator) < share


def _smooth_curve(size: float, mel: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 1, bands) of a few slow waves over the bands, in nepers."""
    waves = torch.cos(torch.arange(1, 6)[:, None] * math.pi * torch.linspace(0, 1, mel.shape[-1]))  # (5, bands)
    return size * torch.randn(len(mel), 1, 5, generator=generator) / torch.arange(1, 6).sqrt() @ waves


def _through_tract(mel: Tensor, spread: float, generator: torch.Generator) -> Tensor:
    """A shorter or longer vocal tract (or body of an instrument): bands read from elsewhere; constant at the top."""
    bands = mel.shape[-1]
    stretch = (spread * torch.randn(len(mel), 1, 1, generator=generator)).clamp(-0.3, 0.3).exp()
    source = _warped_bands(bands, stretch[:, 0])  # (B, bands)
    low = source.floor().long().clamp(max=bands - 2)
    logs = (mel + 1e-7 * mel.mean((1, 2), keepdim=True) + 1e-30).log()
    low = low[:, None].expand(-1, mel.shape[1], -1)
    return torch.lerp(logs.gather(2, low), logs.gather(2, low + 1), source[:, None] - low).exp()


def _through_microphone(mel: Tensor, generator: torch.Generator) -> Tensor:
    tilt = _uniform(-0.7, 0.7, mel, generator) * torch.linspace(-1.5, 1.5, mel.shape[-1])
    return mel * (_smooth_curve(0.7, mel, generator) + tilt).exp()


def _warped_bands(bands: int, stretch: Tensor) -> Tensor:
    """Where each mel band is read when all frequencies are multiplied by stretch (B, 1): (B, bands) fractional band
    numbers."""
    top = 15 + 27 * math.log(8) / math.log(6.4)

    def hertz(mel: Tensor) -> Tensor:
        return torch.where(mel < 15, mel * (200 / 3), 1000 * ((mel - 15) * (math.log(6.4) / 27)).exp())

    def mels(hertz: Tensor) -> Tensor:
        return torch.where(
            hertz < 1000, hertz * (3 / 200), 15 + (hertz.clamp(min=1) / 1000).log() * (27 / math.log(6.4))
        )

    spacing = top / (bands + 1)
    centres = hertz(spacing * torch.arange(1, bands + 1))
    return (mels(centres / stretch) / spacing - 1).clamp(0, bands - 1)


def _sounds(speech: Speech, frames: int) -> Tensor:
    """(frames,) index into SOUNDS at 100 a second; -100, which cross-entropy ignores, for what SOUNDS does not name."""
    result = torch.zeros(frames, dtype=torch.long)
    for ipa, start, end in speech.phonemes:
        result[round(start * _MEL_RATE) : round(end * _MEL_RATE)] = SOUNDS.index(ipa[0]) if ipa[0] in SOUNDS else -100
    return result

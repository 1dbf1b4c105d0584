"""From phonemes to the movement of a mouth: four tracks that a renderer draws and the audio encoder learns to hear.

    0 opening   0 the lips touch .. 1 wide open, as in a loud 'ah'
    1 width    -1 rounded and pursed ('oo') .. 0 at rest .. 1 spread ('ee')
    2 closure   0 .. 1 the lips are pressed together (p, b, m)
    3 tuck      0 .. 1 the lower lip lies under the upper teeth (f, v)

In silence all four are 0: the lips touch without pressure. Neighbouring sounds blend as in speech (co-articulation):
each sound pulls with its own weight within a Gaussian around it, so weak sounds such as 'h' or 't' take the shape of
the vowels beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .speech import Speech

TRACKS = ("opening", "width", "closure", "tuck")

FINE_RATE = 200  # steps per second at which the tracks are made
BLEND_SECONDS = (0.035, 0.050, 0.022, 0.022)  # standard deviation of the Gaussian per track
SHORTEST_CLOSURE_SECONDS = 0.070  # lips stay shut this long at least, or a video at 25 frames per second would miss it


@dataclass(frozen=True)
class Viseme:
    """What a sound wants from the mouth, and how much it insists (opening, width) against its neighbours."""

    opening: float
    width: float
    opening_weight: float = 1.0
    width_weight: float = 1.0
    closure: float = 0.0
    tuck: float = 0.0


_SILENCE = Viseme(0.0, 0.0, 1.0, 0.6)

_VOWELS = {  # opening, width
    "a": (0.95, 0.15),
    "ɐ": (0.80, 0.10),
    "ɑ": (1.00, 0.00),
    "ɒ": (0.80, -0.45),
    "æ": (0.90, 0.45),
    "ʌ": (0.70, 0.05),
    "ə": (0.40, 0.00),
    "ɚ": (0.38, -0.25),
    "ɜ": (0.50, -0.15),
    "ɘ": (0.40, 0.15),
    "ɵ": (0.38, -0.55),
    "ɛ": (0.68, 0.40),
    "e": (0.50, 0.55),
    "ɪ": (0.38, 0.50),
    "i": (0.28, 0.90),
    "ɨ": (0.32, 0.45),
    "ᵻ": (0.34, 0.35),
    "y": (0.22, -0.80),
    "ʏ": (0.28, -0.65),
    "ø": (0.38, -0.65),
    "œ": (0.52, -0.50),
    "ɔ": (0.68, -0.55),
    "o": (0.48, -0.75),
    "ɤ": (0.48, 0.10),
    "ʊ": (0.32, -0.65),
    "u": (0.22, -0.95),
    "ʉ": (0.25, -0.80),
    "ɯ": (0.28, 0.45),
}
_CONSONANTS = {
    **{ipa: Viseme(0.0, 0.0, 1.5, 0.25, closure=1.0) for ipa in "pbm"},
    **{ipa: Viseme(0.12, 0.05, 1.3, 0.3, tuck=1.0) for ipa in "fvɱ"},
    "ʋ": Viseme(0.16, 0.05, 1.1, 0.3, tuck=0.7),
    "β": Viseme(0.08, 0.0, 1.3, 0.3, closure=0.4),
    "ɸ": Viseme(0.08, -0.2, 1.3, 0.4, closure=0.3),
    "w": Viseme(0.12, -0.95, 1.1, 1.1),
    "ɥ": Viseme(0.14, -0.85, 1.0, 1.1),
    "ʍ": Viseme(0.12, -0.95, 1.1, 1.1),
    **{ipa: Viseme(0.20, -0.50, 0.9, 0.9) for ipa in "ʃʒʂʐ"},
    **{ipa: Viseme(0.18, -0.10, 0.9, 0.6) for ipa in "ɕʑ"},
    **{ipa: Viseme(0.12, 0.25, 1.0, 0.5) for ipa in "sz"},
    **{ipa: Viseme(0.20, 0.10, 0.7, 0.3) for ipa in "tdnɳʈɖ"},
    **{ipa: Viseme(0.28, 0.10, 0.7, 0.3) for ipa in "lɫɭɬʎɲɾɽr"},
    **{ipa: Viseme(0.24, -0.40, 0.8, 0.7) for ipa in "ɹɻ"},
    **{ipa: Viseme(0.22, 0.15, 0.8, 0.4) for ipa in "θð"},
    "j": Viseme(0.22, 0.60, 0.8, 0.8),
    "ç": Viseme(0.22, 0.50, 0.7, 0.6),
    **{ipa: Viseme(0.32, 0.05, 0.5, 0.2) for ipa in "kɡgŋcɟqxɣχʁɴʀħʕ"},
    **{ipa: Viseme(0.40, 0.0, 0.25, 0.1) for ipa in "hɦʔ"},
}
_VISEMES = {**{ipa: Viseme(*shape) for ipa, shape in _VOWELS.items()}, **_CONSONANTS}
_UNKNOWN = Viseme(0.3, 0.0, 0.3, 0.2)


def visemes(ipa: str) -> tuple[Viseme, ...]:
    """The shapes a phoneme passes through in equal parts, e.g. two for a diphthong; length and stress marks say nothing
    here."""
    found = tuple(_VISEMES[letter] for letter in ipa if letter in _VISEMES)
    return found or (_UNKNOWN,)


def is_vowel(ipa: str) -> bool:
    """Whether a phoneme holds a vowel, diphthongs and vowels with a coloured end included."""
    return any(letter in _VOWELS for letter in ipa)


def mouth_tracks(speech: Speech, *, fps: float = 25.0) -> Tensor:
    """(F, 4) float32 at the centres of the video frames, F = round(seconds * fps), at least 1; columns as `TRACKS`.

    Where the voice is louder than its average the mouth opens wider, up to 15 %; where it is quieter, less, down to 35
    %.
    """
    fine = _fine_tracks(speech)
    frames = max(1, round(speech.seconds * fps))
    return _at((torch.arange(frames) + 0.5) / fps, fine)


def voiced_energy(speech: Speech, *, fps: float = 25.0) -> Tensor:
    """(F,) loudness 0..1 around each video frame, relative to the loud parts of this speech, 0 outside the phonemes."""
    spoken = torch.zeros(_fine_steps(speech))
    for _, start, end in speech.phonemes:
        spoken[round(start * FINE_RATE) : round(end * FINE_RATE)] = 1
    frames = max(1, round(speech.seconds * fps))
    return _at((torch.arange(frames) + 0.5) / fps, (_loudness(speech) * _blend(spoken, 0.03)).clamp(0, 1)[:, None])[
        :, 0
    ]


def _fine_steps(speech: Speech) -> int:
    return max(2, round(speech.seconds * FINE_RATE))


def _fine_tracks(speech: Speech) -> Tensor:
    """(steps, 4) at `FINE_RATE`."""
    steps = _fine_steps(speech)
    wish = torch.zeros(steps, 4)
    weight = torch.tensor([_SILENCE.opening_weight, _SILENCE.width_weight]).repeat(steps, 1)
    for ipa, start, end in speech.phonemes:
        shapes = visemes(ipa)
        edges = torch.linspace(start, end, len(shapes) + 1).mul(FINE_RATE).round().long().tolist()
        for shape, begin, stop in zip(shapes, edges[:-1], edges[1:], strict=True):
            here = slice(begin, max(stop, begin + 1))
            wish[here, 0], wish[here, 1] = shape.opening, shape.width
            weight[here, 0], weight[here, 1] = shape.opening_weight, shape.width_weight
            for column, amount in ((2, shape.closure), (3, shape.tuck)):
                if amount:
                    middle, half = (begin + stop) / 2, max((stop - begin) / 2, SHORTEST_CLOSURE_SECONDS * FINE_RATE / 2)
                    around = slice(max(0, round(middle - half)), round(middle + half))
                    wish[around, column] = wish[around, column].clamp(min=amount)
    tracks = torch.empty_like(wish)
    for column in (0, 1):
        pull = weight[:, column]
        tracks[:, column] = _blend(wish[:, column] * pull, BLEND_SECONDS[column]) / _blend(pull, BLEND_SECONDS[column])
    for column in (2, 3):
        # 1.45: short sounds reach 1
        tracks[:, column] = (1.45 * _blend(wish[:, column], BLEND_SECONDS[column])).clamp(0, 1)
    tracks[:, 0] *= (0.35 + 0.8 * _loudness(speech).clamp(0, 1).sqrt()).clamp(max=1.15)
    tracks[:, 0] = (tracks[:, 0] * (1 - tracks[:, 2]) * (1 - 0.5 * tracks[:, 3])).clamp(0, 1)
    return tracks


def _loudness(speech: Speech) -> Tensor:
    """(steps,) root mean square of the voice around each step, 1 at the loud parts (their 90th percentile among spoken
    steps)."""
    steps = _fine_steps(speech)
    if speech.loudness is None:
        power = torch.nn.functional.adaptive_avg_pool1d(speech.waveform.square()[None], steps)[0]
    else:
        power = torch.nn.functional.interpolate(speech.loudness.square()[None, None], steps, mode="linear")[0, 0]
    level = _blend(power, 0.05).clamp(min=0).sqrt()
    loud = level[level > 0.1 * level.max()]
    return level / torch.quantile(loud, 0.9).clamp(min=1e-6) if len(loud) else level


def _blend(track: Tensor, seconds: float) -> Tensor:
    """Gaussian smoothing of a (steps,) track, edges repeated."""
    reach = round(4 * seconds * FINE_RATE)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / (seconds * FINE_RATE)) ** 2)
    padded = torch.cat([track[:1].expand(reach), track, track[-1:].expand(reach)])
    return torch.nn.functional.conv1d(padded[None, None], (kernel / kernel.sum())[None, None])[0, 0]


def _at(seconds: Tensor, fine: Tensor) -> Tensor:
    """Rows of fine (steps, C) at the given times, between steps linearly; step i lies at (i + 0.5) / FINE_RATE."""
    place = (seconds * FINE_RATE - 0.5).clamp(0, len(fine) - 1)
    low = place.floor().long().clamp(max=len(fine) - 2)
    return torch.lerp(fine[low], fine[low + 1], (place - low)[:, None])

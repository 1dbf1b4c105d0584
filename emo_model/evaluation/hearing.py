"""How well audio encoders predict the mouth from unseen voices: spoken, sung, over music, in noise, in pauses."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ..auxiliary.audio_encoder import AudioEncoder
from ..checkpoints import native
from ..config import AudioEncoderConfig
from ..inputs.audio import at_frames, encode_long, read_audio, resample
from ..synthetic.music import accompaniment, mix, noise_bed, without_voice
from ..synthetic.speech import Speech
from ..synthetic.speech_library import Mixture, SpeechLibrary, prepare_speech
from ..synthetic.visemes import TRACKS, mouth_tracks

_RATE = 50  # features per second
_SHUT = 0.12  # an opening below this counts as shut
_PAUSE_EDGE_SECONDS = 0.15  # of a pause, what is left out at either end
CONDITIONS = (
    "spoken",
    "Finnish",
    "sung",
    "spoken, music 5 dB",
    "sung, music 5 dB",
    "spoken, music 0 dB",
    "spoken, noise 10 dB",
    "music alone",
)


@dataclass(frozen=True)
class Hearing:
    """How well one encoder reads the clips of one condition; nan where there is nothing to read.

    r: correlation of each track with the truth over all steps; gain: spread of the opening over the truth's; closures:
    share of the sounds p, b, m, among those where the truth is above one half, at which the closure is read above one
    half; shut: share of the steps inside pauses of 1 s and more (without speech: of all steps) that are read as
    shut.
    """

    r: dict[str, float]
    gain: float
    closures: float
    shut: float


def load_encoder(path: str | Path) -> AudioEncoder:
    """The audio encoder of a model file, or a file of an encoder alone that has its config in the metadata."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        if "encoder" not in metadata:
            bundle = native.load(path, dtype=torch.float32)
            if bundle.audio_encoder is None:
                raise ValueError(f"{Path(path).name} brings no audio encoder of its own")
            return bundle.audio_encoder.eval()
        encoder = AudioEncoder(AudioEncoderConfig(**json.loads(metadata["encoder"])))
        encoder.load_state_dict({name: file.get_tensor(name) for name in file.keys()})
    return encoder.eval()


@torch.no_grad()
def heard(encoder: AudioEncoder, waveform: Tensor, frames: int, *, fps: float) -> Tensor:
    """waveform (T,) at 16 kHz -> (frames, 4): the mouth that an encoder predicts, at the middle of each video frame."""
    device = next(encoder.parameters()).device
    layers = encode_long(lambda piece: encoder(piece.to(device)), waveform, context_seconds=encoder.context_seconds)
    tracks = encoder.mouth(layers[None].to(device))[0].cpu()
    low = torch.tensor([0.0, -1.0, 0.0, 0.0])  # opening, width, closure, tuck
    return at_frames(tracks[:, None], range(frames), fps=fps)[:, 0].clamp(max=1).maximum(low)


def report(encoders: dict[str, AudioEncoder], data: Path, recordings: Iterable[str | Path] = ()) -> str:
    """Markdown: every encoder in every condition, then what they read in recordings of real speech.

    data: a folder in which held-out voices are spoken and sung (8 minutes each) unless they are there.
    """
    for name, mixture, seed in (("spoken", Mixture(), 900), ("sung", Mixture(sung=1.0), 901)):
        if not (data / name / "speech.json").exists():
            prepare_speech(data / name, minutes=8.0, seed=seed, held_out=True, mixture=mixture)
    spoken, sung = (list(SpeechLibrary(data / name)) for name in ("spoken", "sung"))
    results = {}
    for condition in CONDITIONS:
        clips = conditioned(condition, spoken, sung)
        results[condition] = {name: measure_hearing(encoder, clips) for name, encoder in encoders.items()}
    text = table(results)
    for path in recordings:
        readings = read_recording(list(encoders.values()), path)
        for name, (loudness, first, shut) in zip(encoders, readings, strict=True):
            text += (
                f"\n{Path(path).name}, {name}: opening against the loudness r {loudness:.3f}, against the first "
                f"encoder's r {first:.3f}; shut in {shut:.0%} of the steps\n"
            )
    return text


def conditioned(condition: str, spoken: Iterable[Speech], sung: Iterable[Speech]) -> list[Speech]:
    """The clips of a condition, made from clean ones; the same music and noise for every encoder."""
    spoken, sung = list(spoken), list(sung)
    name, _, under = condition.partition(", ")
    if condition == "music alone":
        return [without_voice(accompaniment(5_000 + seed, 10.0)) for seed in range(len(spoken) // 2)]
    clips = sung if name == "sung" else [clip for clip in spoken if name != "Finnish" or clip.language == "fi"]
    if not under:
        return clips
    bed = accompaniment if under.startswith("music") else noise_bed
    decibels = float(under.split()[1])
    return [mix(clip, bed(6_000 + seed, clip.seconds), decibels) for seed, clip in enumerate(clips)]


@torch.no_grad()
def measure_hearing(encoder: AudioEncoder, clips: Iterable[Speech]) -> Hearing:
    pairs, closed, closures, shut = [], 0, 0, []
    for speech in clips:
        predicted = encoder.mouth(encoder(speech.waveform[None]))[0]
        truth = mouth_tracks(speech, fps=_RATE)[: len(predicted)]
        predicted = predicted[: len(truth)]
        pairs.append((predicted, truth))
        for ipa, start, end in speech.phonemes:
            here = slice(
                round((start - 0.02) * _RATE), max(round((start - 0.02) * _RATE) + 1, round((end + 0.02) * _RATE))
            )
            if ipa[0] in "pbm" and len(truth[here]) and float(truth[here, 2].max()) > 0.5:
                closures += 1
                closed += float(predicted[here, 2].max()) > 0.5
        shut += [
            (predicted[round(start * _RATE) : round(end * _RATE), 0] < _SHUT).float() for start, end in _pauses(speech)
        ]
    predicted, truth = (torch.cat(side).double() for side in zip(*pairs, strict=True))
    r = {track: _correlation(predicted[:, column], truth[:, column]) for column, track in enumerate(TRACKS)}
    return Hearing(
        r,
        float(predicted[:, 0].std() / truth[:, 0].std().clamp(min=1e-9)) if truth.any() else float("nan"),
        closed / closures if closures else float("nan"),
        float(torch.cat(shut).mean()) if shut else float("nan"),
    )


@torch.no_grad()
def read_recording(encoders: list[AudioEncoder], path: str | Path) -> list[tuple[float, float, float]]:
    """Real speech, whose mouth is unknown. For each encoder: correlation of its opening with the loudness of the
    sound and with the opening of the first encoder, and the share of steps that it reads as shut."""
    sound = resample(*read_audio(path))
    readings = [encoder.mouth(encoder(sound[None]))[0, :, 0].double() for encoder in encoders]
    loud = torch.nn.functional.adaptive_avg_pool1d(sound[None].square(), len(readings[0]))[0].double()
    loud = torch.nn.functional.avg_pool1d(loud[None], 5, stride=1, padding=2)[0].sqrt()
    return [
        (_correlation(reading, loud), _correlation(reading, readings[0]), float((reading < _SHUT).double().mean()))
        for reading in readings
    ]


def table(results: dict[str, dict[str, Hearing]]) -> str:
    """{condition: {encoder: Hearing}} as Markdown."""
    lines = [
        "| condition | encoder | " + " | ".join(f"r {track}" for track in TRACKS) + " | gain | closures | shut |",
        "| --- | --- |" + " ---: |" * (len(TRACKS) + 3),
    ]
    for condition, encoders in results.items():
        for name, hearing in encoders.items():
            numbers = [*(hearing.r[track] for track in TRACKS), hearing.gain, hearing.closures, hearing.shut]
            lines.append(
                f"| {condition} | {name} "
                "| " + " | ".join("-" if value != value else f"{value:.3f}" for value in numbers) + " |"
            )
    return "\n".join(lines) + "\n"


def _pauses(speech: Speech) -> list[tuple[float, float]]:
    """(start, end) in seconds of the inside of every silence of 1 s and more."""
    edges = [0.0] + [time for _, start, end in speech.phonemes for time in (start, end)] + [speech.seconds]
    gaps = [(edges[place], edges[place + 1]) for place in range(0, len(edges), 2)]
    edge = _PAUSE_EDGE_SECONDS
    return [(start + edge, end - edge) for start, end in gaps if end - start >= 1.0]


def _correlation(one: Tensor, other: Tensor) -> float:
    if not float(one.std()) or not float(other.std()):
        return float("nan")
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])

"""Any video, judged: against its voice, its portrait, a reference, and what others' networks think of it.

A record holds numbers by key (`METRICS`), and, for each that could not be measured, the reason: never a 0.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..auxiliary.audio_encoder import AudioEncoder
from ..inputs.audio import SoundFile, resample
from ..inputs.faces import FaceFinder, NoFaceError
from ..inputs.media import read_picture, to_uint8
from ..inputs.portrait import find_mesh
from ..inputs.video_frames import VideoFrames
from ..outputs.likeness import NEEDS as DLIB_NEEDS
from ..outputs.likeness import Likeness
from ..statistics import correlation, mean
from ..synthetic.visemes import mouth_tracks
from . import phonemes as phoneme_sources
from .hearing import heard
from .judges import Judges, LipsAndVoice, Resemblance, perceptual, sha256
from .metrics import eyes, sync
from .metrics.alignment import soft_alignment
from .metrics.frechet import Moments, distance
from .metrics.mouth import ROOM, closures
from .metrics.picture import decibels, ssim
from .phonemes import Phonemes
from .reading import Reading
from .watching import Watched, Watcher

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Metric:
    """what: its row in the table; better: which way, "" where neither is."""

    what: str
    unit: str = ""
    better: str = ""


METRICS = {
    "sync": Metric("mouth opening against the audio encoder's track, r", better="higher"),
    "sync_best": Metric("the same at its best delay", better="higher"),
    "sync_control": Metric("control: the same, voice shifted by 1 s and more", better="0"),
    "sync_chance": Metric("share of these shifts that do as well", better="lower"),
    "delay": Metric("mouth later than the voice", "ms", "0"),
    "loud": Metric("mouth opening against the loudness, r", better="higher"),
    "loud_best": Metric("the same at its best delay", better="higher"),
    "loud_control": Metric("control: the same, voice shifted", better="0"),
    "viseme": Metric("mouth opening against the phonemes' shapes, r", better="higher"),
    "closures": Metric("lips shut at p, b, m", better="higher"),
    "closures_counted": Metric("how many p, b, m there are"),
    "closures_control": Metric("control: the same at times shifted by 1 s and more", better="lower"),
    "amplitude": Metric("opening, how far it moves (standard deviation, eye distances)"),
    "silent_still": Metric("opening in silence, how far it moves against speech", "x", "lower"),
    "silent_shut": Metric("frames in silence whose lips are shut", better="higher"),
    "blinks": Metric("blinks", "a minute"),
    "shut": Metric("frames with shut eyes"),
    "lids": Metric("frames whose lids agree", better="higher"),
    "pose": Metric("head pose, spread", "degrees"),
    "speed": Metric("head speed", "degrees a second"),
    "place": Metric("head position, spread", "px at 256"),
    "trembling": Metric("trembling (second difference of mesh points)", "px at 256", "lower"),
    "identity": Metric("dlib distance from the portrait, median", better="lower"),
    "identity_worst": Metric("the same, worst frame", better="lower"),
    "identity_drift": Metric("the same, last quarter minus first quarter", better="0"),
    "colour": Metric("colour of the skin, last quarter against first", "dE", "lower"),
    "outside": Metric("change outside of the head since the first frame", "of 255", "lower"),
    "psnr": Metric("PSNR against the reference", "dB", "higher"),
    "psnr_still": Metric("the same of the reference's first frame, held", "dB"),
    "ssim": Metric("SSIM against the reference", better="higher"),
    "lpips": Metric("LPIPS against the reference", better="lower"),
    "syncnet_confidence": Metric("SyncNet's confidence", better="higher"),
    "syncnet_distance": Metric("SyncNet's distance", better="lower"),
    "syncnet_delay": Metric("SyncNet's delay of the mouth", "ms", "0"),
    "fsim": Metric("F-SIM: ArcFace's cosine with the portrait", better="higher"),
}
SET_METRICS = {
    "fid": Metric("FID against the references", better="lower"),
    "fvd": Metric("FVD against the references", better="lower"),
    "efid": Metric("E-FID against the references", better="lower"),
}
ALIGNED_SECONDS = 1.0  # how far two timings of the same words may be apart
LEAST_SAMPLES = 4  # for a drift
SHORT = "the video is too short"
NO_SOUND = "the video has no sound; give the voice as --voices"
NO_REFERENCE = "no reference of this video; give --reference"


@dataclass(frozen=True)
class Pair:
    """A video and what belongs to it; portrait None: its first frame; voice None: its own sound."""

    video: Path
    portrait: Path | None = None
    voice: Path | None = None
    reference: Path | None = None
    phonemes: Path | None = None


def pairs(videos: Sequence[Path], **others: Sequence[Path]) -> list[Pair]:
    """Each video with the portrait, voice, reference and phonemes whose name it bears.

    A file belongs to a video if its name (without the ending) is a whole part of the video's, the longest one if there
    are several ("anna" and "anna_sings" are both parts of "anna_sings-2"); a single file belongs to all videos.
    """
    return [Pair(video, **{kind: _belongs(video, files) for kind, files in others.items()}) for video in videos]


def _belongs(video: Path, files: Sequence[Path]) -> Path | None:
    if len(files) == 1:
        return files[0]
    parts = [
        path for path in files if re.search(rf"(?<![^\W_]){re.escape(path.stem)}(?![^\W_])", video.stem, re.IGNORECASE)
    ]
    return max(parts, key=lambda path: len(path.stem), default=None)


@dataclass(frozen=True, eq=False)
class Judgement:
    """values and skipped by key; about: of the file; tracks: for the figure; samples: for the contact sheet."""

    values: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    about: dict = field(default_factory=dict)
    tracks: dict[str, list[float]] = field(default_factory=dict)
    thumbnails: list[np.ndarray] = field(default_factory=list)


class Bench:
    """What judges. encoder: None judges against the loudness alone; likeness: None where dlib is not installed;
    most_seconds: of each video."""

    def __init__(
        self,
        finder: FaceFinder,
        judges: Judges,
        *,
        encoder: AudioEncoder | None,
        likeness: Likeness | None,
        choice: str = "largest",
        most_seconds: float | None = None,
    ):
        self.finder, self.judges, self.encoder, self.likeness, self.choice = finder, judges, encoder, likeness, choice
        self.most_seconds = most_seconds
        self._references: dict[str, tuple[VideoFrames, Watched]] = {}

    def judge_set(self, some: Sequence[Pair]) -> tuple[list[Judgement], dict[str, float], dict[str, str]]:
        """Every video of a set, then the numbers of the set as a whole, and why others are missing."""
        made, own, true = [], {}, {}
        for number, pair in enumerate(some):
            log.info("%d of %d: %s", number + 1, len(some), pair.video.name)
            made.append(self.judge(pair, own))
        values, skipped = {}, {}
        for reference in dict.fromkeys(pair.reference for pair in some if pair.reference):
            if own:
                Watcher(self.finder, observers=self.judges.observers(true)).watch(self._open(reference))
        for key in SET_METRICS:
            if key in self.judges.weights.skipped:
                skipped[key] = self.judges.weights.skipped[key]
            elif key not in own or key not in true:
                skipped[key] = "no reference videos; give --reference" if key not in true else SHORT
            else:
                values[key] = distance(own[key], true[key])
                values[f"{key}_count"] = min(own[key].count, true[key].count)
        return made, {key: value for key, value in values.items() if not math.isnan(value)}, skipped

    def judge(self, pair: Pair, moments: dict[str, Moments] | None = None) -> Judgement:
        """moments: of the set, to be filled. A video without a face, or that cannot be read, has the reason alone."""
        try:
            return self._judge(pair, {} if moments is None else moments)
        except (NoFaceError, OSError, ValueError) as error:
            log.info("%s: %s", pair.video.name, error)
            return Judgement(skipped={key: str(error) for key in METRICS}, about={"file": pair.video.name})

    def _judge(self, pair: Pair, moments: dict[str, Moments]) -> Judgement:
        video, values = self._open(pair.video), {}
        skipped = dict(self.judges.weights.skipped)
        waveform = self._sound(pair, video)
        known = None if pair.phonemes is None else phoneme_sources.read_phonemes(pair.phonemes)
        portrait = None
        if pair.portrait is not None:
            picture = read_picture(pair.portrait)
            portrait = to_uint8(picture)[0], find_mesh(self.finder, picture)
        lips, alike, observers = None, None, self.judges.observers(moments)
        if self.judges.syncnet is not None and waveform is not None:
            lips = LipsAndVoice(self.judges.syncnet, waveform, fps=float(video.rate))
            observers.append(lips)
        if self.judges.arcface is not None:
            alike = Resemblance(self.judges.arcface, portrait, every=max(1, round(video.rate / 2)))
            observers.append(alike)
        watcher = Watcher(self.finder, choice=self.choice, likeness=self.likeness, observers=observers)
        seen = watcher.watch(video)
        for judge in (lips, alike):
            values |= judge.found if judge is not None else {}
        tracks = self._voice(known, seen, waveform, values, skipped)
        self._still(seen, values)
        self._identity(seen, portrait, values, skipped)
        self._reference(pair, video, seen, values, skipped)
        values = {key: value for key, value in values.items() if not math.isnan(value)}
        for key in METRICS.keys() - values.keys():
            skipped.setdefault(key, SHORT)
        about = {
            "file": pair.video.name,
            "sha256": sha256(pair.video),
            "size": [*reversed(video.size)],
            "fps": round(float(video.rate), 3),
            "frames": seen.frames,
            "frames_before_the_face": seen.first,
            "frames_without_a_face": seen.bridged,
            "portrait": pair.portrait.name if pair.portrait else None,
            "voice": pair.voice.name if pair.voice else None,
            "reference": pair.reference.name if pair.reference else None,
        }
        skipped = {key: reason for key, reason in skipped.items() if key not in values and key in METRICS}
        return Judgement(values, skipped, about, tracks, [sample.thumbnail for sample in seen.samples])

    def _open(self, path: Path) -> VideoFrames:
        return VideoFrames(path, until=self.most_seconds)

    def _sound(self, pair: Pair, video: VideoFrames) -> Tensor | None:
        if pair.voice is None and not video.has_sound:
            return None
        return resample(SoundFile(pair.voice or pair.video))

    def _voice(
        self, known: Phonemes | None, seen: Watched, waveform: Tensor | None, values: dict, skipped: dict
    ) -> dict[str, list[float]]:
        """Numbers of lips against the voice; returns the tracks for the figure."""
        opening, fps = seen.reading.opening, seen.fps
        tracks = {"opening": opening.tolist()}
        values["amplitude"] = opening.std().item() if len(opening) > 1 else math.nan
        of_voice = [
            key for key in METRICS if key.split("_")[0] in ("sync", "delay", "loud", "viseme", "closures", "silent")
        ]
        of_voice += [key for key in METRICS if key.startswith("syncnet") and self.judges.syncnet is not None]
        reason = NO_SOUND if waveform is None else ""
        if waveform is not None and waveform.abs().max() < 1e-4:
            reason = "the voice is silent"
        if reason:
            skipped |= dict.fromkeys(of_voice, reason)
            return tracks
        part = slice(seen.first, seen.first + len(opening))
        loud = sync.loudness(waveform, part.stop, fps=fps)[part]
        tracks["loudness"] = loud.tolist()
        if self.encoder is not None:
            wanted = heard(self.encoder, waveform, part.stop, fps=fps)[part, 0]
            tracks["voice"] = wanted.tolist()
            found = sync.sync(opening, wanted, fps=fps)
            values |= {"sync": found.r, "sync_best": found.r_best, "sync_control": found.control}
            values |= {"sync_chance": found.chance, "delay": 1000 * found.delay}
            if math.isnan(found.delay) and not math.isnan(found.r_best):
                skipped["delay"] = f"the mouth does not follow the voice (r at most {found.r_best:.2f})"
        else:
            skipped |= dict.fromkeys(("sync", "sync_best", "sync_control", "sync_chance"), "needs an audio encoder")
        found = sync.sync(opening, loud.sqrt(), fps=fps)
        values |= {"loud": found.r, "loud_best": found.r_best, "loud_control": found.control}
        if self.encoder is None:
            values["delay"] = 1000 * found.delay
        quiet = sync.silent(loud, fps=fps)
        self._silence(opening, quiet, values, skipped)
        self._closures(known, waveform, opening, part, fps, values, skipped)
        return tracks

    def _silence(self, opening: Tensor, quiet: Tensor, values: dict, skipped: dict) -> None:
        if quiet.sum() < 3 or (~quiet).sum() < 3:
            skipped |= dict.fromkeys(("silent_still", "silent_shut"), "the voice has no silence of 0.4 s")
            return
        moves = opening.diff().abs()
        inside, spoken = quiet[1:] & quiet[:-1], ~quiet[1:] & ~quiet[:-1]
        values["silent_still"] = (moves[inside].mean() / moves[spoken].mean().clamp(min=1e-9)).item()
        values["silent_shut"] = (opening[quiet] <= shut_limit(opening)).float().mean().item()

    def _closures(
        self,
        known: Phonemes | None,
        waveform: Tensor,
        opening: Tensor,
        part: slice,
        fps: float,
        values: dict,
        skipped: dict,
    ) -> None:
        if known is None and phoneme_sources.is_installed():
            known = phoneme_sources.recognise(waveform)
        if known is None:
            skipped |= dict.fromkeys(
                ("viseme", "closures", "closures_counted", "closures_control"), phoneme_sources.NEEDS
            )
            return
        shapes = mouth_tracks(phoneme_sources.as_speech(waveform, known), fps=fps)[part]
        values["viseme"] = correlation(opening[: len(shapes)], (shapes[:, 0] * (1 - 0.92 * shapes[:, 2])).clamp(0, 1))
        reached = _reached(opening, shapes[:, 2])
        if math.isnan(reached):
            skipped |= dict.fromkeys(("closures", "closures_counted", "closures_control"), "no p, b or m is spoken")
            return
        values |= {"closures": reached, "closures_counted": len(_stretches(opening, shapes[:, 2]))}
        step, count = round(fps), len(shapes)
        values["closures_control"] = mean(
            [_reached(opening, shapes[:, 2].roll(shift)) for shift in range(step, count - step + 1, max(1, step // 5))]
        )

    def _still(self, seen: Watched, values: dict) -> None:
        """Numbers of eyes and head."""
        reading, fps = seen.reading, seen.fps
        values |= {
            "blinks": eyes.blinks(reading.eyes) / (len(reading) / fps / 60),
            "shut": eyes.shut_share(reading.eyes),
            "lids": eyes.agreement(reading.eyes),
        }
        if len(reading) > 2:
            values |= {
                "pose": math.degrees(reading.turn.var(0).sum().sqrt().item()),
                "place": reading.place.var(0).sum().sqrt().item(),
                "trembling": reading.shake.mean().item(),
            }
        if len(reading) > 20:
            values["speed"] = reading.speed(fps).mean().item()

    def _identity(self, seen: Watched, portrait: tuple[np.ndarray, Tensor] | None, values: dict, skipped: dict) -> None:
        samples = seen.samples
        quarter = max(1, len(samples) // 4)
        ends = (samples[:quarter], samples[-quarter:]) if len(samples) >= LEAST_SAMPLES else None
        if ends:
            colours = [np.nanmean([sample.colour for sample in end], 0) for end in ends]
            values["colour"] = float(np.linalg.norm(colours[1] - colours[0]))
        changed = [sample.outside for sample in samples[1:] if not math.isnan(sample.outside)]
        if changed:
            values["outside"] = sum(changed) / len(changed)
        else:
            skipped["outside"] = "the head fills the picture"
        if self.likeness is None:
            skipped |= dict.fromkeys(("identity", "identity_worst", "identity_drift"), DLIB_NEEDS)
            return
        own = samples[0].identity if portrait is None else self.likeness.describe(*portrait)
        apart = {sample.number: float(np.linalg.norm(sample.identity - own)) for sample in samples}
        others = list(apart.values())[1 if portrait is None else 0 :]
        if others:
            values |= {"identity": float(np.median(others)), "identity_worst": max(others)}
        if ends:
            values["identity_drift"] = mean([apart[one.number] for one in ends[1]]) - mean(
                [apart[one.number] for one in ends[0] if portrait is not None or one is not samples[0]]
            )

    def _reference(self, pair: Pair, video: VideoFrames, seen: Watched, values: dict, skipped: dict) -> None:
        keys = [key for key in ("psnr", "psnr_still", "ssim", "lpips") if key not in self.judges.weights.skipped]
        if pair.reference is None:
            skipped |= dict.fromkeys(keys, NO_REFERENCE)
            return
        name = str(pair.reference)
        if name not in self._references:
            self._references.clear()  # one at a time
            true = self._open(pair.reference)
            self._references[name] = true, Watcher(self.finder, choice=self.choice).watch(true)
        values |= against(video, seen, *self._references[name], lpips=self.judges.lpips)


def shut_limit(opening: Tensor) -> float:
    """Up to which reading lips count as shut in a video whose truth is not known: its lowest tenth, and the noise."""
    return opening.quantile(0.1).item() + ROOM


def _stretches(opening: Tensor, closure: Tensor) -> list[bool]:
    return closures(opening[: len(closure)], closure, limit=shut_limit(opening))


def _reached(opening: Tensor, closure: Tensor) -> float:
    found = _stretches(opening, closure)
    return sum(found) / len(found) if found else math.nan


def tracks_of(reading: Reading) -> np.ndarray:
    """(F, K) by which two videos of the same words are aligned: mouth, lids and head, each in its own spread."""
    parts = [reading.opening[:, None], reading.width[:, None], reading.turn, reading.place]
    values = torch.cat(parts, 1).double().numpy()
    return (values - values.mean(0)) / values.std(0).clip(1e-6)


def against(
    video: VideoFrames, seen: Watched, reference: VideoFrames, true: Watched, *, lpips: torch.nn.Module | None = None
) -> dict[str, float]:
    """PSNR, SSIM and LPIPS of frames and those of a reference, its size adapted to the video's.

    Frames are compared by number where rate and number agree, else by soft-DTW over what the mesh reads in both.
    """
    count, others = len(seen.reading), len(true.reading)
    same = abs(video.rate - reference.rate) < 0.01 and seen.frames == true.frames and seen.first == true.first
    if same:
        matches = np.arange(min(count, others))
    else:
        band = round(ALIGNED_SECONDS * max(video.rate, reference.rate))
        matches = soft_alignment(tracks_of(seen.reading), tracks_of(true.reading), band=band)
    errors, still_errors, alike, felt = [], [], [], []
    source, place, wanted, first = reference.shown(), -1, None, None
    for number, frame in enumerate(video.shown()):
        number -= seen.first
        if not 0 <= number < len(matches):
            continue
        while place < true.first + matches[number]:
            wanted, place = next(source), place + 1
        right = _as_large(wanted, frame)
        first = _as_large(true.still, frame) if first is None else first
        errors.append(float(np.square(frame.astype(np.float32) - right).mean()))
        still_errors.append(float(np.square(first.astype(np.float32) - right).mean()))
        if number % max(1, round(video.rate / 5)) == 0:
            alike.append(ssim(frame, right))
            if lpips is not None:
                felt.append(perceptual(lpips, frame, right))
    found = {"psnr": decibels(mean(errors)), "psnr_still": decibels(mean(still_errors)), "ssim": mean(alike)}
    return found | ({"lpips": mean(felt)} if felt else {})


def _as_large(picture: np.ndarray, other: np.ndarray) -> np.ndarray:
    if picture.shape == other.shape:
        return picture
    return np.asarray(Image.fromarray(picture).resize(other.shape[1::-1], Image.Resampling.LANCZOS))

"""Prepared speech: a folder with sound and phonemes, from which training draws clips without any speech engine.

speech.adpcm  all clips one after the other, each a row of IMA ADPCM, 8 kB a second; read with numpy alone
speech.json   for each clip: samples, voice, engine, language, phonemes (IPA, start, end in seconds); if it is sung;
              and where other sound lies under the voice, the loudness of the voice alone, in 1/10000
"""

from __future__ import annotations

import json
import logging
import math
import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import adpcm
from .music import accompaniment, mix, noise_bed, without_voice
from .revoicing import Person, revoice
from .singing import singer
from .speech import RATE, Speech, available_voices, sample_speech
from .visemes import mouth_tracks, voiced_energy
from .voices import is_held_out

log = logging.getLogger(__name__)

_SOUND, _INDEX = "speech.adpcm", "speech.json"


@dataclass(frozen=True, eq=False)
class SpeechClip:
    """A piece of prepared speech with its mouth.

    waveform: (T,) float32 at 16 kHz; tracks: (F, 4) as `visemes.TRACKS`; energy: (F,) voiced loudness 0..1.
    """

    waveform: Tensor
    tracks: Tensor
    energy: Tensor
    voice: str


@dataclass(frozen=True)
class Mixture:
    """Shares of the clips that are sung, that another person says (of those not sung; `revoicing`), that have
    accompaniment or noise under the voice, and that hold these alone.

    snr: between which decibels the voice lies above what is under it.
    """

    sung: float = 0.0
    revoiced: float = 0.0
    accompanied: float = 0.0
    voiceless: float = 0.0
    snr: tuple[float, float] = (-2.0, 15.0)


SPOKEN = Mixture()
SUNG = Mixture(sung=0.6, accompanied=0.75, voiceless=0.05)


def prepare_speech(
    folder: str | Path,
    *,
    minutes: float,
    seed: int = 0,
    held_out: bool = False,
    clip_seconds: float = 10.0,
    mixture: Mixture = SPOKEN,
    source: SpeechLibrary | None = None,
) -> Path:
    """Write `minutes` of synthetic speech (see `sample_speech`) into `folder`; returns the folder.

    source: prepared speech with nothing under it whose clips are said or sung anew, instead of new sentences; it needs
    no engine, and `held_out` says only what the folder is. Raises RuntimeError if no speech engine is installed,
    ModuleNotFoundError if `mixture` asks for singing or other persons without pyworld, ValueError if the source has
    voices that training never hears and `held_out` is not set.
    """
    folder = Path(folder)
    kept = sorted({clip["voice"] for clip in source.clips if is_held_out(clip["voice"])} if source else ())
    if kept and not held_out:
        raise ValueError(
            f"the source holds '{kept[0]}', a voice that training never hears; give one without such voices"
        )
    folder.mkdir(parents=True, exist_ok=True)
    count = max(1, round(minutes * 60 / clip_seconds))
    width = 2 * math.ceil(clip_seconds * RATE / 2)
    sound, clips = np.zeros((count, width), dtype=np.int16), []
    for index in range(count):
        speech = sample_clip(seed * 1_000_003 + index, clip_seconds, held_out=held_out, mixture=mixture, source=source)
        samples = min(len(speech.waveform), width)
        sound[index, :samples] = (speech.waveform[:samples].clamp(-1, 1) * 32767).round().short().numpy()
        clip = {
            "samples": samples,
            "voice": speech.voice,
            "engine": speech.engine,
            "language": speech.language,
            "phonemes": [[ipa, round(start, 4), round(end, 4)] for ipa, start, end in speech.phonemes],
        }
        if speech.sung:
            clip["sung"] = True
        if speech.loudness is not None:
            clip["loudness"] = (speech.loudness * 10_000).round().int().tolist()
        clips.append(clip)
        if (index + 1) % 50 == 0:
            log.info("spoke %d of %d clips", index + 1, count)
    (folder / _SOUND).write_bytes(adpcm.encode(sound).tobytes())
    lines = ",\n".join(json.dumps(clip, ensure_ascii=False, separators=(",", ":")) for clip in clips)
    header = json.dumps({"rate": RATE, "seed": seed, "held_out": held_out, "voices": sorted(available_voices())})
    (folder / _INDEX).write_text(header[:-1] + ',"clips":[\n' + lines + "\n]}\n", encoding="utf-8")
    return folder


def sample_clip(
    seed: int, seconds: float, *, held_out: bool = False, mixture: Mixture = SPOKEN, source: SpeechLibrary | None = None
) -> Speech:
    """One clip drawn from `mixture`: spoken or sung, alone or over accompaniment or noise, or these without a voice.

    source: as in `prepare_speech`; its clip is then cut to `seconds`, or shorter where there is no more.
    """
    choose = random.Random(f"mixture/{seed}/{held_out}")
    sung, accompanied, voiceless = choose.random(), choose.random(), choose.random()
    snr = choose.uniform(*mixture.snr)
    bed = accompaniment if choose.random() < 0.7 else noise_bed
    if voiceless < mixture.voiceless:
        sound = bed(seed, seconds)
        return without_voice(sound * min(1.0, 0.95 / float(sound.abs().max())))
    perform = None
    if sung < mixture.sung:
        perform = singer(seed, held_out=held_out)
    elif choose.random() < mixture.revoiced:
        person = Person.draw(choose)
        perform = lambda speech, choose: revoice(speech, person, seed=choose.getrandbits(32))  # noqa: E731
    if source is None:
        speech = sample_speech(seed, seconds, held_out=held_out, perform=perform)
    else:
        speech = source[choose.randrange(len(source))]
        speech = speech if perform is None else perform(speech, choose)
        speech = cut(speech, choose.uniform(0, max(0.0, speech.seconds - seconds)), seconds)
    return mix(speech, bed(seed, speech.seconds), snr) if accompanied < mixture.accompanied else speech


def cut(speech: Speech, start: float, seconds: float) -> Speech:
    """`seconds` of speech with nothing under it from `start` on, or as much as there is."""
    first, end = round(start * RATE), min(round((start + seconds) * RATE), len(speech.waveform))
    start, seconds = first / RATE, (end - first) / RATE
    phonemes = ((ipa, max(0.0, early - start), min(late - start, seconds)) for ipa, early, late in speech.phonemes)
    return replace(
        speech,
        waveform=speech.waveform[first:end],
        phonemes=tuple((ipa, early, late) for ipa, early, late in phonemes if early < late),
    )


class SpeechLibrary:
    """Prepared speech in memory (2 bytes a sample: 75 minutes are 144 MB). Iterating yields whole clips as Speech.

    Raises FileNotFoundError, naming the command that prepares a folder, when `folder` holds no prepared speech.
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        if not (folder / _INDEX).exists():
            raise FileNotFoundError(
                f"No prepared speech in {folder}: {_INDEX} is missing. Make it with "
                "`python -m emo_model.training prepare-speech --out FOLDER`."
            )
        self.clips = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["clips"]
        packed = np.frombuffer((folder / _SOUND).read_bytes(), dtype=np.uint8)
        longest = max(clip["samples"] for clip in self.clips)
        if len(packed) % len(self.clips) or 2 * len(packed) < longest * len(self.clips):
            raise ValueError(
                f"{folder / _SOUND} holds {len(packed)} bytes, which is not {len(self.clips)} clips of "
                f"{longest} samples, as {_INDEX} says; prepare it again"
            )
        self.samples = torch.from_numpy(adpcm.decode(packed.reshape(len(self.clips), -1)))  # (clips, samples) int16

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Speech:
        """The whole prepared clip `index`."""
        clip = self.clips[index]  # an IndexError here ends a for loop
        waveform = self.samples[index, : clip["samples"]].float() / 32768
        loudness = torch.tensor(clip["loudness"]) / 10_000 if "loudness" in clip else None
        return Speech(
            waveform,
            tuple((ipa, start, end) for ipa, start, end in clip["phonemes"]),
            clip["voice"],
            clip["engine"],
            clip["language"],
            loudness,
            clip.get("sung", False),
        )

    @property
    def seconds(self) -> float:
        return sum(clip["samples"] for clip in self.clips) / RATE

    def clip(self, index: int, *, seconds: float, seed: int = 0, fps: float = 25.0) -> SpeechClip:
        """A piece of `seconds` cut from anywhere; the same for the same (seed, index), in any order of calls.

        Tracks are those of the whole prepared clip, so a piece that begins inside a word begins with its mouth open.
        Raises ValueError if the prepared clips are shorter.
        """
        generator = torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**63)
        speech = self[int(torch.randint(len(self), (), generator=generator))]
        frames, all_frames = round(seconds * fps), int(speech.seconds * fps + 1e-6)
        if frames > all_frames:
            raise ValueError(
                f"{seconds} s asked of prepared clips of {speech.seconds} s; prepare longer clips (clip_seconds)"
            )
        first = int(torch.randint(all_frames - frames + 1, (), generator=generator))
        start, length = round(first / fps * RATE), round(seconds * RATE)
        waveform = speech.waveform[start : start + length]
        waveform = torch.nn.functional.pad(waveform, (0, length - len(waveform)))
        return SpeechClip(
            waveform,
            mouth_tracks(speech, fps=fps)[first : first + frames],
            voiced_energy(speech, fps=fps)[first : first + frames],
            speech.voice,
        )

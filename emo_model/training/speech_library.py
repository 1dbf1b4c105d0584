"""Prepared speech: a folder with sound and phonemes, from which training draws clips without any speech engine.

    speech.ogg   all clips one after the other, Opus mono, about 3 kB a second
    speech.json  for each clip: first sample, samples, voice, engine, language, phonemes (IPA, start, end in seconds)
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .synthetic.speech import RATE, Speech, available_voices, sample_speech
from .synthetic.visemes import mouth_tracks, voiced_energy

log = logging.getLogger(__name__)

_SOUND, _INDEX = "speech.ogg", "speech.json"
_GAP_SECONDS = 0.1  # silence between clips in the file, so that the codec does not smear one into the next


@dataclass(frozen=True, eq=False)
class SpeechClip:
    """A piece of prepared speech with its mouth.

    waveform: (T,) float32 at 16 kHz; tracks: (F, 4) as `visemes.TRACKS`; energy: (F,) voiced loudness 0..1.
    """

    waveform: Tensor
    tracks: Tensor
    energy: Tensor
    voice: str


def prepare_speech(folder: str | Path, *, minutes: float, seed: int = 0, held_out: bool = False, clip_seconds: float = 10.0,
                   bit_rate: int = 24000) -> Path:
    """Write `minutes` of synthetic speech (see `sample_speech`) into `folder`; returns the folder.

    Raises RuntimeError if no speech engine is installed.
    """
    import av

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    count = max(1, round(minutes * 60 / clip_seconds))
    clips, written, gap = [], 0, torch.zeros(round(_GAP_SECONDS * RATE))
    with av.open(str(folder / _SOUND), "w", format="ogg") as file:
        stream = file.add_stream("libopus", rate=RATE, layout="mono")
        stream.bit_rate = bit_rate
        fifo = av.AudioFifo()

        def encode(waveform: Tensor | None):
            if waveform is not None:
                samples = (waveform.clamp(-1, 1) * 32767).round().short().numpy()[None]
                frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
                frame.sample_rate = RATE
                fifo.write(frame)
            size = stream.codec_context.frame_size or 320
            while (frame := fifo.read(size, partial=waveform is None)) is not None:
                for packet in stream.encode(frame):
                    file.mux(packet)

        for index in range(count):
            speech = sample_speech(seed * 1_000_003 + index, clip_seconds, held_out=held_out)
            encode(torch.cat([speech.waveform, gap]))
            clips.append({"first": written, "samples": len(speech.waveform), "voice": speech.voice, "engine": speech.engine,
                          "language": speech.language,
                          "phonemes": [[ipa, round(start, 4), round(end, 4)] for ipa, start, end in speech.phonemes]})
            written += len(speech.waveform) + len(gap)
            if (index + 1) % 50 == 0:
                log.info("spoke %d of %d clips", index + 1, count)
        encode(None)
        for packet in stream.encode(None):
            file.mux(packet)
    lines = ",\n".join(json.dumps(clip, ensure_ascii=False, separators=(",", ":")) for clip in clips)
    header = json.dumps({"rate": RATE, "seed": seed, "held_out": held_out, "voices": sorted(available_voices())})
    (folder / _INDEX).write_text(header[:-1] + ',"clips":[\n' + lines + "\n]}\n", encoding="utf-8")
    return folder


class SpeechLibrary:
    """Prepared speech in memory (2 bytes a sample: 75 minutes are 144 MB). Iterating yields whole clips as Speech.

    Raises FileNotFoundError, naming the command that prepares a folder, when `folder` holds no prepared speech.
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        if not (folder / _INDEX).exists():
            raise FileNotFoundError(f"No prepared speech in {folder}: {_INDEX} is missing. Make it with "
                                    "emo_model.training.speech_library.prepare_speech.")
        self.clips = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["clips"]
        needed = self.clips[-1]["first"] + self.clips[-1]["samples"]
        self.samples = _read_opus(folder / _SOUND)  # (all samples,) int16
        if len(self.samples) < needed:
            raise ValueError(f"{folder / _SOUND} holds {len(self.samples)} samples, {_INDEX} names {needed}; prepare it again")

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Speech:
        """The whole prepared clip `index`."""
        clip = self.clips[index]  # an IndexError here ends a for loop
        waveform = self.samples[clip["first"]:clip["first"] + clip["samples"]].float() / 32768
        return Speech(waveform, tuple((ipa, start, end) for ipa, start, end in clip["phonemes"]), clip["voice"], clip["engine"],
                      clip["language"])

    @property
    def seconds(self) -> float:
        return sum(clip["samples"] for clip in self.clips) / RATE

    def clip(self, index: int, *, seconds: float, seed: int = 0, fps: float = 25.0) -> SpeechClip:
        """A piece of `seconds` cut from anywhere; the same for the same (seed, index), whatever was asked before.

        Tracks are those of the whole prepared clip, so a piece that begins inside a word begins with its mouth open.
        Raises ValueError if the prepared clips are shorter.
        """
        generator = torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**63)
        speech = self[int(torch.randint(len(self), (), generator=generator))]
        frames, all_frames = round(seconds * fps), int(speech.seconds * fps + 1e-6)
        if frames > all_frames:
            raise ValueError(f"{seconds} s asked of prepared clips of {speech.seconds} s; prepare longer clips (clip_seconds)")
        first = int(torch.randint(all_frames - frames + 1, (), generator=generator))
        start, length = round(first / fps * RATE), round(seconds * RATE)
        waveform = speech.waveform[start:start + length]
        waveform = torch.nn.functional.pad(waveform, (0, length - len(waveform)))
        return SpeechClip(waveform, mouth_tracks(speech, fps=fps)[first:first + frames],
                          voiced_energy(speech, fps=fps)[first:first + frames], speech.voice)


def _read_opus(path: Path) -> Tensor:
    """(T,) int16 at 16 kHz."""
    import av
    import numpy

    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    pieces = []
    with av.open(str(path)) as file:
        for frame in file.decode(audio=0):
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
        pieces += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
    return torch.from_numpy(numpy.concatenate(pieces))

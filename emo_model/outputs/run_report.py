"""What a finished video is like, read from a sample of its own frames: does the mouth follow the voice, is it still the
same person, did anything change that should not have.

Read before encoding. The face mesh was never trained with the model. One of ten frames costs less than 3 % of a run.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..inputs.faces import Face, FaceFinder
from ..inputs.motion_latents import mouth_opening
from ..types import Fit, Portrait
from .likeness import Likeness

EVERY, OFTEN = 10, 2  # of so many frames one is read: always, and on request
LIKENESS_EVERY = 96  # of so many frames one is compared with the portrait
LEAST = 12  # readings, below which no correlation is told
LEAST_PRESENCE = 0.2  # of the face mesh; a lost face scores nearly 0
STILL = 0.02  # spread of an opening, in eye distances, below which a mouth does not move


@dataclass(frozen=True, eq=False)
class WatchedFace:
    """mesh: (468, 3) of the portrait in pixels of the frames; fit: its head square in them; heard: (F,) the mouth's
    opening that the audio encoder reads from the voice, None without a voice or such an encoder."""

    mesh: Tensor
    fit: Fit
    heard: Tensor | None = None

    @classmethod
    def of(cls, portrait: Portrait, heard: Tensor | None) -> WatchedFace:
        fit = portrait.fit
        mesh = portrait.mesh.cpu() * (fit.side / fit.size) + torch.tensor([fit.left, fit.top, 0.0])
        return cls(mesh, fit, heard)


@dataclass(eq=False)
class _Seen:
    numbers: list[int] = field(default_factory=list)
    openings: list[float] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)
    lost: int = 0


class RunReport:
    """`see` every block of frames in order, then read `result` or `line`.

    still: (H, W, 3) uint8, the portrait's picture; faces: by letter; every: which frames are read.
    """

    def __init__(
        self, finder: FaceFinder, still: np.ndarray, faces: dict[str, WatchedFace], *, fps: float, every: int = EVERY
    ):
        self.finder, self.still, self.faces, self.fps, self.every = finder, still, faces, fps, every
        self.frames, self.changed = 0, 0
        self._seen = {letter: _Seen() for letter in faces}
        self._outside = np.ones(still.shape[:2], dtype=bool)
        for face in faces.values():
            face.fit.inside(torch.from_numpy(self._outside)).zero_()
        try:
            self._likeness, self._no_likeness = Likeness(), ""
        except ModuleNotFoundError as error:
            self._likeness, self._no_likeness = None, f"skipped: {error}"
        self._own: dict[str, np.ndarray] = {}

    def see(self, block: np.ndarray) -> None:
        """block: (F, H, W, 3) uint8, the next frames."""
        for frame in block:
            if self.frames % self.every == self.every // 2:
                self._read(frame)
            if self.frames % LIKENESS_EVERY == LIKENESS_EVERY // 8:
                self.changed += int((frame != self.still).any(-1)[self._outside].sum())
            self.frames += 1

    def _read(self, frame: np.ndarray) -> None:
        pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 127.5 - 1
        for letter, face in self.faces.items():
            low, high = face.mesh[:, :2].amin(0).tolist(), face.mesh[:, :2].amax(0).tolist()
            found = self.finder.follow(pixels, Face((*low, *high), face.mesh, 1.0, 1.0, True))[0]
            seen = self._seen[letter]
            if found.presence < LEAST_PRESENCE:
                seen.lost += 1
                continue
            seen.numbers.append(self.frames)
            seen.openings.append(mouth_opening(found.mesh).item())
            if self._likeness is not None and self.frames // LIKENESS_EVERY >= len(seen.distances):
                if letter not in self._own:
                    self._own[letter] = self._likeness.describe(self.still, face.mesh)
                now = self._likeness.describe(frame, found.mesh)
                seen.distances.append(float(np.linalg.norm(now - self._own[letter])))

    @property
    def result(self) -> dict:
        """frames, seconds, changed_outside: pixels outside of the head squares that differ from the picture, in one of
        96 frames; faces: by letter the frames read and lost, mouth_r and mouth_r_shifted: correlation of the mouth's
        opening with the voice's own and with that of a second later, and likeness: dlib's median distance from the
        portrait, 0.6 counts as the same person. What was not measured is 'skipped: ...' with the reason."""
        return {
            "frames": self.frames,
            "seconds": round(self.frames / self.fps, 3),
            "changed_outside": self.changed,
            "faces": {letter: self._of(letter) for letter in self.faces},
        }

    def _of(self, letter: str) -> dict:
        seen, heard = self._seen[letter], self.faces[letter].heard
        opening, numbers = torch.tensor(seen.openings), torch.tensor(seen.numbers, dtype=torch.long)
        likeness: float | str = self._no_likeness or "skipped: no frame was compared"
        if seen.distances:
            likeness = round(float(np.median(seen.distances)), 3)
        return {
            "frames_read": len(numbers),
            "frames_lost": seen.lost,
            "mouth_r": _correlation(opening, numbers, heard),
            "mouth_r_shifted": _correlation(opening, numbers + round(self.fps), heard),
            "likeness": likeness,
        }

    @property
    def line(self) -> str:
        """One sentence for the node and the log."""
        result, words = self.result, []
        for letter, face in result["faces"].items():
            r, shifted, name = face["mouth_r"], face["mouth_r_shifted"], f"{letter}: " if len(self.faces) > 1 else ""
            if isinstance(r, float):
                later = f", {shifted:.2f} with the voice a second later" if isinstance(shifted, float) else ""
                words.append(f"{name}mouth against voice r {r:.2f}{later} ({face['frames_read']} frames read)")
            if isinstance(face["likeness"], float):
                words.append(f"{name}distance from the portrait {face['likeness']:.2f} (same person: below 0.6)")
        words.append(f"{result['changed_outside']} pixels changed outside of the head")
        return f"{result['frames']} frames, {result['seconds']:.2f} s; {'; '.join(words)}."


def _correlation(opening: Tensor, numbers: Tensor, heard: Tensor | None) -> float | str:
    if heard is None:
        return "skipped: needs a voice and the built-in audio encoder"
    there = numbers < len(heard)
    opening, heard = opening[there], heard[numbers[there]]
    if len(opening) < LEAST:
        return f"skipped: needs {LEAST} frames that were read, there are {len(opening)}"
    if heard.std() < STILL:
        return "skipped: the voice opens no mouth"
    return round(torch.corrcoef(torch.stack([opening, heard]).float())[0, 1].nan_to_num().item(), 3)

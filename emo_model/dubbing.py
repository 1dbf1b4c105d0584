"""Dubbing: a video's lips follow another voice; all else stays. `read_video`, then `Dub.frames`.

Two passes over the file: the first reads the face in every frame and chooses a reference for each scene, the second
draws (`outputs.dubbed_mouth`). The mouth's motion is the audio encoder's own reading of the voice, at each frame's own
time, so that frame rates do not matter.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .checkpoints.mediapipe import load_face_finder
from .checkpoints.native import Bundle
from .inputs.audio import LayersInTime, SoundFile, as_waveform, check_rate, resampled
from .inputs.face_tracks import SIDEWAYS, FaceTracker, FaceTracks
from .inputs.faces import LEAST_HEIGHT, FaceFinder, NoFaceError
from .inputs.head_square import head_square
from .inputs.video_frames import GivenFrames, VideoFrames
from .outputs.dubbed_mouth import SHUT_ENOUGH, DubbedMouth, MouthMotion, teeth_share, usual_width

FADE = 5  # frames over which the new mouth comes and goes where a face is lost or found
LEAST_RUN = 3  # frames; a face that is seen for fewer is left as it is
AT_ONCE = 8  # frames whose mouths are painted together
WIDTH_SECONDS = 2.0  # the usual width of a mouth is the median so far before and after
FACING = 0.15  # how much a turned head counts against a reference, per radian, beside the opening of its mouth
TEETH = 0.2  # how much teeth that show count against it, per share of the place between the lips
TEETH_AT_REST = (
    0.15  # share of teeth in a reference from which its lips do not count as shut; where they are, up to 0.13
)
LEAST_BETTER = 0.004  # by which another frame has to be better than the reference
TRACK_SPREAD = 1.2  # features: standard deviation of their smoothing over time, 24 ms
SHUTS_SECONDS = 0.12  # in which the mouth shuts where the voice ends
LAYER_RATE = 50.0  # features of the audio encoder per second


def read_video(
    bundle: Bundle,
    video: str | Path | BinaryIO | VideoFrames | GivenFrames,
    *,
    face: str | int | Sequence[float] | None = None,
    finder: FaceFinder | None = None,
    on_frame: Callable[[int], None] = lambda done: None,
) -> DubbedVideo:
    """The first pass: find the face in every frame of a video.

    face: 'largest', 'leftmost', 'rightmost' or its number from the left, or its box, as in `talk.speak`; chosen anew in
    every scene. on_frame: called with the number of frames read. Raises NoFaceError if no frame shows a face, OSError
    and ValueError for a video that cannot be read.
    """
    frames = video if isinstance(video, (VideoFrames, GivenFrames)) else VideoFrames(video)
    tracker, tracks, references = FaceTracker(finder or load_face_finder(), face), FaceTracks(), _References()
    times: list[Fraction] = []
    for number, (seconds, picture) in enumerate(frames):
        mesh, is_cut = tracker.read(picture)
        tracks.append(mesh, is_cut=is_cut)
        times.append(seconds)
        if mesh is not None and (mesh[10] - mesh[152]).norm() >= LEAST_HEIGHT:
            references.offer(tracks.shots[number], tracks.openings[number], tracks.yaws[number], picture, mesh)
        on_frame(number + 1)
    references.end()
    if not references.kept:
        raise NoFaceError(
            f"No face was detected in the {len(times)} frames of {frames.name} ({frames.size[1]}x{frames.size[0]}). "
            f"Use a video in which a face of at least {LEAST_HEIGHT:.0f} pixels looks at the camera, or state its box"
        )
    return DubbedVideo(bundle, frames, tracks, references, times)


class _References:
    """For each scene the part of a frame around the head whose mouth is most shut, on the disk."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="emo-dub-")
        self.kept: dict[int, Path] = {}
        self.openings: dict[int, float] = {}  # of the mouths of those
        self.teeth: dict[int, float] = {}  # the same, `teeth_share`
        self.shot, self.best, self.held = -1, math.inf, None

    def offer(self, shot: int, opening: float, yaw: float, picture: np.ndarray, mesh: Tensor) -> None:
        if shot != self.shot:
            self.end()
            self.shot, self.best = shot, math.inf
        teeth = teeth_share(picture, mesh)
        score = opening + TEETH * teeth + FACING * abs(yaw)
        if score > self.best - LEAST_BETTER:
            return
        self.best, self.openings[shot], self.teeth[shot] = score, opening, teeth
        height, width = picture.shape[:2]
        fit = head_square(mesh, width=width, height=height, size=1)
        top, left = max(0, fit.top), max(0, fit.left)
        part = picture[top : max(top, fit.top + fit.side), left : max(left, fit.left + fit.side)]
        self.held = part.copy(), (mesh - mesh.new_tensor([left, top, 0])).numpy()

    def end(self) -> None:
        if self.held is not None:
            self.kept[self.shot] = Path(self.folder.name) / f"{self.shot}.npz"
            np.savez(self.kept[self.shot], picture=self.held[0], mesh=self.held[1])
        self.held = None

    def read(self, shot: int) -> tuple[np.ndarray, Tensor]:
        with np.load(self.kept[shot]) as file:
            return file["picture"], torch.from_numpy(file["mesh"])


@dataclass(frozen=True, eq=False)
class DubbedVideo:
    """A video whose face is known in every frame. times: seconds of its frames since the first."""

    bundle: Bundle
    video: VideoFrames | GivenFrames
    tracks: FaceTracks
    references: _References
    times: list[Fraction]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.video.size

    @property
    def summary(self) -> str:
        """One sentence for the log."""
        seen, shots = sum(self.tracks.is_seen), self.tracks.shots[-1] + 1
        where = "all of them" if seen == len(self.times) else f"{seen} of them, the others stay as they are"
        return (
            f"{len(self.times)} frames of {self.size[1]}x{self.size[0]} in {shots} scene{'s' * (shots > 1)}; the face "
            f"is seen in {where}."
        )

    @property
    def warnings(self) -> list[str]:
        """What will not look good in the result: a sentence each, for the user."""
        shots = self.tracks.shots[-1] + 1
        openings, teeth = self.references.openings, self.references.teeth
        torn = sum(openings[shot] > SHUT_ENOUGH or teeth[shot] > TEETH_AT_REST for shot in openings)
        turned = sum(abs(yaw) > SIDEWAYS[0] for yaw in self.tracks.yaws)
        where = "The" if shots == 1 else f"In {torn} of the {shots} scenes the"
        found = []
        if torn:
            found.append(
                f"{where} mouth never shuts or always shows teeth, so its lips may look torn; use a part of the video "
                "with a moment at rest."
            )
        if turned:
            found.append(
                f"In {turned} of the {len(self.times)} frames the head is turned by more than "
                f"{math.degrees(SIDEWAYS[0]):.0f} degrees; the further, the more the mouth stays the video's own."
            )
        return found

    def count(self, seconds: float) -> int:
        """Frames of the video with a voice of so many seconds: the last one is held while the voice goes on."""
        end = self.times[-1] + 1 / self.video.rate
        return len(self.times) + max(0, round((Fraction(seconds) - end) * self.video.rate))

    def frames(
        self, voice: str | Path | tuple[Tensor, int] | SoundFile, *, strength: float = 1.0
    ) -> Iterator[tuple[Fraction, np.ndarray]]:
        """The second pass: seconds since the first frame, and the frame (H, W, 3) uint8, a few of them in memory.

        voice: a file, or a waveform (C, T) and its sample rate, begins with the first frame. Where it ends before the
        video, the mouth stays shut; where it goes on, the last frame is held. strength: factor of the mouth's motion.
        Frames without the face, and everything outside the lower face, are the video's own, bit for bit.
        """
        mouth = MouthTrack(self.bundle, voice)
        shares, widths = self._shares(), self._own_widths()
        runs = {first: (first, last) for first, last in self.tracks.runs() if last - first >= LEAST_RUN}
        run, patch, waiting = None, None, []
        last_mesh = None

        def draw(group: list[tuple[Fraction, np.ndarray, Tensor | None, float, float]]) -> None:
            moving = [number for number, one in enumerate(group) if one[2] is not None and one[3] > 0]
            if moving and patch is not None:
                motion = mouth.at([seconds for seconds, *_ in group], 1 / self.video.rate, strength)
                inside = patch.inside(motion)
                for number in moving:
                    _, picture, mesh, share, wide = group[number]
                    patch.draw(picture, mesh, motion, inside, number=number, own_width=wide, share=share)

        for number, (_, picture) in enumerate(self.video):
            if number >= len(self.times):
                break
            is_new = number == 0 or self.tracks.shots[number] != self.tracks.shots[number - 1]
            if is_new or len(waiting) == AT_ONCE:
                draw(waiting)
                yield from ((one[0], one[1]) for one in waiting)
                waiting = []
            if is_new:
                shot = self.tracks.shots[number]
                patch = self._patch(shot) if shot in self.references.kept else None
            run = runs.get(number, run)
            mesh = None
            if run is not None and run[0] <= number < run[1]:
                mesh = self.tracks.smoothed(number, number + 1, run)[0]
            last_mesh = mesh
            waiting.append((self.times[number], picture, mesh, float(shares[number]), float(widths[number])))
        draw_last = waiting[-1] if waiting else None
        held = None if draw_last is None else draw_last[1].copy()
        draw(waiting)
        yield from ((one[0], one[1]) for one in waiting)
        more = self.count(mouth.seconds) - len(self.times)
        for first in range(0, more, AT_ONCE):
            seconds = [
                self.times[-1] + (number + 1) / self.video.rate for number in range(first, min(first + AT_ONCE, more))
            ]
            group = [(one, held.copy(), last_mesh, float(shares[-1]), float(widths[-1])) for one in seconds]
            draw(group)
            yield from ((one[0], one[1]) for one in group)

    def _patch(self, shot: int) -> DubbedMouth:
        picture, mesh = self.references.read(shot)
        device = next(self.bundle.motion_decoder.parameters()).device
        return DubbedMouth(self.bundle.motion_decoder, self.bundle.config, picture, mesh, device=device)

    def _shares(self) -> np.ndarray:
        """(frames,): how far the new mouth is drawn, falling to 0 where the face is lost, small or turned away."""
        count, shares = len(self.tracks), np.zeros(len(self.tracks))
        for first, last in self.tracks.runs():
            yaws = np.abs(np.array(self.tracks.yaws[first:last]))
            near, far = SIDEWAYS
            here = np.clip((far - yaws) / (far - near), 0, 1)
            place = np.arange(last - first)
            if first > 0 and self.tracks.shots[first - 1] == self.tracks.shots[first]:
                here = np.minimum(here, (place + 1) / (FADE + 1))
            if last < count and self.tracks.shots[last] == self.tracks.shots[last - 1]:
                here = np.minimum(here, (last - first - place) / (FADE + 1))
            shares[first:last] = here * here * (3 - 2 * here)
        return shares

    def _own_widths(self) -> np.ndarray:
        """(frames,): how much wider than usual the mouth is in each frame, opening left out, distances of the eyes."""
        wider = np.zeros(len(self.tracks))
        reach = max(1, round(WIDTH_SECONDS * float(self.video.rate)))
        for first, last in self.tracks.runs():
            opening, width = (
                torch.tensor(values[first:last].tolist()) for values in (self.tracks.openings, self.tracks.widths)
            )
            shut = usual_width(opening, width)
            padded = F.pad(shut[None, None], (reach, reach), mode="replicate")[0, 0]
            parts = padded.unfold(0, 2 * reach + 1, 1).split(4096)
            usual = torch.cat([part.median(1).values for part in parts])
            kernel = torch.tensor([0.25, 0.5, 0.25])
            fine = F.conv1d(F.pad((shut - usual)[None, None], (1, 1), mode="replicate"), kernel[None, None])[0, 0]
            wider[first:last] = fine.numpy()
        return wider


class MouthTrack:
    """What the mouth does at any time of a voice, by the model's own audio encoder; encoded as far as it is asked for.

    seconds: length of the voice. Raises OSError and ValueError for a voice that cannot be read.
    """

    def __init__(self, bundle: Bundle, voice: str | Path | tuple[Tensor, int] | SoundFile):
        if isinstance(voice, tuple):
            check_rate(voice[1], "the voice")
            voice = as_waveform(voice[0]), voice[1]
            samples, rate = voice[0].shape[1], voice[1]
        else:
            voice = voice if isinstance(voice, SoundFile) else SoundFile(voice)
            samples, rate = voice.samples, voice.rate
        if not samples:
            raise ValueError("the voice contains no sound (0 samples); use another file")
        self.seconds, self.encoder = samples / rate, bundle.audio_encoder
        device = next(bundle.audio_encoder.parameters()).device
        given = voice if isinstance(voice, tuple) else (voice,)
        self.layers = LayersInTime(lambda piece: bundle.audio_encoder(piece.to(device)), *resampled(*given))

    def at(self, times: Sequence[Fraction], length: Fraction, strength: float = 1.0) -> MouthMotion:
        """At the middles of frames that begin at `times` and last `length` seconds."""
        middle = torch.tensor([float(seconds + length / 2) for seconds in times], dtype=torch.float64)
        steps = torch.arange(-3, 4)
        kernel = torch.exp(-0.5 * (steps / TRACK_SPREAD) ** 2)
        place = ((middle * LAYER_RATE - 0.5)[:, None] + steps).clamp(0, len(self.layers) - 1)  # (F, 7)
        low = place.floor().long()
        layers = self.layers.until(int(low.max()) + 2)
        high = (low + 1).clamp(max=len(self.layers) - 1)
        near = [self.encoder.mouth(layers[at]) for at in (low, high)]  # (F, 7, tracks) each
        values = torch.lerp(*near, (place - low).float()[..., None])
        values = (values * (kernel / kernel.sum())[:, None]).sum(1)
        heard = ((self.seconds - middle) / SHUTS_SECONDS + 1).clamp(0, 1).float()[:, None]
        opening, width, closure, tuck = (values * heard).unbind(1)
        return MouthMotion(
            (strength * opening).clamp(0, 1), (strength * width).clamp(-1, 1), closure.clamp(0, 1), tuck.clamp(0, 1)
        )

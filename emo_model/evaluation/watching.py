"""Any video, watched once from its first frame to its last: what the face mesh reads in it, and samples of its frames.

Memory does not grow with the frames: they are read in blocks, and what is kept of one are some numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..inputs.face_geometry import OVAL
from ..inputs.faces import FaceFinder, NoFaceError, as_face, choose_face
from ..inputs.head_square import head_square
from ..inputs.portrait import mesh_in_square
from ..inputs.video_frames import VideoFrames
from ..outputs.likeness import Likeness
from .metrics.picture import lab
from .metrics.sharpness import LIPS, area
from .reading import SIZE, SLACK, Reading, changes, eye_looks

log = logging.getLogger(__name__)

Observer = Callable[[np.ndarray, Tensor, int], None]
"""Called with frames (F, H, W, 3) uint8, their meshes (F, 468, 3) in pixels, and the number of the first of them."""

BLOCK = 8  # frames that are read at once
REACH, BLOCK_PIXELS = 1.6, 16  # longer sides of the face around its centre that are looked at; see `near`
SEGMENT = 500  # frames whose meshes are kept until they are read
WANDERED = 0.2  # widths of the face that it may move before its place is followed from anew
LEAST_PRESENCE = 0.2  # of the mesh network, below which the face is lost
SEARCH_SECONDS = 0.4  # between searches for a face that is lost
MOST_BRIDGED = 0.2  # share of the frames that may be without a face
SAMPLES = 48  # frames that are looked at closely, at most; at least half as many in a long video
SAMPLES_A_SECOND = 4
THUMBNAIL = 160  # pixels of its height
SURROUNDINGS = 1.9  # times the face's oval: hair and neck belong to the head
LEAST_OUTSIDE = 0.02  # share of the picture that must be outside of that


@dataclass(frozen=True, eq=False)
class Sample:
    """One frame, looked at closely. identity: dlib's description (128,) or None; colour: (3,) L*a*b* of the skin;
    outside: mean absolute change, of 255, outside of the head since the first sample, nan where nothing is outside."""

    number: int
    thumbnail: np.ndarray
    identity: np.ndarray | None
    colour: np.ndarray
    outside: float


@dataclass(frozen=True, eq=False)
class Watched:
    """reading: of the frames from `first` on; frames: of the whole video; bridged: frames in between without a face,
    which count with the last one seen; still, mesh: the first frame with a face, and its mesh in pixels."""

    reading: Reading
    fps: float
    frames: int
    first: int
    bridged: int
    samples: list[Sample]
    still: np.ndarray
    mesh: Tensor


class Watcher:
    """Follows one face. choice: which one, where there are several (`choose_face`); observers: called with every
    block from the first frame with a face on."""

    def __init__(
        self,
        finder: FaceFinder,
        *,
        choice: str = "largest",
        likeness: Likeness | None = None,
        observers: Sequence[Observer] = (),
    ):
        self.finder, self.choice, self.likeness, self.observers = finder, choice, likeness, observers

    def watch(self, video: VideoFrames) -> Watched:
        """Raises NoFaceError if the video has no face, or none in more than a fifth of its frames."""
        state, frames = _State(video), 0
        for block in video.blocks(BLOCK):
            frames += len(block)
            if state.start is None:
                block = self._first(block, state, video)
            if len(block):
                meshes = self._follow(block, state)
                state.add(block, meshes)
                self._look(block, meshes, state)
                for observe in self.observers:
                    observe(block, meshes, state.first + state.count - len(block))
        if state.start is None:
            raise NoFaceError(
                f"no face was found in {video.name} ({frames} frames of {video.size[1]}x{video.size[0]}); choose a "
                "video with a clearly visible face"
            )
        if state.bridged > MOST_BRIDGED * (frames - state.first):
            raise NoFaceError(
                f"{state.bridged} of the {frames - state.first} frames of {video.name} show no face; cut the "
                "video to where one is seen"
            )
        state.finish()
        return Watched(
            _joined(state.parts), state.fps, frames, state.first, state.bridged, state.samples, state.still, state.rest
        )

    def _first(self, block: np.ndarray, state: _State, video: VideoFrames) -> np.ndarray:
        """The block from the first frame with a face on; empty without one. Where there is none, frames are searched
        at intervals."""
        for place, frame in enumerate(block):
            if state.first % max(1, round(SEARCH_SECONDS * video.rate)) == 0 and self._search(frame, state):
                state.begin(frame)
                return block[place:]
            state.first += 1
        return block[:0]

    def _search(self, frame: np.ndarray, state: _State) -> bool:
        try:
            faces = self.finder.find(pixels_of(frame[None]))
            face = choose_face(faces, self.choice)
        except NoFaceError:
            return False
        if state.start is not None:  # of the face that was lost, not another one
            sure = [one for one in faces if one.is_sure]
            face = min(sure, key=lambda one: (_centre(one.mesh) - _centre(state.start)).norm())
        state.start = face.mesh
        return True

    def _follow(self, block: np.ndarray, state: _State) -> Tensor:
        """Meshes (F, 468, 3). The face is followed from one place until it has wandered away from there: a mesh that
        is read from ever other squares trembles more."""
        found = []
        while len(found) < len(block):
            left, top, right, bottom = near(state.start, block.shape[1:3])
            part = pixels_of(block[len(found) :, top:bottom, left:right])
            shift = state.start.new_tensor([left, top, 0])
            rest = self.finder.follow(part, as_face(state.start - shift))
            rest = [replace(face, mesh=face.mesh + shift) for face in rest]
            width = (state.start[:, 0].amax() - state.start[:, 0].amin()).item()
            centre, moved = _centre(state.start), 0
            for face in rest:
                far = (_centre(face.mesh) - centre).norm().item() > WANDERED * width
                if face.presence < LEAST_PRESENCE or far:
                    break
                moved += 1
            found += [face.mesh for face in rest[:moved]]
            if moved:
                state.lost, state.last = 0, found[-1]
            if len(found) == len(block):
                break
            face = rest[moved]
            if face.presence >= LEAST_PRESENCE and not torch.equal(state.start, state.last):
                state.start = state.last
                continue
            if face.presence >= LEAST_PRESENCE:  # a jump of the picture
                state.start = state.last = face.mesh
                continue
            due = state.lost % max(1, round(SEARCH_SECONDS * state.fps)) == 0
            state.lost += 1
            if due and self._search(block[len(found)], state):
                state.last = state.start
            else:
                state.bridged += 1
            found.append(state.last)
        return torch.stack(found)

    def _look(self, block: np.ndarray, meshes: Tensor, state: _State) -> None:
        for number in range(state.count - len(block), state.count):
            if number % state.stride:
                continue
            frame, mesh = block[number - state.count], meshes[number - state.count]
            size = frame.shape[:2]
            skin = area(mesh, OVAL, size, share=0.9) & ~area(mesh, LIPS, size, share=1.2)
            colour = lab(frame[skin].mean(0)) if skin.any() else np.full(3, np.nan)
            outside = ~(area(mesh, OVAL, size, share=SURROUNDINGS) | state.around)
            apart = np.nan
            if outside.mean() >= LEAST_OUTSIDE:
                apart = float(np.abs(frame[outside].astype(np.int16) - state.still[outside]).mean())
            about = None if self.likeness is None else self.likeness.describe(frame, mesh)
            picture = Image.fromarray(frame)
            picture.thumbnail((4 * THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
            state.keep(Sample(state.first + number, np.asarray(picture), about, colour, apart))


@dataclass(eq=False)
class _State:
    """What is known of a video so far."""

    video: VideoFrames
    start: Tensor | None = None  # where the face is followed from
    last: Tensor | None = None
    first: int = 0
    lost: int = 0  # frames since the face was lost
    bridged: int = 0
    count: int = 0
    samples: list[Sample] = field(default_factory=list)
    parts: list[Reading] = field(default_factory=list)

    def begin(self, still: np.ndarray) -> None:
        self.fps = float(self.video.rate)
        self.stride = max(1, round(self.fps / SAMPLES_A_SECOND))
        self.still, self.rest, self.last = still.copy(), self.start, self.start
        high, wide = still.shape[:2]
        self.fit = head_square(self.rest, width=wide, height=high, size=SIZE)
        self.around = area(self.rest, OVAL, (high, wide), share=SURROUNDINGS)
        self._meshes, self._looks, self._before = [], [], self.rest.new_zeros(0, 468, 3)

    def add(self, block: np.ndarray, meshes: Tensor) -> None:
        self.count += len(block)
        self._meshes.append(meshes)
        left, top, right, bottom = near(torch.cat(list(meshes)), block.shape[1:3])
        looks = eye_looks(block[:, top:bottom, left:right], meshes - meshes.new_tensor([left, top, 0]), slack=SLACK)
        self._looks.append(looks)
        if sum(map(len, self._meshes)) >= SEGMENT:
            self.finish()

    def finish(self) -> None:
        """Read the meshes that wait; the last two begin the next segment, whose trembling they are part of."""
        if not self._meshes:
            return
        meshes = mesh_in_square(torch.cat(self._meshes), self.fit)
        rest, looks = mesh_in_square(self.rest, self.fit), torch.cat(self._looks)
        reading = Reading.of(torch.cat([self._before, meshes]), rest)
        known = len(self._before)
        tracks = {one.name: getattr(reading, one.name)[known * (one.name != "shake") :] for one in fields(reading)}
        self.parts.append(Reading(**tracks | {"eyes": changes(looks, slack=SLACK)}))
        self._before = torch.cat([self._before, meshes])[-2:]
        self._meshes, self._looks = [], []

    def keep(self, sample: Sample) -> None:
        self.samples.append(sample)
        if len(self.samples) > SAMPLES:
            self.samples, self.stride = self.samples[::2], 2 * self.stride


def pixels_of(frames: np.ndarray) -> Tensor:
    """(F, H, W, 3) uint8 -> (F, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1


def near(mesh: Tensor, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the part of a picture of `size` (H, W) that matters to a mesh (N, 3) near by.

    Its corner lies on whole blocks of pixels, so that what is averaged before it is read is the same everywhere.
    """
    low, high = mesh[:, :2].amin(0), mesh[:, :2].amax(0)
    reach = REACH * (high - low).amax()
    corners = torch.cat([(low + high) / 2 - reach, (low + high) / 2 + reach]).tolist()
    left, top = (max(0, int(edge) // BLOCK_PIXELS * BLOCK_PIXELS) for edge in corners[:2])
    right, bottom = (min(length, int(edge) + 1) for edge, length in zip(corners[2:], size[::-1], strict=True))
    return (left, top, right, bottom) if left < right and top < bottom else (0, 0, size[1], size[0])


def _centre(mesh: Tensor) -> Tensor:
    return (mesh[:, :2].amin(0) + mesh[:, :2].amax(0)) / 2


def _joined(parts: Sequence[Reading]) -> Reading:
    return Reading(**{one.name: torch.cat([getattr(part, one.name) for part in parts]) for one in fields(Reading)})

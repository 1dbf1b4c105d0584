"""Judges that need weights of the user's: SyncNet, FID, FVD, F-SIM, E-FID, LPIPS. Without a file there is no number."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..inputs.faces import Regions, read_squares
from .metrics import syncnet as sync_metric
from .metrics.frechet import Moments
from .networks import syncnet
from .networks.lpips import LEAST, Lpips, load_lpips
from .networks.scripted import Scripted
from .watching import Observer, pixels_of

CLIP, CLIP_SIZE = 16, 224  # frames and pixels of what FVD's network sees
LEAST_FRAMES, LEAST_CLIPS = 2048, 256  # below which a Frechet distance is mostly that of the small sample
FACE, FACE_SIDE = 224, 1.3  # pixels that E-FID's network sees, and the square in longer sides of the face's box
EXPRESSION = slice(80, 144)  # of the 257 coefficients of Deep3DFaceRecon
# ArcFace's template at 112 pixels: eyes, nose, corners of the mouth, as insightface has it; and the mesh's points
ARCFACE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
ARCFACE_POINTS = ((33, 133), (362, 263), (4,), (61,), (291,))
NEEDS = {
    "syncnet": "needs --syncnet FILE (syncnet_v2.model, get it from https://www.robots.ox.ac.uk/~vgg/software/lipsync)",
    "inception": "needs --inception FILE (inception-2015-12-05.pt, get it from NVIDIA's stylegan2-ada-pytorch metrics)",
    "i3d": "needs --i3d FILE (i3d_torchscript.pt, get it from https://github.com/universome/stylegan-v or LatentSync's "
    "'auxiliary' folder on Hugging Face)",
    "arcface": "needs --arcface FILE (a TorchScript of an ArcFace network, see docs/evaluation.md)",
    "expression": "needs --expression FILE (a TorchScript of Deep3DFaceRecon's network, see docs/evaluation.md)",
    "lpips": "needs --lpips ALEXNET HEADS (torchvision's alexnet-owt-7be5be79.pth, and alex.pth of the package lpips)",
}
OF = {  # which metrics come from which files
    "syncnet": ("syncnet_confidence", "syncnet_distance", "syncnet_delay"),
    "inception": ("fid",),
    "i3d": ("fvd",),
    "arcface": ("fsim",),
    "expression": ("efid",),
    "lpips": ("lpips",),
}


@dataclass(frozen=True)
class Weights:
    """Files that the user has; lpips: AlexNet's and the heads'."""

    syncnet: Path | None = None
    inception: Path | None = None
    i3d: Path | None = None
    arcface: Path | None = None
    expression: Path | None = None
    lpips: tuple[Path, Path] | None = None

    def __iter__(self):
        return ((one.name, getattr(self, one.name)) for one in fields(self))

    @property
    def skipped(self) -> dict[str, str]:
        """Why a metric has no value, by its key."""
        return {key: NEEDS[name] for name, path in self if path is None for key in OF[name]}

    @property
    def checksums(self) -> dict[str, dict]:
        given = [(name, one) for name, path in self if path for one in (path if isinstance(path, tuple) else (path,))]
        return {f"{name}: {path.name}": {"sha256": sha256(path), "bytes": path.stat().st_size} for name, path in given}


class Judges:
    """The networks, loaded once, and the moments of one set of videos and of its references."""

    def __init__(self, weights: Weights):
        self.weights = weights
        self.syncnet = syncnet.load_syncnet(weights.syncnet) if weights.syncnet else None
        self.inception = Scripted(weights.inception, return_features=True) if weights.inception else None
        options = {"rescale": True, "resize": True, "return_features": True}
        self.i3d = Scripted(weights.i3d, **options) if weights.i3d else None
        self.arcface = Scripted(weights.arcface) if weights.arcface else None
        self.expression = Scripted(weights.expression) if weights.expression else None
        self.lpips: Lpips | None = load_lpips(*weights.lpips) if weights.lpips else None

    def observers(self, moments: dict[str, Moments]) -> list[Observer]:
        """For a watcher: what fills the moments "fid", "fvd" and "efid" of a set."""
        made = []
        if self.inception:
            made.append(lambda frames, meshes, number: self._add(moments, "fid", self.inception, _bytes(frames)))
        if self.i3d:
            made.append(Clips(lambda clip: self._add(moments, "fvd", self.i3d, clip)))
        if self.expression:
            made.append(
                lambda frames, meshes, number: self._add(moments, "efid", self._expressions, faces(frames, meshes))
            )
        return made

    def _expressions(self, pictures: Tensor) -> Tensor:
        found = self.expression(pictures)
        return found[:, EXPRESSION] if found.shape[1] == 257 else found

    @staticmethod
    def _add(moments: dict[str, Moments], name: str, network: Callable[[Tensor], Tensor], values: Tensor) -> None:
        moments.setdefault(name, Moments()).add(network(values))


class Clips:
    """Gathers frames to clips of 16 that do not overlap, (1, 3, 16, 224, 224) in 0..255."""

    def __init__(self, take: Callable[[Tensor], None]):
        self.take, self.waiting = take, []

    def __call__(self, frames: np.ndarray, meshes: Tensor, number: int) -> None:
        for frame in _bytes(frames):
            small = F.interpolate(frame[None].float(), (CLIP_SIZE, CLIP_SIZE), mode="bilinear", antialias=True)
            self.waiting.append(small[0])
            if len(self.waiting) == CLIP:
                self.take(torch.stack(self.waiting, 1)[None])
                self.waiting = []


class LipsAndVoice:
    """SyncNet along one video. waveform: (T,) at 16 kHz from the video's time 0; fps: of the video. The network's own
    rate is 25 frames per second: of another rate frames are repeated or left out."""

    def __init__(self, network: syncnet.SyncNet, waveform: Tensor, *, fps: float):
        self.network, self.fps, self.mfcc = network, fps, syncnet.mfcc(waveform)
        self.windows = max(0, (self.mfcc.shape[1] - syncnet.STEPS) // 4 + 1)
        self.seen, self.shown, self.begun = None, [], 0  # frames of the video; squares of the window that is open
        self.total, self.count, self._known = torch.zeros(2 * sync_metric.REACH + 1), 0, {}

    def __call__(self, frames: np.ndarray, meshes: Tensor, number: int) -> None:
        if self.seen is None:
            self.seen, self.begun = number, max(0, math.ceil(number / self.fps * syncnet.FPS - 0.5))
        for frame, mesh in zip(frames, meshes, strict=True):
            due = 0
            while (self.begun + len(self.shown) + due + 0.5) / syncnet.FPS * self.fps < self.seen + 1:
                due += 1
            self.seen += 1
            if due:
                left, top, side = syncnet.square(mesh)
                around = Regions(
                    torch.tensor([[left + side / 2, top + side / 2]]), torch.tensor([side]), torch.zeros(1)
                )
                picture = read_squares(pixels_of(frame[None]), around, syncnet.SIZE)[0].flip(0)
                self.shown += [(picture + 1) * 127.5] * due
            while len(self.shown) >= syncnet.WINDOW:
                self._judge(torch.stack(self.shown[: syncnet.WINDOW], 1))
                self.shown, self.begun = self.shown[1:], self.begun + 1

    @torch.no_grad()
    def _judge(self, frames: Tensor) -> None:
        window = self.begun
        if window >= self.windows:
            return
        heard = torch.stack([self._voice(window + shift) for shift in range(-sync_metric.REACH, sync_metric.REACH + 1)])
        self.total += sync_metric.distances(self.network.lips(frames[None]), heard)[0]
        self.count += 1

    def _voice(self, window: int) -> Tensor:
        if not 0 <= window < self.windows:
            return torch.zeros(1024)
        if window not in self._known:
            self._known = {key: value for key, value in self._known.items() if key > window - 3 * sync_metric.REACH}
            part = self.mfcc[:, 4 * window : 4 * window + syncnet.STEPS]
            self._known[window] = self.network.voice(part[None, None])[0]
        return self._known[window]

    @property
    def found(self) -> dict[str, float]:
        if not self.count:
            return {}
        certain, apart, offset = sync_metric.confidence(self.total / self.count)
        return {"syncnet_confidence": certain, "syncnet_distance": apart, "syncnet_delay": 1000 * offset / syncnet.FPS}


class Resemblance:
    """F-SIM: mean cosine of ArcFace's descriptions of frames and of a portrait (its picture and mesh), or of the first
    frame."""

    def __init__(self, network: Scripted, portrait: tuple[np.ndarray, Tensor] | None, *, every: int):
        self.network, self.every, self.values = network, every, []
        self._own = None if portrait is None else self._describe(portrait[0][None], portrait[1][None])

    def _describe(self, frames: np.ndarray, meshes: Tensor) -> Tensor:
        return F.normalize(self.network(aligned(frames, meshes)), dim=1)

    def __call__(self, frames: np.ndarray, meshes: Tensor, number: int) -> None:
        chosen = [k for k in range(len(frames)) if (number + k) % self.every == 0]
        if not chosen:
            return
        found = self._describe(frames[chosen], meshes[chosen])
        if self._own is None:
            self._own, found = found[:1], found[1:]
        self.values += (found @ self._own.T).flatten().tolist()

    @property
    def found(self) -> dict[str, float]:
        return {"fsim": sum(self.values) / len(self.values)} if self.values else {}


def aligned(frames: np.ndarray, meshes: Tensor) -> Tensor:
    """frames (F, H, W, 3) uint8, meshes (F, 468, 3) -> (F, 3, 112, 112) in [-1, 1], placed as ArcFace expects faces."""
    wanted = torch.tensor(ARCFACE)
    centre, side, angle = [], [], []
    for mesh in meshes:
        points = torch.stack([mesh[list(one), :2].float().mean(0) for one in ARCFACE_POINTS])
        # the similarity from template to picture, as complex numbers: points = scale * template + shift
        x, y = torch.view_as_complex(wanted.clone()), torch.view_as_complex(points.contiguous())
        scale = ((y - y.mean()) * (x - x.mean()).conj()).sum() / (x - x.mean()).abs().square().sum()
        middle = scale * (torch.complex(torch.tensor(56.0), torch.tensor(56.0)) - x.mean()) + y.mean()
        centre.append([middle.real.item(), middle.imag.item()])
        side.append(112 * scale.abs().item())
        angle.append(scale.angle().item())
    around = Regions(torch.tensor(centre), torch.tensor(side), torch.tensor(angle))
    return read_squares(pixels_of(frames), around, 112)


def faces(frames: np.ndarray, meshes: Tensor) -> Tensor:
    """frames (F, H, W, 3) uint8, meshes (F, 468, 3) -> (F, 3, 224, 224) in [0, 1], upright squares around the faces."""
    low, high = meshes[..., :2].amin(1), meshes[..., :2].amax(1)
    around = Regions((low + high) / 2, FACE_SIDE * (high - low).amax(1), torch.zeros(len(meshes)))
    return (read_squares(pixels_of(frames), around, FACE) + 1) / 2


@torch.no_grad()
def perceptual(network: Lpips, one: np.ndarray, other: np.ndarray) -> float:
    """LPIPS of two pictures (H, W, 3) uint8 of the same size; nan where they are too small for AlexNet."""
    if min(one.shape[:2]) < LEAST:
        return float("nan")
    return network(pixels_of(one[None]), pixels_of(other[None])).item()


def _bytes(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)


def sha256(path: Path) -> str:
    whole = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            whole.update(block)
    return whole.hexdigest()

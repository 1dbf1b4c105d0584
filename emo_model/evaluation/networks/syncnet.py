"""SyncNet (Chung and Zisserman, "Out of time", 2016): do lips and voice belong together? Reads `syncnet_v2.model`.

Differs from the published pipeline: the face's square is put around our face mesh, not around S3FD's boxes smoothed
over 13 frames, so numbers agree with published ones in kind, not to the last digit.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from ...checkpoints.files import open_tensors

FPS, SIZE, WINDOW = 25.0, 224, 5  # frames per second, pixels of the square, frames that are seen at once
MARGIN = 0.4  # of the face's box, around it and twice below it
STEPS = 4 * WINDOW  # MFCC vectors that are heard with them


class SyncNet(nn.Module):
    """Names of parameters are those of the published file."""

    def __init__(self):
        super().__init__()

        def flat(inside: int, outside: int, kernel, stride=1, padding=0) -> list[nn.Module]:
            return [nn.Conv2d(inside, outside, kernel, stride, padding), nn.BatchNorm2d(outside), nn.ReLU()]

        def deep(inside: int, outside: int, kernel, stride=(1, 1, 1), padding=(0, 0, 0)) -> list[nn.Module]:
            return [nn.Conv3d(inside, outside, kernel, stride, padding), nn.BatchNorm3d(outside), nn.ReLU()]

        def head() -> nn.Sequential:
            return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))

        self.netcnnaud = nn.Sequential(
            *flat(1, 64, 3, padding=1),
            nn.MaxPool2d(1, 1),
            *flat(64, 192, 3, padding=1),
            nn.MaxPool2d(3, (1, 2)),
            *flat(192, 384, 3, padding=1),
            *flat(384, 256, 3, padding=1),
            *flat(256, 256, 3, padding=1),
            nn.MaxPool2d(3, 2),
            *flat(256, 512, (5, 4)),
        )
        self.netcnnlip = nn.Sequential(
            *deep(3, 96, (5, 7, 7), (1, 2, 2)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *deep(96, 256, (1, 5, 5), (1, 2, 2), (0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *deep(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            *deep(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            *deep(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *deep(256, 512, (1, 6, 6)),
        )
        self.netfcaud, self.netfclip = head(), head()

    def lips(self, frames: Tensor) -> Tensor:
        """frames (B, 3, 5, 224, 224), blue first, 0..255 -> (B, 1024)."""
        return self.netfclip(self.netcnnlip(frames).flatten(1))

    def voice(self, mfcc: Tensor) -> Tensor:
        """mfcc (B, 1, 13, 20) -> (B, 1024)."""
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))


def load_syncnet(path: str | Path) -> SyncNet:
    """safetensors, or torch's own file of weights alone: nothing in it is executed. Raises OSError and ValueError."""
    file = open_tensors(path)
    network = SyncNet()
    wanted = network.state_dict()
    missing = [name for name, value in wanted.items() if file.shapes.get(name) != tuple(value.shape)]
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(
            f"{file.path.name} is not SyncNet's syncnet_v2.model: it has no {missing[0]} of "
            f"{tuple(wanted[missing[0]].shape)}"
        )
    network.load_state_dict({name: file.read(name).float() for name in wanted if name in file.shapes}, strict=False)
    return network.eval().requires_grad_(False)


def mfcc(waveform: Tensor) -> Tensor:
    """waveform (T,) at 16 kHz in [-1, 1] -> (13, steps), 100 a second.

    As python_speech_features 0.6 computes it from 16 bit samples, which SyncNet was trained with: windows of 25 ms
    without a taper, pre-emphasis 0.97, 26 triangles between 0 and 8 kHz, the first number the logarithm of the energy.
    """
    samples = (waveform.double() * 32768).round()
    samples = torch.cat([samples[:1], samples[1:] - 0.97 * samples[:-1]])
    count = 1 + max(0, math.ceil((len(samples) - 400) / 160))
    samples = nn.functional.pad(samples, (0, max(0, (count - 1) * 160 + 400 - len(samples))))
    power = torch.fft.rfft(samples.unfold(0, 400, 160)[:count], 512).abs().square() / 512
    least = torch.finfo(torch.float64).eps
    energy = power.sum(1).clamp(min=least).log()
    bands = (power @ _triangles().T).clamp(min=least).log()
    order = torch.arange(13, dtype=torch.float64)
    places = torch.arange(26, dtype=torch.float64) + 0.5
    cosines = torch.cos(math.pi / 26 * places[:, None] * order) * math.sqrt(2 / 26)
    cosines[:, 0] /= math.sqrt(2)
    found = (bands @ cosines) * (1 + 11 * torch.sin(math.pi * order / 22))
    found[:, 0] = energy
    return found.T.float()


def _triangles() -> Tensor:
    """(26, 257), corners on whole bins."""
    top = 2595 * math.log10(1 + 8000 / 700)
    hertz = 700 * (10 ** (torch.linspace(0, top, 28, dtype=torch.float64) / 2595) - 1)
    corners = (513 * hertz / 16000).floor()
    bins = torch.arange(257, dtype=torch.float64)
    rise = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    fall = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    inside = (bins >= corners[:-2, None]) & (bins < corners[2:, None])
    return torch.where(bins < corners[1:-1, None], rise, fall) * inside


def square(mesh: Tensor) -> tuple[float, float, float]:
    """Left, top and side, in pixels, of what SyncNet sees of a face (468, 3): its box with the pipeline's margins."""
    low, high = mesh[:, :2].amin(0), mesh[:, :2].amax(0)
    half = (high - low).amax().item() / 2
    x, y = ((low + high) / 2).tolist()
    return x - half * (1 + MARGIN), y - half, 2 * half * (1 + MARGIN)

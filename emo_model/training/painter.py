"""The inside of one person's mouth: the last layer of the motion decoder's painter learns its colours from a video.

Only that layer: what lights the drawn rows of teeth stays, for it cannot move them to where the person's are.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from ..auxiliary.motion_decoder import PATCH, MotionDecoder, PortraitFeatures, usual_mouth
from ..checkpoints import native
from ..config import ModelConfig
from ..inputs.face_geometry import LOWER_LIP_INNER, UPPER_LIP_INNER
from ..inputs.motion_latents import consistent_latents, eye_distance, mouth_centre, mouth_opening, portrait_latents
from ..inputs.portrait_maps import portrait_maps, skull_plane
from ..inputs.vae import to_raw, to_scaled
from .footage.preparing import read_mp4
from .footage.shards import Sample
from .held_out import portrait_decoder
from .loop import Plan
from .motion_decoder import OUTER_MOUTH, mouth_losses

TRAINS = ("mouth_out.weight", "mouth_out.bias")
MOST_FRAMES = 24  # of a clip: those with the widest mouths, of three times as many at even distances
BATCH = 4  # frames of one clip
PLAN = Plan("painter", steps=160, learning_rate=1e-3, warmup_steps=10, ema_decay=0.9, weight_decay=0.0, check_every=20)


@dataclass(frozen=True, eq=False)
class MouthFrames:
    """Frames of one clip.

    numbers: which; pixels (N, 3, 2 S, 2 S) uint8; inside (N, 1, 2 S, 2 S) bool: between the lips; latents (N, C, h, w)
    raw, as the decoder of use reads them; rest, still: mesh (468, 3) and pixels (1, 3, 2 S, 2 S) uint8 of the portrait.
    """

    numbers: list[int]
    pixels: Tensor
    inside: Tensor
    latents: Tensor
    rest: Tensor
    still: Tensor

    @classmethod
    def of(cls, sample: Sample, config: ModelConfig) -> MouthFrames:
        """Raises ValueError for crops of another size than twice the working size."""
        size, pixels = config.image_size, torch.from_numpy(read_mp4(sample.read("mp4"))).permute(0, 3, 1, 2)
        if pixels.shape[-1] != 2 * size:
            raise ValueError(
                f"the crops are {pixels.shape[-1]} pixels a side, {2 * size} are needed: prepare with --crop {2 * size}"
            )
        meshes, still = torch.from_numpy(sample.array("meshes.npy").copy()), sample.about()["still"]
        some = torch.arange(0, len(meshes), max(1, len(meshes) // (3 * MOST_FRAMES)))
        widest = mouth_opening(meshes[some]).argsort(descending=True, stable=True)[:MOST_FRAMES]
        numbers = some[widest].sort().values.tolist()
        scaled = torch.from_numpy(sample.array("latents.npy").astype(np.float32))[numbers]
        maps = portrait_maps(meshes[still], size=size, cells=config.latent_size)
        latents = consistent_latents(to_raw(scaled, config), meshes[still], maps, size=size)
        inside = torch.stack([between_lips(meshes[number], size=size) for number in numbers])[:, None]
        return cls(numbers, pixels[numbers], inside, latents, meshes[still], pixels[still : still + 1])


def between_lips(mesh: Tensor, *, size: int) -> Tensor:
    """mesh (468, 3) in pixels of `size` -> (2 size, 2 size) bool."""
    outline = [*UPPER_LIP_INNER, *reversed(LOWER_LIP_INNER[1:-1])]
    image = Image.new("L", (2 * size, 2 * size))
    ImageDraw.Draw(image).polygon([(2 * x, 2 * y) for x, y in mesh[outline, :2].tolist()], fill=1)
    return torch.from_numpy(np.array(image)).bool()


class PainterTask(nn.Module):
    """`TRAINS` of the motion decoder on a person's clips; `forward(batch)` is the loss."""

    def __init__(self, decoder: MotionDecoder, config: ModelConfig, clips: Sequence[MouthFrames], *, seed: int):
        super().__init__()
        self.decoder, self.config, self.clips, self.seed = decoder, config, clips, seed
        self.portraits = [portrait_features(decoder, config, clip) for clip in clips]
        for name, parameter in decoder.named_parameters():
            parameter.requires_grad_(name in TRAINS)

    def batch(self, step: int, part: int = 0, parts: int = 1) -> tuple[int, list[int]]:
        """The number of a clip, and of some of its frames."""
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed} painter {step} {part}".encode()))
        clip = int(torch.randint(len(self.clips), (), generator=generator))
        return clip, torch.randint(len(self.clips[clip].numbers), (BATCH,), generator=generator).tolist()

    def forward(self, batch: tuple[int, list[int]]) -> tuple[Tensor, dict[str, Tensor]]:
        number, frames = batch
        losses = self.losses(self.clips[number], self.portraits[number], frames)
        # no edges, no contrast: where the lips are off by a pixel, a painted grid would lower both
        loss = OUTER_MOUTH * losses["mouth"] + 2 * losses["colours"] + losses["mask"]
        return loss, {name: value.detach() for name, value in losses.items()}

    def losses(self, clip: MouthFrames, portrait: PortraitFeatures, frames: Sequence[int]) -> dict[str, Tensor]:
        """See `mouth_losses`."""
        left, right = clip.rest[[UPPER_LIP_INNER[0], UPPER_LIP_INNER[-1]]]
        look, teeth = usual_mouth(float((right - left).norm() / eye_distance(clip.rest)) / 2)
        decoded = self.decoder(clip.latents[frames], portrait, look.expand(len(frames), -1), teeth)
        return mouth_losses(self.decoder, decoded, clip.pixels[frames].float() / 127.5 - 1, clip.inside[frames].float())

    @torch.no_grad()
    def error(self, clips: Sequence[MouthFrames]) -> float:
        """Mean absolute error of the mouth's window on other clips, the inside weighing more, in 0..2."""
        found = []
        for clip in clips:
            portrait = portrait_features(self.decoder, self.config, clip)
            for first in range(0, len(clip.numbers), 2 * BATCH):
                frames = range(len(clip.numbers))[first : first + 2 * BATCH]
                found.append((float(self.losses(clip, portrait, list(frames))["mouth"]), len(frames)))
        return sum(value * count for value, count in found) / sum(count for _, count in found)


@torch.no_grad()
def portrait_features(decoder: MotionDecoder, config: ModelConfig, clip: MouthFrames) -> PortraitFeatures:
    """Of the clip's frame at rest."""
    size, rest = config.image_size, clip.rest
    own = portrait_latents(rest, cells=config.latent_size, size=size)
    maps, skull = portrait_maps(rest, size=size, cells=size // PATCH)[None], skull_plane(rest)[None]
    skull = skull * torch.tensor([PATCH, PATCH, 1.0])
    return decoder.read_portrait(clip.still.float() / 127.5 - 1, maps, own, mouth_centre(rest)[None] / PATCH, skull)


def mouth_psnr(bundle: native.Bundle, clips: Sequence[MouthFrames]) -> float:
    """dB, of the mouth and half as much around it, in finished frames of the video's own motion."""
    errors = []
    for clip in clips:
        decoder = portrait_decoder(bundle, clip.still, 2 * clip.rest)
        made = decoder.decode(to_scaled(clip.latents, bundle.config))
        for ours, theirs, inside in zip(made, clip.pixels, clip.inside[:, 0], strict=True):
            rows, columns = (_around(inside.any(axis)) for axis in (1, 0))
            difference = torch.from_numpy(ours).permute(2, 0, 1)[:, rows, columns].float() - theirs[:, rows, columns]
            errors.append(float(difference.square().mean()) / 255**2)
    return -10 * math.log10(max(1e-9, sum(errors) / len(errors)))


def _around(is_inside: Tensor) -> slice:
    """The rows or columns of a mouth and half as much again on both sides."""
    places = is_inside.nonzero()[:, 0]
    if not len(places):
        return slice(0, len(is_inside))
    first, last = int(places[0]), int(places[-1]) + 1
    room = max(4, (last - first) // 2)
    return slice(max(0, first - room), min(len(is_inside), last + room))

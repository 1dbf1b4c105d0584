"""Training of the motion decoder on puppets: their flow, their mouth and their pictures are known exactly.

The latents of a batch are measured as at use, by the meshes of portrait and frame, and get some of the noise that a
sampler leaves.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor, nn

from ..auxiliary.motion_decoder import (
    AVERAGE_LOOK,
    LOOK_SPREAD,
    PATCH,
    DecodedMotion,
    MotionDecoder,
    sample,
    warp,
    window,
)
from ..auxiliary.teeth import Teeth
from ..config import ModelConfig
from ..inputs.face_geometry import POINTS
from ..inputs.face_skin import as_arrays
from ..inputs.motion_latents import (
    LEFT_EYE,
    RIGHT_EYE,
    consistent_latents,
    motion_latents,
    mouth_centre,
    portrait_latents,
)
from ..inputs.portrait_maps import portrait_maps, skull_plane
from ..inputs.vae import to_raw
from ..synthetic.motion import sample_still_motion
from ..synthetic.mouth_painter import MouthLook
from ..synthetic.puppet_store import Person, PuppetStore
from ..synthetic.puppets import Puppet

CONTRAST_AREA = (12, 4)  # side and stride in pixels of the painted window
MOUTH_LOSSES = ("mouth", "edges", "colours", "contrast", "mask")
MOST_TURNED = 0.65, 0.2  # yaw and pitch in radians, on top of the picture's own
OUTER_MOUTH, INNER_MOUTH = 8.0, 24.0  # weights of the window around the mouth and of its painted inside, against 1


@dataclass(frozen=True, eq=False)
class DecoderBatch:
    """portraits: (B, 3, 2 S, 2 S); maps: (B, 5, S / 4, S / 4); rest: (B, C, h, w) raw latents of the portraits; mouth:
    (B, 2) in cells of the maps; skull: (B, 2, 3) from those to the plane of the teeth; look: (B, 6) as `LOOK`; teeth:
    of B mouths; jaw: (B,) its drop in distances of the eye corners; latents: (B, C, h, w) raw, of the frames; frames:
    (B, 3, 2 S, 2 S) in [-1, 1]; flow: (B, 2, S / 4, S / 4) in its cells; painted: (B, 1, 2 S, 2 S) how much of a pixel
    is the mouth's inside; weight: (B, 1, S / 4, S / 4)."""

    portraits: Tensor
    maps: Tensor
    rest: Tensor
    mouth: Tensor
    skull: Tensor
    look: Tensor
    teeth: Teeth
    jaw: Tensor
    latents: Tensor
    frames: Tensor
    flow: Tensor
    painted: Tensor
    weight: Tensor


class MotionDecoderTask(nn.Module):
    """Training of the motion decoder on puppets; `forward(batch)` is the loss, batches depend on (seed, step)."""

    def __init__(
        self,
        decoder: MotionDecoder,
        config: ModelConfig,
        puppets: PuppetStore,
        *,
        batch: int = 6,
        seed: int = 0,
        noise: float = 0.15,
        pairs: int = 3,
        only_mouth: bool = False,
        turned: float = 0.0,
    ):
        """turned: share of the portraits that are turned first, by up to `MOST_TURNED`."""
        super().__init__()
        self.decoder, self.config, self.puppets, self.turned = decoder, config, puppets, turned
        self.people = puppets.indices(held_out=False)
        self.size, self.seed, self.pairs, self.only_mouth = batch, seed, pairs, only_mouth
        self.noise = 0.0 if only_mouth else noise  # with a misplaced head, edges of teeth would average out
        for name, parameter in decoder.named_parameters():
            parameter.requires_grad_(name.startswith("mouth") or not only_mouth)

    def batch(self, step: int, part: int = 0, parts: int = 1) -> DecoderBatch:
        """Each portrait in `pairs` moments; with `only_mouth`, the mouth is open in most of them."""
        kind = "mouth" if self.only_mouth else "decoder"
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {kind} {step} {part}".encode()))
        config, size = self.config, self.config.image_size
        rows = []
        for number in torch.randint(len(self.people), (self.size // self.pairs,), generator=generator).tolist():
            person = self.puppets[self.people[number]]
            if self.turned and torch.rand((), generator=generator) < self.turned:
                yaw, pitch = (2 * torch.rand(2, generator=generator) - 1).tolist()
                person = person.turned(MOST_TURNED[0] * yaw, MOST_TURNED[1] * pitch)
            puppet = enlarged_puppet(person)
            rest = torch.from_numpy(puppet.rest[:POINTS]).float() / 2  # pixels of the working size
            maps, portrait = portrait_maps(rest, size=size, cells=size // PATCH), _pixels(puppet.picture)
            skull = skull_plane(rest) * torch.tensor([PATCH, PATCH, 1.0])
            look, teeth = mouth_look(puppet.look), mouth_teeth(puppet.look)
            own = portrait_latents(rest, cells=config.latent_size, size=size)[0]
            motion = sample_still_motion(torch.randint(2**31, (self.pairs,), generator=generator).tolist())
            # blinks are drawn by `outputs.eyelids`
            motion = replace(motion, blink_left=torch.zeros(self.pairs), blink_right=torch.zeros(self.pairs))
            if self.only_mouth:
                least = torch.rand(self.pairs, generator=generator)
                opening, closure = torch.maximum(motion.opening, least), motion.closure * (least < 0.2)
                motion = replace(motion, opening=opening, closure=closure)
            flows, points = puppet.flows(motion, size // PATCH)
            meshes = torch.from_numpy(points[:, :POINTS]) / 2
            press, gaze = motion.closure - motion.tuck, torch.stack([motion.gaze_x, motion.gaze_y], -1)
            at = {"cells": config.latent_size, "size": size}
            latents = motion_latents(torch.from_numpy(flows), meshes, rest, press=press, gaze=gaze, **at)
            left = torch.randn(latents.shape, generator=generator)  # of the noise that a sampler leaves
            amount = self.noise * torch.rand(self.pairs, 1, 1, 1, generator=generator) ** 2
            latents = latents + to_raw(amount * left, config)
            latents = consistent_latents(latents, rest, portrait_maps(rest, **at), size=size)
            jaws = torch.from_numpy(puppet.skin.jaw(as_arrays(motion))).float()
            for frame, mesh, latent, jaw in zip(puppet.frames(motion), meshes, latents, jaws, strict=True):
                flow = F.avg_pool2d(torch.from_numpy(frame.flow)[None], 2 * PATCH)[0] / (2 * PATCH)
                seen = portrait, maps, own, mouth_centre(rest) / PATCH, skull, look
                truth = _pixels(frame.picture), flow, torch.from_numpy(frame.mouth)[None], self._weight(mesh, maps)
                rows.append((*teeth, *seen, jaw, latent, *truth))
        *teeth, portraits, maps, rest, mouth, skull, look, jaw, latents, frames, flow, painted, weight = (
            torch.stack(part) for part in zip(*rows, strict=True)
        )
        given = portraits, maps, rest, mouth, skull, look, Teeth(*teeth), jaw, latents
        return DecoderBatch(*given, frames, flow, painted, weight)

    def _weight(self, mesh: Tensor, maps: Tensor) -> Tensor:
        """(1, S / 4, S / 4): more around the mouth and the eyes, little where nothing moves."""
        cells = maps.shape[-1]
        places = torch.arange(cells) + 0.5
        eyes = (mesh[list(eye[:2]), :2].mean(0) for eye in (LEFT_EYE, RIGHT_EYE))
        x, y = (torch.stack([mouth_centre(mesh), *eyes]) / PATCH).unbind(1)
        spread = cells * torch.tensor([0.09, 0.055, 0.055])[:, None, None]
        squared = (places[None, None] - x[:, None, None]) ** 2 + (places[None, :, None] - y[:, None, None]) ** 2
        bells = torch.exp(-squared / (2 * spread**2))
        return 0.2 + maps[:1] + (bells * torch.tensor([5.0, 12.0, 12.0])[:, None, None]).sum(0, keepdim=True)

    def forward(self, batch: DecoderBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Error of the flow at three sizes, of the warped picture, and of mask and colours in the mouth's window."""
        decoder = self.decoder
        once = (x[:: self.pairs] for x in (batch.portraits, batch.maps, batch.rest, batch.mouth, batch.skull))
        portrait = decoder.read_portrait(*once).repeat(self.pairs)
        decoded = decoder(batch.latents, portrait, batch.look, batch.teeth, batch.jaw)
        inside = F.avg_pool2d(batch.painted, 2 * PATCH)
        weight = batch.weight * (inside < 0.25)  # the hole of an open mouth comes from nowhere
        flow = 0
        for ours, step in zip((decoded.flow, *reversed(decoded.coarse_flows)), (1, 2, 4), strict=True):
            error = (ours - F.avg_pool2d(batch.flow, step) / step).abs().sum(1, keepdim=True)
            flow = flow + step * _weighted(error, F.avg_pool2d(weight, step)) / 3
        working, target = F.avg_pool2d(batch.portraits, 2), F.avg_pool2d(batch.frames, 2)
        fine = F.interpolate(decoded.flow, scale_factor=PATCH, mode="bilinear", align_corners=False) * PATCH
        visible = F.interpolate(weight, scale_factor=PATCH) * (F.avg_pool2d(batch.painted, 2) < 0.1)
        picture = _weighted(_difference(warp(working, fine), target), visible)
        losses = mouth_losses(decoder, decoded, batch.frames, batch.painted)
        loss = painting_loss(losses)
        if not self.only_mouth:
            loss = flow + picture + loss
        values = {"flow_px": _weighted((decoded.flow - batch.flow).norm(dim=1, keepdim=True), weight) * PATCH}
        values |= {"picture": picture, **losses}
        return loss, {name: value.detach() for name, value in values.items()}


def mouth_losses(decoder: MotionDecoder, decoded: DecodedMotion, frames: Tensor, painted: Tensor) -> dict[str, Tensor]:
    """`MOUTH_LOSSES` of the window around the mouth: of its pixels, of their edges, of the painted colours, of the
    contrast of areas, and of the mask.

    frames (B, 3, 2 S, 2 S) in [-1, 1], painted (B, 1, 2 S, 2 S): the truth, and how much of a pixel is the inside.
    """
    cells = decoder.mouth_cells
    around = window(decoded.mouth, cells=cells, points=2 * PATCH * cells, size=decoded.flow.shape[-1])
    seen, truth = sample(frames, around), sample(painted, around).clamp(0, 1)
    ours = torch.lerp(decoded.mouth_warped.float(), decoded.mouth_rgb.float(), decoded.mouth_mask.float())
    near = 1 + (INNER_MOUTH / OUTER_MOUTH) * F.max_pool2d(truth, 9, 1, 4)
    edges = sum(
        _weighted(_difference(ours.diff(dim=axis), seen.diff(dim=axis)), near.narrow(axis, 1, near.shape[axis] - 1))
        for axis in (2, 3)
    )
    return {
        "mouth": _weighted(_difference(ours, seen), near),
        "edges": edges,
        "colours": _weighted(_difference(decoded.mouth_rgb.float(), seen), truth),
        "contrast": _weighted(_difference(_contrast(ours), _contrast(seen)), F.avg_pool2d(truth, *CONTRAST_AREA)),
        "mask": F.binary_cross_entropy(decoded.mouth_mask.float().clamp(1e-4, 1 - 1e-4), truth),
    }


def painting_loss(losses: dict[str, Tensor]) -> Tensor:
    """What the mouth's painter trains on."""
    mouth, edges, colours, contrast, mask = (losses[name] for name in MOUTH_LOSSES)
    return OUTER_MOUTH * (mouth + edges + 4 * contrast) + 2 * colours + mask


def _contrast(picture: Tensor) -> Tensor:
    """(B, C, H, W) -> how much neighbouring pixels differ in each area, wherever in it: what is blurred has less."""
    steps = picture.diff(dim=2)[..., :-1].abs() + picture.diff(dim=3)[..., :-1, :].abs()
    return F.avg_pool2d(F.pad(steps, (0, 1, 0, 1)), *CONTRAST_AREA)


def _difference(one: Tensor, other: Tensor) -> Tensor:
    """(B, C, H, W) each -> (B, 1, H, W): mean absolute difference over the channels."""
    return (one - other).abs().mean(1, keepdim=True)


def _weighted(error: Tensor, weight: Tensor) -> Tensor:
    return (error * weight).sum() / weight.sum().clamp(min=1e-6)


def mouth_look(look: MouthLook) -> Tensor:
    """A puppet's mouth -> (6,) as `auxiliary.motion_decoder.LOOK`."""
    middle = len(look.upper) // 2
    width, gap = (look.upper[:, 1] - look.upper[:, 0]).mean(), look.upper[middle, 0] - look.upper[middle - 1, 1]
    own = torch.tensor([width, gap, look.upper_line, look.lower_line, look.arch, look.tongue_height])
    return ((own - torch.tensor(AVERAGE_LOOK)) / torch.tensor(LOOK_SPREAD)).float()


def mouth_teeth(look: MouthLook) -> tuple[Tensor, Tensor, Tensor]:
    """A puppet's mouth -> upper (T, 5), lower (T, 5) and lines (4,) as `auxiliary.teeth.Teeth`."""
    lines = torch.tensor([look.upper_line, look.lower_line, look.arch, look.gap_dark])
    return torch.from_numpy(look.upper).float(), torch.from_numpy(look.lower).float(), lines.float()


def enlarged_puppet(person: Person) -> Puppet:
    """A person's puppet at twice the size of its picture, so that the mouth is painted at twice the working size."""
    size = 2 * len(person.picture)
    picture = np.asarray(Image.fromarray(person.picture).resize((size, size), Image.Resampling.BICUBIC))
    return Puppet(picture, 2 * person.mesh, person.seed)


def _pixels(picture: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) in [-1, 1]."""
    return rearrange(torch.tensor(picture).float() / 127.5 - 1, "h w c -> c h w")

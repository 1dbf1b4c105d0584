"""Clips of puppets for small models, as latents of 8x8 cells from which everything can be read without a network.

Channels of raw latents (7, h, w):
    0 to 2  the frame's colours, -1..1: the portrait's, moved by the flow
    3, 4    backward flow of the cell, as in `inputs.motion_latents`
    5       opening of the mouth, times a Gaussian around it, likewise
    6       opening of the lids, times Gaussians around the eyes, likewise
A clip is framed otherwise than its portrait: the camera stands up to `MOST_ASIDE` of the picture's width aside.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...auxiliary.audio_encoder import AudioEncoder
from ...config import ModelConfig
from ...inputs.audio import features_per_frame
from ...inputs.motion_latents import LEFT_EYE, RIGHT_EYE, motion_latents, mouth_centre, portrait_latents
from ...inputs.vae import to_scaled
from ...synthetic.motion import head_speed_degrees, sample_motion
from ...synthetic.puppet_store import Person, PuppetStore
from ...synthetic.speech_library import SpeechClip, SpeechLibrary
from ..clips import ClipStore
from ..puppet_clips import OVERSAMPLING, rest_mesh

COLOURS, FLOW, OPENING, LIDS = slice(0, 3), slice(3, 5), 5, 6
KEPT = [0, 1, 2, 5]  # channels of motion latents: flow, opening, lids
MOST_ASIDE = 0.19
SLOWEST, FASTEST = 3.0, 50.0  # degrees per second; drawn evenly on a logarithmic scale


@torch.no_grad()
def speaking_puppets(
    count: int,
    puppets: PuppetStore,
    speech: SpeechLibrary,
    encoder: AudioEncoder,
    *,
    config: ModelConfig,
    frames: int,
    held_out: bool,
    seed: int = 0,
) -> ClipStore:
    """`count` clips of `frames` frames, with the encoder's audio features. Held-out people come once each at most.

    Raises ValueError if there are not so many people to hold out.
    """
    people = puppets.indices(held_out=held_out)
    if held_out and len(people) < count:
        raise ValueError(f"{count} videos of as many held-out people are asked for, but there are {len(people)}")
    order = torch.randperm(len(people), generator=torch.Generator().manual_seed(seed)).tolist()
    stores = []
    for number in range(count):
        person, clip_seed = puppets[people[order[number % len(people)]]], seed * 1_000_003 + number
        piece = speech.clip(clip_seed, seconds=frames / config.fps, seed=1, fps=config.fps)
        stores.append(_speaking(person, piece, encoder, config=config, seed=clip_seed))
    return ClipStore.join(stores)


def _speaking(person: Person, piece: SpeechClip, encoder: AudioEncoder, *, config: ModelConfig, seed: int) -> ClipStore:
    generator, frames = torch.Generator().manual_seed(seed), len(piece.tracks)
    aside = MOST_ASIDE * (2 * torch.rand(2, generator=generator) - 1)
    speed = SLOWEST * (FASTEST / SLOWEST) ** float(torch.rand((), generator=generator))
    motion = sample_motion(seed, frames, config.fps, mouth=piece.tracks, voiced=piece.energy, head_speed=speed)
    puppet, cells = person.puppet(), config.latent_size
    size, fine = puppet.size, OVERSAMPLING * cells
    flows, points = puppet.flows(motion, fine)
    rest = rest_mesh(puppet)
    meshes = torch.from_numpy(points[:, : len(rest)])
    meshes = meshes - meshes.new_tensor([*(size * aside), 0.0])
    flow = framed(torch.from_numpy(flows), fine * aside)
    picture = F.interpolate(torch.from_numpy(puppet.picture).permute(2, 0, 1)[None] / 127.5 - 1, size=fine, mode="area")
    colours = moved(picture.expand(frames, -1, -1, -1), flow)
    how = {"cells": cells, "size": size}
    moving = motion_latents(flow, meshes, rest, **how)[:, KEPT]
    at_rest = portrait_latents(rest, **how)[:, KEPT]
    raw = torch.cat([F.avg_pool2d(colours, OVERSAMPLING), moving], 1)
    still = torch.cat([F.avg_pool2d(picture, OVERSAMPLING), at_rest], 1)
    encoded = features_per_frame(encoder(piece.waveform[None])[0], fps=config.fps, seconds=frames / config.fps)
    eyes = (meshes[:, list(eye[:2]), :2].mean(1) for eye in (LEFT_EYE, RIGHT_EYE))
    return ClipStore(
        latents=to_scaled(raw, config)[None].half(),
        stills=to_scaled(still, config)[None].half(),
        audio=encoded.frames[None].half(),
        speed=head_speed_degrees(motion, config.fps)[None],
        landmarks=(torch.stack([mouth_centre(meshes), *eyes], 1) / size)[None].half(),
        boxes=torch.cat([meshes[..., :2].amin((0, 1)), meshes[..., :2].amax((0, 1))])[None] / size,
    )


def framed(flow: Tensor, aside: Tensor) -> Tensor:
    """Backward flow (F, 2, n, n) in pixels, as a camera sees it that stands `aside` (2,) pixels, right and down."""
    return _sampled(flow, aside.view(1, 2, 1, 1).expand(len(flow), 2, *flow.shape[2:])) + aside.view(1, 2, 1, 1)


def moved(pictures: Tensor, flow: Tensor) -> Tensor:
    """Pictures (F, C, n, n) whose pixels lie where the backward flow (F, 2, n, n) takes them from; edges repeat."""
    return _sampled(pictures, flow)


def _sampled(values: Tensor, offset: Tensor) -> Tensor:
    """values (F, C, n, n) at each pixel's place plus offset (F, 2, n, n)."""
    size = values.shape[-1]
    steps = torch.arange(size) + 0.5
    grid = torch.stack([steps[None, :] + offset[:, 0], steps[:, None] + offset[:, 1]], -1) * (2 / size) - 1
    return F.grid_sample(values.float(), grid, padding_mode="border", align_corners=False)

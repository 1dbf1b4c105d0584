"""Puppets that speak, as motion latents: what EMO learns from. No picture is made for it."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import Tensor

from ..auxiliary.audio_encoder import AudioEncoder
from ..config import ModelConfig
from ..inputs.audio import features_per_frame
from ..inputs.face_geometry import POINTS
from ..inputs.motion_latents import LEFT_EYE, RIGHT_EYE, motion_latents, mouth_centre, portrait_latents
from ..inputs.vae import to_scaled
from ..sampling.noise import noise_shapes, noise_spreads
from ..synthetic.motion import FaceMotion, head_speed_degrees, sample_motion
from ..synthetic.puppet_store import PuppetStore
from ..synthetic.puppets import Puppet
from ..synthetic.speech_library import SpeechClip, SpeechLibrary
from .clips import ClipStore

log = logging.getLogger(__name__)

OVERSAMPLING = 4  # pixels of flow along each side of a cell


def puppet_clip_latents(puppet: Puppet, motion: FaceMotion, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """motion (F,) -> raw latents (F, C, h, w) and meshes (F, 468, 3) in pixels of the working size, which is the
    puppet's."""
    flows, points = puppet.flows(motion, OVERSAMPLING * config.latent_size)
    meshes = torch.from_numpy(points[:, :POINTS])
    latents = motion_latents(
        torch.from_numpy(flows),
        meshes,
        rest_mesh(puppet),
        cells=config.latent_size,
        size=config.image_size,
        press=motion.closure - motion.tuck,
        gaze=torch.stack([motion.gaze_x, motion.gaze_y], -1),
    )
    return latents, meshes


def rest_mesh(puppet: Puppet) -> Tensor:
    """(468, 3) in pixels of the puppet's picture: the portrait's own."""
    return torch.from_numpy(puppet.rest[:POINTS]).float()


def speech_piece(libraries: list[tuple[float, SpeechLibrary]], seed: int, *, seconds: float, fps: float) -> SpeechClip:
    """A piece of one of the libraries, each with its share of the pieces; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.tensor([share for share, _ in libraries])
    library = libraries[int(torch.multinomial(shares, 1, generator=generator))][1]
    return library.clip(seed, seconds=seconds, seed=1, fps=fps)


@torch.no_grad()
def puppet_clips(
    count: int,
    puppets: PuppetStore,
    libraries: list[tuple[float, SpeechLibrary]],
    *,
    config: ModelConfig,
    frames: int = 40,
    seed: int = 0,
) -> ClipStore:
    """`count` clips of `frames` frames: a random puppet with a piece of speech from one of the (share, library).

    Their audio features are zeros; `clip_audio` encodes them, when there is an encoder.
    """
    stores, size, people = [], config.image_size, puppets.indices(held_out=False)
    for number in range(count):
        clip_seed = _seed(seed, number)
        generator = torch.Generator().manual_seed(clip_seed)
        person = puppets[people[int(torch.randint(len(people), (), generator=generator))]]
        piece = speech_piece(libraries, clip_seed, seconds=frames / config.fps, fps=config.fps)
        motion = sample_motion(clip_seed, frames, config.fps, mouth=piece.tracks, voiced=piece.energy)
        puppet = person.puppet()
        raw, meshes = puppet_clip_latents(puppet, motion, config)
        rest = rest_mesh(puppet)
        eyes = (meshes[:, list(eye[:2]), :2].mean(1) for eye in (LEFT_EYE, RIGHT_EYE))
        stores.append(
            ClipStore(
                latents=to_scaled(raw, config)[None].half(),
                stills=to_scaled(portrait_latents(rest, cells=config.latent_size, size=size), config)[None].half(),
                audio=torch.zeros(1, frames, config.audio_layers, config.audio_width).half(),
                speed=head_speed_degrees(motion, config.fps)[None],
                landmarks=(torch.stack([mouth_centre(meshes), *eyes], 1) / size)[None].half(),
                boxes=torch.cat([meshes[..., :2].amin((0, 1)), meshes[..., :2].amax((0, 1))])[None] / size,
            )
        )
        if (number + 1) % 500 == 0:
            log.info("%d of %d clips", number + 1, count)
    return ClipStore.join(stores)


@torch.no_grad()
def clip_audio(
    count: int,
    libraries: list[tuple[float, SpeechLibrary]],
    *,
    config: ModelConfig,
    encoder: AudioEncoder,
    frames: int = 40,
    seed: int = 0,
) -> Tensor:
    """The audio features (I, T, L, D) of the clips that `puppet_clips` makes of the same count, libraries and seed."""
    seconds, features = frames / config.fps, []
    device = next(encoder.parameters()).device
    for number in range(count):
        piece = speech_piece(libraries, _seed(seed, number), seconds=seconds, fps=config.fps)
        encoded = encoder(piece.waveform[None].to(device)).cpu()[0]
        features.append(features_per_frame(encoded, fps=config.fps, seconds=seconds).frames.half())
    return torch.stack(features)


def _seed(seed: int, number: int) -> int:
    return seed * 1_000_003 + number


def motion_statistics(
    puppets: PuppetStore, libraries: list[tuple[float, SpeechLibrary]], *, config: ModelConfig, clips: int = 120
) -> dict[str, Tensor]:
    """latent_scale (C,), by which what moves has mean square 1 in each channel; noise_frames (C,); noise_shapes (C, K,
    h, w)."""
    plain = replace(config, latent_scale=(1.0,) * config.latent_channels)
    store = puppet_clips(clips, puppets, libraries, config=plain, seed=77)
    motion = store.latents.float() - store.stills.float()  # (I, T, C, h, w)
    scale = motion.square().mean((0, 1, 3, 4)).rsqrt()
    scaled = motion.flatten(0, 1) * scale[:, None, None]
    return {
        "latent_scale": scale,
        "noise_frames": torch.tensor(noise_spreads(motion)),
        "noise_shapes": noise_shapes(scaled, config),
    }

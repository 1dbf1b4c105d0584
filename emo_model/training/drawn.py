"""Drawn heads as training data: stills for the autoencoder, and clips with speech, already encoded, for EMO."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor

from ..config import ModelConfig
from ..inputs import vae
from ..inputs.audio import features_per_frame
from ..models.audio_encoder import AudioEncoder
from ..models.autoencoder import Autoencoder
from ..synthetic.identities import sample_identities
from ..synthetic.motion import FaceMotion, head_speed_degrees, sample_motion, sample_still_motion
from ..synthetic.renderer import face_box, landmarks, render
from ..synthetic.speech_library import SpeechLibrary
from .clips import ClipStore, loss_weight

log = logging.getLogger(__name__)


def draw_stills(seeds: Sequence[int], *, size: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """A person and a moment for each seed -> float16 pixels (B, 3, size, size) in [-1, 1] and loss weights (B, 1, size, size)."""
    who = sample_identities(seeds, device=device)
    motion = sample_still_motion(seeds, device=device)
    pixels = render(who, motion, size=size)
    return pixels.half(), loss_weight(points(who, motion)[:, None], size).half()


def points(who, motion: FaceMotion) -> Tensor:
    """(B, 3, 2): mouth, left and right eye as x, y in 0..1 of the picture."""
    marks = landmarks(who, motion)
    return torch.stack([marks.mouth, marks.eye_left, marks.eye_right], dim=1)


def calm_stills(seeds: Sequence[int], *, device: torch.device | str = "cpu") -> FaceMotion:
    """As people sit for a portrait: lips nearly shut, eyes open, the head nearly straight."""
    motion = sample_still_motion([seed + 500_000_000 for seed in seeds], device=device)
    zero = torch.zeros_like(motion.opening)
    return FaceMotion(opening=0.12 * motion.opening, width=0.5 * motion.width, closure=zero, tuck=zero, yaw=0.5 * motion.yaw,
                      pitch=0.5 * motion.pitch, roll=0.5 * motion.roll, x=0.5 * motion.x, y=0.5 * motion.y, scale=motion.scale,
                      blink_left=zero, blink_right=zero, gaze_x=0.5 * motion.gaze_x, gaze_y=0.5 * motion.gaze_y,
                      brow=0.5 * motion.brow)


@torch.no_grad()
def draw_clips(seeds: Sequence[int], speech: SpeechLibrary, *, config: ModelConfig, autoencoder: Autoencoder,
               encoder: AudioEncoder, frames: int = 40, stills: int = 2, speech_seed: int = 0, device: torch.device | str = "cpu",
               people_at_once: int = 4) -> ClipStore:
    """One clip of `frames` frames for each person, saying something from the library, with `stills` portraits besides."""
    stores = []
    for first in range(0, len(seeds), people_at_once):
        some = list(seeds[first:first + people_at_once])
        said = [speech.clip(seed, seconds=frames / config.fps, seed=speech_seed, fps=config.fps) for seed in some]
        moved = [sample_motion(seed, frames, config.fps, mouth=clip.tracks, voiced=clip.energy)
                 for seed, clip in zip(some, said, strict=True)]
        motion = FaceMotion.stack(moved)  # (B, F)
        who = sample_identities(some, device=device)
        everyone = who[torch.arange(len(some), device=device).repeat_interleave(frames)]
        moments = motion.flatten().to(device)
        latents = _encode(render(everyone, moments, size=config.image_size), autoencoder, config)
        portraits = [calm_stills(some, device=device)] + [
            sample_still_motion([seed + 600_000_000 + 10_000_000 * number for seed in some], device=device)
            for number in range(stills - 1)]
        still = torch.stack([_encode(render(who, moment, size=config.image_size), autoencoder, config) for moment in portraits],
                            dim=1)
        sound = torch.stack([clip.waveform for clip in said]).to(device)
        heard = [features_per_frame(layers, fps=config.fps, seconds=frames / config.fps).frames
                 for layers in encoder(sound).cpu()]
        boxes = rearrange(face_box(everyone, moments), "(b f) e -> b f e", f=frames)
        stores.append(ClipStore(
            rearrange(latents, "(b f) c h w -> b f c h w", f=frames), still, torch.stack(heard).half().to(device),
            head_speed_degrees(motion, config.fps).to(device),
            rearrange(points(everyone, moments), "(b f) p x -> b f p x", f=frames).half(),
            torch.cat([boxes[..., :2].amin(1), boxes[..., 2:].amax(1)], dim=1)))
        if (first // people_at_once + 1) % 25 == 0:
            log.info("drew %d of %d people", first + len(some), len(seeds))
    return ClipStore.join(stores)


def _encode(pixels: Tensor, autoencoder: Autoencoder, config: ModelConfig) -> Tensor:
    return torch.cat([vae.encode(autoencoder, part, config) for part in pixels.split(32)]).half()

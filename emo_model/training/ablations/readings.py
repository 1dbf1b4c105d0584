"""What is read from sampled latents: one number per video and claim. Latents are raw, (F, C, h, w), see clips.py."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...config import ModelConfig
from ...inputs.vae import to_raw
from ...models.emo import Emo
from ...sampling.clips import ClipRenderer, RenderClip, generate_clips
from ...statistics import correlation
from ...types import MotionFrames
from ..clips import ClipStore, face_masks
from ..prepared import conditions_of
from .clips import COLOURS, FLOW, LIDS, OPENING
from .variants import Variant

LOW, HIGH = 5.0, 40.0  # degrees per second, the two settings that are compared


@dataclass(frozen=True)
class Reading:
    """Of one video.

    identity: distance of its mean colours from the true video's, over the mean distance from other people's: 1 is
    nobody's likeness. recognised: 1 if no other person's is as near. lips, another_voice: correlation of the mouth's
    opening with the true one, and with that of another clip's voice. seams: the head's step from clip to clip over its
    steps inside clips. place: distance of the eyes from where they are in the true video, whose mask is given, in
    widths of the picture. pace: the head's steps at `HIGH` degrees per second over those at `LOW`.
    """

    identity: float
    recognised: float
    lips: float
    another_voice: float
    seams: float
    place: float
    pace: float


@torch.no_grad()
def measure(
    emo: Emo, variant: Variant, held_out: ClipStore, *, steps: int, pace_clips: int, seed: int
) -> list[Reading]:
    """A reading for each held-out clip: of a video of its length with its portrait, voice, mask and head speed, and of
    two with the settings of the head speed that are compared, `pace_clips` clips long."""
    config, count = emo.config, len(held_out)
    clips = [held_out.take(torch.tensor([number])) for number in range(count)]
    truth = [to_raw(clip.latents[0].float(), config) for clip in clips]
    made, paces = [], []
    for number, clip in enumerate(clips):
        how = {"steps": steps, "seed": seed * 1_000_003 + number}
        made.append(sampled(emo, variant, clip, **how))
        short, cells = clip.until(pace_clips * config.clip_frames), face_cells(clip, config)
        ends = [head_track(sampled(emo, variant, short, head_speed=speed, **how), cells) for speed in (LOW, HIGH)]
        slow, fast = (head_steps(track, config.clip_frames)[0] for track in ends)
        paces.append(fast / slow)
    apart = torch.cdist(*(torch.stack([one[:, COLOURS].mean(0).flatten() for one in some]) for some in (made, truth)))
    readings = []
    for number, (own, true) in enumerate(zip(made, truth, strict=True)):
        others = [other for other in range(count) if other != number]
        inside, across = head_steps(head_track(own, face_cells(clips[number], config)), config.clip_frames)
        readings.append(
            Reading(
                identity=float(apart[number, number] / apart[number, others].mean()),
                recognised=float(apart[number, number] < apart[number, others].min()),
                lips=correlation(opening(own), opening(true)),
                another_voice=correlation(opening(own), opening(truth[others[number % len(others)]])),
                seams=across / inside,
                place=float((place(own) - place(true)).norm()),
                pace=paces[number],
            )
        )
    return readings


def sampled(
    emo: Emo, variant: Variant, clip: ClipStore, *, steps: int, seed: int, head_speed: float | None = None
) -> Tensor:
    """A video like the one clip, by the clip loop of use, without what the variant leaves out."""
    conditions = conditions_of(clip, emo.config, whole_mask=variant.whole_mask, head_speed=head_speed)
    reference = None
    if not variant.has_reference:
        reference = emo.encode_reference(conditions.portrait.latents).map(torch.zeros_like)
    render = ClipRenderer(emo, conditions, replace(variant.sampling, steps=steps, seed=seed), reference=reference)
    latents = torch.cat(list(generate_clips(render if variant.has_motion else Apart(render))), 2)
    return to_raw(latents[0].transpose(0, 1), emo.config)


class Apart:
    """Renders every clip as a first one: without motion frames."""

    def __init__(self, render: RenderClip):
        self.render, self.video = render, render.video

    def __call__(self, number: int, motion: MotionFrames) -> Tensor | None:
        return self.render(number, MotionFrames())


def opening(latents: Tensor) -> Tensor:
    """(F,): the largest value of the opening's channel."""
    return latents[:, OPENING].flatten(1).amax(1)


def place(latents: Tensor) -> Tensor:
    """(2,): right and down, in widths of the picture: the centre of the eyes' channel over the video."""
    weights = latents[:, LIDS].mean(0).clamp(min=0).square()
    places = (torch.arange(len(weights)) + 0.5) / len(weights)
    across, down = (weights.sum(axis) @ places for axis in (0, 1))
    return torch.stack([across, down]) / weights.sum().clamp(min=1e-9)


def face_cells(clip: ClipStore, config: ModelConfig) -> Tensor:
    """(h, w) in 0..1: the cells of the one clip's face box."""
    mask = face_masks(clip.boxes, config.image_size, whole=torch.zeros(1, dtype=torch.bool))
    return F.avg_pool2d(mask, config.vae_factor)[0, 0]


def head_track(latents: Tensor, cells: Tensor) -> Tensor:
    """(F, 2): the mean flow of the face's cells (h, w)."""
    return torch.einsum("fchw,hw->fc", latents[:, FLOW], cells) / cells.sum().clamp(min=1)


def head_steps(track: Tensor, clip_frames: int) -> tuple[float, float]:
    """Mean length of a track's steps from frame to frame (F, 2) inside clips, and from clip to clip."""
    steps = track.diff(dim=0).norm(dim=1)
    is_across = (torch.arange(len(steps)) + 1) % clip_frames == 0
    return steps[~is_across].mean().item(), steps[is_across].mean().item()

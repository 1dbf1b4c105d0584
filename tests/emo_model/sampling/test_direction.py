"""Idle videos loop, and their mouth rests; dials and loops leave sampled clips as they are."""

from __future__ import annotations

import pytest
import torch

from emo_model.config import PRESETS
from emo_model.sampling.direction import Direction, idle_direction, idle_frames
from emo_model.sampling.expression import DIALS, Expression


def clips(frames: int, size: int = 12) -> list[torch.Tensor]:
    """A slow walk in 8 channels."""
    steps = torch.randn(1, 8, frames, 1, 1, generator=torch.Generator().manual_seed(0))
    return list(steps.cumsum(2).expand(-1, -1, -1, 2, 2).split(size, dim=2))


@pytest.mark.parametrize("seconds", [1.0, 4.0, 6.0])
def test_an_idle_video_is_as_long_as_asked_and_its_last_frame_leads_to_the_first(seconds):
    sampled, fade = idle_frames(seconds, 25.0)
    made = torch.cat(list(Direction(fade=fade).of(clips(sampled), sampled=sampled)), 2)
    assert made.shape[2] == round(25 * seconds)
    assert sampled == made.shape[2] + fade
    jump = (made[:, :, 0] - made[:, :, -1]).norm()
    assert jump < 1.5 * made.diff(dim=2).norm(dim=1).mean() * 2  # norm over 4 cells


def test_frames_outside_of_the_fade_are_as_sampled():
    sampled, fade = idle_frames(6.0, 25.0)
    before = torch.cat(clips(sampled), 2)
    made = torch.cat(list(Direction(fade=fade).of(clips(sampled), sampled=sampled)), 2)
    assert torch.equal(made[:, :, :-fade], before[:, :, fade:-fade])
    assert torch.allclose(made[:, :, -1], before[:, :, fade - 1], atol=0.2)


def test_an_idle_portrait_keeps_its_mouth_shut_blinks_breathes_and_has_the_dials_of_the_user():
    sampled, fade = idle_frames(10.0, 25.0)
    given = Direction(Expression.of(smile=0.5, audio_strength=2, pitch=3), seed=1)
    idle = idle_direction(sampled, fade, given)
    dials = idle.expression.at(0, 250, fps=25, total=250, seed=1, blinks=idle.blinks)
    by_name = dict(zip(DIALS, dials.unbind(1), strict=True))
    assert (by_name["mouth"] == -1).all()
    assert (by_name["smile"] == 0.5).all()
    assert (by_name["lids"] == 1).any()
    assert by_name["lids"][[0, -1]].eq(0).all()
    breath = torch.rad2deg(by_name["pitch"]) + 3
    assert (breath.amax() - breath.amin()).item() == pytest.approx(1.2, abs=0.05)
    assert breath[0].item() == pytest.approx(breath[-1].item(), abs=0.05)


@pytest.mark.parametrize("seconds", [0.5, 4000.0, float("nan")])
def test_other_lengths_are_refused(seconds):
    with pytest.raises(ValueError, match="1 to 3600 seconds"):
        idle_frames(seconds, 25.0)


def test_a_model_without_motion_latents_has_no_dials():
    Direction().check(PRESETS["hallo"])
    with pytest.raises(ValueError, match="no dials"):
        Direction(Expression.of(smile=1)).check(PRESETS["hallo"])

"""Idle videos loop, and their mouth rests; dials and loops leave sampled clips as they are."""

from __future__ import annotations

import pytest
import torch

from emo_model.config import PRESETS
from emo_model.sampling.direction import BREATH_DEGREES, Direction, idle_direction, idle_frames, waiting_direction
from emo_model.sampling.expression import DIALS, Expression


def clips(frames: int, size: int = 12) -> list[torch.Tensor]:
    """A slow walk in 8 channels."""
    steps = torch.randn(1, 8, frames, 1, 1, generator=torch.Generator().manual_seed(0))
    return list(steps.cumsum(2).expand(-1, -1, -1, 2, 2).split(size, dim=2))


def looped(seconds: float, size: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Sampled frames, and those of the loop."""
    sampled, fade = idle_frames(seconds, 25.0)
    before = clips(sampled, size)
    return torch.cat(before, 2), torch.cat(list(Direction(fade=fade).of(before, sampled=sampled)), 2)


@pytest.mark.parametrize("seconds", [1.0, 4.0, 6.0])
def test_an_idle_video_is_as_long_as_asked_and_its_ends_are_nearer_than_neighbours_are(seconds):
    _, made = looped(seconds)
    assert made.shape[2] == round(25 * seconds)
    ends = (made[:, :2, 0] - made[:, :2, -1]).norm()
    assert ends < made[:, :2].diff(dim=2).flatten(3).norm(dim=(1, 3)).mean()


def test_frames_before_the_fade_are_as_sampled_however_they_are_cut_into_clips():
    before, made = looped(6.0)
    start = next(k for k in range(50, 76) if torch.equal(before[:, :, k], made[:, :, 0]))
    assert torch.equal(made[:, :, :100], before[:, :, start : start + 100])
    assert torch.equal(made, looped(6.0, size=7)[1])


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


def waiting(silent, **dials) -> dict[str, torch.Tensor]:
    """The dials of four seconds, by name."""
    directed = waiting_direction(silent, 100, Direction(Expression.of(**dials), seed=4))
    made = directed.expression.at(0, 100, fps=25, total=100, seed=4, blinks=1.0)
    return dict(zip(DIALS, made.unbind(1), strict=True))


def test_a_face_without_a_voice_rests_its_mouth_breathes_and_blinks_as_scheduled_with_the_dials_of_the_user():
    dials = waiting(((0.0, 4.0),), smile=0.5, pitch=3)
    assert (dials["mouth"] == -1).all() and (dials["smile"] == 0.5).all() and not dials["lids"].any()
    breath = -torch.rad2deg(dials["pitch"]) - 3
    assert (breath.amax() - breath.amin()).item() == pytest.approx(2 * BREATH_DEGREES, abs=0.05)


def test_between_two_words_of_its_own_the_mouth_comes_to_rest_and_is_as_sampled_while_it_speaks():
    dials = waiting(((1.0, 3.0),))
    heard = torch.cat([torch.arange(0, 25), torch.arange(75, 100)])
    assert not dials["mouth"][heard].any() and not dials["pitch"][heard].any()
    assert (dials["mouth"][40:61] == -1).all() and dials["pitch"][40:61].any()
    assert dials["mouth"].diff().abs().amax() < 0.2


def test_short_pauses_and_a_voice_throughout_change_nothing():
    given = Direction(Expression.of(smile="0: 0; 1: 1"))
    assert waiting_direction(((1.0, 2.0),), 100, given) is given
    assert waiting_direction((), 100, given) is given


@pytest.mark.parametrize("seconds", [0.5, 4000.0, float("nan")])
def test_other_lengths_are_refused(seconds):
    with pytest.raises(ValueError, match="1 to 3600 seconds"):
        idle_frames(seconds, 25.0)


def test_a_model_without_motion_latents_has_no_dials():
    Direction().check(PRESETS["hallo"])
    with pytest.raises(ValueError, match="no dials"):
        Direction(Expression.of(smile=1)).check(PRESETS["hallo"])

"""Dials over time: what may be given, what is added to latents, and which blinks come and go."""

from __future__ import annotations

import pytest
import torch

from emo_model.sampling.expression import DIALS, RANGES, Curve, Expression
from emo_model.sampling.finish import blinks

AS_SAMPLED = {"fps": 25.0, "total": 500, "seed": 3, "blinks": 1.0}


def dial(expression: Expression, name: str, first: int = 0, frames: int = 500) -> torch.Tensor:
    return expression.at(first, frames, **AS_SAMPLED)[:, DIALS.index(name)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0.5, [0.5, 0.5, 0.5]),
        ("0.5", [0.5, 0.5, 0.5]),
        ("0: 0; 1: 1", [0.0, 0.5, 1.0]),
        ("1: 1, 0: 0", [0.0, 0.5, 1.0]),
        ([0.0] * 12 + [0.25] * 14, [0.0, 0.25, 0.25]),
        (Curve((0.0, 1.0), (0.0, 1.0), "share"), [0.0, 12.5 / 499, 25 / 499]),
        ("", [0.0, 0.0, 0.0]),
    ],
)
def test_a_dial_takes_a_number_text_keyframes_a_list_per_frame_and_a_curve_of_the_whole(given, expected):
    curve = Curve.of(given, name="smile", default=0.0)
    seen = curve.at(torch.tensor([0.0, 12.5, 25.0]), fps=25, total=500)
    torch.testing.assert_close(seen, torch.tensor(expected))


@pytest.mark.parametrize("given", ["a", "0: 1: 2", "0: 1, 0: 2", "nan: 1, 2: 0", None, "0.5, 0.6", "2", -0.5, ["x"]])
def test_what_is_no_curve_or_out_of_range_is_refused_by_name(given):
    with pytest.raises(ValueError, match="smile"):
        Expression.of(smile=given)


def test_neutral_dials_return_the_very_latents_and_keyframes_of_zeros_are_neutral():
    latents = torch.randn(1, 8, 4, 2, 2)
    for neutral in (Expression(), Expression.of(smile="0: 0, 2: 0", audio_strength="1", blinks="")):
        assert neutral.on(latents, 0, **AS_SAMPLED) is latents


def test_dials_are_channels_behind_latents_that_stay_as_they_are_and_clips_join():
    latents = torch.randn(1, 8, 12, 2, 2)
    expression = Expression.of(smile="0: 0, 1: 1", yaw=10, pitch=5)
    early = expression.on(latents[:, :, :5], 0, **AS_SAMPLED)
    late = expression.on(latents[:, :, 5:], 5, **AS_SAMPLED)
    whole = expression.on(latents, 0, **AS_SAMPLED)
    assert torch.equal(torch.cat([early, late], 2), whole)
    assert torch.equal(whole[:, :8], latents)
    assert whole.shape[1] == 8 + len(DIALS)
    assert torch.equal(whole[0, 8 + DIALS.index("smile"), :, 0, 0], whole[0, 8 + DIALS.index("smile"), :, 1, 1])
    torch.testing.assert_close(dial(expression, "yaw")[:1], torch.deg2rad(torch.tensor([10.0])))
    torch.testing.assert_close(dial(expression, "pitch")[:1], torch.deg2rad(torch.tensor([-5.0])))  # channels: down


def test_a_single_blink_shuts_the_lids_when_it_should():
    lids = dial(Expression.of(blinks="2"), "lids")
    assert lids[53].item() == 1
    assert set((lids > 0).nonzero()[:, 0].tolist()) == set(range(51, 59))


def starts(shut: torch.Tensor) -> int:
    return int(((shut[1:] > 0) & (shut[:-1] == 0)).sum())


def test_a_blink_rate_of_0_takes_every_scheduled_blink_back_and_2_doubles_them():
    scheduled = blinks(0, 500, 25.0, seed=3)
    taken = dial(Expression.of(blink_rate=0), "lids")
    assert torch.equal(taken < 0, scheduled > 0)
    more = dial(Expression.of(blink_rate=2), "lids")
    assert starts(more) in range(starts(scheduled) - 1, starts(scheduled) + 2)
    half = dial(Expression.of(blink_rate=0.5), "lids")
    assert 0 < starts((half < 0).float()) < starts(scheduled)
    late = dial(Expression.of(blink_rate="10: 1; 10.1: 0"), "lids")
    assert not (late[:250] < 0).any()
    assert (late[260:] < 0).any()


def test_blinks_do_not_depend_on_how_a_video_is_cut_into_clips():
    expression = Expression.of(blink_rate=1.7, blinks=[4.9])
    whole = dial(expression, "lids")
    pieces = [dial(expression, "lids", first, 20) for first in range(0, 500, 20)]
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=0, atol=1e-6)  # powers differ in the last bit


def test_every_range_holds_the_default():
    for name, (low, high) in RANGES.items():
        assert low <= getattr(Expression(), name).values[0] <= high

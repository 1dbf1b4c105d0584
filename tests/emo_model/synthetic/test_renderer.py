from __future__ import annotations

import dataclasses

import pytest
import torch

from emo_model.synthetic.identities import HATS, STYLES, Identities, sample_identities
from emo_model.synthetic.motion import FaceMotion, sample_still_motion
from emo_model.synthetic.renderer import render

SIZE = 128
PEOPLE = range(16)


def posed(people: Identities, **tracks) -> FaceMotion:
    """Looking straight on, but for some tracks."""
    count = len(people)
    given = {name: torch.as_tensor(value, dtype=torch.float32).expand(count) for name, value in tracks.items()}
    return dataclasses.replace(FaceMotion.neutral(count), **given)


def test_the_same_seed_gives_the_same_picture():
    motion = sample_still_motion(PEOPLE)
    assert torch.equal(
        render(sample_identities(PEOPLE), motion, size=64), render(sample_identities(PEOPLE), motion, size=64)
    )


def test_no_two_people_look_alike():
    people = sample_identities(range(40))
    pictures = render(people, posed(people), size=64).flatten(1)
    distance = torch.cdist(pictures, pictures, p=1) / pictures.shape[1] + torch.eye(40)
    assert distance.min() > 0.02


def test_a_person_looks_the_same_alone_and_in_any_batch():
    people, motion = sample_identities(PEOPLE), sample_still_motion(PEOPLE)
    together = render(people, motion, size=SIZE)
    alone = torch.cat([render(sample_identities([seed]), sample_still_motion([seed]), size=SIZE) for seed in PEOPLE])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)
    backwards = render(people[torch.arange(15, -1, -1)], motion[torch.arange(15, -1, -1)], size=SIZE, chunk=5).flip(0)
    torch.testing.assert_close(backwards, together, rtol=0, atol=1e-5)


def test_pictures_are_finite_and_within_bounds_in_every_style_and_hat():
    people, motion = sample_identities(range(200)), sample_still_motion(range(200))
    assert set(people.style.tolist()) == set(range(len(STYLES)))
    assert set(people.hat.tolist()) == set(range(len(HATS)))
    pictures = render(people, motion, size=64)
    assert pictures.shape == (200, 3, 64, 64) and pictures.dtype == torch.float32
    assert pictures.isfinite().all() and pictures.min() >= -1 and pictures.max() <= 1
    assert pictures.flatten(1).std(1).min() > 0.1


def test_as_many_moments_as_people_are_asked_for():
    with pytest.raises(ValueError, match="2 identities but 3 moments"):
        render(sample_identities([1, 2]), FaceMotion.neutral(3), size=64)


def test_heads_fill_a_portrait_and_stay_inside():
    people = sample_identities(range(300))
    head = people.head_size  # crown to chin, as a share of the picture
    assert head.min() > 0.5 and head.max() < 0.72
    top = (people.head_y - people.head_size * (1 + people.hair_top) + 1) / 2
    assert top.min() > 0

from __future__ import annotations

import dataclasses
import time

import pytest
import torch

from emo_model.synthetic.identities import HATS, STYLES, Identities, sample_identities
from emo_model.synthetic.motion import FaceMotion, sample_still_motion
from emo_model.synthetic.renderer import landmarks, render

SIZE = 128
PEOPLE = range(16)


def posed(people: Identities, **tracks) -> FaceMotion:
    """Looking straight on, but for some tracks."""
    count = len(people)
    given = {name: torch.as_tensor(value, dtype=torch.float32).expand(count) for name, value in tracks.items()}
    return dataclasses.replace(FaceMotion.neutral(count), **given)


def plain(seeds, **fields) -> Identities:
    """People without what may hide a feature."""
    people = sample_identities(seeds)
    count = len(people)
    zero = torch.zeros(count)
    bare = dict(beard=zero, moustache=zero, glasses=zero, hat=torch.zeros(count, dtype=torch.int64)) | fields
    return dataclasses.replace(people, **bare)


def disc(points: torch.Tensor, radius: torch.Tensor, size: int) -> torch.Tensor:
    """(B, 2) in 0..1 -> (B, size, size) bool."""
    axis = (torch.arange(size) + 0.5) / size
    dx, dy = axis[None, None, :] - points[:, 0, None, None], axis[None, :, None] - points[:, 1, None, None]
    return dx.square() + dy.square() < radius[:, None, None].square()


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


def test_repeated_people_line_up_with_the_frames_of_their_clips():
    people = sample_identities([3, 5]).repeat(4)
    assert people.seed.tolist() == [3] * 4 + [5] * 4


def test_as_many_moments_as_people_are_asked_for():
    with pytest.raises(ValueError, match="2 identities but 3 moments"):
        render(sample_identities([1, 2]), FaceMotion.neutral(3), size=64)


def test_the_mouth_grows_with_its_opening():
    seeds = list(range(24))
    people = plain(seeds)
    shut = render(people, posed(people), size=SIZE)
    place = landmarks(people, posed(people, opening=0.6))
    near = disc(place.mouth, place.mouth_radius * 1.2, SIZE)
    changed = []
    for opening in (0.0, 0.25, 0.5, 0.75, 1.0):
        picture = render(people, posed(people, opening=opening), size=SIZE)
        dark = ((picture - shut).abs().amax(1) > 0.12) & near  # lips that moved and what they lay bare
        changed.append(dark.sum((1, 2)))
    growth = torch.stack(changed).diff(dim=0)
    assert (growth[0] > 0).all() and (growth >= -2).all()
    assert (changed[-1] > 60).all()


def test_pressed_lips_stay_shut_whatever_the_opening():
    people = plain(range(24))
    place = landmarks(people, posed(people))
    near = disc(place.mouth, place.mouth_radius, SIZE)
    spread, pressed = (
        render(people, posed(people, opening=0.3, width=0.6, closure=closure), size=SIZE) for closure in (0.0, 1.0)
    )
    never_open = render(people, posed(people, width=0.6, closure=1.0), size=SIZE)

    def differ(picture, other):
        return (((picture - other).abs().amax(1) > 0.3) & near).sum((1, 2))

    assert (differ(spread, never_open) > 20).all()
    assert (differ(pressed, never_open) < 5).all()


def test_rounded_lips_are_narrower_than_spread_ones():
    people = sample_identities(range(50))
    rounded, spread = (landmarks(people, posed(people, width=width)).mouth_radius for width in (-1.0, 1.0))
    assert (spread > 1.5 * rounded).all()


def test_mouths_are_at_least_a_quarter_of_the_face_wide():
    people = sample_identities(range(300))
    assert (people.mouth_width / people.face_width).min() > 0.25


def test_yaw_moves_the_drawn_eyes_where_the_landmarks_say():
    people = plain([2, 5, 11])
    for yaw in (-0.3, 0.0, 0.3):
        motion, shut = posed(people, yaw=yaw), posed(people, yaw=yaw, blink_left=1.0, blink_right=1.0)
        difference = (render(people, motion, size=SIZE) - render(people, shut, size=SIZE)).abs().sum(1)
        axis = (torch.arange(SIZE) + 0.5) / SIZE
        weights = difference / difference.sum((1, 2), keepdim=True)
        middle = torch.stack(((weights.sum(1) * axis).sum(1), (weights.sum(2) * axis).sum(1)), -1)
        place = landmarks(people, motion)
        torch.testing.assert_close(middle, (place.eye_left + place.eye_right) / 2, rtol=0, atol=0.02)


def test_a_blink_hides_the_iris_and_only_that_eyes():
    vivid = torch.tensor([0.1, 1.0, 0.1])
    people = plain(range(12), iris=vivid.expand(12, 3), hair_style=torch.zeros(12, dtype=torch.int64))
    place = landmarks(people, posed(people))
    green = {}
    for name, tracks in {
        "open": {},
        "left": {"blink_left": 1.0},
        "both": {"blink_left": 1.0, "blink_right": 1.0},
    }.items():
        picture = render(people, posed(people, **tracks), size=SIZE)
        strong = picture[:, 1] - torch.maximum(picture[:, 0], picture[:, 2]) > 0.5
        green[name] = [
            (strong & disc(eye, place.eye_radius, SIZE)).sum((1, 2)) for eye in (place.eye_left, place.eye_right)
        ]
    assert all((count >= 8).all() for count in green["open"])
    assert all((count == 0).all() for count in green["both"])
    assert (green["left"][0] == 0).all() and torch.equal(green["left"][1], green["open"][1])


@pytest.mark.parametrize("gaze", [-0.3, 0.3])
def test_both_irises_look_the_same_way(gaze):
    vivid = torch.tensor([0.1, 1.0, 0.1])
    people = plain(range(12), iris=vivid.expand(12, 3), hair_style=torch.zeros(12, dtype=torch.int64))
    place = landmarks(people, posed(people))
    axis = (torch.arange(256) + 0.5) / 256

    def middle(motion, eye):
        picture = render(people, motion, size=256)
        strong = (picture[:, 1] - torch.maximum(picture[:, 0], picture[:, 2])).clamp(min=0) * disc(
            eye, place.eye_radius, 256
        )
        return (strong.sum(1) * axis).sum(1) / strong.sum((1, 2))

    moved = [
        middle(posed(people, gaze_x=gaze), eye) - middle(posed(people), eye)
        for eye in (place.eye_left, place.eye_right)
    ]
    assert (moved[0] * gaze > 0).all() and (moved[1] * gaze > 0).all()
    torch.testing.assert_close(moved[0], moved[1], rtol=0.5, atol=0.004)


def test_heads_fill_a_portrait_and_stay_inside():
    people = sample_identities(range(300))
    head = people.head_size  # crown to chin, as a share of the picture
    assert head.min() > 0.5 and head.max() < 0.72
    top = (people.head_y - people.head_size * (1 + people.hair_top) + 1) / 2
    assert top.min() > 0


def test_a_picture_takes_milliseconds():
    people, motion = sample_identities(range(32)), sample_still_motion(range(32))
    render(people, motion, size=SIZE)
    start = time.perf_counter()
    render(people, motion, size=SIZE)
    assert (time.perf_counter() - start) / 32 < 0.1  # about 0.008 s on an idle core


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_paints_what_the_cpu_paints():
    people, motion = sample_identities(PEOPLE), sample_still_motion(PEOPLE)
    there = render(people, motion, size=SIZE, device="cuda").cpu()
    assert (there - render(people, motion, size=SIZE)).abs().mean() < 1e-3

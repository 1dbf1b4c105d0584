"""Several heads in one picture: nobody moves what is another's, and outside of all nothing moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from emo_model.auxiliary.motion_decoder import MotionDecoder
from emo_model.inputs.portrait import read_portrait
from emo_model.outputs.portrait_decoder import PortraitDecoder
from emo_model.outputs.several_faces import GroupDecoder, in_step, last_in_step
from emo_model.outputs.territory import neighbours, share_of
from emo_model.types import Fit

SIDE = 120


def row_of(photograph, lefts: list[int], width: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The photograph at 120 pixels, side by side in a picture of noise, and the mesh of each."""
    small = F.interpolate(photograph.picture, size=(SIDE, SIDE), mode="area")
    picture = torch.rand(1, 3, 160, width, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for left in lefts:
        picture[:, :, 20 : 20 + SIDE, left : left + SIDE] = small
    mesh = photograph.mesh * (SIDE / photograph.picture.shape[-1])
    return picture, [mesh + torch.tensor([left, 20.0, 0.0]) for left in lefts]


def decoders_of(photograph, config, awake, lefts: list[int], width: int) -> list[PortraitDecoder]:
    picture, meshes = row_of(photograph, lefts, width)
    portraits = [read_portrait(picture, mesh, config) for mesh in meshes]
    network, fits = awake(MotionDecoder(config), seed=4), [portrait.fit for portrait in portraits]
    return [
        PortraitDecoder(network, config, picture, portrait, others=[fit for fit in fits if fit is not portrait.fit])
        for portrait in portraits
    ]


@pytest.mark.parametrize("lefts", [[10, 250], [10, 110], [0, 90, 180], [0, 100, 200, 300]])
def test_outside_of_all_squares_pixels_are_the_pictures_bit_for_bit(photograph, config, awake, seeded, lefts):
    decoders = decoders_of(photograph, config, awake, lefts, 440)
    latents = [2 * seeded(2, 8, 4, 4, seed=number) for number in range(len(lefts))]
    frames, still = GroupDecoder(decoders).decode(latents), decoders[0].still
    outside = np.ones(still.shape[:2], dtype=bool)
    for decoder in decoders:
        fit = decoder.fit
        outside[max(0, fit.top) : fit.top + fit.side, max(0, fit.left) : fit.left + fit.side] = False
    assert outside.any() and all(np.array_equal(frame[outside], still[outside]) for frame in frames)
    for decoder in decoders:
        x, y = (decoder.fit.left + decoder.fit.side // 2, decoder.fit.top + decoder.fit.side // 2)
        assert (frames[0] != still)[y - 10 : y + 10, x - 10 : x + 10].any()


def test_heads_whose_squares_do_not_meet_move_as_if_alone(photograph, config, awake, seeded):
    decoders = decoders_of(photograph, config, awake, [10, 300], 440)
    assert decoders[0].others == [] == decoders[1].others
    latents = [2 * seeded(3, 8, 4, 4, seed=number) for number in range(2)]
    together = GroupDecoder(decoders).decode(latents)
    left, right = (decoder.decode(own) for decoder, own in zip(decoders, latents, strict=True))
    assert np.array_equal(together[:, :, :230], left[:, :, :230])
    assert np.array_equal(together[:, :, 230:], right[:, :, 230:])


def test_where_squares_meet_no_pixel_is_moved_by_two_and_order_does_not_matter(photograph, config, awake, seeded):
    decoders = decoders_of(photograph, config, awake, [10, 100, 190], 440)
    latents = [2 * seeded(2, 8, 4, 4, seed=number) for number in range(3)]
    still = decoders[0].still
    alone = [decoder.decode(own) != still for decoder, own in zip(decoders, latents, strict=True)]
    moved = np.stack([pixels.any((0, 3)) for pixels in alone])
    assert moved.sum(0).max() == 1 and all(part.any() for part in moved)
    forth = GroupDecoder(decoders).decode(latents)
    back = GroupDecoder(decoders[::-1]).decode(latents[::-1])
    assert np.array_equal(forth, back)


def test_a_head_beside_another_rests_towards_the_border_without_a_jump(photograph, config, awake):
    """One cell of flow everywhere: beside the border pixels come from near, in the middle from a cell away."""
    left = decoders_of(photograph, config, awake, [10, 100], 340)[0]
    y, x = torch.arange(160) + 0.5, torch.arange(340) + 0.5
    share = share_of(left.fit, left.others, y, x)
    middle = left.fit.top + left.fit.side // 2
    border = (left.fit.left + left.others[0].left + left.fit.side) / 2
    row = share[middle]
    assert row[int(left.fit.left + left.fit.side / 2)] == 1 and not row[int(border + 1) :].any()
    assert row[int(border) - 2] < 0.05 and (row.diff()[: int(border)] <= 0).all() and row.diff().abs().max() < 0.15


SQUARES = st.builds(
    lambda left, top, side: Fit(400, 300, left, top, side, 256),
    st.integers(-80, 400),
    st.integers(-80, 300),
    st.integers(20, 300),
)


@given(
    st.lists(SQUARES, min_size=2, max_size=5, unique_by=lambda fit: (fit.left + fit.side / 2, fit.top + fit.side / 2))
)
@settings(max_examples=40, deadline=None)
def test_no_place_is_shared_whatever_the_squares(fits):
    y, x = torch.arange(0, 300, 7) + 0.5, torch.arange(0, 400, 7) + 0.5
    shares = torch.stack([share_of(fit, [one for one in fits if one is not fit], y, x) for fit in fits])
    assert ((shares > 0).sum(0) <= 1).all() and shares.amin() >= 0 and shares.amax() <= 1
    for fit in fits:
        for other in fits:
            assert (other in neighbours(fit, [other])) == (fit in neighbours(other, [fit]))


def test_faces_of_two_pictures_are_refused(photograph, config, awake):
    one = decoders_of(photograph, config, awake, [10], 200)[0]
    other = decoders_of(photograph, config, awake, [10], 300)[0]
    with pytest.raises(ValueError, match=r"face 2 was cut from another picture \(300x160\) than the first \(200x160\)"):
        GroupDecoder([one, other])


def test_the_last_latents_of_a_group_are_those_that_it_showed_also_of_a_face_that_came_to_rest(seeded):
    long, short, dialled = seeded(1, 2, 20, 3, 3), seeded(1, 2, 9, 3, 3, seed=1), seeded(1, 4, 20, 3, 3, seed=2)
    rests = [torch.zeros(1, 2, 3, 3)] * 3
    shown = list(in_step([[long], [short], [dialled]], rests, frames=20, easing=13))
    ends = [clip[:, :, -4:] for clip in (long, short, dialled)]
    last = last_in_step(ends, rests, gaps=[0, 11, 0], count=4, easing=13)
    assert last.shape == (3, 4, 4, 3, 3)
    for number, channels in enumerate((2, 2, 4)):
        whole = torch.cat([part[number] for part in shown]).transpose(0, 1)
        torch.testing.assert_close(last[number, :channels], whole[:, -4:])
        assert not last[number, channels:].any()

"""The square back in the picture that it was cut from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emo_model.inputs.face import fit_picture, square_fit
from emo_model.inputs.media import to_uint8
from emo_model.outputs.paste_back import SOFT_EDGE, PasteBack

GREY = torch.zeros(1, 3, 120, 200)
FACE = (80, 40, 110, 70)  # the square is 60 pixels, at 65, 20


def put(frame: np.ndarray, mode: str = "crop", face=FACE, picture=GREY) -> np.ndarray:
    (whole,) = PasteBack(picture, square_fit(200, 120, len(frame), mode, face)).paste(frame[None])
    return whole[0]


@pytest.mark.parametrize("size", [60, 128, 32])
def test_the_square_moves_and_all_around_it_stays_as_it_is(size):
    whole = put(np.full((size, size, 3), 255, dtype=np.uint8))
    assert whole.shape == (120, 200, 3) and whole.dtype == np.uint8
    moved = whole[..., 0] > 128
    rows, columns = moved.any(1).nonzero()[0], moved.any(0).nonzero()[0]
    assert 20 <= rows[0] and rows[-1] < 80 and 65 <= columns[0] and columns[-1] < 125
    soft = round(SOFT_EDGE * 60)
    assert (whole[20 + soft : 80 - soft, 65 + soft : 125 - soft] == 255).all()


def test_its_edges_fade_without_a_step():
    row = put(np.full((60, 60, 3), 255, dtype=np.uint8))[50, 60:95, 0].astype(int)
    assert row[0] == 128 and row[-1] == 255 and (np.diff(row) >= 0).all() and np.diff(row).max() < 40


def test_nothing_fades_where_the_picture_ends():
    whole = put(np.full((64, 64, 3), 255, dtype=np.uint8), face=(0, 0, 30, 40))  # a square of 80 in the corner
    assert (whole[:60, :60] == 255).all() and whole[0, 79, 0] < 140 < whole[0, 60, 0]


def test_a_frame_that_shows_what_the_picture_shows_changes_nothing():
    cells = torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1
    picture = cells.repeat_interleave(10, 2).repeat_interleave(10, 3)
    fitted, fit = fit_picture(picture, 60, "crop", FACE)
    (whole,) = PasteBack(picture, fit).paste(to_uint8(fitted))
    assert np.abs(whole[0].astype(int) - to_uint8(picture)[0]).max() <= 1


def test_what_was_padded_beyond_the_picture_is_cut_off_again():
    frame = np.zeros((60, 60, 3), dtype=np.uint8)
    frame[:, 30:] = 255
    whole = put(frame, "pad", face=(0, 40, 30, 70))  # the square begins at -15, 20
    assert whole.shape == (120, 200, 3)
    assert (whole[50, :12] == 0).all() and (whole[50, 18:36] == 255).all() and (whole[50, 46:] == 128).all()


def test_each_frame_comes_by_itself_and_the_still_picture_stays_still():
    whole = PasteBack(GREY, square_fit(200, 120, 60, "crop", FACE))
    first, second = whole.paste(np.stack([np.full((60, 60, 3), level, dtype=np.uint8) for level in (255, 0)]))
    assert first.shape == second.shape == (1, 120, 200, 3)
    assert first[0, 50, 95, 0] == 255 and second[0, 50, 95, 0] == 0 and (whole.still == 128).all()


def test_frames_that_are_not_square_are_refused():
    with pytest.raises(ValueError, match="80x60 pixels, but only a square"):
        next(PasteBack(GREY, square_fit(200, 120, 60, "crop", FACE)).paste(np.zeros((1, 60, 80, 3), dtype=np.uint8)))


def test_another_picture_is_refused():
    with pytest.raises(ValueError, match="cropped from one of 200x120"):
        PasteBack(torch.zeros(1, 3, 100, 100), square_fit(200, 120, 60))

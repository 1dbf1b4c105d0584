from __future__ import annotations

import pytest
import torch

from emo_model.inputs.face import apply_fit, box_mask, box_of, fit_mask, fit_picture, square_fit, whole_mask

SHAPES = [(300, 200), (200, 300), (256, 256), (101, 67), (40, 640)]


def disc(width: int, height: int, *, x: float, y: float, radius: float) -> torch.Tensor:
    """(1, 1, height, width): 1 inside the circle."""
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return (((columns - x) ** 2 + (rows - y) ** 2).sqrt() < radius).float()[None, None]


def extent(picture: torch.Tensor) -> tuple[float, float, float, float]:
    """Centre x, y and width, height of what is bright in (1, 1, H, W), with parts of pixels."""
    bright = picture[0, 0].clamp(0, 1)
    rows, columns = bright.sum(1), bright.sum(0)
    places = torch.arange(bright.shape[-1]) + 0.5
    centre = (columns * places).sum() / columns.sum(), (rows * places).sum() / rows.sum()
    return *centre, columns.gt(0.5).sum(), rows.gt(0.5).sum()


@pytest.mark.parametrize("mode", ["crop", "pad"])
@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_a_circle_stays_a_circle(width, height, mode):
    fit = square_fit(width, height, 128, mode)
    x = min(max(fit.left + fit.side / 2, 0), width)
    y = min(max(fit.top + fit.side / 2, 0), height)
    radius = 0.45 * min(width, height)
    fitted = apply_fit(disc(width, height, x=x, y=y, radius=radius), fit, padding="zeros")
    centre_x, centre_y, across, down = extent(fitted)
    expected = 2 * radius * 128 / fit.side
    assert abs(across - down) <= 1 and abs(across - expected) <= 1 + 128 / fit.side  # a pixel of each
    assert abs(centre_x - 64) < 1.1 and abs(centre_y - 64) < 1.1


def test_crop_takes_the_largest_square_inside_from_the_middle_or_a_third_down():
    wide, tall = square_fit(300, 200, 64), square_fit(200, 320, 64)
    assert (wide.left, wide.top, wide.side) == (50, 0, 200)
    assert (tall.left, tall.top, tall.side) == (0, 40, 200)


def test_pad_takes_the_smallest_square_around():
    wide, tall = square_fit(300, 200, 64, "pad"), square_fit(200, 321, 64, "pad")
    assert (wide.left, wide.top, wide.side) == (0, -50, 300)
    assert (tall.left, tall.top, tall.side) == (-60, 0, 321)


@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_pad_repeats_the_edges_of_a_picture(width, height):
    columns = torch.linspace(-0.8, 0.8, width).expand(1, 3, height, width)
    fitted, fit = fit_picture(columns.clone(), 64, "pad")
    assert fitted.shape == (1, 3, 64, 64)
    if width < height:
        assert (fitted[..., 0] + 0.8).abs().max() < 0.02 and (fitted[..., -1] - 0.8).abs().max() < 0.02
    assert torch.allclose(
        fitted[..., :1, :], fitted[..., -1:, :], atol=1e-5
    )  # rows are alike, also those beyond the picture


def test_a_picture_of_the_right_size_is_not_touched(seeded):
    pixels = seeded(1, 3, 64, 64).clamp(-1, 1)
    fitted, fit = fit_picture(pixels, 64)
    assert torch.equal(fitted, pixels) and fit.summary == "Portrait 64x64, unchanged."


def test_fitted_pixels_stay_in_range_where_the_filter_overshoots():
    pixels = -torch.ones(1, 3, 30, 30)
    pixels[..., 15:] = 1
    fitted, _ = fit_picture(pixels, 128)
    assert fitted.min() == -1 and fitted.max() == 1
    assert apply_fit(pixels, square_fit(30, 30, 128)).max() > 1.001  # the filter does overshoot


@pytest.mark.parametrize("mode", ["crop", "pad"])
@pytest.mark.parametrize(("width", "height"), SHAPES[:4])
def test_a_mask_lies_over_the_fitted_picture_where_it_lay_over_the_picture(width, height, mode):
    face = disc(width, height, x=0.45 * width, y=0.4 * height, radius=0.25 * min(width, height))
    picture, fit = fit_picture(face.expand(1, 3, height, width) * 2 - 1, 128, mode)
    mask = fit_mask(face, fit).mask
    both, either = (mask * (picture[:, :1] + 1) / 2).sum(), torch.maximum(mask, (picture[:, :1] + 1) / 2).sum()
    assert mask.shape == (1, 1, 128, 128) and both / either > 0.97
    assert mask.min() >= 0 and mask.max() <= 1


def test_beyond_the_picture_there_is_no_face():
    mask = fit_mask(torch.ones(1, 1, 50, 100), square_fit(100, 50, 64, "pad")).mask
    assert not mask[:, :, :14].any() and not mask[:, :, -14:].any() and (mask[:, :, 20:-20] > 0.99).all()


def test_a_mask_outside_the_crop_is_refused_with_the_crop_and_a_remedy():
    corner = torch.zeros(1, 1, 100, 300)
    corner[..., :40] = 1
    with pytest.raises(
        ValueError, match=r"empty inside .* \(100x100 pixels at 100, 0\); paint it over the face, or set"
    ):
        fit_mask(corner, square_fit(300, 100, 64))
    assert fit_mask(corner, square_fit(300, 100, 64, "pad")).mask.any()


def test_a_mask_of_another_size_than_the_portrait_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match="the picture is 64x32 pixels, but the portrait is 300x200"):
        fit_mask(torch.ones(1, 1, 32, 64), square_fit(300, 200, 64))


def test_a_box_is_a_mask_of_fractions_cut_at_the_pictures_edge():
    mask = box_mask(64, (0.25, 0.5, 0.75, 1.5)).mask
    assert mask.sum() == 32 * 32 and mask[0, 0, 32:, 16:48].all()
    assert whole_mask(64).mask.sum() == 64 * 64


@pytest.mark.parametrize("box", [(0.5, 0.1, 0.5, 0.9), (0.8, 0.1, 0.2, 0.9), (1.2, 0.1, 1.5, 0.9)])
def test_an_empty_or_reversed_box_is_refused(box):
    with pytest.raises(ValueError, match="is empty; give left smaller than right"):
        box_mask(64, box)


def test_an_unknown_fit_and_an_empty_picture_are_refused():
    with pytest.raises(ValueError, match="fit must be one of crop, pad, got 'squash'"):
        square_fit(10, 10, 64, "squash")
    with pytest.raises(ValueError, match="the portrait is empty"):
        square_fit(0, 10, 64)


def test_the_square_is_cut_around_a_face_as_large_as_the_model_is_used_to():
    fit = square_fit(1000, 800, 64, face=(400, 300, 480, 400))
    assert fit.side == 200  # twice the longer side
    assert (fit.left + 0.5 * fit.side, fit.top + 0.58 * fit.side) == (440, 350)


@pytest.mark.parametrize(
    ("face", "expected"),
    [((0, 0, 60, 60), (0, 0, 120)), ((290, 150, 300, 200), (200, 100, 100)), ((10, 10, 290, 190), (50, 0, 200))],
)
def test_a_square_around_a_face_stays_inside_the_picture(face, expected):
    fit = square_fit(300, 200, 64, face=face)
    assert (fit.left, fit.top, fit.side) == expected and "cropped to" in fit.summary


def test_padding_reaches_beyond_the_picture_for_a_face_at_its_edge():
    fit = square_fit(300, 200, 64, "pad", face=(0, 0, 60, 60))
    assert (fit.left, fit.top, fit.side) == (-30, -40, 120) and "padded to" in fit.summary
    assert fit_picture(torch.rand(1, 3, 200, 300), 64, "pad", (0, 0, 60, 60))[0].shape == (1, 3, 64, 64)


@pytest.mark.parametrize("face", [(50, 50, 50, 90), (310, 10, 350, 50), (90, 90, 10, 10), (float("nan"),) * 4])
def test_a_face_box_that_is_empty_or_outside_is_refused(face):
    with pytest.raises(ValueError, match="empty or outside the picture of 300x200"):
        square_fit(300, 200, 64, face=face)


def test_the_box_of_a_mask_is_around_all_that_is_white():
    mask = torch.zeros(1, 1, 20, 30)
    mask[..., 4:9, 7:12], mask[..., 15, 28] = 1, 1
    assert box_of(mask) == (7, 4, 29, 16)
    with pytest.raises(ValueError, match="mask is empty"):
        box_of(torch.zeros(1, 1, 4, 4))

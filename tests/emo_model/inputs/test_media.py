"""Pictures and the ends of videos are read as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from videos import moving, read_video, tone

from emo_model.inputs.media import last_frames, read_picture, to_uint8
from emo_model.outputs.video import VideoWriter


def corners(pixels: torch.Tensor) -> list[int]:
    """Red of the four corners of (1, 3, H, W), clockwise from the upper left, 0..255."""
    red = ((pixels[0, 0] + 1) * 127.5).round().int()
    return [red[0, 0].item(), red[0, -1].item(), red[-1, -1].item(), red[-1, 0].item()]


@pytest.fixture
def marked() -> Image.Image:
    """30x20 pixels, its corners 0, 60, 120, 180 red, clockwise from the upper left."""
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:10, 15:, 0], picture[10:, 15:, 0], picture[10:, :15, 0] = 60, 120, 180
    return Image.fromarray(picture)


def test_a_picture_is_read_pixel_by_pixel(tmp_path, marked):
    marked.save(tmp_path / "a.png")
    pixels = read_picture(tmp_path / "a.png")
    assert pixels.shape == (1, 3, 20, 30) and pixels.dtype == torch.float32 and corners(pixels) == [0, 60, 120, 180]
    assert np.array_equal(to_uint8(pixels)[0], np.array(marked))


def test_a_photograph_is_turned_as_its_camera_was_held(tmp_path, marked):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by a quarter to look at it
    marked.save(tmp_path / "a.png", exif=exif)
    pixels = read_picture(tmp_path / "a.png")
    assert pixels.shape == (1, 3, 30, 20) and corners(pixels) == [180, 0, 60, 120]


def test_transparency_becomes_white(tmp_path):
    Image.new("RGBA", (5, 7), (200, 0, 0, 0)).save(tmp_path / "a.png")
    assert torch.equal(read_picture(tmp_path / "a.png"), torch.ones(1, 3, 7, 5))


@pytest.mark.parametrize(
    ("mode", "colour"),
    [("L", 128), ("LA", (128, 255)), ("1", 1), ("P", 3), ("CMYK", (0, 0, 0, 0)), ("I;16", 40_000), ("F", 128.0)],
)
def test_pictures_of_every_kind_become_three_channels_in_range(tmp_path, mode, colour):
    path = tmp_path / ("a.tiff" if mode in ("CMYK", "F") else "a.png")
    Image.new(mode, (9, 5), colour).save(path)
    pixels = read_picture(path)
    assert pixels.shape == (1, 3, 5, 9) and pixels.min() >= -1 and pixels.max() <= 1


def test_sixteen_bit_grey_keeps_its_greys(tmp_path):
    ramp = np.linspace(0, 65_535, 64).astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    pixels = read_picture(tmp_path / "a.png")
    torch.testing.assert_close(pixels[0, 0, 0], torch.linspace(-1, 1, 64), rtol=0, atol=0.01)


def test_what_is_no_picture_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(ValueError, match="a.png is not a picture that Pillow can read; use a PNG, JPEG or WebP file"):
        read_picture(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match="nobody.png"):
        read_picture(tmp_path / "nobody.png")


def test_a_picture_that_was_cut_off_is_refused(tmp_path, seeded):
    Image.fromarray(to_uint8(seeded(1, 3, 64, 64))[0]).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="a.jpg is damaged"):
        read_picture(tmp_path / "a.jpg")


@pytest.mark.parametrize(("frames", "count"), [(3, 1), (40, 4), (300, 4), (600, 70), (5, 9)])
def test_the_last_frames_are_those_of_the_whole_video(tmp_path, frames, count):
    """300 frames and more have several key frames; 70 frames at 25 a second are longer than the first look back."""
    with VideoWriter(
        tmp_path / "a.mp4", fps=25, width=32, height=32, audio=(tone(frames / 25, 16_000), 16_000)
    ) as video:
        video.write(moving(frames))
    whole, _ = read_video(tmp_path / "a.mp4")
    assert np.array_equal(last_frames(tmp_path / "a.mp4", count), whole[-count:])
    with open(tmp_path / "a.mp4", "rb") as file:
        assert np.array_equal(last_frames(file, count), whole[-count:])


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (0.0, 10.0, (248, 250)),
        (9.96, 10.0, (249, 250)),
        (4.0, 4.04, (100, 101)),
        (0.0, 0.02, (0, 1)),
        (8.0, None, (298, 300)),
        (11.99, None, (300, 300)),
    ],
)
def test_of_a_cut_video_the_last_frames_are_those_before_the_cut(tmp_path, since, until, expected):
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32) as video:
        video.write(moving(300))
    whole, _ = read_video(tmp_path / "a.mp4")
    assert np.array_equal(last_frames(tmp_path / "a.mp4", 2, since=since, until=until), whole[slice(*expected)])


def test_a_colon_in_the_name_of_a_video_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with VideoWriter("take:2.mp4", fps=25, width=32, height=32) as video:
        video.write(moving(3))
    assert len(read_video("take:2.mp4")[0]) == len(last_frames("take:2.mp4", 3)) == 3


def test_a_picture_too_large_for_pillow_is_refused_with_a_sentence(tmp_path, monkeypatch, marked):
    marked.save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(ValueError, match="huge.png has more than 0 million pixels.*scale it down"):
        read_picture(tmp_path / "huge.png")

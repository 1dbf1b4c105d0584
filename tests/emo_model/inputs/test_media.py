"""Pictures and the ends of videos are read as they are."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, PngImagePlugin

from emo_model.inputs.media import read_picture, to_uint8
from emo_model.inputs.picture_files import to_float
from emo_model.inputs.portrait import fit_to_video


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


def test_a_picture_too_large_for_pillow_is_refused_with_a_sentence(tmp_path, monkeypatch, marked):
    marked.save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(ValueError, match="huge.png has more than 0 million pixels.*scale it down"):
        read_picture(tmp_path / "huge.png")


# ---- as viewers show them --------------------------------------------------------------------------------------------


def grey_of(path) -> float:
    """Mean of a picture, 0..255."""
    return (read_picture(path).mean().item() + 1) * 127.5


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile() -> bytes:
    """An sRGB profile with the tags of red and blue exchanged: a colour space whose effect cannot be overlooked."""
    profile = bytearray(srgb_profile())
    for first, second in ((b"rXYZ", b"bXYZ"),):
        at = [profile.index(tag, 128) for tag in (first, second)]
        profile[at[0] : at[0] + 4], profile[at[1] : at[1] + 4] = second, first
    return bytes(profile)


def test_colours_are_converted_from_their_profile_and_srgb_is_left_alone(tmp_path):
    red = Image.new("RGB", (8, 600), (200, 30, 30))
    red.save(tmp_path / "a.png", icc_profile=srgb_profile())
    red.save(tmp_path / "b.png", icc_profile=swapped_profile())
    red.putalpha(255)
    red.save(tmp_path / "c.png", icc_profile=swapped_profile())
    red.save(tmp_path / "d.png", icc_profile=b"no profile")
    plain, swapped, with_alpha, broken = (to_uint8(read_picture(tmp_path / f"{name}.png"))[0] for name in "abcd")
    assert (plain == (200, 30, 30)).all() and (broken == (200, 30, 30)).all()
    assert (abs(swapped.astype(int) - (30, 30, 200)) < 25).all() and (swapped == with_alpha).all()


def test_a_broken_tag_does_not_stop_the_turning(tmp_path, marked):
    exif = Image.Exif()
    exif[0x0112], exif[0x0128] = 6, 2
    data = bytearray(exif.tobytes())
    order = "<" if b"II*" in data else ">"
    at = data.index(struct.pack(f"{order}H", 0x0128))
    struct.pack_into(f"{order}H", data, at + 2, 2)  # the unit of the resolution as text
    marked.save(tmp_path / "a.jpg", exif=bytes(data), quality=95)
    assert read_picture(tmp_path / "a.jpg").shape == (1, 3, 30, 20)


@pytest.mark.parametrize("is_zipped", [False, True])
def test_texts_of_any_length_do_not_matter(tmp_path, marked, is_zipped):
    info = PngImagePlugin.PngInfo()
    info.add_itxt("workflow", "a" * 3_000_000, zip=is_zipped)
    info.add_text("prompt", "a" * 3_000_000, zip=is_zipped)
    marked.save(tmp_path / "a.png", pnginfo=info)
    assert np.array_equal(to_uint8(read_picture(tmp_path / "a.png"))[0], np.array(marked))


@pytest.mark.parametrize(
    ("values", "dtype", "grey"),
    [
        ((0.0, 0.5), np.float32, 63.75),
        ((0.0, 127.5), np.float32, 64),
        ((0, 65535), np.int32, 127.5),
        ((0, 32896), np.uint16, 64),
        ((10, 100), np.int32, 55),
    ],
)
def test_deep_grey_is_scaled_by_its_range(tmp_path, values, dtype, grey):
    pixels = np.repeat(np.array(values, dtype), 60).reshape(2, 60)
    Image.fromarray(pixels).save(tmp_path / "a.tiff")
    assert abs(grey_of(tmp_path / "a.tiff") - grey) < 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -300.0])
def test_pixels_that_are_no_colours_are_refused(tmp_path, bad):
    Image.fromarray(np.array([[0.1, bad, 0.3]], np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match="a.tiff has .*export it|a.tiff has .*save it as"):
        read_picture(tmp_path / "a.tiff")


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_of_an_animation_the_first_picture_that_shows_anything_is_taken(tmp_path, marked, name):
    empty = Image.new("RGBA", marked.size, (0, 0, 0, 0))
    rgba = marked.convert("RGBA")
    empty.save(tmp_path / name, save_all=True, append_images=[empty, rgba, empty], duration=100, lossless=True)
    shown = to_uint8(read_picture(tmp_path / name))[0]
    assert np.abs(shown.astype(int) - np.array(marked)).mean() < 3


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it is a HEIC file.*Export it as JPEG"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomiso2", "it is a video; save one of its frames"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "a drawing in SVG"),
        (b"%PDF-1.7 ", "it is a PDF"),
        (b"", "the file is empty"),
        (b"hello, I am a portrait", "is not a picture that Pillow can read"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path, start, said):
    (tmp_path / "a.jpg").write_bytes(start)
    with pytest.raises(ValueError, match=f"a.jpg .*{said}"):
        read_picture(tmp_path / "a.jpg")


@pytest.mark.parametrize("error", [struct.error("x"), SyntaxError("broken PNG"), IndexError(), ZeroDivisionError()])
def test_whatever_pillow_raises_becomes_a_sentence(tmp_path, marked, monkeypatch, error):
    marked.save(tmp_path / "a.png")

    def fails(*_):
        raise error

    monkeypatch.setattr(Image.Image, "crop", fails)
    with pytest.raises(ValueError, match="a.png is damaged, or not as Pillow expects it.*save or download it again"):
        read_picture(tmp_path / "a.png")


def test_a_large_picture_becomes_the_same_floats_as_a_small_one(photograph):
    """Pixels are reduced as uint8, channel by channel: the numbers are those of the whole picture as float."""
    pixels = torch.from_numpy(to_uint8(photograph.picture)[0]).permute(2, 0, 1)[None]
    for given, long_side in ((pixels, 300), (pixels, 4000)):
        whole, mesh = fit_to_video(to_float(given), photograph.mesh, long_side=long_side)
        parts, same = fit_to_video(given, photograph.mesh, long_side=long_side)
        assert torch.equal(whole, parts) and torch.equal(mesh, same)
    large = pixels.repeat_interleave(5, 2).repeat_interleave(5, 3)  # 2365 pixels: detected at half the size
    found, again = (photograph.finder.find(given)[0].mesh for given in (large, to_float(large)))
    torch.testing.assert_close(found, again, rtol=0, atol=0.05)

"""Still pictures as viewers show them (Pillow): orientation, colour profile, transparency, depth, in little memory."""

from __future__ import annotations

import io
import logging
import math
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from .files import check_readable

log = logging.getLogger("emo")
ROWS = 256  # converted at a time
BYTES_PER_PIXEL = 12  # of Pillow's picture, of one that is turned, and of the result, with room for the decoder
LARGE = 20_000_000  # pixels; from here on the log says what memory it takes
FRAMES = 100  # of an animation that are looked at for one that shows anything
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PNG, TEXTS = b"\x89PNG\r\n\x1a\n", (b"tEXt", b"zTXt", b"iTXt")
JPEG, EXIF = b"\xff\xd8\xff", b"Exif\0\0"
SCAN, EXTRAS = 0xDA, range(0xE0, 0xF0)  # markers of JPEG: where the pixels begin, and what programs add
NEEDED = (b"JFIF", b"ICC_PROFILE\0", b"Adobe")  # of these, what decides on the colours
MOST_TEXT = 2**28  # bytes of a file that is read again without what programs added


def read_pixels(path: str | Path) -> Tensor:
    """Any picture that Pillow reads, as viewers show it -> (1, 3, H, W) uint8; transparency becomes white.

    The EXIF orientation is applied, colours are converted to sRGB; of an animation the first frame that shows anything
    is taken. Memory: at most `BYTES_PER_PIXEL`. Raises OSError for a file that cannot be opened, or ValueError with its
    name for one that is no picture, or is damaged.
    """
    path = check_readable(path, "the picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of large or odd pictures; what matters is said below
            with _opened(path) as opened:
                return _pixels(opened, path.name)
    except ValueError as error:
        if isinstance(error, _Refused):
            raise ValueError(str(error)) from None
        raise _damaged(path, error) from None
    except UnidentifiedImageError:
        raise ValueError(f"{path.name} is not a picture that Pillow can read{_kind(path)}") from None
    except Image.DecompressionBombError:
        raise ValueError(
            f"{path.name} has more than {2 * Image.MAX_IMAGE_PIXELS / 1e6:.0f} million pixels, Pillow's limit "
            "against decompression bombs; scale it down, to about 2048 pixels a side"
        ) from None
    except MemoryError:
        raise ValueError(f"{path.name} does not fit into memory; scale it down, to about 2048 pixels a side") from None
    except Exception as error:  # Pillow's decoders raise what the file makes them raise: struct.error, SyntaxError, ...
        raise _damaged(path, error) from None


def to_float(pixels: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]; float pixels stay as they are."""
    return pixels if pixels.is_floating_point() else pixels.float().div_(127.5).sub_(1)


class _Refused(ValueError):
    """A sentence that is complete."""


def _damaged(path: Path, error: Exception) -> ValueError:
    lines = str(error).strip().splitlines()
    reason = f"{lines[0]:.120}" if lines else type(error).__name__
    return ValueError(f"{path.name} is damaged, or not as Pillow expects it ({reason}); save or download it again")


def _opened(path: Path) -> Image.Image:
    """What programs added to a PNG or JPEG is left out where Pillow refuses the file for it: texts that unpack to more
    than 1 MB, such as large workflows, and damaged EXIF, of which the orientation is still read."""
    try:
        return Image.open(path)
    except Exception:
        data = path.read_bytes() if path.stat().st_size <= MOST_TEXT else b""
        plain, exif = _without_texts(data), None
        if plain is None:
            plain, exif = _without_extras(data)
        if plain is None:
            raise
        opened = Image.open(plain)
        if exif is not None:
            opened.info["exif"] = exif
        return opened


def _without_extras(data: bytes) -> tuple[io.BytesIO | None, bytes | None]:
    """A JPEG without its application segments that colours do not depend on, and its EXIF; None for another file."""
    if not data.startswith(JPEG):
        return None, None
    kept, exif, place = [data[:2]], None, 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != SCAN:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        inside = data[place + 4 : end]
        if inside.startswith(EXIF):
            exif = exif or inside
        elif data[place + 1] not in EXTRAS or inside.startswith(NEEDED):
            kept.append(data[place:end])
        place = end
    return io.BytesIO(b"".join([*kept, data[place:]])), exif


def _without_texts(data: bytes) -> io.BytesIO | None:
    """A PNG without its text chunks; None for another file, or one without such chunks."""
    if not data.startswith(PNG):
        return None
    kept, place, has_texts = [PNG], len(PNG), False
    while place + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        if kind in TEXTS:
            has_texts = True
        else:
            kept.append(data[place : place + 12 + size])
        place += 12 + size
    return io.BytesIO(b"".join(kept)) if has_texts else None


def _kind(path: Path) -> str:
    """What a file is that Pillow does not know, and what to do: the end of a sentence."""
    with path.open("rb") as file:
        start = file.read(64)
    remedy = "; use a PNG, JPEG or WebP file"
    if not start:
        return f": the file is empty{remedy}"
    if start[4:8] == b"ftyp":
        brand = start[8:12].decode("ascii", "replace")
        if brand in ("heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"):
            return (
                ": it is a HEIC file, as iPhones take them. Export it as JPEG, or set the camera to 'Most Compatible'"
            )
        if brand in ("avif", "avis"):
            return ": it is an AVIF file, for which this Pillow has no decoder" + remedy
        return ": it is a video; save one of its frames as a picture"
    if start.startswith(b"\x1aE\xdf\xa3") or (start[:4] == b"RIFF" and start[8:11] == b"AVI"):
        return ": it is a video; save one of its frames as a picture"
    if start.lstrip()[:5].lower() in (b"<?xml", b"<svg ", b"<html", b"<!doc"):
        return f": it is a web page or a drawing in SVG{remedy}"
    if start[:4] == b"%PDF":
        return f": it is a PDF{remedy}"
    return remedy


def _pixels(opened: Image.Image, name: str) -> Tensor:
    width, height = opened.size
    if width * height >= LARGE:
        log.info(
            "%s has %d million pixels; reading it takes up to %.1f GB of memory",
            name,
            width * height // 10**6,
            width * height * BYTES_PER_PIXEL / 1e9,
        )
    picture = _first_that_shows(opened)
    picture.load()
    turn = TURNS.get(_orientation(opened))
    profile = opened.info.get("icc_profile")
    if turn is not None:
        picture = picture.transpose(turn)
    to_srgb = None if profile is None else _to_srgb(profile, picture, name)
    depth = _depth(picture, name)
    result = np.empty((picture.height, picture.width, 3), np.uint8)
    for top in range(0, picture.height, ROWS):
        band = picture.crop((0, top, picture.width, min(top + ROWS, picture.height)))
        if depth is not None:
            band = depth(band)
        result[top : top + ROWS] = np.asarray(_on_white(band, to_srgb))
    return torch.from_numpy(result).permute(2, 0, 1)[None]


def _on_white(band: Image.Image, to_srgb) -> Image.Image:
    if to_srgb is not None:
        alpha = band.convert("RGBA").getchannel("A") if band.has_transparency_data else None
        band = to_srgb(band)
        if alpha is None:
            return band.convert("RGB")
        band.putalpha(alpha)
    if band.mode == "RGB" and not band.has_transparency_data:
        return band
    band = band.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", band.size, "white"), band).convert("RGB")


def _orientation(picture: Image.Image) -> int:
    """Of EXIF, by its one tag: a damaged tag beside it does not matter."""
    try:
        value = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - whatever Pillow raises for broken EXIF; the picture is shown as it lies
        return 1
    return value if isinstance(value, int) else 1


def _first_that_shows(picture: Image.Image) -> Image.Image:
    """The first frame of an animation with more than one colour or any opaque pixel; a still as it is."""
    count = getattr(picture, "n_frames", 1)
    if count < 2 or not getattr(picture, "is_animated", False) or picture.format in ("TIFF", "MPO", "PSD"):
        return picture
    for number in range(min(count, FRAMES)):
        picture.seek(number)
        frame = picture.convert("RGBA")
        colours = frame.getextrema()
        if colours[3][1] > 0 and any(low < high for low, high in colours):
            return frame if number else picture
    picture.seek(0)
    return picture


def _depth(picture: Image.Image, name: str):
    """A function that makes 8-bit grey of a band of a deeper picture, by the range of its values; None for others."""
    if not picture.mode.startswith(("I", "F")):
        return None
    low, high = _range(picture)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise _Refused(f"{name} has NaN or infinite pixels; export it again, as a PNG or JPEG file")
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        most = 65535.0
    else:
        most = next((most for most in (1.0, 255.0, 65535.0, 2.0**32 - 1) if high <= most), None)
        if most == 1.0 and picture.mode == "I" and high > low:
            most = 255.0
    if low < -0.01 * (most or 1) or most is None:
        raise _Refused(
            f"{name} has pixels from {low:g} to {high:g}, which are not in 0..1, 0..255 or 0..65535; save it as a PNG "
            "or JPEG file"
        )

    def to_grey(band: Image.Image) -> Image.Image:
        values = np.asarray(band, np.float32)
        scaled = values * (255 / most) if most != 65535 else values / 257
        return Image.fromarray((scaled.round() if picture.mode == "F" else scaled).clip(0, 255).astype(np.uint8))

    return to_grey


def _range(picture: Image.Image) -> tuple[float, float]:
    bounds = []
    for top in range(0, picture.height, ROWS):
        band = np.asarray(picture.crop((0, top, picture.width, min(top + ROWS, picture.height))), np.float64)
        bounds += [band.min(), band.max()]
    return float(np.min(bounds)), float(np.max(bounds))  # NaN stays


def _to_srgb(profile: bytes, picture: Image.Image, name: str):
    """A function that converts a band to sRGB; None where the profile changes nothing visible, or is broken."""
    try:
        from PIL import ImageCms
    except ImportError:
        log.warning("%s has a colour profile, which this Pillow cannot read: its colours may be off", name)
        return None
    mode = {"RGBA": "RGB", "P": "RGB", "PA": "RGB", "RGBX": "RGB", "LA": "L", "1": "L"}.get(picture.mode, picture.mode)
    if mode not in ("RGB", "L", "CMYK", "LAB"):
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        convert = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        levels = np.array(np.meshgrid(*[np.arange(0, 256, 51)] * 3), np.uint8).reshape(3, -1).T[None]
        if mode == "RGB":
            sample = Image.fromarray(np.ascontiguousarray(levels))
            changed = np.asarray(ImageCms.applyTransform(sample, convert), int) - levels
            if np.abs(changed).max() <= 2:  # sRGB by another name
                return None
        elif mode == "L":
            sample = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
            changed = np.asarray(ImageCms.applyTransform(sample, convert), int)[..., 0] - np.arange(256)
            if np.abs(changed).max() <= 2:
                return None
        profile = ImageCms.getProfileDescription(source).strip()
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, zlib.error) as error:
        log.warning("%s has a colour profile that cannot be used (%s); it is taken as sRGB", name, error)
        return None
    log.info("%s: colours converted from '%s' to sRGB", name, profile[:60])
    return lambda band: ImageCms.applyTransform(band.convert(mode) if band.mode != mode else band, convert)

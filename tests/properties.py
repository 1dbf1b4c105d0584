"""Properties that hold for any bytes: a file is read, or refused in a sentence, within bounds of time."""

from __future__ import annotations

import json
import struct
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from hypothesis import strategies as st
from inputs_table import (
    MOST_SECONDS,
    _fault_of,
    animated,
    bytes_of,
    can_encode,
    coded,
    loaded,
    model_bytes,
    own_video,
    voice,
    wav_bytes,
)

from emo_model.config import PRESETS, ModelConfig
from emo_model.inputs.audio import SoundFile, resample
from emo_model.inputs.media import read_picture
from emo_model.inputs.video_frames import VideoFrames

CORPUS = Path(__file__).parent / "data" / "fuzz"
"""Inputs that once failed, and small ones of each kind: KIND-HASH."""


@dataclass(frozen=True)
class Property:
    """inputs: makes bytes; check: raises AssertionError, or any error that no user should see."""

    name: str
    inputs: st.SearchStrategy[bytes]
    check: Callable[[bytes], None]


def sentence_or(read: Callable[[Path], None], name: str, data: bytes) -> None:
    """`read` of a file with these bytes ends, or raises OSError or ValueError with a sentence."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        began = time.monotonic()
        try:
            read(path)
        except (OSError, ValueError) as error:
            fault = _fault_of(f"[Errno] {error}" if getattr(error, "errno", None) else str(error), "")
            assert not fault, fault
        assert time.monotonic() - began < MOST_SECONDS


def check_config(data: bytes) -> None:
    try:
        config = ModelConfig.from_json(data.decode("utf-8", "replace"))
    except ValueError as error:
        assert not (fault := _fault_of(str(error), "")), fault
        return
    assert ModelConfig.from_json(config.to_json()) == config


def check_picture(path: Path) -> None:
    pixels = read_picture(path)
    assert pixels.shape[:2] == (1, 3) and pixels.isfinite().all() and -1 <= pixels.min() and pixels.max() <= 1


def check_exif(data: bytes) -> None:
    """Whatever the EXIF says, the picture is there, at most turned."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jpg"
        path.write_bytes(bytes_of("JPEG", exif=b"Exif\0\0" + data[:60_000]))
        assert read_picture(path).shape == (1, 3, 96, 96)


def check_sound(path: Path) -> None:
    file = SoundFile(path)
    sound = resample(file)
    assert sound.isfinite().all() and len(sound) == round(file.samples * 16_000 / file.rate)


def check_video(path: Path) -> None:
    assert VideoFrames(path).last(2).shape[3] == 3


def check_model(path: Path) -> None:
    assert all(value.isfinite().all() for value in loaded(path).emo.parameters())


@st.composite
def damaged(draw, original: Callable[[], bytes], *, within: float = 1.0, most: int = 12) -> bytes:
    """A file with a few bytes changed, removed, repeated or inserted, in the first part `within` of it."""
    data = bytearray(original())
    for _ in range(draw(st.integers(1, most))):
        place = draw(st.integers(0, max(0, round(len(data) * within) - 1)))
        kind = draw(st.sampled_from(("set", "flip", "remove", "insert", "repeat", "cut", "number")))
        if kind == "set":
            data[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == "flip" and data:
            data[place % len(data)] ^= 1 << draw(st.integers(0, 7))
        elif kind == "remove":
            del data[place : place + draw(st.integers(1, 64))]
        elif kind == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=32))
        elif kind == "repeat":
            data[place:place] = data[place : place + draw(st.integers(1, 256))]
        elif kind == "number":
            size = draw(st.sampled_from((2, 4, 8)))
            data[place : place + size] = draw(st.sampled_from((0, 1, 2**31 - 1, 2**32 - 1))).to_bytes(8, "little")[
                :size
            ]
        elif draw(st.integers(0, 9)) == 0:
            del data[place:]
    return bytes(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def configs(draw) -> bytes:
    """The config of the test preset with some fields replaced."""
    said = json.loads(PRESETS["test"].to_json())
    for name in draw(st.lists(st.sampled_from(sorted(said)), min_size=1, max_size=4)):
        if isinstance(said[name], dict) and said[name] and draw(st.booleans()):
            said[name][draw(st.sampled_from(sorted(said[name])))] = draw(JSON)
        elif isinstance(said[name], (int, float)) and draw(st.booleans()):
            said[name] = draw(st.integers(-2, 200) | st.floats(-1, 100))
        else:
            said[name] = draw(JSON)
    return json.dumps(said).encode()


@st.composite
def headers_of_wav(draw) -> bytes:
    samples = (voice().T.numpy()[:1600] * 2**15).astype("<i2")
    number = st.integers(0, 2**16 - 1)
    return wav_bytes(
        samples,
        tag=draw(st.sampled_from((1, 2, 3, 6, 7, 0x11, 0x55, 0xFFFE)) | number),
        bits=draw(st.sampled_from((1, 4, 8, 12, 16, 20, 24, 32, 64)) | number),
        channels=draw(st.integers(0, 9) | number),
        align=draw(st.integers(0, 16) | number),
        said_rate=draw(st.sampled_from((1, 8000, 16000, 48000, 2**31 - 1, 2**32 - 1)) | st.integers(0, 400_000)),
        size=draw(st.sampled_from((0, 3, 3200, 10**9, 2**32 - 1)) | st.integers(0, 2**32 - 1)),
    )


@cache
def in_folder(make: Callable[[Path], Path]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return make(Path(folder)).read_bytes()


@cache
def pickled() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"reference_unet.a": torch.zeros(3), "denoising_unet.b": torch.ones(2, 2)}, f"{folder}/m.pth")
        return Path(folder, "m.pth").read_bytes()


@cache
def old_pickle() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"a": torch.zeros(3)}, f"{folder}/m.pth", _use_new_zipfile_serialization=False)
        return Path(folder, "m.pth").read_bytes()


def properties() -> list[Property]:
    header = struct.unpack("<Q", model_bytes()[:8])[0] / len(model_bytes())
    found = [
        Property("config", configs(), check_config),
        Property("exif", damaged(lambda: bytes_exif(), most=6) | st.binary(max_size=200), check_exif),
        Property("wav", headers_of_wav(), partial(sentence_or, check_sound, "a.wav")),
        Property(
            "model", damaged(model_bytes, within=header, most=3), partial(sentence_or, check_model, "m.safetensors")
        ),
        Property("pickle", damaged(pickled) | damaged(old_pickle), partial(sentence_or, check_model, "m.pth")),
        Property("mp4", damaged(partial(in_folder, own_video)), partial(sentence_or, check_video, "a.mp4")),
        Property("mp4 sound", damaged(partial(in_folder, own_video)), partial(sentence_or, check_sound, "a.mp4")),
    ]
    for form in ("PNG", "JPEG", "WEBP", "TIFF", "BMP"):
        original = cache(partial(bytes_of, form))
        found.append(Property(form, damaged(original), partial(sentence_or, check_picture, "a.png")))
    found.append(
        Property("GIF", damaged(cache(partial(animated, "GIF", 1))), partial(sentence_or, check_picture, "a.gif"))
    )
    for name, codec in (
        ("a.flac", "flac"),
        ("a.mp3", "libmp3lame"),
        ("a.ogg", "flac"),
        ("a.mka", "flac"),
        ("a.aac", "aac"),
    ):
        if can_encode(codec):
            original = partial(in_folder, coded(name, codec))
            found.append(Property(name.replace("a.", ""), damaged(original), partial(sentence_or, check_sound, name)))
    return found


def bytes_exif() -> bytes:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x0128], exif[0x010E] = 6, 72.0, 2, "a portrait"
    return exif.tobytes().removeprefix(b"Exif\0\0")


PROPERTIES = properties()

"""Bad and odd inputs: what each is, how it is made, and what is right: a value, or a sentence for the user.

`python tests/inputs_table.py` runs them all and prints, by kind, how many end in the right value, how many in a sentence
and how many in a fault, and the peak of memory; `test_inputs_table.py` runs them in pytest.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import json
import logging
import math
import os
import pickle
import re
import resource
import shutil
import struct
import sys
import tempfile
import time
import types
import wave
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageCms, PngImagePlugin
from safetensors.torch import save, save_file

ROOT = Path(__file__).parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from emo_model.__main__ import main as command  # noqa: E402
from emo_model.cache.folder import ClipCache  # noqa: E402
from emo_model.checkpoints import native  # noqa: E402
from emo_model.checkpoints.__main__ import main as checkpoints  # noqa: E402
from emo_model.checkpoints.load import load_model  # noqa: E402
from emo_model.config import PRESETS, ModelConfig, SamplingConfig  # noqa: E402
from emo_model.inputs.audio import SoundFile, resample  # noqa: E402
from emo_model.inputs.face import box_mask  # noqa: E402
from emo_model.inputs.media import read_picture  # noqa: E402
from emo_model.inputs.video_frames import VideoFrames  # noqa: E402
from emo_model.outputs import disk  # noqa: E402
from emo_model.outputs.destination import check_destination  # noqa: E402
from emo_model.outputs.video import VideoWriter  # noqa: E402

MOST_SECONDS, MOST_BYTES = 30.0, 1.5e9
EXAMPLES = ROOT / "workflows" / "inputs"
IS_POSIX = os.name != "nt"


@dataclass(frozen=True)
class Row:
    """kind and what: a name; make: writes the input into a folder and returns what the door gets; door: what reads it;
    right: a test of the door's result, or the pattern of a sentence."""

    kind: str
    what: str
    door: Callable[[object], object]
    make: Callable[[Path], object]
    right: Callable[[object], bool] | str
    seconds: float = MOST_SECONDS

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


ROWS: list[Row] = []


def row(kind: str, what: str, door: Callable, make: Callable, right: Callable | str, **bounds) -> None:
    ROWS.append(Row(kind, what, door, make, right, **bounds))


@dataclass(frozen=True)
class Outcome:
    """fault: "" if the row came out as it says; said: the sentence of the error, "" without one."""

    fault: str
    is_sentence: bool
    seconds: float
    said: str = ""


def run(one: Row, folder: Path) -> Outcome:
    given = one.make(folder)
    before, began = Path.cwd(), time.monotonic()
    os.chdir(folder)
    try:
        result, said = one.door(given), ""
    except (OSError, ValueError) as error:
        result, said = error, str(error)
        if isinstance(error, OSError) and error.errno is not None and len(error.args) > 1:
            said = f"[Errno] {error}"
    except Exception as error:  # what no user should see
        return Outcome(f"{type(error).__name__}: {error}", False, time.monotonic() - began)
    finally:
        os.chdir(before)
    seconds = time.monotonic() - began
    is_sentence = isinstance(one.right, str)
    if seconds > one.seconds:
        return Outcome(f"took {seconds:.1f} s", is_sentence, seconds)
    if is_sentence:
        return Outcome(_fault_of(said, one.right) if said else f"no error, but {result!r:.200}", True, seconds, said)
    if said:
        return Outcome(f"refused: {said}", False, seconds)
    shown = tuple(result.shape) if isinstance(result, torch.Tensor) else f"{result!r:.200}"
    return Outcome("" if one.right(result) else f"another value: {shown}", False, seconds)


VERBS = (
    "accept|change|choose|close|compute|connect|continue|convert|copy|correct|crop|decode|disconnect|divide|do|download|encode|export|"
    "get|give|install|load|lower|make|move|name|open|paint|pass|press|put|reinstall|remove|rename|render|run|save|scale|"
    "select|set|start|state|take|update|use|write|check"
)
REMEDY = re.compile(rf"(?:^|[.;:,)] |, or | or |then )(?:{VERBS})\b", re.IGNORECASE)
"""An imperative at the beginning of a clause."""


def has_remedy(said: str) -> bool:
    """Whether the first line of an error, all that newer pages of ComfyUI show, says what to do."""
    return REMEDY.search(said.splitlines()[0]) is not None


def _fault_of(said: str, pattern: str) -> str:
    if "Errno" in said or "Traceback" in said or "\n" in said.strip() or not 15 < len(said) < 600:
        return f"no sentence for a user: {said!r}"
    return "" if re.search(pattern, said) else f"another sentence: {said!r}"


# ---- pictures --------------------------------------------------------------------------------------------------------


@cache
def face() -> Image.Image:
    return Image.open(EXAMPLES / "emo_portrait.jpg").convert("RGB").resize((96, 96))


def saved(name: str, picture: Callable[[], Image.Image] = face, **how) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        picture().save(folder / name, **how)
        return folder / name

    return make


def written(name: str, data: bytes | Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data() if callable(data) else data)
        return folder / name

    return make


def bytes_of(format: str, picture: Callable[[], Image.Image] = face, **how) -> bytes:  # noqa: A002
    file = io.BytesIO()
    picture().save(file, format, **how)
    return file.getvalue()


def shows(expected: Callable[[], Image.Image] = face, off: float = 3.0) -> Callable[[torch.Tensor], bool]:
    """Whether pixels show a picture, to a mean difference of `off` levels."""

    def is_right(pixels: torch.Tensor) -> bool:
        wanted = torch.from_numpy(np.array(expected().convert("RGB"))).permute(2, 0, 1)[None]
        return pixels.shape == wanted.shape and ((pixels + 1) * 127.5 - wanted).abs().mean().item() <= off

    return is_right


def grey() -> Image.Image:
    return face().convert("L")


def exif(orientation: object) -> bytes:
    data = Image.Exif()
    data[0x0112] = 1
    raw = bytearray(data.tobytes())
    order = "<" if b"II*" in raw else ">"
    at = raw.index(struct.pack(f"{order}H", 0x0112))
    if isinstance(orientation, int):
        struct.pack_into(f"{order}H", raw, at + 8, orientation)
    else:
        struct.pack_into(f"{order}H", raw, at + 2, 2)  # as text
    return bytes(raw)


def broken_exif(orientation: int) -> bytes:
    """EXIF whose resolution is a single byte of no type, for which Pillow takes a JPEG for no picture."""
    data = Image.Exif()
    data[0x0112], data[0x011A], data[0x0128] = orientation, 72.0, 2
    raw = bytearray(data.tobytes())
    order = "<" if b"II*" in raw else ">"
    at = raw.index(struct.pack(f"{order}H", 0x011A), 14)
    struct.pack_into(f"{order}HI", raw, at + 2, 7, 1)
    return bytes(raw)


def turned(value: int) -> Callable[[], Image.Image]:
    """What a viewer shows of the face with this EXIF orientation."""
    way = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return lambda: face().transpose(way[value]) if value in way else face()


def swapped_profile() -> bytes:
    """sRGB with the primaries of red and blue exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = [profile.index(tag, 128) for tag in (b"rXYZ", b"bXYZ")]
    profile[at[0] : at[0] + 4], profile[at[1] : at[1] + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


def as_converted() -> Image.Image:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(swapped_profile()))
    return ImageCms.profileToProfile(face(), profile, ImageCms.createProfile("sRGB"))


def with_texts(kind: str) -> bytes:
    info, text = PngImagePlugin.PngInfo(), "workflow " * 300_000
    if kind == "itxt":
        info.add_itxt("workflow", text, zip=True)
    elif kind == "both":
        info.add_text("prompt", text, zip=True)
        info.add_itxt("workflow", text, zip=True)
    else:
        info.add_text("workflow", text, zip=kind == "ztxt")
    return bytes_of("PNG", pnginfo=info)


def float_tiff(name: str, scale: float, shift: float = 0.0, dtype=np.float32) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        values = np.asarray(grey(), np.float64) / 255 * scale + shift
        Image.fromarray(values.astype(dtype)).save(folder / name)
        return folder / name

    return make


def animated(format: str, first: int) -> bytes:  # noqa: A002
    """An animation whose first pictures show nothing."""
    empty = Image.new("RGBA", face().size, (0, 0, 0, 0))
    frames = [empty] * first + [face().convert("RGBA")] * 2
    file = io.BytesIO()
    how = {"lossless": True} if format == "WEBP" else {}
    frames[0].save(file, format, save_all=True, append_images=frames[1:], duration=50, **how)
    return file.getvalue()


def cut(data: bytes, share: float) -> bytes:
    return data[: round(len(data) * share)]


def spoiled(data: bytes, at: float, count: int = 64) -> bytes:
    place = round(len(data) * at)
    return data[:place] + bytes(byte ^ 0xA5 for byte in data[place : place + count]) + data[place + count :]


def pictures() -> None:
    add = partial(row, "picture")
    for form in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "TGA"):
        add(form, read_picture, written(f"a.{form.lower()}", partial(bytes_of, form)), shows(off=6))
    add("PNG under the name of JPEG", read_picture, written("a.jpg", partial(bytes_of, "PNG")), shows())
    add("no suffix", read_picture, written("picture", partial(bytes_of, "PNG")), shows())
    add("name with umlauts and spaces", read_picture, saved("ä Bild 字.png"), shows())
    for value in (*range(1, 9), 0, 9, 65535):
        add(f"EXIF orientation {value}", read_picture, saved("a.png", exif=exif(value)), shows(turned(value)))
    add("EXIF orientation as text", read_picture, saved("a.png", exif=exif("x")), shows())
    add("EXIF 6 beside a broken resolution", read_picture, saved("a.jpg", exif=broken_exif(6), quality=95), shows(turned(6)))  # fmt: skip
    add("EXIF that is no EXIF", read_picture, saved("a.jpg", exif=b"Exif\0\0garbage", quality=95), shows())
    add("profile with red and blue exchanged", read_picture, saved("a.png", icc_profile=swapped_profile()), shows(as_converted, 1.5))  # fmt: skip
    add("profile that is none", read_picture, saved("a.png", icc_profile=b"none"), shows())
    add("profile cut off", read_picture, saved("a.png", icc_profile=swapped_profile()[:200]), shows())
    add("profile of RGB in a grey picture", read_picture, saved("a.png", grey, icc_profile=swapped_profile()), shows(grey))  # fmt: skip
    for kind in ("text", "ztxt", "itxt", "both"):
        add(f"texts of 2.7 MB ({kind})", read_picture, written("a.png", partial(with_texts, kind)), shows())
    for mode in ("L", "LA", "P", "PA", "1", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"):
        name = "a.tiff" if mode in ("CMYK", "YCbCr", "LAB", "RGBX") else "a.png"
        convert = (lambda mode=mode: face().convert(mode)) if mode not in ("LAB", "HSV", "PA") else None
        if convert is None:
            continue
        add(f"mode {mode}", read_picture, saved(name, convert), shows(lambda convert=convert: convert(), 6))
    add("sixteen bits of grey", read_picture, saved("a.png", lambda: Image.fromarray(np.asarray(grey(), np.uint16) * 257)), shows(grey))  # fmt: skip
    for scale in (1.0, 255.0, 65535.0):
        add(f"float from 0 to {scale:g}", read_picture, float_tiff("a.tiff", scale), shows(grey))
    add("32 bits of 16", read_picture, float_tiff("a.tiff", 65535, dtype=np.int32), shows(grey))
    add("32 bits of 8", read_picture, float_tiff("a.tiff", 255, dtype=np.int32), shows(grey))
    add("float with negative pixels", read_picture, float_tiff("a.tiff", 1, -0.5), "a.tiff has pixels from")
    for bad in (math.nan, math.inf, -math.inf):
        add(f"float with {bad}", read_picture, saved("a.tiff", lambda bad=bad: Image.fromarray(np.array([[bad, 1, 0]], np.float32))), "a.tiff has NaN or infinite pixels; export")  # fmt: skip
    clear = Image.new("RGBA", (96, 96), (200, 0, 0, 0))
    add("all transparent", read_picture, saved("a.png", lambda: clear), shows(lambda: Image.new("RGB", (96, 96), "white"), 0))  # fmt: skip
    add("transparent colour", read_picture, saved("a.png", transparency=(1, 2, 3)), shows())
    for form in ("GIF", "PNG", "WEBP"):
        for first in (0, 1, 3):
            add(f"animated {form}, shown from picture {first}", read_picture, written(f"a.{form.lower()}", partial(animated, form, first)), shows(off=8 if form == "GIF" else 3))  # fmt: skip
    for share in (0.0, 0.01, 0.2, 0.9):
        for form in ("PNG", "JPEG", "WEBP"):
            add(f"{form} cut at {share:.0%}", read_picture, written(f"a.{form.lower()}", lambda form=form, share=share: cut(bytes_of(form), share)), r"a\.\w+ is (damaged|not a picture)")  # fmt: skip
    for at in (0.02, 0.3):
        add(f"PNG spoiled at {at:.0%}", read_picture, written("a.png", lambda at=at: spoiled(bytes_of("PNG"), at)), "a.png is (damaged|not a picture)")  # fmt: skip
    for name, data, said in (
        ("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it is a HEIC file.*Export it as JPEG"),
        ("mp4", b"\0\0\0\x18ftypisom\0\0\0\0isomiso2", "it is a video"),
        ("matroska", b"\x1aE\xdf\xa3" + bytes(40), "it is a video"),
        ("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a drawing in SVG"),
        ("web page", b"<!DOCTYPE html><html>", "it is a web page"),
        ("PDF", b"%PDF-1.7\n", "it is a PDF"),
        ("text", b"hello, I am a portrait", "is not a picture that Pillow can read"),
        ("zeros", bytes(1000), "is not a picture that Pillow can read"),
    ):
        add(f"{name} as picture", read_picture, written("a.jpg", data), said)
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    add("PNG that claims 2 ** 62 pixels", read_picture, written("a.png", header + bytes(40)), "a.png (has more than|is damaged|is not)")  # fmt: skip
    add("empty folder as picture", read_picture, lambda folder: folder, "is a folder; name a file in it")
    add("no picture", read_picture, lambda folder: folder / "nobody.png", "there is no file .*nobody.png")
    add("null in the name", read_picture, lambda folder: folder / "a\0b.png", "cannot be read")
    add("endless name", read_picture, lambda folder: folder / ("a" * 5000), "cannot be read: the name is too long")
    if IS_POSIX:
        add("pipe as picture", read_picture, pipe("a.png"), "is a pipe, socket or device")
        add("/dev/zero as picture", read_picture, lambda _: Path("/dev/zero"), "is a pipe, socket or device")


def pipe(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        os.mkfifo(folder / name)
        return folder / name

    return make


# ---- sound -----------------------------------------------------------------------------------------------------------

RATE = 16_000


@cache
def voice() -> torch.Tensor:
    """(1, 32000): the first two seconds of the shipped voice."""
    with wave.open(str(EXAMPLES / "emo_voice.wav")) as file:
        samples = np.frombuffer(file.readframes(2 * RATE), "<i2")
    return torch.from_numpy(samples.astype(np.float32) / 2**15)[None]


def heard(path: Path) -> torch.Tensor:
    return resample(SoundFile(path))


def heard_and_said(path: Path) -> tuple[torch.Tensor, str]:
    file = SoundFile(path)
    return resample(file), file.losses.summary


def whole_or_said(result: tuple[torch.Tensor, str]) -> bool:
    """Nearly all of the sound is there, or what is lost is said."""
    sound, said = result
    return (abs(len(sound) - 32000) <= 4000 or bool(said)) and len(sound) > 8000 and sound.abs().mean().item() > 0.01


def sounds_like(
    wanted: Callable[[], torch.Tensor] = lambda: voice()[0], samples: int = 0, match: float = 0.98
) -> Callable:
    """Whether sound at 16 kHz is the wanted one: its length to `samples`, its correlation at least `match`."""

    def is_right(sound: torch.Tensor) -> bool:
        expected = wanted()
        if abs(len(sound) - len(expected)) > samples or not sound.isfinite().all():
            return False
        count = min(len(sound), len(expected))
        one, other = sound[:count].double(), expected[:count].double()
        return ((one @ other) / (one.norm() * other.norm() + 1e-9)).item() >= match

    return is_right


def without_offset(sound: torch.Tensor) -> bool:
    """Whether half of the voice is heard, with a mean of 0."""
    wanted = 0.5 * voice()[0].double()
    return len(sound) == 32000 and (sound - (wanted - wanted.mean())).abs().max().item() < 2e-7


def wav_bytes(samples: np.ndarray, *, rate: int = RATE, tag: int = 1, bits: int | None = None, **header) -> bytes:
    """samples (T, C) of any type, as they lie in the file; header: fields that lie."""
    bits = bits or samples.itemsize * 8
    channels = header.get("channels", samples.shape[1])
    align = header.get("align", samples.shape[1] * samples.itemsize)
    data = samples.tobytes()
    form = struct.pack("<HHIIHH", tag, channels, header.get("said_rate", rate), rate * align, align, bits)
    size = header.get("size", len(data))
    return (
        struct.pack("<4sI4s4sI", b"RIFF", (36 + size) & 0xFFFFFFFF, b"WAVE", b"fmt ", len(form))
        + form
        + struct.pack("<4sI", b"data", size & 0xFFFFFFFF)
        + data
    )


def pcm(dtype=np.int16, factor: float = 2**15, shift: float = 0.0, **how) -> Callable[[Path], Path]:
    """The voice as WAV of any sample type."""

    def make(folder: Path) -> Path:
        samples = (voice().T.numpy().astype(np.float64) * factor + shift).astype(dtype)
        (folder / "a.wav").write_bytes(wav_bytes(samples, tag=3 if np.dtype(dtype).kind == "f" else 1, **how))
        return folder / "a.wav"

    return make


def encode(path: Path, parts: list[torch.Tensor], codec: str, *, rate: int = RATE, begins: float = 0.0, gap: float = 1.0, bit_rate: int = 0) -> Path:  # fmt: skip
    """Parts (C, T) of one track, with `gap` seconds without sound between them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono" if len(parts[0]) == 1 else "stereo")
        if bit_rate:
            stream.bit_rate = bit_rate
        place = round(begins * rate)
        for part in parts:
            for block in part.split(1024, dim=1):
                samples = block.T.contiguous().view(1, -1).numpy()
                frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=stream.layout.name)
                frame.sample_rate, frame.pts, frame.time_base = rate, place, Fraction(1, rate)
                container.mux(stream.encode(frame))
                place += block.shape[1]
            place += round(gap * rate)
        container.mux(stream.encode(None))
    return path


def can_encode(codec: str) -> bool:
    """PyAV is built with other codecs from system to system."""
    try:
        av.codec.Codec(codec, "w")
    except Exception:
        return False
    return True


def coded(name: str, codec: str, change: Callable[[bytes], bytes] = lambda data: data, **how) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = encode(folder / name, [voice()], codec, **how)
        path.write_bytes(change(path.read_bytes()))
        return path

    return make


def joined(name: str, codec: str, rates: tuple[int, int] = (RATE, RATE)) -> Callable[[Path], Path]:
    """Two recordings, one file after the other."""

    def make(folder: Path) -> Path:
        data = b""
        for number, rate in enumerate(rates):
            part = voice()[:, :RATE] if rate == RATE else voice()[:, :RATE].repeat_interleave(rate // RATE, 1)
            data += encode(folder / f"{number}-{name}", [part], codec, rate=rate).read_bytes()
        (folder / name).write_bytes(data)
        return folder / name

    return make


def mono_and_stereo(folder: Path) -> Path:
    parts = [  # the length is guessed from the lower bit rate of the second
        encode(
            folder / f"{count}.mp3",
            [voice()[:, :RATE].repeat(count, 1)],
            "libmp3lame",
            bit_rate=96_000 - 32_000 * count,
        )
        for count in (1, 2)
    ]
    (folder / "a.mp3").write_bytes(b"".join(part.read_bytes() for part in parts))
    return folder / "a.mp3"


def twice() -> torch.Tensor:
    return voice()[0, :RATE].repeat(2)


def with_pause() -> torch.Tensor:
    return torch.cat([voice()[0, :RATE], torch.zeros(RATE), voice()[0, :RATE]])


def own_video(folder: Path) -> Path:
    with VideoWriter(folder / "a.mp4", fps=25, width=32, height=32, audio=(voice(), RATE)) as video:
        video.write(np.zeros((50, 32, 32, 3), np.uint8))
    return folder / "a.mp4"


def channels(mix: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        samples = (mix(voice()).T.numpy() * 2**15).clip(-32768, 32767).astype(np.int16)
        (folder / "a.wav").write_bytes(wav_bytes(samples))
        return folder / "a.wav"

    return make


def sounds() -> None:
    add = partial(row, "sound")
    add("16 bits", heard, pcm(), sounds_like())
    add("8 bits", heard, pcm(np.uint8, 127, 128), sounds_like())
    add("32 bits", heard, pcm(np.int32, 2**31 - 1), sounds_like())
    add("float", heard, pcm(np.float32, 1), sounds_like())
    add("double", heard, pcm(np.float64, 1), sounds_like())
    add("float of 16-bit size", heard, pcm(np.float32, 2**15), sounds_like())
    add("float of 32-bit size", heard, pcm(np.float32, 2**31), sounds_like())
    add("float beyond full scale", heard, pcm(np.float32, 3), sounds_like())
    add("float without any sound", heard, pcm(np.float32, 0), lambda sound: len(sound) == 32000 and not sound.any())
    add("NaN after a second", heard, lambda folder: spoil_float(folder, math.nan), "a.wav has NaN or infinite samples after 1.00 s; export")  # fmt: skip
    add("infinity after a second", heard, lambda folder: spoil_float(folder, math.inf), "a.wav has NaN or infinite samples after 1.00 s")  # fmt: skip
    for offset in (300, -1600, 8000):
        add(f"constant offset of {offset}", heard, pcm(factor=2**14, shift=offset), sounds_like())
    for offset in (0.0, 1e-5, -1e-4, 5e-4, 8e-4, -3e-3, 0.05, 0.4):
        add(f"constant offset of {offset:g} of full scale", heard, pcm(np.float32, 0.5, offset), without_offset)
    add("24 bits in 32", heard, pcm(np.int32, 2**23, bits=24), "a.wav stores 24 bits in 32")
    add("opposite channels", heard, channels(lambda one: torch.cat([one, -one])), sounds_like())
    add("nearly opposite channels", heard, channels(lambda one: torch.cat([-0.9 * one, one])), sounds_like())
    add("one silent channel", heard, channels(lambda one: torch.cat([one, 0 * one])), sounds_like())
    add("six channels", heard, channels(lambda one: one.repeat(6, 1)), sounds_like())
    add("seventeen channels", either(heard), channels(lambda one: one.repeat(17, 1)), right_or(sounds_like(), "a.wav"))
    add("header that says less", either(heard), pcm(size=1000), right_or(lambda sound: len(sound) <= 32000, "a.wav"))
    add("header that says more", heard, pcm(size=2**31), sounds_like(samples=0))
    add("header that says nothing", heard, pcm(size=0xFFFFFFFF), sounds_like(samples=0))
    add("no channels", heard, pcm(channels=0), "a.wav")
    add("no rate", either(heard), pcm(said_rate=0), right_or(lambda _: False, "a.wav"))
    add("endless rate", either(heard), pcm(said_rate=2**32 - 1), right_or(lambda sound: len(sound) < 100, "a.wav"))
    add("block align 0", either(heard), pcm(align=0), right_or(sounds_like(), "a.wav"))
    add("no samples", lambda path: command_of(path.parent, voice=path.name), lambda folder: empty_wav(folder), "a.wav contains no sound")  # fmt: skip
    codecs = (("a.mp3", "libmp3lame"), ("a.flac", "flac"), ("a.ogg", "libvorbis"), ("b.ogg", "flac"), ("a.m4a", "aac"), ("a.aac", "aac"), ("a.mka", "flac"), ("a.aiff", "pcm_s16be"))  # fmt: skip
    for name, codec in codecs:
        if not can_encode(codec):
            continue
        slack = {"a.mp3": 2400, "a.aac": 3000, "a.ogg": 64}.get(name, 0)
        shifted = name in ("a.mp3", "a.aac")  # no record of what the encoder put before
        close = (lambda sound, slack=slack: abs(len(sound) - 32000) <= slack) if shifted else sounds_like(samples=slack)
        add(f"{name}", heard, coded(name, codec), close)
        if name in ("a.flac", "a.mp3", "a.aac", "a.ogg", "b.ogg", "a.mka"):
            add(f"{name}, a piece spoiled", heard_and_said, coded(name, codec, lambda data: spoiled(data, 0.5, 200)), whole_or_said)  # fmt: skip
            add(f"{name}, cut in the middle", heard, coded(name, codec, lambda data: cut(data, 0.5)), lambda sound: 8000 < len(sound) < 24000 or len(sound) == 32000)  # fmt: skip
    add("m4a cut in the middle", heard, coded("a.m4a", "aac", lambda data: cut(data, 0.5)), "a.m4a is not a sound file")
    add("our own mp4 as voice", heard, own_video, sounds_like(samples=0, match=0.9))
    add("pause of a recorder", heard, lambda folder: encode(folder / "a.mka", [voice()[:, :RATE]] * 2, "flac"), sounds_like(with_pause))  # fmt: skip
    add("late beginning", heard, coded("a.mka", "flac", begins=0.5), sounds_like(lambda: torch.cat([torch.zeros(8000), voice()[0]])))  # fmt: skip
    add("joined MP3", heard, joined("a.mp3", "libmp3lame"), lambda sound: abs(len(sound) - 32000) < 5000)
    add("joined MP3 of two rates", heard, joined("a.mp3", "libmp3lame", (RATE, 2 * RATE)), lambda sound: abs(len(sound) - 32000) < 6000)  # fmt: skip
    add("joined MP3 of mono and stereo, of which nothing is missing", heard_and_said, mono_and_stereo, lambda result: abs(len(result[0]) - 32000) < 5000 and "states" not in result[1])  # fmt: skip
    for name, codec in (("a.ogg", "libvorbis"), ("a.ogg", "flac")):
        if can_encode(codec):
            add(f"chained Ogg of {codec}", heard, joined(name, codec), lambda sound: abs(len(sound) - 32000) < 3000)  # fmt: skip
    add("joined FLAC", heard, joined("a.flac", "flac"), lambda sound: len(sound) >= 16000)
    for name, data in (
        ("text", b"la la la"),
        ("zeros", bytes(5000)),
        ("noise", np.random.RandomState(0).bytes(5000)),
        ("empty file", b""),
        ("PNG", partial(bytes_of, "PNG")),
        ("RIFF only", b"RIFF\x24\0\0\0WAVE"),
    ):
        add(f"{name} as sound", heard, written("a.wav", data), "a.wav (is not a sound file|has no sound)")
    add("video without sound", heard, silent_video, "a.mp4 has no sound in it; use a file with an audio track")
    add("folder as sound", heard, lambda folder: folder, "is a folder; name a file in it")
    add("no sound file", heard, lambda folder: folder / "nobody.wav", "there is no file")
    if IS_POSIX:
        add("pipe as sound", heard, pipe("a.wav"), "is a pipe, socket or device")


def either(door: Callable) -> Callable:
    """For inputs that may be read or refused: a sentence is a result as well."""

    def try_it(given: object) -> object:
        try:
            return door(given)
        except (OSError, ValueError) as error:
            return str(error)

    return try_it


def right_or(is_right: Callable, pattern: str) -> Callable[[object], bool]:
    return lambda result: not _fault_of(result, pattern) if isinstance(result, str) else is_right(result)


def spoil_float(folder: Path, bad: float) -> Path:
    samples = voice().T.numpy().copy()
    samples[RATE] = bad
    (folder / "a.wav").write_bytes(wav_bytes(samples, tag=3))
    return folder / "a.wav"


def empty_wav(folder: Path) -> Path:
    setting(folder)
    (folder / "a.wav").write_bytes(wav_bytes(np.zeros((0, 1), np.int16)))
    return folder / "a.wav"


def silent_video(folder: Path) -> Path:
    with VideoWriter(folder / "a.mp4", fps=25, width=32, height=32) as video:
        video.write(np.full((6, 32, 32, 3), 90, np.uint8))
    return folder / "a.mp4"


def videos() -> None:
    add = partial(row, "video")
    add("silent", lambda path: VideoFrames(path).last(2), silent_video, lambda frames: frames.shape == (2, 32, 32, 3))
    for share in (0.1, 0.6):
        add(f"cut at {share:.0%}", lambda path: VideoFrames(path).last(2), lambda folder, share=share: shorten(silent_video(folder), share), "a.mp4 (is not a video|has no)")  # fmt: skip
    add("sound only", lambda path: VideoFrames(path).last(2), pcm(), "a.wav has no pictures in it")
    add("text", lambda path: VideoFrames(path).last(2), written("a.mp4", b"a film"), "a.mp4 is not a video")
    add("folder", lambda path: VideoFrames(path).last(2), lambda folder: folder, "is a folder")


def shorten(path: Path, share: float) -> Path:
    path.write_bytes(cut(path.read_bytes(), share))
    return path


# ---- model files -----------------------------------------------------------------------------------------------------


@cache
def model_bytes() -> bytes:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        native.save(Path(folder) / "m.safetensors", native.build(PRESETS["test"]))
        return (Path(folder) / "m.safetensors").read_bytes()


def parts_of(data: bytes) -> tuple[dict, bytes]:
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def model(change: Callable[[dict], object] = lambda header: None, *, tail: Callable[[bytes], bytes] = lambda data: data) -> Callable[[Path], Path]:  # fmt: skip
    """The tiny model with a changed header."""

    def make(folder: Path) -> Path:
        header, data = parts_of(model_bytes())
        header = change(header) or header
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        (folder / "m.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + tail(data))
        return folder / "m.safetensors"

    return make


def metadata(**values: object) -> Callable[[dict], None]:
    def change(header: dict) -> None:
        for name, value in values.items():
            header["__metadata__"][name] = value if isinstance(value, str) else json.dumps(value)

    return change


def config(**values: object) -> Callable[[dict], None]:
    """Fields of the config; those of a part as 'audio_encoder.width'."""

    def change(header: dict) -> None:
        said = json.loads(header["__metadata__"]["config"])
        for name, value in values.items():
            *part, field = name.split("__")
            (said[part[0]] if part else said)[field] = value
        header["__metadata__"]["config"] = json.dumps(said)

    return change


def loaded(path: Path) -> native.Bundle:
    return load_model(path)


def inspected(path: Path) -> dict:
    """What `inspect` says, which must agree with what a run says."""
    said, complaint, outs = io.StringIO(), io.StringIO(), (sys.stdout, sys.stderr)
    sys.stdout, sys.stderr = said, complaint
    try:
        code = checkpoints(["inspect", str(path)])
    finally:
        sys.stdout, sys.stderr = outs
    if code:
        raise ValueError(complaint.getvalue().strip())
    return json.loads(said.getvalue())


WRONG = {
    int: (-1, 10**9, 10**400, 1.5, "2", None, [2], True, math.nan),
    float: (-1e30, math.inf, math.nan, "1", [1.0], {}),
    bool: (2, "yes", None),
    str: (5, None, "", "a" * 10_000),
    tuple: (5, None, "x", [], [[]], [None], [-1] * 3, [10**12] * 3, list(range(100_000))),
}
UNBOUNDED = {"noise_pose", "latent_scale"}  # a negative number is refused for its own reason


def wrong_values() -> list[tuple[str, object]]:
    """For every field of the config, values of other types and out of all range."""
    found = []
    parts = (("", ModelConfig, PRESETS["test"]), ("motion_decoder__", None, PRESETS["test"].motion_decoder), ("audio_encoder__", None, PRESETS["test"].audio_encoder))  # fmt: skip
    for prefix, _, values in parts:
        for number, field in enumerate(dataclasses.fields(values)):
            value = getattr(values, field.name)
            kind = type(value)
            if dataclasses.is_dataclass(value):
                found.append((field.name, [5, "x", [], {"unknown": 1}][number % 4]))
                continue
            choices = WRONG.get(kind, ())
            if field.name in UNBOUNDED:
                choices = ("x",)
            if choices:
                picked = choices[number % len(choices)]
                if (
                    kind is tuple
                    and picked == []
                    and field.name in ("motion_smoothness", "speed_centres", "speed_radii")
                ):
                    picked = ["x"]
                found.append((prefix + field.name, picked))
    found += [("layers_per_block", 10**9), ("channels", [8192] * 64), ("attention_levels", [True] * 10**5), ("audio_encoder__width", 10**7), ("audio_encoder__blocks", 10**9), ("motion_decoder__channels", [10**6] * 3), ("temporal_attentions", 10**8), ("face_locator_channels", [1] * 10**5), ("image_size", 2**40), ("noise_shapes", 10**9), ("temporal_position_limit", 10**12), ("attention_heads", 3), ("norm_groups", 7), ("channels", [16, 17]), ("latent_channels", 9), ("vae_factor", 8)]  # fmt: skip
    return found


def spoil_weight(data: bytes) -> bytes:
    return b"\x00\x7e" * 8 + data[16:]  # NaN in half precision


def models() -> None:
    add = partial(row, "model")
    for name, door in (("load", loaded), ("inspect", inspected)):
        add(f"{name}: as it is", door, model(), lambda result: bool(result))
        sentence = r"m.safetensors|the model's"
        for field, value in wrong_values() if door is loaded else wrong_values()[::4]:
            shown = json.dumps(value)
            shown = shown if len(shown) < 20 else shown[:17] + "..."
            add(f"{name}: {field.replace('__', '.')} = {shown}", door, model(config(**{field: value})), sentence, seconds=10)  # fmt: skip
        for what, change, said in (
            ("no config", lambda header: header["__metadata__"].pop("config") and None, "has no config"),
            ("config is no JSON", metadata(config="{"), "is not JSON"),
            ("config is a list", metadata(config="[]"), "in place of an object"),
            ("config is deep", metadata(config="[" * 100_000), "levels of brackets"),
            ("config is long", metadata(config=" " * 2_000_000), "at most"),
            ("config of an unknown field", config(teeth=32), "does not know: teeth"),
            ("card is a number", metadata(card="7"), "in place of an object"),
            ("card is deep", metadata(card='{"a":' * 5000), "levels of brackets"),
            ("card samples unknown things", metadata(card={"sampling": {"magic": 1}}), "does not know: magic"),
            ("card samples in words", metadata(card={"sampling": {"steps": "three"}}), "steps"),
            ("card samples without end", metadata(card={"sampling": {"steps": 10**12}}), "steps"),
            ("card samples a list", metadata(card={"sampling": [1]}), "must be an object"),
            ("base elsewhere", metadata(card={"base": "../../secret.safetensors"}), "not the name of a file"),
            ("base is a number", metadata(card={"base": 5}), "not the name of a file"),
            ("base that is missing", metadata(card={"base": "gone.safetensors"}), "contains only the tensors that differ"),
            ("header is a list", lambda header: b"[]", "is not a complete safetensors file|neither|text"),
            ("header is empty", lambda header: b"{}", "m.safetensors"),
            ("header is deep", lambda header: b'{"a":' * 100_000, "is not a complete safetensors file"),
            ("a tensor missing", lambda header: header.pop(next(key for key in header if key.startswith("emo."))) and None, "safetensors|missing"),
            ("a tensor of another type", lambda header: next(v for k, v in header.items() if k.startswith("emo.")).update(dtype="F4") , "m.safetensors"),
            ("a shape that overflows", lambda header: next(v for k, v in header.items() if k.startswith("emo.")).update(shape=[2**62, 4]), "is not a complete safetensors file"),
            ("a negative shape", lambda header: next(v for k, v in header.items() if k.startswith("emo.")).update(shape=[-1]), "is not a complete safetensors file"),
            ("offsets beyond the file", lambda header: next(v for k, v in header.items() if k.startswith("emo.")).update(data_offsets=[0, 2**60]), "is not a complete safetensors file"),
        ):  # fmt: skip
            add(f"{name}: {what}", door, model(change), said, seconds=10)
        add(
            f"{name}: NaN in a weight",
            door,
            model(tail=spoil_weight),
            "m.safetensors is damaged: .* has NaN or infinite",
        )
        add(f"{name}: cut", door, model(tail=lambda data: data[:1000]), "is not a complete safetensors file")
        add(f"{name}: longer", door, model(tail=lambda data: data + bytes(1000)), "is not a complete safetensors file")
        for what, data, said in (
            ("a header of 2 ** 60 bytes", struct.pack("<Q", 2**60) + b"{}" + bytes(100), "header claims"),
            ("an empty file", b"", "it is empty"),
            ("eight bytes", bytes(8), "m.safetensors"),
            ("a text", b"model model model", "it is a text"),
            ("a web page", b"<html>login</html>", "it is a web page"),
            ("a pointer of LFS", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
            ("GGUF", b"GGUF" + bytes(100), "GGUF"),
            ("noise", np.random.RandomState(1).bytes(4000), "m.safetensors"),
        ):
            add(f"{name}: {what}", door, written("m.safetensors", data), said, seconds=10)
        for what, make, said in pickles():
            is_named = what.startswith("a part of Hallo") and door is inspected  # as what it is: that is no error there
            right = right_or(lambda result: result["kind"] == "unknown", said) if is_named else said
            add(f"{name}: {what}", either(door) if is_named else door, make, right, seconds=10)
        add(f"{name}: a folder", door, lambda folder: folder, "is a folder")
        add(f"{name}: no file", door, lambda folder: folder / "gone.pth", "there is no file")
        if IS_POSIX:
            add(f"{name}: a pipe", door, pipe("m.safetensors"), "is a pipe, socket or device")


class Evil:
    def __reduce__(self):
        return (os.system, ("touch owned",))


def pickles() -> list[tuple[str, Callable[[Path], Path], str]]:
    def torch_file(value: object, **how) -> Callable[[Path], Path]:
        def make(folder: Path) -> Path:
            torch.save(value, folder / "m.pth", **how)
            return folder / "m.pth"

        return make

    def zipped(names: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Callable[[Path], Path]:
        def make(folder: Path) -> Path:
            with zipfile.ZipFile(folder / "m.pth", "w", compression) as archive:
                for name, data in names.items():
                    archive.writestr(name, data)
            return folder / "m.pth"

        return make

    def plain(data: bytes) -> Callable[[Path], Path]:
        return written("m.pth", data)

    nested: object = ()
    for _ in range(60):
        nested = (nested, nested)
    weights = {"reference_unet.a": torch.zeros(3)}
    wide = torch.zeros(1).expand(10**6, 10**6)
    return [
        ("a pickle that runs code", torch_file(Evil()), "contains more than weights"),
        (
            "an old pickle that runs code",
            plain(pickle.dumps(Evil())),
            "contains more than weights|is not a complete torch file",
        ),  # fmt: skip
        ("a dict of something else", torch_file({"a": 1}), "without a dict of weights"),
        ("a list", torch_file([torch.zeros(3)]), "without a dict of weights"),
        ("a part of Hallo", torch_file(weights), "m.pth"),
        ("a part of Hallo, old format", torch_file(weights, _use_new_zipfile_serialization=False), "m.pth"),
        ("a tensor wider than its storage", torch_file({"reference_unet.a": wide}), "claims a tensor of"),
        ("keys that are numbers", torch_file({1: torch.zeros(3)}), "without a dict of weights"),
        ("a zip of nothing", zipped({}), "is not a complete torch file"),
        ("a zip of texts", zipped({"a.txt": b"hello"}), "is not a complete torch file"),
        ("a zip bomb", zipped({"m/data.pkl": bytes(2 * 10**8)}, zipfile.ZIP_DEFLATED), "unpacks to|more than"),
        ("a pickle cut off", plain(pickle.dumps(weights["reference_unet.a"].numpy(), 2)[:40]), "m.pth"),
        ("two bytes of a pickle", plain(b"\x80\x02" + bytes(20)), "m.pth"),
        ("a pickle without end", plain(b"\x80\x02" + b"(" * 10**6), "m.pth"),
        ("a tree that doubles sixty times", torch_file({"a": nested}), "without a dict of weights"),
        ("a key that doubles thirty times", torch_file({_doubled(24): torch.zeros(1)}), "without a dict of weights"),
    ]


def _doubled(times: int) -> tuple:
    value: tuple = ()
    for _ in range(times):
        value = (value, value)
    return value


# ---- outputs, options and the cache ----------------------------------------------------------------------------------


def setting(folder: Path) -> Path:
    """A tiny model, a picture and a voice of 0.16 s in a folder."""
    (folder / "tiny.safetensors").write_bytes(model_bytes())
    canvas = Image.new("RGB", (160, 120), (120, 130, 110))
    canvas.paste(face(), (40, 10))
    canvas.save(folder / "face.png")
    (folder / "voice.wav").write_bytes(wav_bytes((voice().T.numpy()[:2560] * 2**15).astype(np.int16)))
    return folder


class _Said(logging.Handler):
    def __init__(self):
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def command_of(folder: Path, *options: str, portrait: str = "face.png", voice: str = "voice.wav", out: str = "talk.mp4") -> int:  # fmt: skip
    """The command; an error becomes the ValueError that its last line in the log is."""
    said, log = _Said(), logging.getLogger("emo")
    log.addHandler(said)
    level, log.level = log.level, logging.INFO
    outs = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    try:
        code = command([portrait, voice, "-o", out, "--model", "tiny.safetensors", "--steps", "1", "--device", "cpu", "--clips", "clips", *options])  # fmt: skip
    except SystemExit as exit_:
        text = sys.stderr.getvalue().strip().splitlines()
        raise ValueError(text[-1]) from exit_
    finally:
        sys.stdout, sys.stderr = outs
        log.removeHandler(said)
        log.level = level
    if code:
        raise ValueError(said.messages[-1])
    return code


def with_options(*options: str, **how) -> Callable[[Path], int]:
    return lambda folder: command_of(folder, *options, **how)


def made(*names: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        setting(folder)
        for change in names:
            change(folder)
        return folder

    return make


def options() -> None:
    add = partial(row, "option")
    add("none", with_options(), setting, lambda code: code == 0)
    for name in ("--guidance", "--reference-guidance", "--head-speed", "--blinks", "--noise-scale", "--fps", "--audio-guidance-start", "--reference-guidance-end"):  # fmt: skip
        for value in ("inf", "nan", "-inf", "-1", "-1e-3", "1e30"):
            add(f"{name} {value}", with_options(name, value), setting, "must be|acts in a part of the steps")
    for name, value, said in (
        ("--steps", "0", "steps must be at least 1"),
        ("--steps", "1000000000", "steps must be 1 to"),
        ("--steps", "three", "invalid int value: 'three'"),
        ("--seed", str(2**64), "seed must be"),
        ("--seed", "-1e3", "invalid int value"),
        ("--sampler", "magic", "invalid choice: 'magic'"),
        ("--sound", "mp3", "invalid choice: 'mp3'"),
        ("--long-side", "1", "--long-side must be 64 to 8192 pixels, got 1"),
        ("--long-side", "1000000", "--long-side must be 64 to 8192"),
        ("--fps", "", "invalid float value"),
        ("--device", "toaster", "device 'toaster' cannot be used here.*use 'cpu'"),
        ("--device", "meta", "device 'meta' cannot be used here"),
        ("--device", "", "device '' cannot be used here"),
        ("--device", "cpu:7", ""),
        ("--device", "cuda:99", "device 'cuda:99' cannot be used here"),
        ("--which-face", "0", "face 0 was selected"),
        ("--which-face", "9", "face 9 was selected"),
        ("--which-face", "mine", "must be one of largest"),
        ("--model", "gone.safetensors", "there is no file gone.safetensors"),
        ("--model", "face.png", "face.png contains no weights"),
        ("--model", ".", "is a folder"),
        ("--clips", "face.png", "face.png cannot be used: "),
    ):
        if said:
            add(f"{name} {value!r}", with_options(name, value), setting, said)
    for box, said in (
        (("0.5", "0", "0.4", "1"), "is empty or outside"),
        (("nan", "0", "1", "1"), "must be four numbers"),
        (("0", "0", "inf", "1"), "must be four numbers"),
        (("0.2", "0.1", "120", "100"), "mixes fractions .* and pixels"),
        (("-0.2", "0", "0.8", "1"), "in fractions of the picture, which are 0 to 1"),
        (("-20", "0", "80", "100"), "reaches beyond the picture of 160x120"),
        (("0", "0", "1600", "2000"), "reaches beyond the picture of 160x120"),
        (("500", "500", "600", "600"), "reaches beyond the picture of 160x120"),
    ):
        add(f"--face {' '.join(box)}", with_options("--face", *box), setting, said)
    for box in (("45", "15", "130", "105"), ("0.28", "0.12", "0.82", "0.88")):
        add(f"--face {' '.join(box)}", with_options("--face", *box), setting, lambda code: code == 0)
    for what, out, change, said in (
        ("a folder", "folder.mp4", lambda folder: (folder / "folder.mp4").mkdir(), "is a folder. Name a file in it"),
        ("in a file", "face.png/talk.mp4", lambda folder: None, "is not a folder"),
        ("a name too long", "a" * 300 + ".mp4", lambda folder: None, "the name is too long"),
        ("a name too long in bytes", "字" * 90 + ".mp4", lambda folder: None, "the name is too long"),
        ("without mp4", "talk.avi", lambda folder: None, "--out must end in .mp4"),
        ("nothing", "", lambda folder: None, "--out must end in .mp4"),
        ("the voice by a hard link", "talk.mp4", lambda folder: os.link(folder / "voice.wav", folder / "talk.mp4"), "is the same file as voice.wav"),
        ("the portrait by a link", "talk.mp4", lambda folder: (folder / "talk.mp4").symlink_to("face.png"), "is the same file as face.png"),
        ("the model by a link", "talk.mp4", lambda folder: (folder / "talk.mp4").symlink_to("tiny.safetensors"), "is the same file as tiny.safetensors"),
        ("a broken link", "talk.mp4", lambda folder: (folder / "talk.mp4").symlink_to("nowhere"), "is a broken link"),
        ("null in its name", "a\0.mp4", lambda folder: None, "the output .* cannot be written .*null byte.*Choose another"),
    ):  # fmt: skip
        add(f"output: {what}", with_options(out=out), made(change), said)
    if IS_POSIX:
        add(
            "output: a pipe",
            with_options(),
            made(lambda folder: os.mkfifo(folder / "talk.mp4")),
            "is not a regular file",
        )
        add("output: a link to a file", with_options(), made(lambda folder: ((folder / "real.mp4").touch(), (folder / "talk.mp4").symlink_to("real.mp4"))), lambda code: code == 0)  # fmt: skip
    add("output: too little disk", with_little_disk, setting, r"The video needs about \d+ kB on the disk of .*, and 1 kB are free: 4 frames of 160x120 pixels. Make room")  # fmt: skip
    add("output: new folders", with_options(out="a/b/talk.mp4"), setting, lambda code: code == 0)
    add("output: what exists is replaced", with_options(), made(lambda folder: (folder / "talk.mp4").touch()), lambda code: code == 0)  # fmt: skip
    add("output: the folder alone", check_destination, lambda folder: folder, "is a folder")
    for name, value in (("EMO_CACHE_GB", "much"), ("EMO_CACHE_GB", "-1"), ("EMO_CACHE_DAYS", "nan")):
        add(f"{name}={value}", with_environment(name, value), setting, f"{name} is '{value}', but must be a number")


def with_little_disk(folder: Path) -> int:
    usage, disk.shutil.disk_usage = shutil.disk_usage, lambda _: types.SimpleNamespace(free=1000)
    try:
        return command_of(folder)
    finally:
        disk.shutil.disk_usage = usage


def with_environment(name: str, value: str) -> Callable[[Path], int]:
    def door(folder: Path) -> int:
        os.environ[name] = value
        try:
            return command_of(folder)
        finally:
            del os.environ[name]

    return door


def clips() -> None:
    add, key = partial(row, "clip"), "a" * 64

    def found(folder: Path) -> object:
        with ClipCache(folder).run() as cache_run:
            return cache_run.find(key, (1, 2, 3, 4, 4))

    def kept(change: Callable[[Path], object], latents: torch.Tensor | None = None) -> Callable[[Path], Path]:
        def make(folder: Path) -> Path:
            with ClipCache(folder).run() as cache_run:
                cache_run.save(key, torch.ones(1, 2, 3, 4, 4) if latents is None else latents)
            change(folder / f"{key}.safetensors")
            return folder

        return make

    def resaved(latents: torch.Tensor, **more: str) -> Callable[[Path], None]:
        """A file of the right form with other numbers."""
        from emo_model.cache.keys import content_of

        data = {"format": "comfyui-emo clip 1", "key": key, "content": content_of(latents)} | more
        return lambda path: path.write_bytes(save({"latents": latents}, data))

    add("as it was kept", found, kept(lambda path: None), lambda latents: latents is not None and latents.mean() == 1)
    for what, change in (
        ("cut", lambda path: path.write_bytes(path.read_bytes()[:-5])),
        ("a byte changed", lambda path: path.write_bytes(spoiled(path.read_bytes(), 0.9, 1))),
        ("empty", lambda path: path.write_bytes(b"")),
        ("a text", lambda path: path.write_text("clip")),
        ("of another key", lambda path: path.write_bytes(path.read_bytes().replace(b"a" * 64, b"b" * 64))),
        ("of another shape", resaved(torch.ones(1, 2, 3, 4, 5))),
        ("of fewer axes", resaved(torch.ones(3))),
        ("with NaN", resaved(torch.full((1, 2, 3, 4, 4), math.nan))),
        ("with infinity", resaved(torch.full((1, 2, 3, 4, 4), math.inf))),
        ("in half precision", resaved(torch.ones(1, 2, 3, 4, 4, dtype=torch.float16))),
        ("of another format", resaved(torch.ones(1, 2, 3, 4, 4), format="comfyui-emo clip 0")),
        ("other tensors", lambda path: save_file({"latent": torch.ones(2)}, path)),
    ):
        add(what, found, kept(change), lambda latents: latents is None)
    if IS_POSIX:
        add("a pipe", found, lambda folder: (os.mkfifo(folder / f"{key}.safetensors"), folder)[1], lambda latents: latents is None)  # fmt: skip
        add("a pipe as lock", found, lambda folder: (os.mkfifo(folder / "spool.lock"), folder)[1], "remove it")
    add("a file as folder", found, written("clips", b""), "clips|exist|folder")
    ROWS.pop()
    add("NaN to keep", lambda folder: ClipCache(folder).run().save(key, torch.tensor([math.nan])), lambda folder: folder, "is not kept")  # fmt: skip


# ---- inputs of nodes -------------------------------------------------------------------------------------------------


@cache
def conversions() -> types.ModuleType:
    """nodes/conversions, which needs no ComfyUI, as a part of a package like the one that ComfyUI loads."""
    for name, folder in (("emo_table_pack", ROOT), ("emo_table_pack.nodes", ROOT / "nodes")):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    return importlib.import_module("emo_table_pack.nodes.conversions")


def nodes() -> None:
    add = partial(row, "node")
    lib = conversions()
    image = torch.rand(1, 6, 8, 3, generator=torch.Generator().manual_seed(0))
    sound = torch.rand(1, 2, 500, generator=torch.Generator().manual_seed(0))

    def given(value: object) -> Callable[[Path], object]:
        return lambda _: value

    def with_bad(values: torch.Tensor, bad: float) -> torch.Tensor:
        values = values.clone()
        values.view(-1)[7] = bad
        return values

    for bad in (math.nan, math.inf, -math.inf):
        add(
            f"IMAGE with {bad}", lib.one_picture, given(with_bad(image, bad)), "1 values of 'image' are NaN or infinite"
        )
        add(
            f"images with {bad}",
            lib.frame_bytes,
            given(with_bad(image, bad)),
            "1 values of 'images' are NaN or infinite",
        )
        add(f"AUDIO with {bad}", lib.one_sound, given({"waveform": with_bad(sound, bad), "sample_rate": 8000}), "1 samples of 'audio' are NaN or infinite")  # fmt: skip
        add(f"MASK with {bad}", lambda mask: lib.box_of_face(mask, torch.zeros(1, 3, 6, 8)), given(with_bad(image[..., 0], bad)), "'face' has NaN or infinite")  # fmt: skip
        add(f"LATENT with {bad}", lambda samples: lib.frames_to_write(None, {"samples": samples}, object(), None, block=2), given(with_bad(image, bad)), "1 values of 'latent' are NaN")  # fmt: skip
        add(f"fps {bad}", lib.check_fps, given(bad), "'fps' is .*, but must be 1 to 120")
        add(f"speed {bad}", lambda level: lib.speed_curve("", level=level), given(bad), "'speed' is")
    same = lib.one_picture(image)
    add("IMAGE", lib.one_picture, given(image), lambda pixels: torch.equal(pixels, same))
    add("IMAGE in bytes", lib.one_picture, given((image * 255).round().to(torch.uint8)), lambda pixels: (pixels - same).abs().max() < 0.01)  # fmt: skip
    add("IMAGE up to 255", lib.one_picture, given(image * 255), "'image' has values from .* Divide them by 255")
    add("IMAGE a little beyond", lib.one_picture, given(image * 1.2 - 0.1), lambda pixels: pixels.min() >= -1 and pixels.max() <= 1)  # fmt: skip
    add(
        "IMAGE in half precision",
        lib.one_picture,
        given(image.half()),
        lambda pixels: (pixels - same).abs().max() < 0.01,
    )
    add("IMAGE with alpha 1", lib.one_picture, given(torch.cat([image, torch.ones(1, 6, 8, 1)], -1)), lambda pixels: torch.equal(pixels, same))  # fmt: skip
    add("IMAGE with alpha 0", lib.one_picture, given(torch.cat([image, torch.zeros(1, 6, 8, 1)], -1)), lambda pixels: (pixels == 1).all())  # fmt: skip
    add("IMAGE of grey", lib.one_picture, given(image[..., :1]), lambda pixels: torch.equal(pixels[:, 0], same[:, 0]))
    add("IMAGE of three axes", lib.one_picture, given(image[0]), "'image'")
    add("two IMAGES", lib.one_picture, given(image.repeat(2, 1, 1, 1)), "contains 2 pictures")
    close = lambda heard: heard[1] == 8000 and (heard[0] - sound[0]).abs().max() < 1e-3  # noqa: E731
    for what, samples in (("", sound), (" of two axes", sound[0]), (" as numpy", sound.numpy()), (" as numpy of two axes", sound[0].numpy()), (" of 16 bits", (sound * 2**15).to(torch.int16)), (" of 32 bits", (sound.double() * (2**31 - 1)).to(torch.int32)), (" of 16-bit size", sound * 2**15), (" as double", sound.double()), (" as half", sound.half())):  # fmt: skip
        add(f"AUDIO{what}", lib.one_sound, given({"waveform": samples, "sample_rate": 8000}), close)
    add("AUDIO of one axis", lib.one_sound, given({"waveform": sound[0, 0], "sample_rate": 8000}), lambda heard: heard[0].shape == (1, 500))  # fmt: skip
    for what, audio, said in (
        (" of four axes", {"waveform": sound[None], "sample_rate": 8000}, "has 4 axes"),
        (" of nothing", {"waveform": sound[..., :0], "sample_rate": 8000}, "is empty"),
        (" of two recordings", {"waveform": sound.repeat(2, 1, 1), "sample_rate": 8000}, "contains 2 recordings"),
        (" without rate", {"waveform": sound}, "which is no AUDIO"),
        (" of rate 0", {"waveform": sound, "sample_rate": 0}, "is empty"),
        (" as a tensor", sound, "which is no AUDIO"),
        (" as None", None, "which is no AUDIO"),
        (" with its axes exchanged", {"waveform": sound.transpose(1, 2), "sample_rate": 8000}, "axes are exchanged"),
    ):
        add(f"AUDIO{what}", lib.one_sound, given(audio), said)
    add(
        "empty MASK",
        lambda mask: lib.box_of_face(mask, torch.zeros(1, 3, 6, 8)),
        given(torch.zeros(1, 6, 8)),
        "is empty",
    )
    add("MASK of another picture", lambda mask: lib.box_of_face(mask, torch.zeros(1, 3, 60, 80)), given(torch.ones(1, 60, 20)), "before any cropping")  # fmt: skip
    for crf in (-1, 52):
        add(f"quality {crf}", lib.check_quality, given(crf), "^Set 'quality' to a number from 0 to 51")
    for side in (0, 10**6):
        add(f"long_side {side}", lib.check_long_side, given(side), "^Set 'long_side' to a number from 64 to 8192")
    for name, value in (("steps", 5000), ("audio_guidance", math.nan), ("noise_scale", 9.0)):
        add(f"{name} {value} by a link", lambda values: lib.sampling_config(SamplingConfig(), **values), given({name: value}), f"^Set or connect another value: {name} must be")  # fmt: skip
    add("box with NaN", lambda box: box_mask(64, box), given((math.nan, 0.0, 1.0, 1.0)), "the face box .* is empty; give left smaller")  # fmt: skip
    for text in ("x", "1", "1:2:3", "0: -5", "0: 1, 0: 2", "nan: 1", "0: inf", "1e400: 5", ":" * 10_000):
        add(f"curve {text[:10]!r}", lambda text: lib.speed_curve(text, level=1.0), given(text), "^Write .*the curve")
    add("LATENT of five axes", lambda samples: lib.frames_to_write(None, {"samples": samples}, object(), None, block=2), given(torch.zeros(1, 4, 2, 8, 8)), "has 5 axes")  # fmt: skip


pictures()
sounds()
videos()
models()
options()
clips()
nodes()


def table(wanted: str = "") -> dict[str, Counter]:
    """Runs the rows whose name matches a pattern; counts by kind, and the faults in the log."""
    counts: dict[str, Counter] = {}
    for one in ROWS:
        if not re.search(wanted, str(one)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            outcome = run(one, Path(folder))
        count = counts.setdefault(one.kind, Counter())
        count["tried"] += 1
        count["fault" if outcome.fault else "sentence" if outcome.is_sentence else "right"] += 1
        if outcome.seconds > 5:
            logging.getLogger("table").info("%s: %.1f s", one, outcome.seconds)
        if outcome.fault:
            logging.getLogger("table").error("%s: %s", one, outcome.fault)
    return counts


def peak_bytes() -> int:
    """Of this program. Linux keeps in `ru_maxrss` what the process held before it became this program."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def report(wanted: str = "") -> str:
    lines = ["| kind | tried | right value | sentence | fault |", "| --- | --- | --- | --- | --- |"]
    counts = table(wanted)
    counts["all"] = sum(counts.values(), Counter())
    for kind, count in counts.items():
        lines.append(f"| {kind} | {count['tried']} | {count['right']} | {count['sentence']} | {count['fault']} |")
    peak = peak_bytes()
    return "\n".join([*lines, f"peak {peak}"])


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("emo").setLevel(logging.CRITICAL)
    logging.getLogger("emo").propagate = False
    sys.stdout.write(report("".join(sys.argv[1:])) + "\n")

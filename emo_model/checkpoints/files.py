"""Tensor files (safetensors, torch pickles), read and written one tensor at a time."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..inputs.files import check_readable
from ..types import is_finite

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
RENEW_BYTES = 2**28
MOST_HEADER = 2**25  # bytes of the header of a safetensors file; that of Hallo's net has 3e5
MOST_PICKLE = 2**26  # bytes of the part of a torch file that is a pickle; that of Hallo's net has 4e5


@dataclass(frozen=True, eq=False)
class TensorFile:
    """Contents of a file: shapes by key; `read` returns a copy of one tensor on the CPU, in its stored dtype.

    Nothing else of the file stays in memory.
    """

    path: Path
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype]
    read: Callable[[str], Tensor]
    metadata: dict[str, str] = field(default_factory=dict)


def open_tensors(path: str | Path) -> TensorFile:
    """Open a file without reading its tensors.

    Raises FileNotFoundError, or ValueError that says what the file is if it holds no tensors. A pickle is read with
    torch's `weights_only`, which runs no code of the file's; one that needs more is refused.
    """
    path = check_readable(path, "the model file")
    reason = not_tensors(path)
    if reason is not None:
        raise ValueError(f"{path.name} contains no weights: {reason}")
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        raise ValueError(f"{path.name} is not a complete safetensors file (it is empty); download or copy it again")
    if start[8:] == b"{":  # the length of a safetensors header comes first and may begin like a pickle or a zip
        return _open_safetensors(path)
    return (
        _open_pickle(path, is_zip=True)
        if start[:2] == b"PK"
        else _open_pickle(path, is_zip=False)
        if start[:1] == b"\x80"
        else _open_safetensors(path)
    )


def not_tensors(path: Path) -> str | None:
    """What a file without tensors is, by its first bytes; None if it may contain tensors."""
    with path.open("rb") as file:
        start = file.read(64)
    if start[8:9] == b"{":  # safetensors; the bytes before it are a length and may look like anything
        return None
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, three lines of text in place of the real file; download that ('git lfs pull')"
    if start.lstrip()[:1] == b"<":
        return "it is a web page; download the file again, with a login or by another link"
    if start.startswith(b"GGUF"):
        return "it is a GGUF file, which this pack does not read; get the safetensors file"
    if path.suffix == ".onnx":
        return "it is an ONNX network, which face analysis reads; choose a safetensors file"
    if len(start) < 10 or start[:2] == b"PK" or start[:1] == b"\x80":
        return None
    if start.isascii() and start[:1] in b"{[#-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ":
        return "it is a text; choose the model's own file"
    return "it is neither safetensors nor a torch file; choose the model's own file"


def _open_safetensors(path: Path) -> TensorFile:
    try:
        with path.open("rb") as raw:
            size = struct.unpack("<Q", raw.read(8))[0]
            if size > min(MOST_HEADER, path.stat().st_size):
                raise ValueError(f"its header claims {size} bytes")
            with safe_open(path, "pt"):  # checks the header and the length
                header = json.loads(raw.read(size))
    except (SafetensorError, struct.error, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path.name} is not a complete safetensors file ({str(error):.120}); download or copy it again"
        ) from None
    metadata = header.pop("__metadata__", {})
    shapes = {key: tuple(entry["shape"]) for key, entry in header.items()}
    strange = {entry["dtype"] for entry in header.values()} - DTYPES.keys()
    if strange:
        raise ValueError(
            f"{path.name} has dtypes that this pack does not read ({', '.join(sorted(strange))}); use the file in "
            "float32, float16 or bfloat16"
        )
    dtypes = {key: DTYPES[entry["dtype"]] for key, entry in header.items()}

    def read(key: str) -> Tensor:
        value = torch.empty(shapes[key], dtype=dtypes[key])
        with path.open("rb") as raw:
            raw.seek(8 + size + header[key]["data_offsets"][0])
            raw.readinto(value.view(-1).view(torch.uint8).numpy().data)
        return value

    return TensorFile(path, shapes, dtypes, read, metadata)


def _open_pickle(path: Path, *, is_zip: bool) -> TensorFile:
    tensors = _load_pickle(path, is_zip=is_zip)
    looked_at = 0

    def read(key: str) -> Tensor:
        nonlocal tensors, looked_at
        if looked_at > RENEW_BYTES and is_zip:  # mapped pages are only released with the whole mapping
            tensors, looked_at = _load_pickle(path, is_zip=True), 0
        looked_at += tensors[key].nbytes
        return tensors[key].clone()

    return TensorFile(
        path,
        {key: tuple(value.shape) for key, value in tensors.items()},
        {key: value.dtype for key, value in tensors.items()},
        read,
    )


def _load_pickle(path: Path, *, is_zip: bool) -> dict[str, Tensor]:
    """The tensors of a torch file, memory-mapped if its format allows."""
    try:
        if is_zip:
            _check_zip(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True if is_zip else None)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path.name} contains more than weights: unpickling it could run code, so it is refused. Use "
            "a safetensors file of the same model"
        ) from None
    except Exception as error:  # a damaged pickle raises whatever its bytes spell
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{path.name} is not a complete torch file ({lines[0]:.120}); download it again") from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    tensors = (
        {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise ValueError(f"{path.name} is a torch file without a dict of weights; choose the model's own file")
    size = path.stat().st_size
    for key, value in tensors.items():
        is_plain = value.layout == torch.strided and not value.is_quantized
        if not is_plain or value.nbytes > min(value.untyped_storage().nbytes(), size):
            raise ValueError(
                f"{path.name} claims a tensor of {tuple(value.shape)} for {key:.80}, which its {size} bytes do not "
                "hold; download it again"
            )
    return tensors


def _check_zip(path: Path) -> None:
    """Raises ValueError for a zip that unpacks to more than it has, or whose pickle is longer than any of weights."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.file_size > path.stat().st_size:
                raise ValueError(f"{entry.filename:.60} unpacks to {entry.file_size} bytes, more than the file has")
            if entry.filename.endswith(".pkl") and entry.file_size > MOST_PICKLE:
                raise ValueError(f"{entry.filename:.60} has {entry.file_size} bytes, more than weights need")


def check_weight(value: Tensor, name: str, file: Path) -> Tensor:
    """The tensor. Raises ValueError for NaN or infinite values, which would turn every frame black."""
    if not is_finite(value):
        raise ValueError(
            f"{file.name} is damaged: {name} has NaN or infinite values. Copy or download it again; a file that was "
            "trained or converted here needs an earlier state"
        )
    return value


@dataclass(frozen=True, eq=False)
class Entry:
    """A tensor to write: `make` is called when it is written."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], Tensor]


def write_entries(path: str | Path, entries: Iterable[Entry], metadata: dict[str, str] | None = None) -> None:
    """Write safetensors with one tensor in memory at a time, atomically (temporary file, then rename)."""
    path, entries = Path(path), list(entries)
    header: dict[str, dict] = {"__metadata__": metadata} if metadata else {}
    place = 0
    for entry in entries:
        size = torch.Size(entry.shape).numel() * entry.dtype.itemsize
        header[entry.name] = {
            "dtype": NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [place, place + size],
        }
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    try:
        with beside.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for entry in entries:
                value = entry.make().detach().to("cpu", entry.dtype).contiguous()
                if tuple(value.shape) != tuple(entry.shape):
                    raise ValueError(f"{entry.name} is {tuple(value.shape)}, expected {tuple(entry.shape)}")
                file.write(value.flatten().view(torch.uint8).numpy().data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)

"""Prepared clips on the disk: tar files that WebDataset reads, and an index by which any part is read directly.

    clips/KEY.tar     the clips of one video; a sample KEY-0000 is the files KEY-0000.json, .wav, .mp4, .latents.npy ...
    videos/KEY.json   what became of one video; written last, so a video without it is prepared again
    pictures/KEY-*.jpg   for the report
    settings.json  index.jsonl  report.json  report.md  report.html

KEY is the hash of the video's content: one video under two names is one video. The bytes of a tar depend on the video
and the settings alone (on one machine): no times, no owners.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CLIPS, VIDEOS, PICTURES, SETTINGS, INDEX = "clips", "videos", "pictures", "settings.json", "index.jsonl"


def array_bytes(values: np.ndarray) -> bytes:
    """A .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(values), allow_pickle=False)
    return file.getvalue()


def write_atomically(path: Path, data: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    beside.write_bytes(data.encode() if isinstance(data, str) else data)
    beside.replace(path)


class TarWriter:
    """A tar file that appears under its name when it is complete; use with `with`."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.part = path, path.with_name(f"{path.name}.{os.getpid()}.part")
        self.samples = 0

    def __enter__(self) -> TarWriter:
        self._tar = tarfile.open(self.part, "w", format=tarfile.USTAR_FORMAT)
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._tar.close()
        if kind is None and self.samples:
            self.part.replace(self.path)
        else:
            self.part.unlink(missing_ok=True)

    def add(self, name: str, files: dict[str, bytes]) -> None:
        """One sample: its files by their extension."""
        for extension, data in sorted(files.items()):
            about = tarfile.TarInfo(f"{name}.{extension}")
            about.size, about.mode, about.mtime = len(data), 0o644, 0
            self._tar.addfile(about, io.BytesIO(data))
        self.samples += 1


@dataclass(frozen=True)
class Sample:
    """One clip: its tar, beside the index, and (offset, size) of each of its files in it, by extension."""

    name: str
    tar: Path
    frames: int
    parts: dict[str, tuple[int, int]]

    def read(self, extension: str) -> bytes:
        """Raises ValueError if the clip has no such file."""
        if extension not in self.parts:
            raise ValueError(f"{self.tar.name} has no {self.name}.{extension}; prepare the videos again")
        offset, size = self.parts[extension]
        with self.tar.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def about(self) -> dict:
        return json.loads(self.read("json"))

    def array(self, extension: str, first: int = 0, count: int | None = None) -> np.ndarray:
        """Rows `first` to `first + count` of a .npy file; only they are read from the disk."""
        offset, _ = self.parts[extension]
        with self.tar.open("rb") as file:
            file.seek(offset)
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, kind = read(file)
            count = shape[0] - first if count is None else min(count, shape[0] - first)
            row = kind.itemsize * int(np.prod(shape[1:], dtype=np.int64))
            file.seek(first * row, os.SEEK_CUR)
            return np.frombuffer(file.read(count * row), kind).reshape(count, *shape[1:])


def samples_of(tar: Path) -> Iterator[Sample]:
    """The samples of one tar file, in its order."""
    name, parts = None, {}
    with tarfile.open(tar) as file:
        for member in file:
            stem, extension = member.name.split(".", 1)
            if stem != name and name is not None:
                yield _sample(name, tar, parts)
                parts = {}
            name = stem
            parts[extension] = (member.offset_data, member.size)
    if name is not None:
        yield _sample(name, tar, parts)


def _sample(name: str, tar: Path, parts: dict) -> Sample:
    return Sample(name, tar, json.loads(Sample(name, tar, 0, parts).read("json"))["frames"], parts)


def write_index(folder: Path) -> int:
    """Write index.jsonl of all finished videos, a line a clip, in the order of their keys; returns how many clips."""
    lines = []
    for row in sorted((folder / VIDEOS).glob("*.json")):
        tar = folder / CLIPS / f"{row.stem}.tar"
        if tar.exists():
            lines += [
                json.dumps({"name": one.name, "tar": f"{CLIPS}/{tar.name}", "frames": one.frames, "parts": one.parts})
                for one in samples_of(tar)
            ]
    write_atomically(folder / INDEX, "".join(line + "\n" for line in lines))
    return len(lines)


def read_index(folder: str | Path) -> list[Sample]:
    """Raises FileNotFoundError, naming the command that prepares a folder, or ValueError for an index without clips."""
    folder = Path(folder)
    path = folder / INDEX
    if not path.exists():
        raise FileNotFoundError(
            f"there is no {path}; make it with `python -m emo_model.training prepare VIDEOS --out {folder}`"
        )
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if not lines:
        raise ValueError(f"{path} lists no clip: no video was accepted, see report.md beside it")
    return [
        Sample(
            line["name"], folder / line["tar"], line["frames"], {key: tuple(at) for key, at in line["parts"].items()}
        )
        for line in lines
    ]


def check_settings(folder: Path, text: str) -> None:
    """Keep the settings in the folder. Raises ValueError if it was prepared with others."""
    path = folder / SETTINGS
    if not path.exists():
        write_atomically(path, text)
    elif path.read_text(encoding="utf-8") != text:
        old, new = (_flat(json.loads(one)) for one in (path.read_text(encoding="utf-8"), text))
        other = [
            f"{key} {old.get(key)} (now {new.get(key)})" for key in sorted(old | new) if old.get(key) != new.get(key)
        ]
        raise ValueError(
            f"{folder} was prepared with other settings: {', '.join(other) or 'of another version'}; choose another "
            "--out, or the settings of then"
        )


def _flat(values: dict, before: str = "") -> dict:
    result = {}
    for key, value in values.items():
        result |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {before + key: value}
    return result


def rows_of(folder: Path) -> Iterable[dict]:
    """What became of each finished video, in the order of names."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / VIDEOS).glob("*.json"))]
    return sorted(rows, key=lambda row: (row["video"], row["key"]))

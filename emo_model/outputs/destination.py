"""Where a video goes: tried before the work begins, and written under a name that no other file has."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

from ..inputs.files import reason_of

PARTIAL = "{}.{}.part{}"
RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}


def check_destination(path: str | Path, *, inputs: Iterable[str | Path] = ()) -> Path:
    """The file that writing to `path` replaces: `path` itself, or what it links to.

    inputs: files that must survive the run. Creates and removes a file in the folder, so that what cannot be written is
    known before the work. Raises OSError or ValueError with a sentence for the user.
    """
    path = Path(path)
    if os.name == "nt" and (reason := windows_refuses(path)):
        raise OSError(_unusable(path, reason))
    try:
        info = path.lstat()
    except FileNotFoundError:
        info = None
    except ValueError as error:  # a null character in the name
        raise OSError(_unusable(path, str(error))) from None
    except OSError as error:
        raise OSError(_unusable(path, reason_of(error))) from None
    target = path
    if info is not None and stat.S_ISLNK(info.st_mode):
        target = Path(os.path.realpath(path))
        try:
            info = target.stat()
        except OSError:
            raise OSError(
                f"{path} is a broken link: {os.readlink(path)} does not exist. Remove the link, or choose another "
                "output"
            ) from None
    if info is not None and stat.S_ISDIR(info.st_mode):
        raise OSError(f"{path} is a folder. Name a file in it, such as {path / 'talk.mp4'}")
    if info is not None and not stat.S_ISREG(info.st_mode):
        raise OSError(f"{path} is not a regular file (a pipe, socket or device). Choose another output")
    for given in inputs:
        if info is not None and _is_same(target, given):
            raise ValueError(
                f"{path} is the same file as {given}, which this run reads, and would be overwritten. "
                "Choose another output"
            )
    if info is not None and not os.access(target, os.W_OK):
        raise OSError(f"{path} exists and is write-protected. Choose another output, or remove the file")
    _try_folder(path, target.parent)
    return target


def windows_refuses(path: Path) -> str | None:
    """Why Windows would not write a file of this name, or would write another one; None if it would."""
    name = path.name
    if bad := sorted(set(name) & set('<>:"/\\|?*') | {letter for letter in name if ord(letter) < 32}):
        return f"Windows allows no {' '.join(map(repr, bad))} in a name"
    if name.partition(".")[0].rstrip(" ").upper() in RESERVED:
        return "Windows reserves the name for a device"
    if name.endswith((".", " ")):
        return "Windows drops dots and spaces at the end of a name"
    whole = len(str(path.absolute())) + len(PARTIAL.format("", "0" * 16, ""))
    return f"the path would have {whole} characters, and Windows takes 259" if whole > 259 else None


def new_partial(path: Path) -> Path:
    """A new, empty file beside `path` for a video that is not complete yet; its name is random, so nobody owns it."""
    while True:
        name = PARTIAL.format(path.stem[:40], secrets.token_hex(8), path.suffix)
        try:
            os.close(os.open(path.with_name(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            continue
        return path.with_name(name)


def publish(partial: Path, path: Path) -> None:
    """Give a complete video its name. Raises OSError that says where the video is if its name cannot be had."""
    try:
        os.replace(partial, path)
    except OSError as error:
        raise OSError(
            f"the video is complete, but cannot be named {path}: {reason_of(error)}. It is {partial}; close programs "
            "that have the old file open, and rename it"
        ) from None


def _try_folder(path: Path, folder: Path) -> None:
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(place))
    if not existing.is_dir():
        raise OSError(_unusable(path, f"{existing} is not a folder"))
    try:
        new_partial(existing / path.name).unlink()
    except OSError as error:
        raise OSError(_unusable(path, f"no file can be created in {existing}: {reason_of(error)}")) from None


def _unusable(path: Path, reason: str) -> str:
    name = path.name if len(path.name) <= 60 else f"{path.name[:40]}... ({len(os.fsencode(path.name))} bytes)"
    return f"the output {name} cannot be written ({reason}). Choose another output"


def _is_same(one: Path, other: str | Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False

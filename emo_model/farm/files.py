"""A video under its final name: written once, whole, and never over another file."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from ..cache.locks import lock


class Part:
    """`out` + '.part', which no other process writes while this one holds it; what a dead process left is taken over.

    Raises BlockingIOError if another process writes this output, and OSError.
    """

    def __init__(self, out: Path):
        self.out, self.path = out, out.with_name(out.name + ".part")
        out.parent.mkdir(parents=True, exist_ok=True)
        while True:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
            try:
                self.file = os.fdopen(os.open(self.path, flags | os.O_EXCL, 0o666), "r+b")
            except FileExistsError:
                try:
                    self.file = os.fdopen(os.open(self.path, flags & ~os.O_CREAT), "r+b")
                except FileNotFoundError:
                    continue
            try:
                try:
                    lock(self.file, wait=False)
                except BlockingIOError:
                    raise BlockingIOError(f"{out} is being written by another program") from None
                except OSError:
                    pass  # the file system has no locks
                if os.name == "nt" or os.path.samestat(os.fstat(self.file.fileno()), self.path.stat()):
                    return
            except FileNotFoundError:
                pass  # its owner has published it meanwhile
            except BaseException:
                self.file.close()
                raise
            self.file.close()

    def sha256(self) -> str:
        self.file.seek(0)
        return _digest(self.file)

    def restart(self) -> None:
        self.file.seek(0)
        self.file.truncate()

    def flush(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())

    def publish(self) -> None:
        """Give the file its name. Raises FileExistsError if there is a file of that name."""
        if os.name == "nt":
            self.file.close()
            os.rename(self.path, self.out)  # refuses to replace
            return
        try:
            os.link(self.path, self.out)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if os.path.lexists(self.out):
                raise FileExistsError(17, "exists", str(self.out)) from None
            os.rename(self.path, self.out)
        else:
            os.unlink(self.path)
        with contextlib.suppress(OSError):
            folder = os.open(self.out.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def remove(self) -> None:
        if os.name == "nt":
            self.file.close()
        with contextlib.suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        self.file.close()


def sha256_of(path: Path) -> str | None:
    """None if there is no such file."""
    try:
        with path.open("rb") as file:
            return _digest(file)
    except FileNotFoundError:
        return None


def _digest(file) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()

"""File locks over processes, and leases: what tells a living run from a dead one."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

LONGEST_RUN = 7 * 86_400  # seconds; used only where the file system has no locks


def open_private(path: Path, mode: str):
    """`open` for a file that only its owner can read; text is UTF-8."""

    if path.exists() and not path.is_file():  # opening a pipe may wait forever
        raise OSError(f"{path} is a folder, pipe or device in place of a file; remove it")

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, 0o600)

    return open(path, mode, encoding=None if "b" in mode else "utf-8", opener=opener)


class Lease:
    """A file that its run keeps locked; the system releases it when the run's process ends, however it ends.

    While a lease is held, no clip that was used since then is removed.
    """

    def __init__(self, folder: Path):
        self.name = secrets.token_hex(8)
        self.path = folder / f"{self.name}.lease"
        self.file = open_private(self.path, "w")
        with contextlib.suppress(OSError):
            lock(self.file, wait=False)
        self.file.write(f"process {os.getpid()}\n")
        self.file.flush()
        self.began = os.fstat(self.file.fileno()).st_mtime

    def close(self) -> None:
        if not self.file.closed:
            if os.name != "nt":
                self.path.unlink(missing_ok=True)
            self.file.close()
            self.path.unlink(missing_ok=True)

    def __del__(self):
        with contextlib.suppress(Exception):
            self.close()


def is_held(path: Path) -> bool:
    """Whether the lease's run is alive; the file of a dead one is removed. Without locks, a young lease counts as
    alive."""
    try:
        with open_private(path, "a+") as file:
            lock(file, wait=False)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return time.time() - path.stat().st_mtime < LONGEST_RUN
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    return False


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; no protection where the file system has no locks."""
    with open_private(path, "a+") as file:
        with contextlib.suppress(OSError):
            lock(file, wait=True)
        yield


def lock(file, *, wait: bool) -> None:
    """Lock an open file for this process alone. Raises BlockingIOError where another holds it and `wait` is off, and
    OSError where the file system has no locks.
    """
    if os.name == "nt":
        import msvcrt

        while True:
            file.seek(0)
            try:
                return msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            except OSError as error:
                if not wait:
                    raise BlockingIOError(error.errno, error.strerror) from error
                time.sleep(0.01)
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))

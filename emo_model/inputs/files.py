"""Files that users name: whether one can be read, and why not, in words."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

_REASONS = {
    errno.ENOENT: "it does not exist",
    errno.EEXIST: "there is a file of this name already",
    errno.EACCES: "permission denied",
    errno.EPERM: "the operation is not permitted",
    errno.EISDIR: "it is a folder",
    errno.ENOTDIR: "a part of its path is not a folder",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOSPC: "the disk is full",
    errno.EROFS: "the file system is read-only",
    errno.ELOOP: "its links lead in a circle",
    errno.EDQUOT if hasattr(errno, "EDQUOT") else -1: "the disk quota is used up",
}


def reason_of(error: OSError) -> str:
    """Why the system refused, without the number of the error."""
    if error.errno is None:
        return str(error)
    return _REASONS.get(error.errno) or error.strerror or "the system gave no reason"


def sentence_of(error: BaseException) -> str:
    """The error as a sentence; those of the system get the file's name and no number."""
    if isinstance(error, OSError) and error.errno is not None:
        if error.filename is None:
            return error.strerror or reason_of(error)
        return f"{error.filename!s} cannot be used: {reason_of(error)}"
    return str(error)


def check_readable(path: str | Path, what: str) -> Path:
    """The path of a file that can be opened. what: a noun phrase for the error, such as "the portrait".

    A pipe is refused: opening one may wait forever, and inputs are read more than once. Raises OSError.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(f"there is no file {path!s:.300}; check the name of {what}") from None
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise OSError(f"{what} {path!s:.200} cannot be read: {reason}; give it another name") from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{what} {path} is a folder; name a file in it")
    if not stat.S_ISREG(mode):
        raise OSError(f"{what} {path} is a pipe, socket or device; save it as a file first")
    try:
        path.open("rb").close()
    except OSError as error:
        raise OSError(
            f"{what} {path} cannot be read: {reason_of(error)}; use a file that this program may read"
        ) from None
    return path

"""A large file in pieces and back, for machines that hand out only small files."""

from __future__ import annotations

import hashlib
from pathlib import Path

PIECE_BYTES = 15_000_000


def split(path: Path, *, piece_bytes: int = PIECE_BYTES) -> list[Path]:
    """Write PATH.001, PATH.002, ... and PATH.sha256 beside `path`; returns the pieces."""
    data = path.read_bytes()
    for old in path.parent.glob(path.name + ".[0-9][0-9][0-9]"):
        old.unlink()
    pieces = []
    for number, start in enumerate(range(0, len(data), piece_bytes), start=1):
        pieces.append(path.with_name(f"{path.name}.{number:03}"))
        pieces[-1].write_bytes(data[start:start + piece_bytes])
    path.with_name(path.name + ".sha256").write_text(hashlib.sha256(data).hexdigest() + "\n")
    return pieces


def join(path: Path, out: Path) -> Path:
    """Put PATH.001, PATH.002, ... together into `out`. Raises FileNotFoundError without pieces, ValueError if they do not fit."""
    pieces = sorted(path.parent.glob(path.name + ".[0-9][0-9][0-9]"))
    if not pieces:
        raise FileNotFoundError(f"there are no pieces {path.name}.001, ... in {path.parent}")
    data = b"".join(piece.read_bytes() for piece in pieces)
    wanted = path.with_name(path.name + ".sha256").read_text().strip()
    found = hashlib.sha256(data).hexdigest()
    if found != wanted:
        raise ValueError(f"{len(pieces)} pieces of {path.name} make {len(data)} bytes with sha256 {found[:12]}..., not "
                         f"{wanted[:12]}...; copy the pieces again")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(data)
    return out

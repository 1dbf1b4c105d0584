"""What was sent where and what is done, over runs: a file of JSON lines, each on the disk before the next step."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from ..cache.locks import lock

START = b'{"time": "'  # of every line


class Journal:
    """Append-only, locked for this process. `events` are those of earlier runs.

    A last line that a crash tore is left where it is and ignored. Raises BlockingIOError if another farm uses the
    file, OSError, and ValueError for a file that is no journal.
    """

    def __init__(self, path: Path):
        self.path = path
        self._mutex, self._broken = threading.Lock(), False
        path.parent.mkdir(parents=True, exist_ok=True)
        # a file of its own: on Windows a locked file cannot be read by others
        self._lock = open(path.with_name(path.name + ".lock"), "a+")  # noqa: SIM115
        try:
            lock(self._lock, wait=False)
        except BlockingIOError:
            self._lock.close()
            raise BlockingIOError(
                f"another farm works with {path}. Wait for it, or give this one another --out or --journal"
            ) from None
        except OSError:
            pass  # the file system has no locks
        self.events = read_events(path)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        if self._is_torn():
            self._append(b"\n")

    def _is_torn(self) -> bool:
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            return file.read(1) not in (b"", b"\n")

    def write(self, event: str, **fields) -> None:
        """One line, on the disk when this returns. Raises OSError."""
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, **fields}
        with self._mutex:
            self._append(json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n")

    def _append(self, data: bytes) -> None:
        if self._broken:
            raise OSError(f"the journal {self.path} could not be written")
        self._broken = True  # nothing may follow half a line
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)
        self._broken = False

    def close(self) -> None:
        with self._mutex:
            self._broken = True
            os.close(self._file)
        self._lock.close()


def read_events(path: Path) -> list[dict]:
    """Lines of a journal; a torn one is skipped where a run ended: at the end, or before the line of the next run."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    events, torn = [], 0
    for number, line in enumerate(lines, 1):
        line = line.strip(b"\0 \r")
        if not line:
            continue
        try:
            event = json.loads(line.decode("utf-8", "surrogateescape"))
            kind = event["event"]
        except (ValueError, KeyError, TypeError):
            if line[: len(START)] != START[: len(line)]:
                raise ValueError(f"{path} is no journal of a farm (line {number}); name another file") from None
            torn = number
            continue
        if torn and kind != "run":
            raise ValueError(f"{path}, line {torn} is damaged in the middle of a run; move the journal away")
        torn = 0
        events.append(event)
    return events


@dataclass
class Memory:
    """What a journal's events come to. done, downloaded, hopeless: last event of that kind by job; sent: by job, the
    prompts that may still be on a server, as {prompt id: event}."""

    done: dict[str, dict] = field(default_factory=dict)
    downloaded: dict[str, dict] = field(default_factory=dict)
    hopeless: dict[str, dict] = field(default_factory=dict)
    sent: dict[str, dict[str, dict]] = field(default_factory=dict)

    @classmethod
    def of(cls, events: list[dict]) -> Memory:
        made = cls()
        for event in events:
            kind, job, prompt = event["event"], event.get("job", ""), event.get("prompt", "")
            if kind == "sent":
                made.sent.setdefault(job, {})[prompt] = dict(event)
                made.hopeless.pop(job, None)
            elif kind == "accepted":
                made.sent.get(job, {}).get(prompt, {})["server_id"] = event.get("server_id", prompt)
            elif kind in ("failed", "lost", "withdrawn"):
                made.sent.get(job, {}).pop(prompt, None)
            elif kind == "gave up":
                if event.get("own_fault"):
                    made.hopeless[job] = event
            elif kind == "downloaded":
                made.downloaded[job] = event
            elif kind == "done":
                made.done[job] = event
                made.sent.pop(job, None)
        return made

"""How far a farm is: lines, a table that repaints itself in a terminal, and a page for a browser on this machine."""

from __future__ import annotations

import html
import json
import re
import shutil
import threading
import time
import unicodedata
from collections import deque
from datetime import timedelta

from .farm import Farm

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")  # of servers' messages: a terminal would obey them


class Show:
    """Write to a stream: plain lines, or in a terminal a table with the last lines below it."""

    def __init__(self, stream):
        self.stream, self.farm = stream, None
        self.is_table = stream.isatty()
        self._lines: deque[str] = deque(maxlen=6)
        self._painted, self._mutex, self._last = 0, threading.Lock(), 0.0

    def tell(self, text: str) -> None:
        line = f"{time.strftime('%H:%M:%S')} {CONTROL.sub(' ', text)}"
        with self._mutex:
            self._lines.append(line)
            if not self.is_table or self.farm is None:
                self.stream.write(line + "\n")
                self.stream.flush()

    def paint(self, *, last: bool = False) -> None:
        """Repaint the table, at most four times a second."""
        if not self.is_table or self.farm is None or time.monotonic() - self._last < 0.25 and not last:
            return
        width = max(shutil.get_terminal_size().columns - 1, 20)
        top = table(self.farm)  # takes the farm's lock, under which `tell` is called
        with self._mutex:
            lines = [_cut(line, width) for line in [*top, *self._lines]]
            up = f"\x1b[{self._painted}A" if self._painted else ""
            self.stream.write(f"{up}\x1b[J" + "\n".join(lines) + "\n")
            self.stream.flush()
            self._painted, self._last = len(lines), time.monotonic()


def table(farm: Farm) -> list[str]:
    """A line for all jobs and one for each server."""
    now = time.monotonic()
    with farm.changed:
        states = [work.state for work in farm.works]
        made = sum(server.done for server in farm.servers)
        left = states.count("waiting") + states.count("on a server")
        seconds = now - farm.began
        line = (
            f"{states.count('done')} of {len(states)} done, {states.count('failed')} failed, "
            f"{states.count('on a server')} on servers, {states.count('waiting')} waiting; {_clock(seconds)}"
        )
        lines = [line + (f", about {_clock(seconds / made * left)} left" if made and left else "")]
        if farm.stopping:
            lines[0] = f"{farm.stopping}, ending; {line}"
        for server in farm.servers:
            mine = [work for work in farm.works if work.server is server and work.state == "on a server"]
            if server.away_since is not None:
                text = f"away for {_clock(now - server.away_since)}: {server.reason}"
            elif not server.is_here:
                text = "asking"
            else:
                text = f"queue {server.load}, {server.done} done"
                if now < server.rest_until:
                    text += f", rests {server.rest_until - now:.0f} s after {server.faults} faults"
            for work in mine:
                if attempt := work.attempt:
                    text += f"; {work.job.out} {attempt.state} {_clock(now - attempt.sent)}"
                else:
                    text += f"; {work.job.out} uploading"
            lines.append(CONTROL.sub(" ", f"  {server.url}  {text}"))
    return lines


def failures(farm: Farm) -> list[str]:
    """A table of what failed and why, and of what was not begun."""
    rows = [
        (str(work.job.row), work.job.out, CONTROL.sub(" ", work.reason))
        for work in farm.works
        if work.state == "failed"
    ]
    if not rows:
        return []
    wide = [max(len(row[column]) for row in [*rows, ("row", "video", "")]) for column in (0, 1)]
    return [
        f"{row:>{wide[0]}}  {out:<{wide[1]}}  {reason}"
        for row, out, reason in [("row", "video", "why it failed"), *rows]
    ]


def serve_page(farm: Farm, port: int):
    """The table as a page at http://127.0.0.1:port, read-only, until the process ends. Raises OSError."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.headers.get("Host", "").rsplit(":", 1)[0]
            if name not in ("127.0.0.1", "localhost") or self.path not in ("/", "/status.json"):
                return self.send_error(404)
            lines = [*table(farm), "", *failures(farm)]
            if self.path == "/":
                kind, body = (
                    "text/html",
                    (
                        "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=2><title>EMO farm</title>"
                        f"<pre>{html.escape(chr(10).join(lines))}</pre>"
                    ),
                )
            else:
                works = [
                    {"row": work.job.row, "out": work.job.out, "state": work.state, "reason": work.reason}
                    for work in farm.works
                ]
                kind, body = "application/json", json.dumps({"lines": lines, "jobs": works})
            data = body.encode()
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    page = ThreadingHTTPServer(("127.0.0.1", port), Page)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    return page


def _cut(line: str, width: int) -> str:
    """The part of a line that fits in so many columns; letters of Chinese take two."""
    for end, letter in enumerate(line):
        width -= 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if width < 0:
            return line[:end]
    return line


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))

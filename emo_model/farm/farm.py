"""Which server renders what: a thread per server, a journal entry before each step that others could repeat.

A job is sent to one server at a time. It is sent again only after that server was asked for it and knew nothing, or was
away longer than `patience`; what such a server still has when it comes back is used if no other began, and cancelled if
one did.
"""

from __future__ import annotations

import errno
import random
import re
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..inputs.files import sentence_of
from .files import Part, sha256_of
from .host import Away, Host, Queued, Refused
from .journal import Journal, Memory
from .table import VIDEOS, Job

OWN_FAULTS = {
    "ValueError",
    "TypeError",
    "KeyError",
    "IndexError",
    "AttributeError",
    "NotImplementedError",
    "UnidentifiedImageError",  # of Pillow: no picture
    "InvalidDataError",  # of PyAV: no sound
}
OF_THIS_SERVER = {"FileNotFoundError", "ModuleNotFoundError", "ImportError"}
"""Exceptions of nodes after which a job is not tried again: anywhere, or on this server."""
OWN_ID = re.compile(r"_[0-9a-f]{8}(?=\.|$)")  # what `_with_own_ids` adds
MANY = 3  # faults in a row, after which a server rests
DISK = {errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)}


@dataclass(frozen=True)
class Limits:
    """tries: how often a server's fault may hit one job. ahead: prompts of ours in a server's queue behind the running
    one. patience: seconds that a server may be away before its jobs go to others. give_up: seconds without any server.
    settle: seconds after which a prompt must be known whose sending broke off. The rest: seconds between questions,
    and of the first and the longest wait after a fault.
    """

    tries: int = 5
    ahead: int = 1
    patience: float = 120
    give_up: float = 1800
    settle: float = 10
    poll: float = 1
    backoff: float = 2
    longest: float = 120


@dataclass
class Attempt:
    """A prompt on a server. server_id: the server's id for it, None until it was told."""

    prompt: str
    server_id: str | None = None
    sent: float = field(default_factory=time.monotonic)
    state: str = "sent"  # then "queued", "running"
    is_withdrawn: bool = False
    broken_downloads: int = 0


@dataclass
class Work:
    """A job and how far it is: waiting, on a server, done, failed."""

    job: Job
    state: str = "waiting"
    attempt: Attempt | None = None
    server: Server | None = None
    tries: int = 0
    not_before: float = 0
    refused: dict[str, str] = field(default_factory=dict)
    last_fault: str = ""  # URL
    faults: dict[str, str] = field(default_factory=dict)  # error of a node -> URL of the first server that had it
    reason: str = ""
    was_done: bool = False
    is_fresh: bool = False  # its nodes get ids of their own, so that the server does not answer from its cache


@dataclass
class Server:
    """load: length of its queue when last asked, with what was sent since. faults: in a row. ask_at, rest_until: times
    before which it is not asked, and not sent to. is_busy: its thread is in a step that should not be left half done.
    """

    host: Host
    load: int = 0
    is_here: bool = False
    away_since: float | None = None
    reason: str = ""
    knocks: int = 0
    faults: int = 0
    ask_at: float = 0
    rest_until: float = 0
    is_busy: bool = False
    done: int = 0
    uploaded: dict[str, str] = field(default_factory=dict)
    stale: dict[str, Work] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.host.url


class OutputsTaken(ValueError):
    """Files that this run would have to replace."""


class Farm:
    """`Farm(jobs, hosts, out, journal).run()`. tell: receives a line for each thing that happened.

    output: node whose video is the job's, if a workflow makes several. again: also what failed by its own fault in an
    earlier run. Raises OutputsTaken for outputs that exist and are not in the journal.
    """

    def __init__(
        self,
        jobs: list[Job],
        hosts: list[Host],
        out: Path,
        journal: Journal,
        *,
        limits: Limits = Limits(),
        output: str | None = None,
        again: bool = False,
        tell: Callable[[str], None] = lambda text: None,
    ):
        self.out, self.journal, self.limits, self.output, self.tell = out, journal, limits, output, tell
        self.servers = [Server(host) for host in hosts]
        self.works = [Work(job) for job in jobs]
        self.changed = threading.Condition()
        self.stopping = ""  # why
        self.began = time.monotonic()
        self._recall(Memory.of(journal.events), again)

    # ---- before: what earlier runs did

    def _recall(self, memory: Memory, again: bool) -> None:
        servers = {server.url: server for server in self.servers}
        taken = []
        for work in self.works:
            job, path = work.job, self.out / work.job.out
            downloaded = memory.downloaded.get(job.key)
            if path.exists() or path.is_symlink():
                if job.key in memory.done or downloaded and sha256_of(path) == downloaded["sha256"]:
                    work.state, work.was_done = "done", True
                else:
                    taken.append(f"row {job.row}: {path} exists, and is not of this job as it is now")
                continue
            if job.key in memory.hopeless and not again:
                work.state, work.reason = "failed", memory.hopeless[job.key]["reason"] + " (in an earlier run)"
                continue
            for event in reversed(memory.sent.get(job.key, {}).values()):
                server = servers.get(event["server"])
                attempt = Attempt(event["prompt"], event.get("server_id"))
                if server is None:  # it may have got another address
                    for one in self.servers:
                        one.stale[attempt.prompt] = work
                    work.not_before = time.monotonic() + self.limits.settle
                    self.tell(f"row {job.row}: was on {event['server']}; sent again if none of --servers knows it")
                elif work.attempt is None:
                    work.state, work.attempt, work.server = "on a server", attempt, server
                else:
                    server.stale[attempt.prompt] = work
        if taken:
            more = [f"and {len(taken) - 20} more"] if len(taken) > 20 else []
            raise OutputsTaken(
                "\n".join(
                    [
                        "nothing was sent. These outputs would be replaced; remove them, or name others:",
                        *taken[:20],
                        *more,
                    ]
                )
            )
        self.journal.write("run", version=1, jobs=len(self.works), servers=[server.url for server in self.servers])
        for work in self.works:
            if work.was_done and work.job.key not in memory.done:
                self._note("done", work, out=work.job.out, sha256=memory.downloaded[work.job.key]["sha256"])

    # ---- the run

    def run(self, *, show: Callable[[], None] = lambda: None) -> bool:
        """Until all is done or failed, or `stop` was called; whether all is done. show: called a few times a second."""
        threads = [threading.Thread(target=self._serve, args=(one,), daemon=True, name=one.url) for one in self.servers]
        for thread in threads:
            thread.start()
        while not self._is_over() or any(server.is_busy for server in self.servers):
            with self.changed:
                self.changed.wait(0.2)
            self._watch_absence()
            show()
        for thread in threads:
            thread.join(1)  # what is still asking may be left
        is_done = all(work.state == "done" for work in self.works)
        counts = {state: sum(work.state == state for work in self.works) for state in ("done", "failed")}
        self.journal.write(
            "stopped" if self.stopping else "end", **counts, **({"why": self.stopping} if self.stopping else {})
        )
        return is_done

    def stop(self, why: str) -> None:
        """Send nothing more; what the servers have stays there."""
        self.stopping = self.stopping or why

    def _is_over(self) -> bool:
        return bool(self.stopping) or all(work.state in ("done", "failed") for work in self.works)

    def _watch_absence(self) -> None:
        now = time.monotonic()
        with self.changed:
            absent = [server.away_since for server in self.servers]
            if all(since is not None and now - since > self.limits.give_up for since in absent) and not self._is_over():
                self.stop(f"no server answered for {self.limits.give_up:.0f} s")

    def _serve(self, server: Server) -> None:
        """Thread of one server."""
        try:
            while not self._is_over():
                try:
                    goes_on = time.monotonic() >= server.ask_at and self._look_after(server) | self._take(server)
                except Away as reason:
                    goes_on = False
                    self._missed(server, str(reason))
                finally:
                    server.is_busy = False
                if not goes_on:
                    with self.changed:
                        if not self._is_over():
                            self.changed.wait(self.limits.poll)
        except BaseException as error:  # the journal or the disk: nobody may go on
            self.stop(sentence_of(error) or type(error).__name__)
            if not isinstance(error, OSError):
                raise
        finally:
            with self.changed:
                self.changed.notify_all()

    def _missed(self, server: Server, reason: str) -> None:
        """The server did not answer: ask later, and give its jobs to others after a while."""
        with self.changed:
            now = time.monotonic()
            if server.away_since is None:
                server.away_since = now
                self.tell(f"{server.url}: {reason}")
            server.is_here, server.reason = False, reason
            server.knocks += 1
            server.uploaded.clear()  # it may come back as another machine
            server.ask_at = now + min(self.limits.backoff * 2 ** min(server.knocks - 1, 10), 15, self.limits.longest)
            if now - server.away_since < self.limits.patience:
                return
            for work in self._of(server):
                server.stale[work.attempt.prompt] = work
                self._note("released", work, reason=reason)
                self._fault(server, work, f"{server.url} has been away for {now - server.away_since:.0f} s", rest=False)

    def _came_back(self, server: Server, load: int) -> None:
        with self.changed:
            server.load = load
            if not server.is_here:
                if server.away_since is not None:
                    self.tell(f"{server.url}: is back")
                server.is_here, server.away_since, server.knocks, server.reason = True, None, 0, ""
                self.changed.notify_all()

    def _of(self, server: Server) -> list[Work]:
        return [work for work in self.works if work.state == "on a server" and work.server is server and work.attempt]

    def _look_after(self, server: Server) -> bool:
        """Ask for everything that the server has of ours; whether something ended. Raises Away."""
        queue = server.host.queue()
        self._clear_stale(server, queue)
        ended = False
        with self.changed:
            ours = self._of(server)
        for work in ours:
            attempt = work.attempt
            queued = queue.get(attempt.prompt) or queue.get(attempt.server_id or "")
            if queued:
                attempt.server_id, attempt.state = queued.server_id, "running" if queued.running else "queued"
                continue
            # the queue was asked before the history: a prompt that ended in between is found here
            entry = server.host.history(attempt.prompt, attempt.server_id)
            if entry is not None:
                self._finish(server, work, entry)
                ended = True
            elif attempt.server_id is not None or time.monotonic() - attempt.sent > self.limits.settle:
                with self.changed:
                    self._note("withdrawn" if attempt.is_withdrawn else "lost", work)
                    if attempt.is_withdrawn:
                        self._free(work)
                    else:
                        if attempt.server_id is None:  # sending broke off, and it may still arrive
                            server.stale[attempt.prompt] = work
                        self._fault(
                            server, work, "the server has forgotten the job: it was restarted, or the job removed"
                        )
                ended = True
        self._even_out(server)
        self._came_back(server, len(queue))  # at the end: a server that answers only half is not back
        return ended

    def _clear_stale(self, server: Server, queue: dict[str, Queued]) -> None:
        """What was given up here: use it if nobody else has begun, cancel it otherwise."""
        for prompt, work in list(server.stale.items()):
            queued = queue.get(prompt)
            with self.changed:
                is_free = work.state == "waiting"
                if is_free and queued:
                    self._adopt(server, work, Attempt(prompt, queued.server_id))
            if not is_free and queued:
                server.host.cancel(queued)
            elif is_free and not queued:
                entry = server.host.history(prompt, None)
                with self.changed:
                    if entry is not None and _status(entry)[0] == "success" and work.state == "waiting":
                        self._adopt(server, work, Attempt(prompt))
            del server.stale[prompt]

    def _adopt(self, server: Server, work: Work, attempt: Attempt) -> None:
        work.state, work.server, work.attempt = "on a server", server, attempt
        self.journal.write("adopted", job=work.job.key, prompt=attempt.prompt, server=server.url)
        self.tell(f"row {work.job.row} {work.job.out}: still on {server.url}")

    def _even_out(self, server: Server) -> None:
        """Take back a job that waits behind another here while another server has nothing to do. Raises Away."""
        with self.changed:
            if server.load < 2:  # a job alone in the queue is about to begin; it would wander between idle servers
                return
            queued = [
                work for work in self._of(server) if work.attempt.state == "queued" and not work.attempt.is_withdrawn
            ]
            idle = [one for one in self.servers if one is not server and one.is_here and one.load == 0]
            idle = [one for one in idle if time.monotonic() >= one.rest_until]
            if not idle or not queued or any(work.state == "waiting" for work in self.works):
                return
            work = queued[-1]
            if all(one.url in work.refused for one in idle):
                return
            work.attempt.is_withdrawn = True
        server.host.cancel(Queued(work.attempt.server_id or work.attempt.prompt, False))

    # ---- sending

    def _take(self, server: Server) -> bool:
        """Send one job if this is the server for it; whether it was sent. Raises Away."""
        with self.changed:
            work = self._choose(server)
            if work is None:
                return False
            work.state, work.server, work.attempt = "on a server", server, None
            server.is_busy = True
        try:
            names = {}
            for name, file in work.job.files.items():
                if name not in server.uploaded:
                    server.uploaded[name] = server.host.upload(file, name)
                names[name] = server.uploaded[name]
        except Refused as reason:
            self._refused(server, work, reason)
            return True
        except Away as reason:
            with self.changed:
                self._fault(server, work, str(reason))
            raise
        except OSError as error:
            with self.changed:
                self._fail(work, sentence_of(error), own_fault=False)
            return True
        attempt = Attempt(str(uuid.uuid4()))
        with self.changed:
            if self.stopping:
                self._free(work)
                return False
            work.attempt = attempt
            server.load += 1
            self._note("sent", work, out=work.job.out, row=work.job.row)
        try:
            prompt = _renamed(work.job.prompt, names)
            prompt = _with_own_ids(prompt, attempt.prompt[:8]) if work.is_fresh else prompt
            attempt.server_id = server.host.send(prompt, attempt.prompt, work.job.key)
        except Refused as reason:
            self._note("failed", work, reason=str(reason))
            self._refused(server, work, reason)
            return True
        # Away: it may be queued nevertheless; `_look_after` asks
        self._note(
            "accepted", work, **({} if attempt.server_id == attempt.prompt else {"server_id": attempt.server_id})
        )
        self.tell(f"row {work.job.row} {work.job.out}: sent to {server.url}")
        return True

    def _choose(self, server: Server) -> Work | None:
        """The next job for a server; None while another server has a shorter queue."""
        now, room = time.monotonic(), 1 + self.limits.ahead

        def has_room(one: Server) -> bool:
            mine = sum(work.state == "on a server" and work.server is one for work in self.works)
            return one.is_here and now >= one.rest_until and mine < room

        if self._is_over() or not has_room(server):
            return None
        able = [one for one in self.servers if has_room(one)]
        for work in self.works:
            if work.state != "waiting" or now < work.not_before or server.url in work.refused:
                continue
            if work.last_fault == server.url and any(
                one.is_here and one.faults < MANY and one.url not in (server.url, *work.refused) for one in self.servers
            ):
                continue  # a sound server takes it when it has room
            rivals = [one for one in able if one.url not in work.refused]
            if server.load <= min(one.load for one in rivals):
                return work
        return None

    def _refused(self, server: Server, work: Work, reason: Refused) -> None:
        with self.changed:
            work.refused[server.url] = str(reason)
            if reason.own_fault or all(one.url in work.refused for one in self.servers):
                self._fail(work, str(reason), own_fault=reason.own_fault)
            else:
                self._free(work)

    # ---- ends

    def _finish(self, server: Server, work: Work, entry: dict) -> None:
        server.is_busy = True
        status, kind, reason = _status(entry)
        for name, file in work.job.files.items():
            reason = re.sub(rf"[^\s'\"]*{re.escape(name)}", lambda _, file=file: str(file), reason)
        if status != "success":
            with self.changed:
                self._note("failed", work, reason=reason)
                if kind in OWN_FAULTS:
                    self._fail(work, reason, own_fault=True)
                elif kind in OF_THIS_SERVER:
                    self._refused(server, work, Refused(reason, False))
                elif work.faults.setdefault(reason, server.url) != server.url:
                    self._fail(work, f"{reason} (on two servers)", own_fault=False)
                else:
                    self._fault(server, work, reason)
            return
        try:
            try:
                item = find_video(entry, self.output)
            except ValueError:
                if work.is_fresh or not _was_cached(entry):
                    raise
                # the server had rendered the same before, and shows nothing of nodes that expand into others
                with self.changed:
                    self._note("failed", work, reason="answered from the server's cache, without a video")
                    work.is_fresh = True
                    self._free(work)
                return
            if Path(item["filename"]).suffix.lower() != Path(work.job.out).suffix.lower():
                raise ValueError(
                    f"the workflow made {item['filename']}; name the output {Path(work.job.out).stem}"
                    f"{Path(item['filename']).suffix}"
                )
            self._save(server, work, item)
        except ValueError as error:  # not the job's: another --output mends it
            with self.changed:
                self._note("failed", work, reason=str(error))
                self._fail(work, str(error), own_fault=False)
        except FileNotFoundError as error:  # of the server
            with self.changed:
                self._note("failed", work, reason=str(error))
                self._fault(server, work, str(error))
        except Away as error:
            work.attempt.broken_downloads += 1
            if work.attempt.broken_downloads < self.limits.tries:
                raise
            with self.changed:
                self._note("failed", work, reason=str(error))
                self._fault(server, work, str(error))
        except OSError as error:
            if error.errno in DISK:
                raise
            with self.changed:
                self._fail(work, sentence_of(error), own_fault=False)

    def _save(self, server: Server, work: Work, item: dict) -> None:
        """Download beside the output, then give it its name; an output that exists stays as it is."""
        path = self.out / work.job.out
        began = time.monotonic()
        part = Part(path)
        try:
            part.restart()
            size, digest = server.host.download(item, part.file)
            part.flush()
            self._note("downloaded", work, out=work.job.out, bytes=size, sha256=digest)
            try:
                part.publish()
            except FileExistsError:
                raise FileExistsError(f"{path} exists by now; it was not replaced") from None
        except BaseException:
            part.remove()
            raise
        finally:
            part.close()
        with self.changed:
            self._note("done", work, out=work.job.out, bytes=size, sha256=digest)
            seconds = time.monotonic() - work.attempt.sent
            work.state, work.attempt = "done", None
            server.done, server.faults = server.done + 1, 0
            self.changed.notify_all()
        self.tell(
            f"row {work.job.row} {work.job.out}: done on {server.url}, {size / 1e6:.1f} MB, {seconds:.0f} s, of which "
            f"{time.monotonic() - began:.1f} s download"
        )

    def _fault(self, server: Server, work: Work, reason: str, *, rest: bool = True) -> None:
        """A server's fault: again later, elsewhere if possible, unless it happened too often. Called with the lock."""
        work.tries += 1
        work.last_fault = server.url
        if rest:
            server.faults += 1
            if server.faults >= MANY:  # a broken server must not use up every job's tries
                server.rest_until = time.monotonic() + self._pause(server.faults - MANY + 1)
        if work.tries >= self.limits.tries:
            self._fail(work, f"{reason} (given up after {work.tries} tries)", own_fault=False)
            return
        self.tell(
            f"row {work.job.row} {work.job.out}: {reason}; again ({work.tries} of {self.limits.tries} tries used)"
        )
        self._free(work)
        work.not_before = time.monotonic() + self._pause(work.tries)

    def _pause(self, count: int) -> float:
        return min(self.limits.backoff * 2 ** min(count - 1, 10), self.limits.longest) * random.uniform(0.75, 1.25)

    def _free(self, work: Work) -> None:
        work.state, work.attempt, work.server = "waiting", None, None
        self.changed.notify_all()

    def _fail(self, work: Work, reason: str, *, own_fault: bool) -> None:
        self.journal.write("gave up", job=work.job.key, out=work.job.out, reason=reason, own_fault=own_fault)
        work.state, work.reason, work.attempt = "failed", reason, None
        self.tell(f"row {work.job.row} {work.job.out}: failed: {reason}")
        self.changed.notify_all()

    def _note(self, event: str, work: Work, **fields) -> None:
        where = {"prompt": work.attempt.prompt, "server": work.server.url} if work.attempt and work.server else {}
        self.journal.write(event, job=work.job.key, **where, **fields)


def find_video(entry: dict, output: str | None) -> dict:
    """{filename, subfolder, type} of the one video that a prompt made. Raises ValueError for none and for several."""
    found: dict[tuple, tuple[str, dict]] = {}
    for node, shown in (entry.get("outputs") or {}).items():
        node = OWN_ID.sub("", node, count=1)
        if output is not None and node != output and not node.startswith(f"{output}."):
            continue
        for items in shown.values() if isinstance(shown, dict) else ():
            for item in items if isinstance(items, list) else ():
                name = item.get("filename") if isinstance(item, dict) else None
                if isinstance(name, str) and Path(name).suffix.lower() in VIDEOS:
                    found.setdefault((name, item.get("subfolder"), item.get("type")), (node, item))
    saved = [one for one in found.values() if one[1].get("type") == "output"] or list(found.values())
    if len(saved) == 1:
        return saved[0][1]
    if not saved:
        where = "" if output is None else f" at node {output}"
        raise ValueError(f"the workflow made no video{where}; it must end in EMO Video Combine or Save Video")
    names = ", ".join(f"{item['filename']} (node {node})" for node, item in saved)
    raise ValueError(f"the workflow made {len(saved)} videos: {names}; choose one with --output NODE")


def _status(entry: dict) -> tuple[str, str, str]:
    """(success or error, type of the exception, sentence) of an entry of the history."""
    status = entry.get("status") or {}
    if status.get("status_str", "success") == "success":
        return "success", "", ""
    for name, detail in status.get("messages") or ():
        if name == "execution_error":
            kind = str(detail.get("exception_type", "")).rsplit(".", 1)[-1]
            message = " ".join(str(detail.get("exception_message", "")).split())[:500]
            return "error", kind, f"node {detail.get('node_id')} {detail.get('node_type')}: {message or kind}"
        if name == "execution_interrupted":
            return "error", "Interrupted", "it was cancelled on the server"
    return "error", "", "the server gave no reason"


def _was_cached(entry: dict) -> bool:
    messages = (entry.get("status") or {}).get("messages") or ()
    return any(name == "execution_cached" and detail.get("nodes") for name, detail in messages)


def _with_own_ids(prompt: dict, mark: str) -> dict:
    """The same graph with other ids: nodes that are not idempotent run again, all others stay in the server's cache."""

    def moved(value: object) -> object:
        is_link = isinstance(value, list) and value and isinstance(value[0], str) and value[0] in prompt
        return [f"{value[0]}_{mark}", *value[1:]] if is_link else value

    return {
        f"{number}_{mark}": {**node, "inputs": {name: moved(value) for name, value in node["inputs"].items()}}
        for number, node in prompt.items()
    }


def _renamed(prompt: dict, names: dict[str, str]) -> dict:
    """The prompt with the names that a server gave to the files."""
    changed = {old: new for old, new in names.items() if old != new}
    if not changed:
        return prompt
    made = {}
    for number, node in prompt.items():
        inputs = dict(node["inputs"])
        for name, value in inputs.items():
            if isinstance(value, str):
                for old, new in changed.items():
                    value = value.replace(old, new)
                inputs[name] = value
        made[number] = {**node, "inputs": inputs}
    return made

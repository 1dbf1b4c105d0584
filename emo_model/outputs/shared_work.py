"""Two threads share the work of a run: while a clip is sampled, the one before is decoded and written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch


class _Call(NamedTuple):
    result: Future
    work: Callable[[], Any]
    is_shared: bool


class SharedWork:
    """`with SharedWork() as work`: a helper thread beside the caller; each call that is submitted is made by one of
    them.

    The helper makes calls in their order. `finish` waits for one, and meanwhile the caller makes shared calls, too, so
    neither thread idles while there is work. Shared calls must be free of side effects: one that Ctrl-C interrupts in
    the caller is made again by the helper. Both threads compute with the caller's number of torch's threads
    (`half_the_cores`), so results do not depend on who made a call. At the end of the block all calls are made, also
    after an exception.
    """

    def __init__(self):
        self.calls: list[_Call] = []
        self.changed, self.is_closed = threading.Condition(), False
        self.helper = threading.Thread(target=self._help, args=(torch.get_num_threads(),), name="emo-helper")

    def __enter__(self) -> SharedWork:
        self.helper.start()
        return self

    def __exit__(self, *_) -> None:
        with self.changed:
            self.is_closed = True
            self.changed.notify_all()
        self.helper.join()

    def submit(self, work: Callable[..., Any], *args: Any, is_shared: bool = True, is_urgent: bool = False) -> Future:
        """Queue a call; is_shared: the caller may make it as well; is_urgent: before those that wait."""
        call = _Call(Future(), lambda: work(*args), is_shared)
        with self.changed:
            self.calls.insert(0 if is_urgent else len(self.calls), call)
            self.changed.notify_all()
        return call.result

    def finish(self, result: Future) -> Any:
        """Wait for a call and return its result; raises its exception. Makes shared calls in the meantime."""
        while not result.done():
            if (call := self._take(lambda call: call.is_shared, until=result.done)) is not None:
                self._make(call)
        return result.result()

    def map(self, work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """The results of all items; the caller makes the first call, and both threads make the others at once."""
        own, *others = items
        results = [self.submit(work, item, is_urgent=True) for item in others]
        return [work(own), *map(self.finish, results)]

    def _take(self, fits: Callable[[_Call], bool], *, until: Callable[[], bool]) -> _Call | None:
        """The first call that fits, as soon as there is one; None if `until` holds before."""
        with self.changed:
            while not until():
                for index, call in enumerate(self.calls):
                    if fits(call):
                        return self.calls.pop(index)
                self.changed.wait()
        return None

    def _make(self, call: _Call) -> None:
        try:
            value = call.work()
        except Exception as error:
            call.result.set_exception(error)
        except BaseException:
            with self.changed:
                self.calls.insert(0, call)
                self.changed.notify_all()
            raise
        else:
            call.result.set_result(value)
        with self.changed:
            self.changed.notify_all()

    def _help(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.get_num_threads()  # otherwise the thread adopts the others' number at its first computation
        while (call := self._take(lambda call: True, until=lambda: self.is_closed and not self.calls)) is not None:
            self._make(call)


@contextmanager
def half_the_cores(device: torch.device | str) -> Iterator[None]:
    """On a CPU, the caller computes on half of the cores meanwhile, and a helper (`SharedWork`) on the others: more
    threads than cores wait for each other in every operation.

    The number of threads decides on the last bits of a clip, so it belongs to the names of cached clips: look them up
    in here.
    """
    cores = torch.get_num_threads()
    if torch.device(device).type == "cpu":
        torch.set_num_threads(max(1, cores // 2))
    try:
        yield
    finally:
        torch.set_num_threads(cores)

"""Decodes and writes one clip on a background thread while the next one is sampled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


class SerialExecutor:
    """`with SerialExecutor() as executor: executor.submit(work, *args)`: runs calls in order on one thread, one pending
    at most.

    An exception of a call is raised by the next `submit`, or at the end of the block.
    """

    def __init__(self):
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="emo-writer")
        self.pending: Future | None = None

    def __enter__(self):
        return self

    def __exit__(self, kind, *_) -> None:
        self.thread.shutdown(wait=True)  # a call that has started is completed, also after an exception
        if kind is None and self.pending is not None:
            self.pending.result()

    def submit(self, work: Callable[..., None], *args: Any) -> None:
        self.wait()
        self.pending = self.thread.submit(work, *args)

    def wait(self) -> None:
        """Returns when the pending call is done; raises its exception."""
        if self.pending is not None:
            self.pending.result()


class BackgroundWriter(SerialExecutor):
    """`with BackgroundWriter(...) as writer: writer.put(clip)`: decodes clips and writes their frames on a thread.

    frames_of: a clip (B, C, F, h, w) of B faces -> blocks of frames (F, H, W, 3) uint8, written one by one, so memory
    does not grow with the clip. On a CPU the thread computes on one core (`one_core_for_writing` takes it from the
    caller); on a GPU on a stream of its own beside the sampler's.
    """

    def __init__(
        self,
        frames_of: Callable[[Tensor], Iterable[np.ndarray]],
        write: Callable[[np.ndarray], None],
        *,
        device: torch.device | str,
    ):
        super().__init__()
        self.frames_of, self.write = frames_of, write
        self.stream = torch.cuda.Stream(device) if torch.device(device).type == "cuda" else None
        self.thread.submit(_use_one_core).result()

    def put(self, clip: Tensor) -> None:
        """clip (B, C, F, h, w) scaled latents."""
        self.wait()  # otherwise decoded clips would pile up
        if self.stream is None:
            self.submit(self._write, clip)
        else:
            made = torch.cuda.Event()
            made.record()
            self.submit(self._on_stream, clip, made)

    def _write(self, clip: Tensor) -> None:
        for block in self.frames_of(clip):
            self.write(block)

    def _on_stream(self, clip: Tensor, made: torch.cuda.Event) -> None:
        with torch.cuda.stream(self.stream):
            self.stream.wait_event(made)
            clip.record_stream(self.stream)
            self._write(clip)


@contextmanager
def one_core_for_writing(device: torch.device | str) -> Iterator[None]:
    """On a CPU, the caller computes on one core fewer meanwhile: more threads than cores wait for each other in every
    operation.

    The number of threads decides on the last bits of a clip, so it belongs to the names of cached clips: look them up
    in here.
    """
    cores = torch.get_num_threads()
    if torch.device(device).type == "cpu":
        torch.set_num_threads(max(1, cores - 1))
    try:
        yield
    finally:
        torch.set_num_threads(cores)


def _use_one_core() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # otherwise the thread adopts the others' number at its first computation

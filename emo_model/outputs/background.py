"""Behind the sampler's back: while a clip is decoded and written, the next is sampled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor


class InTurn:
    """`with InTurn() as turn: turn.do(work, given)`: works go on in a thread, in their order, one waiting at most.

    What goes wrong there is raised by the next `do`, or where the block ends.
    """

    def __init__(self):
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="emo-writer")
        self.waiting: Future | None = None

    def __enter__(self):
        return self

    def __exit__(self, kind, *_) -> None:
        self.thread.shutdown(wait=True)  # what was begun is done, also when the run was stopped
        if kind is None and self.waiting is not None:
            self.waiting.result()

    def do(self, work: Callable[..., None], *given: Any) -> None:
        self.before()
        self.waiting = self.thread.submit(work, *given)

    def before(self) -> None:
        """Returns when the work before is done."""
        if self.waiting is not None:
            self.waiting.result()


class Behind(InTurn):
    """`with Behind(...) as behind: behind.put(clip)`: clips are decoded, and their frames written, in a thread.

    frames_of: latents (F, C, h, w) -> blocks of frames (F, H, W, 3) uint8, written one by one, so that memory does not grow with
    the clip. On a CPU the thread computes on one core, on a GPU on a stream of its own beside the sampler's.
    """

    def __init__(self, frames_of: Callable[[Tensor], Iterable[np.ndarray]], write: Callable[[np.ndarray], None], *,
                 device: torch.device | str):
        super().__init__()
        self.frames_of, self.write = frames_of, write
        self.stream = torch.cuda.Stream(device) if torch.device(device).type == "cuda" else None
        count = torch.get_num_threads()
        self.thread.submit(_on_one_core).result()
        torch.set_num_threads(count)  # the number is each thread's own, but for MKL's

    def put(self, clip: Tensor) -> None:
        """clip (1, C, F, h, w) scaled latents."""
        self.before()  # or decoded clips would pile up
        if self.stream is None:
            self.do(self._write, clip)
        else:
            made = torch.cuda.Event()
            made.record()
            self.do(self._on_stream, clip, made)

    def _write(self, clip: Tensor) -> None:
        for block in self.frames_of(clip[0].transpose(0, 1)):
            self.write(block)

    def _on_stream(self, clip: Tensor, made: torch.cuda.Event) -> None:
        with torch.cuda.stream(self.stream):
            self.stream.wait_event(made)
            clip.record_stream(self.stream)
            self._write(clip)


def _on_one_core() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # or the thread would take the number of the others when it first computes

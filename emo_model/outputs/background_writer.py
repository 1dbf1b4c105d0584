"""Decodes and writes clips while the next ones are sampled."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .shared_work import SharedWork

PENDING = 2  # clips: while the last frames of one are decoded, the next but one is sampled
TOGETHER = 4  # frames of a clip that a thread decodes, while the other one decodes the next


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
        if self.pending is not None:
            self.pending.result()
        self.pending = self.thread.submit(work, *args)


class BackgroundWriter:
    """`with BackgroundWriter(...) as writer: writer.put(clip)`: both threads of `work` decode clips, its helper writes
    them.

    decode: latents (B, C, f, h, w) of B faces -> frames (f, H, W, 3) uint8. `PENDING` clips are pending at most; memory
    does not grow with the video. On a GPU the helper alone decodes, on a stream of its own beside the sampler's. An
    exception of `decode` or `write` is raised by the next `put`, or at the end of the block.
    """

    def __init__(
        self,
        work: SharedWork,
        decode: Callable[[Tensor], np.ndarray],
        write: Callable[[np.ndarray], None],
        *,
        device: torch.device | str,
    ):
        self.work, self.decode, self.write = work, decode, write
        self.stream = torch.cuda.Stream(device) if torch.device(device).type == "cuda" else None
        self.pending: deque[Future] = deque()

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self.wait()
        else:
            wait(self.pending)  # also after an exception, what was put is written

    def put(self, clip: Tensor) -> None:
        """clip (B, C, F, h, w) scaled latents."""
        self.wait(but=PENDING - 1)  # otherwise decoded clips would pile up
        decode, is_shared = self.decode, self.stream is None
        if not is_shared:
            made = torch.cuda.Event()
            made.record()
            decode = lambda part: self._on_stream(part, made)  # noqa: E731
        frames = [self.work.submit(decode, part, is_shared=is_shared) for part in clip.split(TOGETHER, dim=2)]
        self.pending.append(self.work.submit(self._write, frames, is_shared=False))

    def wait(self, *, but: int = 0) -> None:
        """Returns when all pending clips but the last `but` are written; raises what went wrong with those written."""
        while len(self.pending) > but or (self.pending and self.pending[0].done()):
            self.work.finish(self.pending.popleft())

    def _write(self, frames: list[Future]) -> None:
        while frames:  # written frames are released
            self.write(self.work.finish(frames.pop(0)))

    def _on_stream(self, part: Tensor, made: torch.cuda.Event) -> np.ndarray:
        with torch.cuda.stream(self.stream):
            self.stream.wait_event(made)
            part.record_stream(self.stream)
            return self.decode(part)

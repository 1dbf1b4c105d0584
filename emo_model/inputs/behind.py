"""Behind the sampler's back: while a clip is decoded and written, the next is sampled."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import ModelConfig
from . import vae
from .media import to_uint8


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
    """`with Behind(...) as behind: behind.put(clip)`: clips are decoded, and their frames (F, H, W, 3) uint8 written in a thread.

    On a GPU they are decoded there too, on a stream of its own beside the sampler's; on a CPU, where both would take turns, only
    encoding and writing lie in the thread.
    """

    def __init__(self, decoder: vae.Vae, write: Callable[[np.ndarray], None], config: ModelConfig, *, device: torch.device | str):
        super().__init__()
        self.decoder, self.write, self.config = decoder, write, config
        self.stream = torch.cuda.Stream(device) if torch.device(device).type == "cuda" else None

    def put(self, clip: Tensor) -> None:
        """clip (1, C, F, h, w) scaled latents."""
        self.before()  # or decoded clips would pile up
        if self.stream is None:
            self.do(self.write, self._decoded(clip))
        else:
            made = torch.cuda.Event()
            made.record()
            self.do(self._on_stream, clip, made)

    def _decoded(self, clip: Tensor) -> np.ndarray:
        return to_uint8(vae.decode(self.decoder, clip[0].transpose(0, 1), self.config))

    def _on_stream(self, clip: Tensor, made: torch.cuda.Event) -> None:
        with torch.cuda.stream(self.stream):
            self.stream.wait_event(made)
            clip.record_stream(self.stream)
            frames = self._decoded(clip)
        self.write(frames)

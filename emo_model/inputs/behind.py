"""Decoding and writing behind the sampler's back: while a clip is written, the next is sampled."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from ..config import ModelConfig
from . import vae
from .media import VideoWriter, to_uint8


class Behind:
    """`with Behind(...) as behind: behind.put(clip)`: clips go to the video in a thread, in order, one waiting at most.

    On a GPU they are decoded there too, on a stream of its own beside the sampler's; on a CPU, where both would take turns, only
    encoding and writing lie in the thread. What goes wrong there is raised by the next `put`, or where the block ends.
    """

    def __init__(self, decoder: vae.Vae, video: VideoWriter, config: ModelConfig, *, device: torch.device | str):
        self.decoder, self.video, self.config = decoder, video, config
        self.stream = torch.cuda.Stream(device) if torch.device(device).type == "cuda" else None
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="emo-writer")
        self.waiting: Future | None = None

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, kind, *_) -> None:
        self.thread.shutdown(wait=True)  # what was put is written, also when the run was stopped
        if kind is None and self.waiting is not None:
            self.waiting.result()

    def put(self, clip: Tensor) -> None:
        """clip (1, C, F, h, w) scaled latents."""
        if self.waiting is not None:
            self.waiting.result()
        if self.stream is None:
            self.waiting = self.thread.submit(self.video.write, self._decoded(clip))
        else:
            made = torch.cuda.Event()
            made.record()
            self.waiting = self.thread.submit(self._on_stream, clip, made)

    def _decoded(self, clip: Tensor):
        return to_uint8(vae.decode(self.decoder, clip[0].transpose(0, 1), self.config))

    def _on_stream(self, clip: Tensor, made: torch.cuda.Event) -> None:
        with torch.cuda.stream(self.stream):
            self.stream.wait_event(made)
            clip.record_stream(self.stream)
            frames = self._decoded(clip)
        self.video.write(frames)

"""CUDA graphs: one denoising step is captured and replayed for all steps and clips, with a single launch each."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from ..models.context import CachedContext
from ..models.emo import Emo

log = logging.getLogger("emo")
WARM_UPS = 2  # evaluations before the capture: libraries initialise in the first, and compilers compile


class Captured(Protocol):
    """A captured evaluation; its prediction is always written to the same buffer."""

    prediction: Tensor

    def replay(self) -> None: ...


Capture = Callable[[Callable[[], Tensor]], Captured]


def capture_steps(emo: Emo, *, device: torch.device | str) -> CudaGraphs | None:
    """In place of `emo.predict`; None, with a warning in the log, on a device without CUDA."""
    if torch.device(device).type != "cuda":
        log.warning("CUDA graphs need a CUDA device, and this one is '%s': steps run without them", device)
        return None
    return CudaGraphs(emo, CudaCapture())


class CudaGraphs:
    """Called as `Emo.predict`, and computes the same. One graph per kind of evaluation: shapes, branches of guidance.

    A graph always reads and writes the same buffers. So its inputs are copied there, those that the steps of a clip
    share once per clip, and its prediction is copied from there, so that no later step overwrites it. Weights are read
    in place; where they have moved, all graphs are captured anew. Where capturing fails, a warning is logged and steps
    run without graphs.
    """

    def __init__(self, emo: Emo, capture: Capture):
        self.emo, self.capture = emo, capture
        self.graphs: dict[tuple, _Graph] = {}
        self.weights: tuple[int, ...] = ()
        self.is_possible, self.has_warned = True, False

    def forget(self) -> None:
        """Free the memory of all graphs; the next steps are captured anew."""
        if self.graphs and torch.cuda.is_initialized():
            torch.cuda.synchronize()  # the last of them may still be running
        self.graphs.clear()
        self.is_possible = True

    def __call__(self, noisy: Tensor, timestep: Tensor, context: CachedContext) -> Tensor:
        if torch.is_grad_enabled():
            return self.emo.predict(noisy, timestep, context)
        leaves = tree_leaves((noisy, timestep, context))
        kind = tuple((x.dtype, x.shape, x.stride()) if isinstance(x, Tensor) else x for x in leaves)
        shared = [x for x in leaves[2:] if isinstance(x, Tensor)]
        if kind not in self.graphs or not self.graphs[kind].holds(shared):
            self._check_weights(noisy.device)
        if self.is_possible and kind not in self.graphs:
            try:
                self.graphs[kind] = _Graph(self.emo, self.capture, noisy, timestep, context)
            except RuntimeError as error:  # from kernels that cannot be captured, and from too little memory
                self._give_up(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        if not self.is_possible:
            return self.emo.predict(noisy, timestep, context)  # outside of the handler, where the error holds no memory
        return self.graphs[kind](noisy, timestep, shared)

    def _check_weights(self, device: torch.device) -> None:
        weights = tuple(weight.data_ptr() for weight in self.emo.backbone.parameters())
        if weights != self.weights:
            self.forget()
            self.weights = weights
        if any(weight.device != device for weight in self.emo.backbone.parameters()):
            self._give_up("parts of the weights are on another device, for want of memory")

    def _give_up(self, why: str) -> None:
        self.forget()
        self.is_possible = False
        if not self.has_warned:
            log.warning("steps are not captured as CUDA graphs, and run without them: %s", why)
            self.has_warned = True


class _Graph:
    """One kind of evaluation, and the buffers that it reads."""

    def __init__(self, emo: Emo, capture: Capture, noisy: Tensor, timestep: Tensor, context: CachedContext):
        self.noisy, self.timestep, self.context = tree_map_only(Tensor, Tensor.clone, (noisy, timestep, context))
        self.buffers = [x for x in tree_leaves(self.context) if isinstance(x, Tensor)]
        self.source = weakref.ref(next(x for x in tree_leaves(context) if isinstance(x, Tensor)))
        self.captured = capture(lambda: emo.predict(self.noisy, self.timestep, self.context))

    def holds(self, shared: list[Tensor]) -> bool:
        """Whether the buffers hold these tensors of a clip already."""
        return self.source() is shared[0]

    def __call__(self, noisy: Tensor, timestep: Tensor, shared: list[Tensor]) -> Tensor:
        self.noisy.copy_(noisy)
        self.timestep.copy_(timestep)
        if not self.holds(shared):
            for buffer, x in zip(self.buffers, shared, strict=True):
                buffer.copy_(x)
            self.source = weakref.ref(shared[0])
        self.captured.replay()
        return self.captured.prediction.clone()


class CudaCapture:
    """Captures on the GPU; all graphs share their memory, because no two are replayed at once."""

    def __init__(self):
        self.pool = None

    def __call__(self, run: Callable[[], Tensor]) -> Captured:
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # other threads decode and draw previews meanwhile
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            prediction = run()
        return _CudaCaptured(graph, prediction)


class _CudaCaptured(NamedTuple):
    graph: torch.cuda.CUDAGraph
    prediction: Tensor

    def replay(self) -> None:
        self.graph.replay()

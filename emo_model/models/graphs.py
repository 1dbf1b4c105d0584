"""CUDA graphs: a step's evaluation is recorded once and replayed for all steps and clips, as a single order to the GPU."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .context import Context, Projected
from .emo import Emo
from .unet import Inner

log = logging.getLogger("emo")
WARM_UPS = 2  # evaluations before the recording: libraries set themselves up in the first, and compilers compile


class Recorded(Protocol):
    """What was recorded; its answer is always written to the same place."""

    answer: Tensor

    def replay(self) -> None: ...


Recorder = Callable[[Callable[[], Tensor]], Recorded]


def record_steps(emo: Emo, *, device: torch.device | str) -> bool:
    """From now on, `emo.predict` records itself and is replayed. Returns whether that is possible on this device.

    What it computes stays the same. Where something cannot be recorded, says so in the log and runs as it is.
    """
    if torch.device(device).type != "cuda":
        log.warning("CUDA graphs need a CUDA device, and this one is '%s': steps run as they are", device)
        return False
    emo.predict = StepGraphs(emo, CudaRecorder())
    return True


def forget_steps(emo: Emo) -> None:
    """Give the memory of all recordings back; the next steps are recorded anew."""
    recorded = vars(emo).get("predict")
    if isinstance(recorded, StepGraphs):
        recorded.forget()


class StepGraphs:
    """In the place of `Emo.predict`. There is one recording for every kind of evaluation: halves of guidance, deep cache.

    A recording reads and writes always the same memory. So what it is given is copied there, what the steps of a clip share once
    per clip; what it answers is copied from there, so that no later step overwrites it. The weights are read where they lay, and
    a clip that finds them elsewhere forgets all recordings.
    """

    def __init__(self, emo: Emo, recorder: Recorder):
        self.emo, self.recorder = weakref.ref(emo), recorder  # the Emo holds this
        self.recordings: dict[Any, _Recording] = {}
        self.weights: tuple[int, ...] = ()
        self.checked = weakref.WeakSet()  # contexts at whose first step the weights were looked for
        self.is_possible, self.has_warned = True, False

    def forget(self) -> None:
        if self.recordings and torch.cuda.is_initialized():
            torch.cuda.synchronize()  # the last of them may still be at work
        self.recordings.clear()
        self.checked.clear()
        self.is_possible = True

    def __call__(self, noisy: Tensor, timestep: Tensor, context: Context | Projected, *, inner: Inner | None = None) -> Tensor:
        emo = self.emo()
        if torch.is_grad_enabled() or not isinstance(context, Projected):
            return Emo.predict(emo, noisy, timestep, context, inner=inner)
        if context not in self.checked:
            self._look_for_weights(emo, noisy.device)
            self.checked.add(context)
        if not self.is_possible:
            return Emo.predict(emo, noisy, timestep, context, inner=inner)
        repeats = inner is not None and inner.repeats
        said = inner.said if repeats else None
        kind = (_kind((noisy, timestep, context, said)), inner is None, repeats)
        try:
            if kind not in self.recordings:
                self.recordings[kind] = _Recording(emo, self.recorder, noisy, timestep, context, inner)
        except RuntimeError as error:  # whatever drivers and kernels raise that cannot be recorded, and too little memory
            self._give_up(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        else:
            return self.recordings[kind](noisy, timestep, context, inner)
        return Emo.predict(emo, noisy, timestep, context, inner=inner)  # here, where the error holds no memory any more

    def _look_for_weights(self, emo: Emo, device: torch.device) -> None:
        weights = tuple(weight.data_ptr() for weight in emo.backbone.parameters())
        if weights != self.weights:
            self.forget()
            self.weights = weights
        if any(weight.device != device for weight in emo.backbone.parameters()):
            self._give_up("parts of the weights lie elsewhere, for want of memory")

    def _give_up(self, why: str) -> None:
        self.forget()
        self.is_possible = False
        if not self.has_warned:
            log.warning("steps are not recorded as CUDA graphs, and run as they are: %s", why)
            self.has_warned = True


class _Recording:
    """One kind of evaluation, and the memory that it reads."""

    def __init__(self, emo: Emo, recorder: Recorder, noisy: Tensor, timestep: Tensor, context: Projected, inner: Inner | None):
        self.noisy, self.timestep, self.context = (_changed(x, Tensor.clone) for x in (noisy, timestep, context))
        self.places = list(_tensors(self.context))
        self.copied = [weakref.ref(x) for x in _tensors(context)]
        self.inner = None
        if inner is not None:
            self.inner = Inner(inner.said.clone() if inner.repeats else None, inner.repeats)
        self.recorded = recorder(lambda: Emo.predict(emo, self.noisy, self.timestep, self.context, inner=self.inner))

    def __call__(self, noisy: Tensor, timestep: Tensor, context: Projected, inner: Inner | None) -> Tensor:
        self.noisy.copy_(noisy)
        self.timestep.copy_(timestep)
        for index, (place, x) in enumerate(zip(self.places, _tensors(context), strict=True)):
            if self.copied[index]() is not x:
                place.copy_(x)
                self.copied[index] = weakref.ref(x)
        if inner is not None and inner.repeats:
            self.inner.said.copy_(inner.said)
        self.recorded.replay()
        if inner is not None and not inner.repeats:
            inner.said = self.inner.said.clone()
        return self.recorded.answer.clone()


class CudaRecorder:
    """Records on the GPU; all recordings share their memory, for no two are replayed at once."""

    def __init__(self):
        self.pool = None

    def __call__(self, run: Callable[[], Tensor]) -> Recorded:
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                run()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):  # other threads decode and draw previews
            answer = run()
        return _CudaRecorded(graph, answer)


class _CudaRecorded(NamedTuple):
    graph: torch.cuda.CUDAGraph
    answer: Tensor

    def replay(self) -> None:
        self.graph.replay()


# ---- what an evaluation is given, taken apart ---------------------------------------------------------------------------


def _parts(value: Any) -> list:
    if is_dataclass(value):
        return [getattr(value, field.name) for field in fields(value)]
    return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, tuple) else []


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    for part in _parts(value):
        yield from _tensors(part)


def _kind(value: Any) -> Any:
    """Equal for values for which the same recording will do."""
    if isinstance(value, Tensor):
        return value.dtype, value.shape, value.stride()
    parts = tuple(map(_kind, _parts(value)))
    return (type(value), parts) if parts else value


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value):
        return type(value)(*(_changed(part, change) for part in _parts(value)))
    if isinstance(value, dict):
        return {name: _changed(part, change) for name, part in value.items()}
    return tuple(_changed(part, change) for part in value) if isinstance(value, tuple) else value

"""Curves of a training run for TensorBoard, where it is installed (`pip install tensorboard`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

Add = Callable[[int, Mapping[str, float]], None]  # (step, values by name)


@contextlib.contextmanager
def open_curves(folder: Path, *, since: int = 0, is_main: bool = True) -> Iterator[Add]:
    """A function that adds points to the curves in `folder`; it does nothing where TensorBoard is not installed, or in
    a process that is not the main one. since: points of an earlier, killed run from this step on are dropped."""
    if not is_main or find_spec("tensorboard") is None:
        yield lambda step, values: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=since) as writer:

        def add(step: int, values: Mapping[str, float]) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        yield add

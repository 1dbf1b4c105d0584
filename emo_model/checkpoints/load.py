"""Loads any model file that this pack runs: its own, or Hallo's published net."""

from __future__ import annotations

from pathlib import Path

import torch

from . import hallo, native
from .files import open_tensors
from .kinds import recognise

SUFFIXES = (".safetensors", ".sft", ".pth", ".ckpt")


def load_model(
    path: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> native.Bundle:
    """Read a model; dtype None keeps the file's. Weights are in memory once; those of a pickle are mapped from the
    file.

    Raises FileNotFoundError, or ValueError that says what the file is instead, or what is wrong with it.
    """
    if recognise(open_tensors(path)).name == "hallo":
        emo = hallo.load(path, dtype=dtype, device=device)
        return native.Bundle(emo.config, emo, card={"read_from": Path(path).name})
    return native.load(path, dtype=dtype, device=device)

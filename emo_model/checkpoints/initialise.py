"""Initialises an EMO as the paper does: from SD 1.5 and AnimateDiff, the rest new."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..config import ModelConfig
from .animatediff import temporal_sources
from .files import open_tensors
from .sd15 import unet_sources
from .sources import Sources, bare, entries, new, report, write_native


def initial_sources(config: ModelConfig, sd15: Path, motion_module: Path | None = None) -> Sources:
    """The source of each parameter of a new model. Raises ValueError for a wrong file."""
    emo = bare(config)
    sources, _ = unet_sources(emo, open_tensors(sd15))
    if motion_module is not None:
        sources |= temporal_sources(emo, open_tensors(motion_module))[0]
    return {name: sources.get(name) or new(emo, name) for name in emo.state_dict()}


def initialise(
    config: ModelConfig,
    sd15: Path,
    out: Path,
    *,
    motion_module: Path | None = None,
    dtype: torch.dtype = torch.float16,
    seed: int = 0,
) -> str:
    """Write a model to train from, and OUT.sources.json with the origin of every parameter; returns the report.

    Holds one tensor at a time. The random part depends on `seed` alone.
    """
    sources = initial_sources(config, sd15, motion_module)
    emo = bare(config)
    summary = report(emo, sources)
    origins = {name: str(source) for name, source in sources.items()}
    files = {"sd15": sd15.name, "motion_module": motion_module.name if motion_module else None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        write_native(out, config, entries(emo, sources, dtype=dtype), {"initialised_from": files, "seed": seed})
    out.with_name(out.name + ".sources.json").write_text(json.dumps(origins, indent=1) + "\n")
    return summary

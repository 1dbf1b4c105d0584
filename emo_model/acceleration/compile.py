"""`torch.compile` for the backbone, block by block: it takes seconds to minutes, once for all clips of that shape."""

from __future__ import annotations

import logging

import torch
from torch import nn

from ..models.audio_transformer import AudioTransformer
from ..models.blocks import ResnetBlock, SpatialTransformer
from ..models.emo import Emo
from ..models.temporal import TemporalModule

REGIONS = (ResnetBlock, SpatialTransformer, TemporalModule, AudioTransformer)
MOST_SHAPES = 64  # of one kind of block: widths, levels, and numbers of branches
log = logging.getLogger("emo")


def compile_blocks(emo: Emo, *, backend: str = "inductor", device: torch.device | str = "cpu", **options) -> bool:
    """Compile the blocks of the backbone at their first call, by `nn.Module.compile`. Returns whether that is possible.

    They compute the same up to rounding. Where no compiler works, a warning is logged and the blocks run as they are.
    `options` go to torch.compile, such as mode="max-autotune-no-cudagraphs".
    """
    if not _compiler_works(backend, device):
        return False
    limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
    setattr(torch._dynamo.config, limit, max(MOST_SHAPES, getattr(torch._dynamo.config, limit)))
    for region in regions(emo):
        region.compile(backend=backend, dynamic=False, **options)
    return True


def regions(emo: nn.Module) -> list[nn.Module]:
    """The blocks of the backbone that are compiled, each as one."""
    return [part for part in emo.backbone.modules() if isinstance(part, REGIONS)]


def is_compiled(part: nn.Module) -> bool:
    return getattr(part, "_compiled_call_impl", None) is not None


def _compiler_works(backend: str, device: torch.device | str) -> bool:
    try:
        torch.compile(lambda x: (x + 1).sin(), backend=backend)(torch.ones(8, device=device))
    except Exception as error:  # compilers and drivers raise all kinds
        reason = " ".join(str(error).split())[:300]
        log.warning("the networks are not compiled, and run as they are: %s: %s", type(error).__name__, reason)
        return False
    return True

"""Sources of a model's parameters (a tensor of a file, or new initialisation), filled in or written one at a time."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..models.emo import Emo
from .files import Entry, TensorFile, check_weight, write_entries
from .kinds import NATIVE


@dataclass(frozen=True, eq=False)
class Taken:
    """A tensor of a file."""

    file: TensorFile
    key: str

    def tensor(self) -> Tensor:
        return check_weight(self.file.read(self.key), self.key, self.file.path)

    def __str__(self) -> str:
        return f"{self.file.path.name}: {self.key}"


@dataclass(frozen=True, eq=False)
class New:
    """A new tensor by the layer's own initialisation."""

    make: Callable[[], Tensor]

    def tensor(self) -> Tensor:
        return self.make()

    def __str__(self) -> str:
        return "new"


Sources = dict[str, Taken | New]  # by our name

ZERO_AT_FIRST = (
    "*.attn_audio.to_out.0.*",
    "*.attn_speed.to_out.0.*",
    "*.motion_modules.*.proj_out.*",
    "*.attentions.*.proj_out.*",
    "face_locator.conv_out.*",
    "*.zero_conv_*",
)
"""Zero-initialised layers, which change nothing until they are trained."""


def bare(config: ModelConfig) -> Emo:
    """The networks on the meta device."""
    with torch.device("meta"):
        return Emo(config).eval()


def new(emo: Emo, name: str) -> New:
    """A newly initialised parameter of a network on the meta device."""
    path, own = name.rsplit(".", 1)

    def make() -> Tensor:
        if any(fnmatchcase(name, pattern) for pattern in ZERO_AT_FIRST):
            return torch.zeros(emo.get_parameter(name).shape)
        layer = copy.deepcopy(emo.get_submodule(path)).to_empty(device="cpu")
        layer.reset_parameters()
        return getattr(layer, own)

    return New(make)


def fill(
    emo: nn.Module, sources: Sources, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> None:
    """Load weights into a network on the meta device, one tensor at a time. dtype None keeps the files'."""
    state = {}
    for name in emo.state_dict():
        state[name] = sources[name].tensor().detach().to(device, dtype)
    emo.load_state_dict(state, assign=True)


def entries(emo: Emo, sources: Sources, *, dtype: torch.dtype | None = None) -> list[Entry]:
    """The entries of a network in a file of this pack."""

    def kept(source: Taken | New) -> torch.dtype:
        return dtype or (source.file.dtypes[source.key] if isinstance(source, Taken) else torch.float32)

    return [
        Entry(f"emo.{name}", tuple(value.shape), kept(sources[name]), sources[name].tensor)
        for name, value in emo.state_dict().items()
    ]


def write_native(path: str | Path, config: ModelConfig, written: list[Entry], card: dict) -> None:
    write_entries(path, written, {"format": NATIVE, "config": config.to_json(), "card": json.dumps(card)})


def report(emo: Emo, sources: Sources) -> str:
    """A table of tensors and parameters by part of the network and origin."""
    tensors, numbers = Counter(), Counter()
    for name, value in emo.state_dict().items():
        part = name.split(".")[0] + (" (temporal modules)" if "motion_modules" in name else "")
        origin = "new" if isinstance(sources[name], New) else sources[name].file.path.name
        tensors[part, origin] += 1
        numbers[part, origin] += value.numel()
    return "\n".join(
        f"{part:40} {tensors[part, origin]:>6} tensors {numbers[part, origin]:>15,} parameters  {origin}"
        for part, origin in tensors
    )

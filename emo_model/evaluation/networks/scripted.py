"""Networks as TorchScript archives, the form in which FID's and FVD's are published.

torch.jit.load runs no pickle: the archive holds tensors and a program in TorchScript's own small language, which can
compute, and cannot import or call Python. It is still a program: name files only whose origin you know.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from torch import Tensor

from ...inputs.files import check_readable


class Scripted:
    """A network that gives one row of features for each picture or clip."""

    def __init__(self, path: str | Path, **options: bool):
        """options: arguments that the published network takes, passed where this one has them. Raises OSError and
        ValueError."""
        self.path = check_readable(path, "the network")
        if not _is_torchscript(self.path):
            raise ValueError(
                f"{self.path.name} is not a TorchScript archive (torch.jit.save); a file of weights alone, or a "
                "pickled model, is not read here. See docs/evaluation.md for the files that are"
            )
        try:
            self.network = torch.jit.load(str(self.path), map_location="cpu").eval()
        except RuntimeError as error:
            raise ValueError(f"{self.path.name} is damaged or of another torch: {str(error).splitlines()[0]}") from None
        known = {argument.name for argument in self.network.forward.schema.arguments}
        self.options = {name: value for name, value in options.items() if name in known}

    @torch.no_grad()
    def __call__(self, values: Tensor) -> Tensor:
        """(B, ...) -> (B, D). Raises ValueError if the network gives something else."""
        found = self.network(values, **self.options)
        if not isinstance(found, Tensor) or found.ndim < 2 or len(found) != len(values):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"{self.path.name} must give (B, D) for {tuple(values.shape)}, it gave {shape}")
        return found.float().flatten(1)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/", 1)[-1] == "constants.pkl" for name in archive.namelist())

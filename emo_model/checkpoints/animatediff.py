"""AnimateDiff motion modules (mm_sd_v15_v2.ckpt and similar) as initialisation of temporal modules."""

from __future__ import annotations

import torch

from ..models.attention import frame_codes
from ..models.emo import Emo
from .files import TensorFile
from .kinds import recognise, wrong_file
from .rename import Renaming, check_fit
from .sources import Sources, Taken

_BLOCK = "{block}.motion_modules.{i}.temporal_transformer.transformer_blocks.0."
_OURS = "{block}.motion_modules.{i}.transformer_blocks.0."
MOTION: tuple[tuple[str, str], ...] = (
    *((f"{_BLOCK}attention_blocks.{index}.{{rest}}", f"{_OURS}attn{index + 1}.{{rest}}") for index in (0, 1)),
    *((f"{_BLOCK}norms.{index}.{{rest}}", f"{_OURS}norm{index + 1}.{{rest}}") for index in (0, 1)),
    (f"{_BLOCK}ff_norm.{{rest}}", f"{_OURS}norm3.{{rest}}"),
    (f"{_BLOCK}ff.{{rest}}", f"{_OURS}ff.{{rest}}"),
    *(
        (
            f"{{block}}.motion_modules.{{i}}.temporal_transformer.{part}.{{rest}}",
            f"{{block}}.motion_modules.{{i}}.{part}.{{rest}}",
        )
        for part in ("norm", "proj_in", "proj_out")
    ),
)
"""(their pattern, our pattern) of the parameters of a motion module, below the UNet; Hallo's file has the same names.
"""

TABLE = Renaming(MOTION)
CODES = ".pos_encoder.pe"  # positional encodings: computed here, so compared and not loaded


def temporal_sources(emo: Emo, file: TensorFile) -> tuple[Sources, list[str]]:
    """(sources of the temporal modules' parameters by our names, keys of the file that are compared and not loaded).

    Version 1 and 3 have no module in the mid block, which stays new. Raises ValueError for another kind of file, for
    keys missing or left over, and for frame codes other than AnimateDiff's.
    """
    if recognise(file).name != "animatediff":
        raise wrong_file(file, "an AnimateDiff motion module")
    shapes = {
        name.removeprefix("backbone."): tuple(value.shape)
        for name, value in emo.state_dict().items()
        if ".motion_modules." in name and "_speed." not in name
    }
    if not any(key.startswith("mid_block.") for key in file.shapes):
        shapes = {name: shape for name, shape in shapes.items() if not name.startswith("mid_block.")}
    codes = [key for key in file.shapes if key.endswith(CODES)]
    check_fit(
        {key: shape for key, shape in file.shapes.items() if key not in codes},
        {TABLE.to_theirs(name): shape for name, shape in shapes.items()},
        file=file.path.name,
        what=f"a motion module for '{emo.config.name}'",
    )
    for key in codes:
        check_codes(file, key)
    return {f"backbone.{name}": Taken(file, TABLE.to_theirs(name)) for name in shapes}, codes


def check_codes(file: TensorFile, key: str) -> None:
    """Raises ValueError unless positional encodings (1, F, C) in a file equal `models.attention.frame_codes`."""
    found = file.read(key).float()
    off = (found - frame_codes(*found.shape[1:], like=torch.zeros(1))).abs().max().item()
    if not off < 4e-3:  # half precision rounds them by up to 5e-4, bfloat16 by 4e-3
        raise ValueError(
            f"{file.path.name}: the positional encodings {key} differ from AnimateDiff's by {off:.3g}; "
            "this pack computes them, so results would differ from those of the file's own code. Use the "
            "original file"
        )

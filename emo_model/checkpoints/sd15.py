"""Stable Diffusion 1.5's UNet (diffusers or single-file layout) as initialisation of reference net and backbone."""

from __future__ import annotations

from ..models.emo import Emo
from .files import TensorFile
from .kinds import recognise, wrong_file
from .rename import Renaming, check_fit
from .sources import Sources, Taken

_TRANSFORMER = "{block}.attentions.{i}.transformer_blocks.0."
TABLE = Renaming(
    (
        ("{rest}", "reference_net.{rest}"),
        (_TRANSFORMER + "attn1.{rest}", f"backbone.{_TRANSFORMER}attn2.{{rest}}"),
        (_TRANSFORMER + "norm1.{rest}", f"backbone.{_TRANSFORMER}norm2.{{rest}}"),
        ("{rest}", "backbone.{rest}"),
    )
)
"""diffusers' keys for our names. Reference-attention begins as self-attention, whose kind of features it reads.

EMO leaves open: what reference-attention begins as. SD's text attention, in whose place it stands, reads other widths.
"""

TEXT = (f"{_TRANSFORMER}attn2.{{rest}}", f"{_TRANSFORMER}norm2.{{rest}}")  # not used by EMO
_UNUSED = Renaming(tuple((pattern, "text") for pattern in TEXT))

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


def _single_file() -> Renaming:
    """The original layout (blocks numbered consecutively) to diffusers' (numbered by level)."""
    rules = [
        ("time_embed.0", "time_embedding.linear_1"),
        ("time_embed.2", "time_embedding.linear_2"),
        ("input_blocks.0.0", "conv_in"),
        ("out.0", "conv_norm_out"),
        ("out.2", "conv_out"),
    ]

    def resnet(theirs: str, ours: str) -> None:
        rules.extend((f"{theirs}.{part}", f"{ours}.{name}") for part, name in _RESNET.items())

    for level in range(4):
        for layer in range(2):
            resnet(f"input_blocks.{1 + 3 * level + layer}.0", f"down_blocks.{level}.resnets.{layer}")
            rules.append((f"input_blocks.{1 + 3 * level + layer}.1", f"down_blocks.{level}.attentions.{layer}"))
        rules.append((f"input_blocks.{3 + 3 * level}.0.op", f"down_blocks.{level}.downsamplers.0.conv"))
        for layer in range(3):
            resnet(f"output_blocks.{3 * level + layer}.0", f"up_blocks.{level}.resnets.{layer}")
        upsampler = 1 if level == 0 else 2  # after the attention, if there is one
        rules.append((f"output_blocks.{3 * level + 2}.{upsampler}.conv", f"up_blocks.{level}.upsamplers.0.conv"))
        rules += [
            (f"output_blocks.{3 * level + layer}.1", f"up_blocks.{level}.attentions.{layer}") for layer in range(3)
        ]
    resnet("middle_block.0", "mid_block.resnets.0")
    resnet("middle_block.2", "mid_block.resnets.1")
    rules.append(("middle_block.1", "mid_block.attentions.0"))
    return Renaming(tuple((f"model.diffusion_model.{theirs}.{{rest}}", f"{ours}.{{rest}}") for theirs, ours in rules))


SINGLE_FILE = _single_file()
"""The original layout's keys for diffusers'."""


def unet_sources(emo: Emo, file: TensorFile) -> tuple[Sources, list[str]]:
    """(sources of what reference net and backbone take, by our names; keys of the UNet that EMO has no use for).

    Raises ValueError for another kind of file, and for keys of the UNet missing or left over.
    """
    kind = recognise(file).name
    if kind not in ("sd15 unet", "sd15 checkpoint"):
        raise wrong_file(file, "a Stable Diffusion 1.5 UNet")
    keys = {key: key for key in file.shapes}  # diffusers' key -> the file's
    if kind == "sd15 checkpoint":
        unet = [key for key in file.shapes if key.startswith("model.diffusion_model.")]
        keys = {SINGLE_FILE.to_ours(key) or key: key for key in unet}
    parameters = {name: tuple(value.shape) for name, value in emo.state_dict().items()}
    taken = {
        name: TABLE.to_theirs(name)
        for name in parameters
        if name.startswith(("reference_net.", "backbone."))
        and not any(part in name for part in (".motion_modules.", ".attn_audio.", ".norm_audio."))
    }
    unused = [key for key in keys if _UNUSED.to_ours(key) and key not in taken.values()]
    check_fit(
        {key: file.shapes[keys[key]] for key in keys if key not in unused},
        {key: parameters[name] for name, key in taken.items()},
        file=file.path.name,
        what=f"a UNet for '{emo.config.name}'",
    )
    return {name: Taken(file, keys[key]) for name, key in taken.items()}, [keys[key] for key in unused]

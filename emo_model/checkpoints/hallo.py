"""Hallo v1's net (fudan-generative-vision/hallo, net.pth) <-> ours; every key of the file is accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config import HALLO, HalloConfig, ModelConfig
from ..models.attention import frame_codes
from ..models.blocks import SpatialTransformer
from ..models.emo import Emo
from ..models.temporal import TemporalModule
from .animatediff import CODES, MOTION, check_codes
from .files import Entry, TensorFile, open_tensors, write_entries
from .kinds import recognise, wrong_file
from .rename import Renaming, check_fit
from .sources import Sources, Taken, bare, entries, fill, write_native

TABLE = Renaming(
    (
        ("reference_unet.{rest}", "reference_net.{rest}"),
        *((f"denoising_unet.{theirs}", f"backbone.{ours}") for theirs, ours in MOTION),
        ("denoising_unet.{rest}", "backbone.{rest}"),
        ("face_locator.{rest}", "face_locator.{rest}"),
        ("imageproj.{rest}", "identity_projection.{rest}"),
        ("audioproj.{rest}", "audio_projection.{rest}"),
    )
)
IDLE = "idle."
"""Prefix in our files of weights that no network uses: ignored when loading, needed to convert back."""


IMAGE_SIZE = "image_size"
"""Metadata of safetensors files with Hallo's keys: image size if it is not the published one."""


@dataclass(frozen=True)
class Layout:
    """Keys and shapes of a net of some config in Hallo's layout.

    runs: our networks' parameters; idle: weights without effect on the output (motion modules beside resnets without
    attention, and what follows the reference net's last feature); codes: positional encodings, which are computed.
    """

    runs: dict[str, tuple[int, ...]]
    idle: dict[str, tuple[int, ...]]
    codes: dict[str, tuple[int, ...]]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self.runs | self.idle | self.codes


def layout(emo: Emo) -> Layout:
    """emo: built from a config with `hallo`, on any device."""
    config = emo.config
    runs = _shapes(emo)
    idle = {}
    levels = len(config.channels)
    with torch.device("meta"):
        for level, has_attention in enumerate(config.attention_levels):
            if not has_attention:
                module = _shapes(TemporalModule(config, config.channels[level]))
                for block, count in (
                    (f"down_blocks.{level}", config.layers_per_block),
                    (f"up_blocks.{levels - 1 - level}", config.layers_per_block + 1),
                ):
                    idle |= {
                        f"backbone.{block}.motion_modules.{index}.{name}": shape
                        for index in range(count)
                        for name, shape in module.items()
                    }
        last = f"reference_net.up_blocks.{levels - 1}.attentions.{config.layers_per_block}."
        whole = _shapes(SpatialTransformer(config, config.channels[0], is_backbone=False))
    idle |= {last + name: shape for name, shape in whole.items() if last + name not in runs}
    codes = {
        name.removesuffix(".to_q.weight") + CODES: (1, config.temporal_position_limit, shape[0])
        for name, shape in (runs | idle).items()
        if ".motion_modules." in name and name.endswith(".to_q.weight")
    }
    return Layout(*({TABLE.to_theirs(name): shape for name, shape in part.items()} for part in (runs, idle, codes)))


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def config_of(shapes: Mapping[str, tuple[int, ...]], *, image_size: int = HALLO.image_size) -> ModelConfig:
    """The config that a net's shapes speak of: HALLO itself for the published one.

    What shows in no shape (picture, heads, groups, clip length) is HALLO's. Raises ValueError if a tensor is missing
    that tells something.
    """

    def dim(key: str, axis: int) -> int:
        if key not in shapes:
            raise ValueError(f"the net has no tensor '{key}'")
        if len(shapes[key]) <= axis or not shapes[key][axis]:
            raise ValueError(f"the net's tensor '{key}' has the shape {shapes[key]}")
        return shapes[key][axis]

    def count(pattern: str) -> int:
        found = 0
        while pattern.format(found) in shapes:
            found += 1
        return found

    unet = "denoising_unet."
    levels = count(unet + "down_blocks.{}.resnets.0.conv1.weight")
    width, inner = dim("imageproj.norm.weight", 0), dim("audioproj.proj1.weight", 1)
    audio_layers = HALLO.audio_layers if inner % (HALLO.audio_window * HALLO.audio_layers) == 0 else 1
    audio_context = dim("audioproj.norm.weight", 0)
    halvings = count("face_locator.blocks.{}.weight") // 2
    return replace(
        HALLO,
        image_size=image_size,
        vae_factor=2**halvings,
        latent_channels=dim(unet + "conv_in.weight", 1),
        channels=tuple(dim(f"{unet}down_blocks.{level}.resnets.0.conv1.weight", 0) for level in range(levels)),
        attention_levels=tuple(
            f"{unet}down_blocks.{level}.attentions.0.norm.weight" in shapes for level in range(levels)
        ),
        layers_per_block=count(unet + "down_blocks.0.resnets.{}.conv1.weight"),
        hallo=HalloConfig(
            identity_tokens=dim("imageproj.proj.weight", 0) // width,
            identity_width=dim("imageproj.proj.weight", 1),
            identity_context_width=width,
            audio_tokens=dim("audioproj.proj3.weight", 0) // audio_context,
            audio_projection_width=dim("audioproj.proj1.weight", 0),
            face_mask_channels=dim("face_locator.conv_in.weight", 1),
        ),
        audio_layers=audio_layers,
        audio_width=inner // (HALLO.audio_window * audio_layers),
        audio_context_width=audio_context,
        temporal_position_limit=dim(
            unet + "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0."
            "attention_blocks.0" + CODES,
            1,
        ),
        face_locator_channels=(
            dim("face_locator.conv_in.weight", 0),
            *(dim(f"face_locator.blocks.{2 * index + 1}.weight", 0) for index in range(halvings)),
        ),
    )


def open_net(path: str | Path, *, image_size: int | None = None) -> tuple[Emo, TensorFile]:
    """(the networks of a Hallo file, without weights; the file), checked key by key. image_size None: as the file says,
    or 512.

    Raises ValueError that names what the file is instead, or which keys are missing, left over or of another shape.
    """
    file = open_tensors(path)
    if recognise(file).name != "hallo":
        raise wrong_file(file, "Hallo's net")
    try:
        config = config_of(file.shapes, image_size=image_size or int(file.metadata.get(IMAGE_SIZE, HALLO.image_size)))
        emo = bare(ModelConfig.from_json(config.to_json()))  # checks every field's range before anything is built
    except (ValueError, TypeError, RuntimeError, AssertionError, ZeroDivisionError, IndexError) as error:
        raise ValueError(f"{file.path.name} is a part of Hallo's net only: {error}; download it again") from None
    parts = layout(emo)
    check_fit(file.shapes, parts.shapes, file=file.path.name, what="a net of Hallo")
    for key in parts.codes:
        check_codes(file, key)
    return emo, file


def load(path: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> Emo:
    """The networks of net.pth or of a safetensors file with its keys; weights are in memory once."""
    emo, file = open_net(path)
    fill(emo, _sources(emo, file), dtype=dtype, device=device)
    return emo


def _sources(emo: Emo, file: TensorFile) -> Sources:
    return {name: Taken(file, TABLE.to_theirs(name)) for name in emo.state_dict()}


def to_native(
    path: str | Path, out: str | Path, *, dtype: torch.dtype | None = None, image_size: int | None = None
) -> ModelConfig:
    """Hallo's file -> a file of this pack, one tensor at a time; returns its config. dtype None keeps the file's."""
    emo, file = open_net(path, image_size=image_size)
    kept = [
        Entry(IDLE + TABLE.to_ours(key), shape, dtype or file.dtypes[key], Taken(file, key).tensor)
        for key, shape in layout(emo).idle.items()
    ]
    write_native(
        out, emo.config, entries(emo, _sources(emo, file), dtype=dtype) + kept, {"converted_from": file.path.name}
    )
    return emo.config


def from_native(path: str | Path, out: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """A file of this pack with Hallo's design -> safetensors with the keys of net.pth.

    Idle weights that the file does not have (it was trained here, say) become zeros; nothing runs them. Raises
    ValueError for a model of another design.
    """
    file = open_tensors(path)
    if recognise(file).name != "emo":
        raise wrong_file(file, "a model of this pack")
    config = ModelConfig.from_json(file.metadata["config"])
    if config.hallo is None:
        raise ValueError(
            f"{file.path.name} is an EMO '{config.name}', whose parts Hallo's net does not have; only "
            "models of Hallo's design can be written in its layout"
        )
    parts = layout(bare(config))
    stored = next(iter(file.dtypes.values()))

    def entry(key: str, shape: tuple[int, ...]) -> Entry:
        if key in parts.codes:
            return Entry(key, shape, dtype or stored, lambda: frame_codes(*shape[1:], like=torch.zeros(1))[None])
        name = ("emo." if key in parts.runs else IDLE) + TABLE.to_ours(key)
        if name in file.shapes:
            return Entry(key, shape, dtype or file.dtypes[name], lambda: file.read(name))
        return Entry(key, shape, dtype or stored, lambda: _zeros(shape))

    check_fit(
        {key: shape for key, shape in file.shapes.items() if key.startswith("emo.")},
        {f"emo.{TABLE.to_ours(key)}": shape for key, shape in parts.runs.items()},
        file=file.path.name,
        what="a model",
    )
    write_entries(out, [entry(key, shape) for key, shape in parts.shapes.items()])


def _zeros(shape: tuple[int, ...]) -> Tensor:
    return torch.zeros(shape)

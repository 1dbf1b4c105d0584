"""Random weights in the layouts of real files: to try a workflow, to measure memory and time, and for tests."""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from ..config import HALLO, HalloConfig, ModelConfig
from ..models.attention import frame_codes
from . import hallo, native
from .animatediff import CODES
from .files import Entry, write_entries
from .sources import bare

SMALL_HALLO = replace(
    HALLO,
    image_size=64,
    channels=(32, 64, 64, 64),
    audio_context_width=24,
    face_locator_channels=(4, 4, 8, 8),
    hallo=HalloConfig(identity_context_width=24, audio_tokens=4, audio_projection_width=8),
)
"""Hallo's structure with small widths: seconds on a CPU. Inputs (latents, audio, embedding) keep their widths."""

Shapes = dict[str, tuple[int, ...]]


def hallo_shapes(config: ModelConfig = HALLO) -> Shapes:
    return hallo.layout(bare(config)).shapes


def vae_shapes() -> Shapes:
    """SD 1.5's VAE in the original layout, for core's 'Load VAE'."""
    widths = (128, 256, 512, 512)
    shapes: Shapes = {}

    def layer(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    def resnet(name: str, inside: int, out: int) -> None:
        layer(f"{name}.norm1", inside)
        layer(f"{name}.conv1", out, inside, 3, 3)
        layer(f"{name}.norm2", out)
        layer(f"{name}.conv2", out, out, 3, 3)
        if inside != out:
            layer(f"{name}.nin_shortcut", out, inside, 1, 1)

    def middle(name: str) -> None:
        resnet(f"{name}.block_1", 512, 512)
        layer(f"{name}.attn_1.norm", 512)
        for part in ("q", "k", "v", "proj_out"):
            layer(f"{name}.attn_1.{part}", 512, 512, 1, 1)
        resnet(f"{name}.block_2", 512, 512)

    layer("encoder.conv_in", 128, 3, 3, 3)
    for level, (inside, out) in enumerate(zip((128, *widths), widths, strict=False)):
        for index in range(2):
            resnet(f"encoder.down.{level}.block.{index}", inside if index == 0 else out, out)
        if level < 3:
            layer(f"encoder.down.{level}.downsample.conv", out, out, 3, 3)
    middle("encoder.mid")
    layer("encoder.norm_out", 512)
    layer("encoder.conv_out", 8, 512, 3, 3)
    layer("quant_conv", 8, 8, 1, 1)
    layer("post_quant_conv", 4, 4, 1, 1)
    layer("decoder.conv_in", 512, 4, 3, 3)
    middle("decoder.mid")
    for level, (inside, out) in enumerate(zip((256, 512, 512, 512), widths, strict=True)):
        for index in range(3):
            resnet(f"decoder.up.{level}.block.{index}", inside if index == 0 else out, out)
        if level > 0:
            layer(f"decoder.up.{level}.upsample.conv", out, out, 3, 3)
    layer("decoder.norm_out", 128)
    layer("decoder.conv_out", 3, 128, 3, 3)
    return shapes


def wav2vec2_shapes() -> Shapes:
    """wav2vec2-base-960h, for core's 'AudioEncoderLoader'."""
    shapes: Shapes = {"masked_spec_embed": (768,), "feature_extractor.conv_layers.0.conv.weight": (512, 1, 10)}

    def layer(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    layer("feature_extractor.conv_layers.0.layer_norm", 512)
    for index, kernel in enumerate((3, 3, 3, 3, 2, 2), start=1):
        shapes[f"feature_extractor.conv_layers.{index}.conv.weight"] = (512, 512, kernel)
    layer("feature_projection.layer_norm", 512)
    layer("feature_projection.projection", 768, 512)
    shapes |= {
        "encoder.pos_conv_embed.conv.bias": (768,),
        "encoder.pos_conv_embed.conv.weight_g": (1, 1, 128),
        "encoder.pos_conv_embed.conv.weight_v": (768, 48, 128),
    }
    layer("encoder.layer_norm", 768)
    for index in range(12):
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            layer(f"encoder.layers.{index}.attention.{part}", 768, 768)
        layer(f"encoder.layers.{index}.layer_norm", 768)
        layer(f"encoder.layers.{index}.feed_forward.intermediate_dense", 3072, 768)
        layer(f"encoder.layers.{index}.feed_forward.output_dense", 768, 3072)
        layer(f"encoder.layers.{index}.final_layer_norm", 768)
    return {f"wav2vec2.{key}": shape for key, shape in shapes.items()}


def random_weight(key: str, shape: tuple[int, ...], *, seed: int = 0) -> Tensor:
    """Noise that preserves the scale of activations; positional encodings are computed."""
    if key.endswith(CODES):
        return frame_codes(*shape[1:], like=torch.zeros(1))[None]
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(f"{seed} {key}".encode())))
    if len(shape) > 1 and not key.endswith("weight_g"):
        return noise * prod(shape[1:]) ** -0.5
    return 0.1 * noise + (0.0 if key.endswith(".bias") else 1.0)


def write_random(
    path: str | Path,
    shapes: Shapes,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float16,
    image_size: int | None = None,
) -> int:
    """One tensor in memory at a time for safetensors, all for torch's format (.pth, .ckpt); returns the number of
    weights.

    image_size: of a net of Hallo that is not for 512x512, which shows in no tensor; only safetensors can hold it.
    """
    path = Path(path)
    if path.suffix in (".pth", ".ckpt"):
        if image_size not in (None, HALLO.image_size):
            raise ValueError(f"{path.name} has no room for the size of the picture; write a .safetensors file")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({key: random_weight(key, shape, seed=seed).to(dtype) for key, shape in shapes.items()}, path)
    else:
        entries = [
            Entry(key, shape, dtype, partial(random_weight, key, shape, seed=seed)) for key, shape in shapes.items()
        ]
        write_entries(path, entries, None if image_size is None else {hallo.IMAGE_SIZE: str(image_size)})
    return sum(map(prod, shapes.values()))


def write_random_model(
    path: str | Path, config: ModelConfig, *, seed: int = 0, dtype: torch.dtype = torch.float16
) -> None:
    """A model of this pack with all parts of its config."""
    bundle = native.build(config, card={"made_by": "python -m emo_model.checkpoints random"})
    for name, part in bundle.parts.items():
        part.load_state_dict(
            {
                key: random_weight(f"{name}.{key}", tuple(value.shape), seed=seed)
                for key, value in part.state_dict().items()
            }
        )
    native.save(path, bundle, dtype=dtype)

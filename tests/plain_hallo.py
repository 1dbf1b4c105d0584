"""Hallo's nets written out in plain functions of torch, without this pack's code: an independent reference.

Weights come from their keys in Hallo's file, as in the recorded oracle. With that oracle's eight heads this reproduces
what Hallo's own code gave (test_oracle.py), and so it is taken for other numbers of heads, which nobody has recorded:
`python tests/plain_hallo.py` writes `hallo_heads_oracle` beside the recorded oracle.
"""

from __future__ import annotations

import json
import math
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

DATA = Path(__file__).parent / "data"
LEVELS = 4


def drawn(key: str, shape: tuple[int, ...]) -> Tensor:
    """The weight of a key, by the formula in the oracle's 'weight_init'."""
    values = np.random.RandomState(zlib.crc32(key.encode())).randn(*shape)
    if key.endswith(".bias"):
        values = 0.05 * values
    elif len(shape) == 1 and "norm" in key:
        values = 1 + 0.1 * values
    else:
        values = values / math.sqrt(math.prod(shape[1:]))
    return torch.from_numpy(values.astype(np.float32))


# ---- layers, by the key of their weights -----------------------------------------------------------------------------


def linear(x: Tensor, key: str, width: int, *, bias: bool = True) -> Tensor:
    weight = drawn(f"{key}.weight", (width, x.shape[-1]))
    return x @ weight.T + (drawn(f"{key}.bias", (width,)) if bias else 0)


def conv(x: Tensor, key: str, width: int, size: int = 3, stride: int = 1) -> Tensor:
    weight = drawn(f"{key}.weight", (width, x.shape[1], size, size))
    return F.conv2d(x, weight, drawn(f"{key}.bias", (width,)), stride=stride, padding=size // 2)


def layer_norm(x: Tensor, key: str) -> Tensor:
    width = x.shape[-1:]
    return F.layer_norm(x, width, drawn(f"{key}.weight", tuple(width)), drawn(f"{key}.bias", tuple(width)), 1e-5)


def group_norm(x: Tensor, key: str, eps: float) -> Tensor:
    width = (x.shape[1],)
    return F.group_norm(x, 32, drawn(f"{key}.weight", width), drawn(f"{key}.bias", width), eps)


def attention(x: Tensor, others: Tensor, key: str, heads: int) -> Tensor:
    """x (N, T, C), others (N, S, D); each head is computed by itself."""
    width = x.shape[-1]
    q = linear(x, f"{key}.to_q", width, bias=False)
    k, v = (linear(others, f"{key}.to_{part}", width, bias=False) for part in "kv")
    each, parts = width // heads, []
    for head in range(heads):
        own = slice(head * each, (head + 1) * each)
        scores = torch.einsum("ntc,nsc->nts", q[..., own], k[..., own]) / math.sqrt(each)
        parts.append(torch.einsum("nts,nsc->ntc", scores.softmax(-1), v[..., own]))
    return linear(torch.cat(parts, -1), f"{key}.to_out.0", width)


def feed_forward(x: Tensor, key: str) -> Tensor:
    width = x.shape[-1]
    values, gate = linear(x, f"{key}.net.0.proj", 8 * width).chunk(2, -1)
    return linear(values * F.gelu(gate), f"{key}.net.2", width)


def tokens_of(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def picture_of(x: Tensor, like: Tensor) -> Tensor:
    return x.transpose(1, 2).reshape(len(x), -1, *like.shape[2:])


def resnet(x: Tensor, time: Tensor, key: str, width: int) -> Tensor:
    inside = conv(F.silu(group_norm(x, f"{key}.norm1", 1e-5)), f"{key}.conv1", width)
    inside = inside + linear(F.silu(time), f"{key}.time_emb_proj", width)[:, :, None, None]
    inside = conv(F.silu(group_norm(inside, f"{key}.norm2", 1e-5)), f"{key}.conv2", width)
    return inside + (x if x.shape[1] == width else conv(x, f"{key}.conv_shortcut", width, 1))


def time_embedding(timestep: float, key: str, width: int) -> Tensor:
    angles = timestep * torch.exp(-math.log(10_000) * torch.arange(width // 2) / (width // 2))
    codes = torch.cat([angles.cos(), angles.sin()])[None]
    return linear(F.silu(linear(codes, f"{key}.linear_1", 4 * width)), f"{key}.linear_2", 4 * width)


# ---- nets ------------------------------------------------------------------------------------------------------------


class Net:
    """One run; pictures or frames lie in the batch axis. bank: what the reference net hands on, by block."""

    def __init__(self, description: dict, given: dict[str, Tensor]):
        self.given, unet, audio = given, description["unet"], description["audioproj"]
        self.channels, self.layers = unet["block_out_channels"], unet["layers_per_block"]
        self.heads = unet["attention_head_dim"]  # diffusers' name for their number
        motion = description["unet_additional_kwargs"]["motion_module_kwargs"]
        self.motion_heads = motion["num_attention_heads"]
        self.bank: dict[str, Tensor] = {}
        face = given["in.face_emb"]
        face = linear(face, "imageproj.proj", 4 * unet["cross_attention_dim"]).unflatten(-1, (4, -1))
        self.face = layer_norm(face, "imageproj.norm")  # (1, 4, D)
        heard = given["in.audio_features"][0].flatten(1)
        for number in (1, 2):
            heard = F.relu(linear(heard, f"audioproj.proj{number}", audio["intermediate_dim"]))
        heard = linear(heard, "audioproj.proj3", audio["context_tokens"] * audio["output_dim"])
        self.audio = layer_norm(heard.unflatten(-1, (audio["context_tokens"], -1)), "audioproj.norm")  # (F, T, D)

    def locate_face(self, widths: list[int]) -> Tensor:
        x = F.silu(conv(self.given["in.face_mask_image"], "face_locator.conv_in", widths[0]))
        for level, (one, next_) in enumerate(zip(widths, widths[1:], strict=False)):
            x = F.silu(conv(x, f"face_locator.blocks.{2 * level}", one))
            x = F.silu(conv(x, f"face_locator.blocks.{2 * level + 1}", next_, stride=2))
        return conv(x, "face_locator.conv_out", self.channels[0])

    def spatial(self, x: Tensor, block: str, *, reads: bool) -> Tensor:
        key = f"{'denoising' if reads else 'reference'}_unet.{block}"
        inner = f"{key}.transformer_blocks.0"
        inside = tokens_of(conv(group_norm(x, f"{key}.norm", 1e-6), f"{key}.proj_in", x.shape[1], 1))
        normed = layer_norm(inside, f"{inner}.norm1")
        others = normed
        if reads:
            others = torch.cat([normed, self.bank[block][:1].expand(len(x), -1, -1)], 1)
        else:
            self.bank[block] = normed
        inside = inside + attention(normed, others, f"{inner}.attn1", self.heads)
        face = self.face.expand(len(x), -1, -1)
        inside = inside + attention(layer_norm(inside, f"{inner}.norm2"), face, f"{inner}.attn2", self.heads)
        inside = inside + feed_forward(layer_norm(inside, f"{inner}.norm3"), f"{inner}.ff")
        return x + conv(picture_of(inside, x), f"{key}.proj_out", x.shape[1], 1)

    def hear(self, x: Tensor, block: str, level: int, width: int) -> Tensor:
        key = f"denoising_unet.{block}"
        inner = f"{key}.transformer_blocks.0"
        inside = tokens_of(conv(group_norm(x, f"{key}.norm", 1e-6), f"{key}.proj_in", width, 1))
        normed = layer_norm(inside, f"{inner}.norm1")
        inside = inside + attention(normed, normed, f"{inner}.attn1", self.heads)
        normed, total = layer_norm(inside, f"{inner}.norm2"), 0
        for number, region in enumerate(("full", "face", "lip")):
            part = attention(normed, self.audio, f"{inner}.attn2_{number}", self.heads)
            part = part * self.given[f"in.mask_{region}_{level}"][..., None]
            part = tokens_of(conv(picture_of(part, x), f"{inner}.zero_conv_{region}", width, 1))
            total = total + self.given["in.motion_scale"][number] * part
        inside = inside + total
        inside = inside + feed_forward(layer_norm(inside, f"{inner}.norm3"), f"{inner}.ff")
        return x + conv(picture_of(inside, x), f"{key}.proj_out", x.shape[1], 1)

    def move(self, x: Tensor, block: str, bank: str) -> Tensor:
        key = f"denoising_unet.{block}.temporal_transformer"
        inner = f"{key}.transformer_blocks.0"
        before = self.bank[bank][1:]
        whole, width = torch.cat([picture_of(before, x), x]), x.shape[1]
        inside = linear(tokens_of(group_norm(whole, f"{key}.norm", 1e-6)), f"{key}.proj_in", width)
        place = torch.arange(len(whole))[:, None] * torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width)
        codes = torch.stack([place.sin(), place.cos()], -1).flatten(1)
        for number in range(2):
            frames = layer_norm(inside, f"{inner}.norms.{number}").transpose(0, 1) + codes  # (cells, frames, C)
            moved = attention(frames, frames, f"{inner}.attention_blocks.{number}", self.motion_heads)
            inside = inside + moved.transpose(0, 1)
        inside = inside + feed_forward(layer_norm(inside, f"{inner}.ff_norm"), f"{inner}.ff")
        return (whole + picture_of(linear(inside, f"{key}.proj_out", width), whole))[len(before) :]

    def attend(self, x: Tensor, block: str, index: int, level: int, width: int, *, denoises: bool) -> Tensor:
        bank = f"{block}.attentions.{index}"
        x = self.spatial(x, bank, reads=denoises)
        if denoises:
            x = self.hear(x, f"{block}.audio_modules.{index}", level, width)
            x = self.move(x, f"{block}.motion_modules.{index}", bank)
        return x

    def unet(self, x: Tensor, timestep: float, *, face: Tensor | None = None) -> Tensor:
        """Reference net without `face`, else the denoiser, to whose first features it is added."""
        denoises, channels = face is not None, self.channels
        net = "denoising_unet" if denoises else "reference_unet"
        time = time_embedding(timestep, f"{net}.time_embedding", channels[0])
        x = conv(x, f"{net}.conv_in", channels[0])
        x = x + face if denoises else x
        skips = [x]
        for level, width in enumerate(channels):
            block = f"down_blocks.{level}"
            for index in range(self.layers):
                came = x.shape[1]
                x = resnet(x, time, f"{net}.{block}.resnets.{index}", width)
                if level < LEVELS - 1:  # the last one attends to nothing, and its motion modules do not run
                    x = self.attend(x, block, index, level, came, denoises=denoises)
                skips.append(x)
            if level < LEVELS - 1:
                x = conv(x, f"{net}.{block}.downsamplers.0.conv", width, stride=2)
                skips.append(x)
        x = resnet(x, time, f"{net}.mid_block.resnets.0", channels[-1])
        x = self.attend(x, "mid_block", 0, LEVELS - 1, channels[-1], denoises=denoises)
        x = resnet(x, time, f"{net}.mid_block.resnets.1", channels[-1])
        for up, width in enumerate(reversed(channels)):
            block, level = f"up_blocks.{up}", LEVELS - 1 - up
            for index in range(self.layers + 1):
                x = resnet(torch.cat([x, skips.pop()], 1), time, f"{net}.{block}.resnets.{index}", width)
                if up > 0:
                    x = self.attend(x, block, index, level, channels[max(level - 1, 0)], denoises=denoises)
            if up < LEVELS - 1:
                larger = F.interpolate(x, scale_factor=2, mode="nearest")
                x = conv(larger, f"{net}.{block}.upsamplers.0.conv", width)
        if denoises:
            x = conv(F.silu(group_norm(x, f"{net}.conv_norm_out", 1e-5)), f"{net}.conv_out", 4)
        return x


@torch.no_grad()
def outputs(description: dict, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """One prediction without guidance and what led to it, by the oracle's names."""
    net = Net(description, given)
    net.unet(given["in.ref_latents"], 0.0)
    face = net.locate_face(description["face_locator"]["block_out_channels"])
    noisy = given["in.noisy_latents"][0].transpose(0, 1)  # frames in the batch axis
    predicted = net.unet(noisy, float(given["in.timestep"]), face=face)
    return {
        "out.noise_pred": predicted.transpose(0, 1)[None].contiguous(),
        "out.face_tokens": net.face,
        "out.audio_tokens": net.audio[None],
        **{f"out.ref_bank.{block}": feature for block, feature in net.bank.items()},
    }


def with_heads(description: dict, *, unet: int, motion: int) -> dict:
    """The same nets with other numbers of heads; weights and inputs do not depend on them."""
    changed = json.loads(json.dumps(description))
    changed["unet"]["attention_head_dim"] = unet
    changed["unet_additional_kwargs"]["motion_module_kwargs"]["num_attention_heads"] = motion
    return changed


def main() -> None:
    recorded = json.loads((DATA / "hallo_tiny_oracle.json").read_text())
    given = {
        name: value
        for name, value in load_file(DATA / "hallo_tiny_oracle_io.safetensors").items()
        if name.startswith("in.")
    }
    description = with_heads(recorded, unet=4, motion=8) | {"source": "tests/plain_hallo.py"}
    made = outputs(description, given)
    kept = ("out.noise_pred", "out.ref_bank.down_blocks.2", "out.ref_bank.mid_block", "out.ref_bank.up_blocks.1")
    made = {name: value.contiguous() for name, value in made.items() if name.startswith(kept)}
    description["tensors"] = {name: list(value.shape) for name, value in made.items()}
    for name in ("sensitivity_max_abs", "n_params", "noise_pred_std", "guidance_scale_ddim4"):
        description.pop(name, None)
    (DATA / "hallo_heads_oracle.json").write_text(json.dumps(description, indent=1) + "\n")
    save_file(made, DATA / "hallo_heads_oracle_io.safetensors")
    sys.stdout.write(f"{len(made)} tensors\n")


if __name__ == "__main__":
    main()

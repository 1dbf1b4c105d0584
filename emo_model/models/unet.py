"""The SD 1.5 skeleton, written once: reference net and backbone differ in what happens after each resnet block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from .attention import sinusoidal
from .blocks import Downsample, ResnetBlock, Upsample
from .seen import for_groups

Layer = Callable[[int], nn.Module]  # channels -> module
AudioLayer = Callable[[int, int], nn.Module]  # (channels, width inside) -> module


class Beside(NamedTuple):
    """What stands beside a resnet, at which level (0 the finest); None where a block has no such thing."""

    level: int
    attention: nn.Module | None
    motion_module: nn.Module | None
    audio_module: nn.Module | None  # Hallo's


Visit = Callable[[str, Beside, Tensor], Tensor]  # (name, what stands beside, x) -> x


@dataclass
class Inner:
    """What the levels below the finest said last, (B F, C, H, W); while it `repeats`, they are not asked again.

    They change slowly from step to step (arXiv 2312.00858), but they do change: repeating is not exact.
    """

    said: Tensor | None = None
    repeats: bool = False


class TimeEmbedding(nn.Module):
    def __init__(self, channels: int, time_channels: int):
        super().__init__()
        self.linear_1 = nn.Linear(channels, time_channels)
        self.linear_2 = nn.Linear(time_channels, time_channels)

    def forward(self, codes: Tensor) -> Tensor:
        return self.linear_2(nn.functional.silu(self.linear_1(codes)))


class Block(nn.Module):
    """One down, mid or up block: resnets, and beside each of `layers` of them an attention and a motion module, if it has any.

    audio_widths: inside Hallo's audio modules, of which there is one beside each attention, if `audio_module` makes any.
    """

    def __init__(self, resnets: list[nn.Module], channels: int, *, level: int, layers: int, attention: Layer | None,
                 motion_module: Layer | None, audio_module: AudioLayer | None, audio_widths: list[int]):
        super().__init__()
        self.level = level
        self.resnets = nn.ModuleList(resnets)
        if attention is not None:
            self.attentions = nn.ModuleList(attention(channels) for _ in range(layers))
        if attention is not None and audio_module is not None:
            self.audio_modules = nn.ModuleList(audio_module(channels, width) for width in audio_widths)
        if motion_module is not None:
            self.motion_modules = nn.ModuleList(motion_module(channels) for _ in range(layers))

    def beside(self, name: str, index: int) -> tuple[str, Beside]:
        """(name, what stands there) of the place beside resnet `index`."""
        attention, motion_module, audio_module = (getattr(self, part)[index] if hasattr(self, part) else None
                                                  for part in ("attentions", "motion_modules", "audio_modules"))
        part = "resnets" if attention is None else "attentions"
        return f"{name}.{part}.{index}", Beside(self.level, attention, motion_module, audio_module)

    def visit(self, name: str, index: int, x: Tensor, visit: Visit) -> Tensor:
        return visit(*self.beside(name, index), x)


class UNet(nn.Module):
    """conv_in, time_embedding, down_blocks, mid_block, up_blocks: names and shapes of diffusers' SD 1.5 UNet."""

    def __init__(self, config: ModelConfig, *, attention: Layer, motion_module: Layer | None = None,
                 audio_module: AudioLayer | None = None):
        super().__init__()
        widths, layers = config.channels, config.layers_per_block
        time_channels = widths[0] * 4
        self.time_channels = widths[0]
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], time_channels)

        def resnet(inside: int, outside: int) -> ResnetBlock:
            return ResnetBlock(inside, outside, time_channels, groups=config.norm_groups)

        def block(resnets: list[nn.Module], channels: int, level: int, audio_widths: list[int], has_attention: bool) -> Block:
            has_time = has_attention or config.hallo is None
            return Block(resnets, channels, level=level, layers=len(audio_widths), attention=attention if has_attention else None,
                         motion_module=motion_module if has_time else None, audio_module=audio_module, audio_widths=audio_widths)

        self.down_blocks = nn.ModuleList()
        skips = [widths[0]]
        channels = widths[0]
        for level, width in enumerate(widths):
            inside = [channels, *[width] * (layers - 1)]  # of resnets, and (Hallo's quirk) of audio modules
            resnets = [resnet(before, width) for before in inside]
            self.down_blocks.append(block(resnets, width, level, inside, config.attention_levels[level]))
            skips += [width] * layers
            channels = width
            if level < len(widths) - 1:
                self.down_blocks[-1].downsamplers = nn.ModuleList([Downsample(width)])
                skips.append(width)
        self.mid_block = block([resnet(channels, channels), resnet(channels, channels)], channels, level, [channels], True)
        self.up_blocks = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            resnets = []
            for _ in range(layers + 1):
                resnets.append(resnet(channels + skips.pop(), width))
                channels = width
            inside = [widths[max(level - 1, 0)]] * (layers + 1)  # Hallo's quirk: audio modules have the width of the next level
            self.up_blocks.append(block(resnets, width, level, inside, config.attention_levels[level]))
            if level:
                self.up_blocks[-1].upsamplers = nn.ModuleList([Upsample(width)])

    def project_time(self, timesteps: Tensor, like: Tensor) -> Tensor:
        """timesteps (S,) -> (S, T) in the dtype of `like`: what each resnet adds at that time, side by side in `walk`'s order."""
        embedded = nn.functional.silu(self.time_embedding(sinusoidal(timesteps, self.time_channels).to(like.dtype)))
        return torch.cat([resnet.time_emb_proj(embedded) for resnet in self._resnets()], dim=1)

    def _resnets(self) -> Iterator[ResnetBlock]:
        for block in (*self.down_blocks, self.mid_block, *self.up_blocks):
            yield from block.resnets

    def places(self) -> Iterator[tuple[str, Beside]]:
        """(name, what stands beside) of every resnet that `walk` visits, in its order."""
        for level, block in enumerate(self.down_blocks):
            yield from (block.beside(f"down_blocks.{level}", index) for index in range(len(block.resnets)))
        yield self.mid_block.beside("mid_block", 0)
        for level, block in enumerate(self.up_blocks):
            yield from (block.beside(f"up_blocks.{level}", index) for index in range(len(block.resnets)))

    def walk(self, x: Tensor, time: Tensor, visit: Visit, *, first: Callable[[Tensor], Tensor] = lambda x: x,
             inner: Inner | None = None) -> Tensor:
        """x (B F, C, H, W) latents, time (B, T) as `project_time` says it -> (B F, C0, H, W).

        `visit` is called after each resnet but the mid block's second, `first` after the first convolution. Either may answer
        with several times as many rows, groups of the batch that part there; then there are as many at the end.
        inner: keeps what the coarser levels say, or, if it `repeats`, spares them.
        """
        resnets = list(self._resnets())
        times = dict(zip(resnets, time.split([resnet.time_emb_proj.out_features for resnet in resnets], dim=1), strict=True))
        x = first(self.conv_in(x.contiguous(memory_format=torch.channels_last)))
        skips = [x]
        for level, block in enumerate(self.down_blocks):
            for index, resnet in enumerate(block.resnets):
                x = block.visit(f"down_blocks.{level}", index, resnet(x, times[resnet]), visit)
                skips.append(x)
            if inner is not None and inner.repeats:
                break
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0](x)
                skips.append(x)
        coarser = len(self.up_blocks) - 1
        if inner is None or not inner.repeats:
            x = self._up(range(coarser), self._mid(x, times, visit), skips, times, visit)
        if inner is not None:
            x = inner.said = inner.said if inner.repeats else x
        return self._up(range(coarser, coarser + 1), x, skips, times, visit)

    def _mid(self, x: Tensor, times: dict[nn.Module, Tensor], visit: Visit) -> Tensor:
        before, after = self.mid_block.resnets
        return after(self.mid_block.visit("mid_block", 0, before(x, times[before]), visit), times[after])

    def _up(self, levels: range, x: Tensor, skips: list[Tensor], times: dict[nn.Module, Tensor], visit: Visit) -> Tensor:
        for level in levels:
            block = self.up_blocks[level]
            for index, resnet in enumerate(block.resnets):
                x = torch.cat([x, for_groups(skips.pop(), len(x))], dim=1)
                x = block.visit(f"up_blocks.{level}", index, resnet(x, times[resnet]), visit)
            if hasattr(block, "upsamplers"):
                x = block.upsamplers[0](x, skips[-1].shape[-2:])
        return x

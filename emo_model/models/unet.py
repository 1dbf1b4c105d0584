"""Reference net and backbone (EMO, figure 2): one SD 1.5 UNet, used twice, with other layers after its resnets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import ModelConfig
from .attention import sinusoidal
from .audio_transformer import AudioTransformer
from .blocks import Downsample, ResnetBlock, SpatialTransformer, Upsample, per_frame
from .context import Context, LayerContext
from .temporal import TemporalModule


class Layer(NamedTuple):
    """The modules after a resnet, at which level (0 the finest); None where there is no such module."""

    level: int
    attention: SpatialTransformer | None
    temporal: TemporalModule | None
    audio: AudioTransformer | None  # Hallo's


AfterResnet = Callable[[str, Layer, Tensor], Tensor]  # (name, layer, x) -> x


class TimeEmbedding(nn.Module):
    def __init__(self, channels: int, time_channels: int):
        super().__init__()
        self.linear_1 = nn.Linear(channels, time_channels)
        self.linear_2 = nn.Linear(time_channels, time_channels)

    def forward(self, codes: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(codes)))


class Block(nn.Module):
    """One down, mid or up block: resnets, and after each of them (in the mid block after the first) a `Layer`.

    audio_widths: one per layer, inside Hallo's audio modules.
    """

    def __init__(
        self,
        name: str,
        resnets: list[nn.Module],
        channels: int,
        *,
        level: int,
        attention: Callable[[int], nn.Module] | None,
        temporal: Callable[[int], nn.Module] | None,
        audio: Callable[[int, int], nn.Module] | None,
        audio_widths: list[int],
    ):
        super().__init__()
        self.name, self.level, self.size = name, level, len(audio_widths)
        self.resnets = nn.ModuleList(resnets)
        if attention is not None:
            self.attentions = nn.ModuleList(attention(channels) for _ in audio_widths)
        if attention is not None and audio is not None:
            self.audio_modules = nn.ModuleList(audio(channels, width) for width in audio_widths)
        if temporal is not None:
            self.motion_modules = nn.ModuleList(temporal(channels) for _ in audio_widths)

    def layer(self, index: int) -> tuple[str, Layer]:
        """(name, layer) after resnet `index`."""
        kinds = ("attentions", "motion_modules", "audio_modules")
        attention, temporal, audio = (getattr(self, kind)[index] if hasattr(self, kind) else None for kind in kinds)
        kind = "resnets" if attention is None else "attentions"
        return f"{self.name}.{kind}.{index}", Layer(self.level, attention, temporal, audio)


class UNet(nn.Module):
    """conv_in, time_embedding, down_blocks, mid_block, up_blocks: names and shapes of diffusers' SD 1.5 UNet."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        attention: Callable[[int], nn.Module],
        temporal: Callable[[int], nn.Module] | None = None,
        audio: Callable[[int, int], nn.Module] | None = None,
    ):
        super().__init__()
        widths, layers = config.channels, config.layers_per_block
        time_channels = widths[0] * 4
        self.time_channels = widths[0]
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], time_channels)

        def resnet(inside: int, outside: int) -> ResnetBlock:
            return ResnetBlock(inside, outside, time_channels, groups=config.norm_groups)

        def block(
            name: str, resnets: list[nn.Module], channels: int, level: int, audio_widths: list[int], attends: bool
        ) -> Block:
            has_temporal = attends or config.hallo is None
            return Block(
                name,
                resnets,
                channels,
                level=level,
                attention=attention if attends else None,
                temporal=temporal if has_temporal else None,
                audio=audio,
                audio_widths=audio_widths,
            )

        self.down_blocks = nn.ModuleList()
        skips = [widths[0]]
        channels = widths[0]
        for level, width in enumerate(widths):
            inside = [channels, *[width] * (layers - 1)]  # of resnets, and (Hallo's quirk) of audio modules
            resnets = [resnet(before, width) for before in inside]
            name = f"down_blocks.{level}"
            self.down_blocks.append(block(name, resnets, width, level, inside, config.attention_levels[level]))
            skips += [width] * layers
            channels = width
            if level < len(widths) - 1:
                self.down_blocks[-1].downsamplers = nn.ModuleList([Downsample(width)])
                skips.append(width)
        resnets = [resnet(channels, channels), resnet(channels, channels)]
        self.mid_block = block("mid_block", resnets, channels, level, [channels], True)
        self.up_blocks = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            resnets = []
            for _ in range(layers + 1):
                resnets.append(resnet(channels + skips.pop(), width))
                channels = width
            inside = [widths[max(level - 1, 0)]] * (layers + 1)  # Hallo's quirk: as wide as the next level
            name = f"up_blocks.{len(self.up_blocks)}"
            self.up_blocks.append(block(name, resnets, width, level, inside, config.attention_levels[level]))
            if level:
                self.up_blocks[-1].upsamplers = nn.ModuleList([Upsample(width)])

    def blocks(self) -> tuple[Block, ...]:
        return (*self.down_blocks, self.mid_block, *self.up_blocks)

    def layers(self) -> Iterator[tuple[str, Layer]]:
        """(name, layer) in the order of `run`."""
        for block in self.blocks():
            yield from (block.layer(index) for index in range(block.size))

    def embed_timesteps(self, timesteps: Tensor, like: Tensor) -> Tensor:
        """timesteps (S,) -> (S, T) in the dtype of `like`: the vectors of all resnets, in the order of `run`."""
        embedded = F.silu(self.time_embedding(sinusoidal(timesteps, self.time_channels).to(like.dtype)))
        return torch.cat([resnet.time_emb_proj(embedded) for block in self.blocks() for resnet in block.resnets], dim=1)

    def run(self, x: Tensor, time: Tensor, after_resnet: AfterResnet, *, face: Tensor | None = None) -> Tensor:
        """x (B F, C, H, W) latents, time (1 or B, T) of `embed_timesteps` -> (B F, C0, H, W).

        after_resnet: called after each resnet but the mid block's second. face: (B, C0, H, W), added after the first
        convolution.
        """
        resnets = [resnet for block in self.blocks() for resnet in block.resnets]
        sizes = [resnet.time_emb_proj.out_features for resnet in resnets]
        times = dict(zip(resnets, time.split(sizes, dim=1), strict=True))
        x = self.conv_in(x.contiguous(memory_format=torch.channels_last))
        if face is not None:
            x = x + per_frame(face, len(x))
        skips = [x]
        for block in self.down_blocks:
            for index, resnet in enumerate(block.resnets):
                x = after_resnet(*block.layer(index), resnet(x, times[resnet]))
                skips.append(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0](x)
                skips.append(x)
        first, second = self.mid_block.resnets
        x = after_resnet(*self.mid_block.layer(0), first(x, times[first]))
        x = second(x, times[second])
        for block in self.up_blocks:
            for index, resnet in enumerate(block.resnets):
                x = torch.cat([x, skips.pop()], dim=1)
                x = after_resnet(*block.layer(index), resnet(x, times[resnet]))
            if hasattr(block, "upsamplers"):
                x = block.upsamplers[0](x, skips[-1].shape[-2:])
        return x


class ReferenceNet(UNet):
    """The UNet without time, audio or noise; its features carry the identity of the portrait (EMO, 'ReferenceNet').

    Features are the inputs of each self-attention; at levels without attention, the resnets' outputs. EMO leaves open:
    what is taken at levels without attention, and whether text cross-attention stays. Ours has none.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(config, attention=lambda channels: SpatialTransformer(config, channels, is_backbone=False))
        self.reads_resnets = config.hallo is None
        if config.attention_levels[0]:  # nothing after the last feature is used, so nothing is built
            last = SpatialTransformer(config, config.channels[0], is_backbone=False, is_last_feature=True)
            self.up_blocks[-1].attentions[-1] = last

    def forward(self, latents: Tensor, identity: Tensor | None = None) -> dict[str, Tensor]:
        """latents (B, C, H, W) scaled and clean, identity (B, M, D) for Hallo -> features (B, N, C) by layer name."""
        features = {}

        def collect(name: str, layer: Layer, x: Tensor) -> Tensor:
            attention = layer.attention
            if attention is not None:
                tokens = None if identity is None or attention.is_last_feature else attention.project_identity(identity)
                x, features[name] = attention(x, identity=tokens)
            elif self.reads_resnets:
                features[name] = x.flatten(2).transpose(1, 2)
            return x

        time = self.embed_timesteps(torch.zeros(len(latents), device=latents.device), latents)
        self.run(latents, time, collect)
        return features


class ReferenceAddition(nn.Module):
    """Adds the portrait's features of the same cell; zero output before training."""

    def __init__(self, channels: int):
        super().__init__()
        self.proj = nn.Linear(channels, channels)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, feature: Tensor) -> Tensor:
        """feature (B, N, C), of a square -> (B, C, h, w), to be added."""
        return rearrange(self.proj(feature), "b (h w) c -> b c h w", h=round(feature.shape[1] ** 0.5))


class Backbone(UNet):
    """The denoising UNet: reference and audio attention, temporal module after resnets (EMO, 'Backbone Network').

    EMO leaves open: how levels without attention use the portrait. Ours ignore it, or, with config.reference_addition,
    add the reference net's features of the same cell: heads move little, so most of a picture is where it is in the
    portrait.
    """

    def __init__(self, config: ModelConfig):
        audio = (lambda channels, width: AudioTransformer(config, channels, width)) if config.hallo else None
        super().__init__(
            config,
            attention=lambda channels: SpatialTransformer(config, channels, is_backbone=True),
            temporal=lambda channels: TemporalModule(config, channels),
            audio=audio,
        )
        self.reference_additions = nn.ModuleDict()
        if config.reference_addition:
            for block in (*self.down_blocks, *self.up_blocks):
                for index, resnet in enumerate(block.resnets):
                    name, layer = block.layer(index)
                    if layer.attention is None:
                        addition = ReferenceAddition(resnet.conv2.out_channels)
                        self.reference_additions[name.replace(".", "_")] = addition
        self.conv_norm_out = nn.GroupNorm(config.norm_groups, config.channels[0], eps=1e-5)
        self.conv_out = nn.Conv2d(config.channels[0], config.latent_channels, 3, padding=1)

    def cache(self, context: Context) -> dict[str, LayerContext]:
        """Keys and values of the context in every layer, computed once per clip for all denoising steps."""
        return {name: self._cache_layer(name, layer, context) for name, layer in self.layers()}

    def _cache_layer(self, name: str, layer: Layer, context: Context) -> LayerContext:
        reference = addition = audio = motion = speed = identity = codes = None
        attention, place = layer.attention, name.replace(".", "_")
        if context.reference is not None and attention is not None:
            feature = context.reference.features[name]
            reference, codes = attention.project_reference(feature), attention.codes(feature)
        elif context.reference is not None and place in self.reference_additions:
            addition = self.reference_additions[place](context.reference.features[name])
        if context.audio is not None and attention is not None:
            audio = (layer.audio or attention).project_audio(context.audio.flatten(0, 1))
        if context.motion is not None and layer.temporal is not None:
            motion = layer.temporal.project(context.motion.features[name])
            speed = None if context.speed is None else layer.temporal.project_speed(context.speed)
        if context.identity is not None and attention is not None:
            identity = attention.project_identity(context.identity[:, 1])
        return LayerContext(reference, addition, audio, motion, speed, identity, codes)

    def forward(
        self,
        noisy: Tensor,
        timestep: Tensor,
        layers: dict[str, LayerContext],
        *,
        face: Tensor | None = None,
        regions: tuple[Tensor, ...] = (),
        region_weights: Tensor | None = None,
    ) -> Tensor:
        """noisy (B, C, F, H, W), timestep (B,) -> prediction (B, C, F, H, W).

        timestep: or its row (1, T) of `embed_timesteps`. layers: of `cache`. For Hallo: face (B, C0, H, W) is added
        after the first convolution; regions (B, 3, N) by level and region_weights (3,) are for the audio modules.
        """
        frames = noisy.shape[2]
        time = self.embed_timesteps(timestep, noisy) if timestep.ndim == 1 else timestep

        def after_resnet(name: str, layer: Layer, x: Tensor) -> Tensor:
            given = layers[name]
            if layer.attention is not None:
                audio = None if layer.audio is not None else given.audio
                reference, identity, codes = given.reference, given.identity, given.codes
                x, _ = layer.attention(x, reference=reference, audio=audio, identity=identity, codes=codes)
            elif given.addition is not None:
                x = x + per_frame(given.addition, len(x))
            if layer.audio is not None and given.audio is not None:
                x = layer.audio(x, given.audio, regions[layer.level], region_weights)
            if layer.temporal is not None and given.motion is not None:
                x = layer.temporal(x, given.motion, given.speed)
            return x

        x = self.run(rearrange(noisy, "b c f h w -> (b f) c h w"), time, after_resnet, face=face)
        return rearrange(self.conv_out(F.silu(self.conv_norm_out(x))), "(b f) c h w -> b c f h w", f=frames)

"""Temporal module with motion frames and speed attention (EMO, arXiv 2402.17485, 'Temporal Modules' and 'Speed Layers')."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from einops import rearrange
from torch import Tensor, cat, is_grad_enabled, nn

from ..config import ModelConfig
from .attention import Attention, FeedForward, frame_codes
from .group_norm import GroupNorm
from .seen import KeysValues, into


@dataclass(frozen=True, eq=False)
class MotionTokens:
    """The motion frames' share of a temporal module, which no noise reaches: (B N, n, C) each.

    The first self-attention's keys and values; tokens and queries only if another follows, to which they give an answer.
    codes (n + F, C) tell them and the frames of a clip their places.
    """

    seen: KeysValues
    codes: Tensor
    tokens: Tensor | None = None
    queries: Tensor | None = None

    def beside(self, others: list[MotionTokens]) -> MotionTokens:
        """These, and behind them in the batch those of others."""
        def joined(pick: Callable[[MotionTokens], Tensor | None]) -> Tensor | None:
            return None if pick(self) is None else cat([pick(one) for one in (self, *others)])

        return MotionTokens(KeysValues(joined(lambda one: one.seen.keys), joined(lambda one: one.seen.values)), self.codes,
                            joined(lambda one: one.tokens), joined(lambda one: one.queries))


class TemporalBlock(nn.Module):
    """Self-attention over frames (one or two, as in AnimateDiff), speed attention, feed-forward.

    EMO leaves open: where in a temporal layer the speed is read.
    """

    def __init__(self, config: ModelConfig, channels: int):
        super().__init__()
        heads = config.attention_heads
        self.self_attentions, self.clip_frames = config.temporal_attentions, config.clip_frames
        for index in range(1, config.temporal_attentions + 1):  # norm1, attn1, norm2, attn2: diffusers' names
            self.add_module(f"norm{index}", nn.LayerNorm(channels))
            self.add_module(f"attn{index}", Attention(channels, heads=heads, is_small=True))
        if config.speed_centres:
            self.norm_speed = nn.LayerNorm(channels)
            self.attn_speed = Attention(channels, config.speed_width, heads=heads)
            nn.init.zeros_(self.attn_speed.to_out[0].weight)
            nn.init.zeros_(self.attn_speed.to_out[0].bias)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, multiplier=config.feed_forward_multiplier)

    def project(self, earlier: Tensor) -> MotionTokens:
        """Tokens (B N, n, C) of the motion frames -> what `forward` needs of them."""
        motion_frames, channels = earlier.shape[1:]
        codes = frame_codes(motion_frames + self.clip_frames, channels, like=earlier)
        normed = self.norm1(earlier) + codes[:motion_frames]
        seen = self.attn1.project(normed)
        return MotionTokens(seen, codes, *(() if self.self_attentions == 1 else (earlier, self.attn1.to_q(normed))))

    def forward(self, x: Tensor, *, motion: MotionTokens, speed: Tensor | KeysValues | None) -> Tensor:
        """x (B N, F, C), speed (B, F, D) or None -> (B N, F, C): motion frames are heard and then dropped."""
        motion_frames, frames = motion.seen.keys.shape[1], x.shape[1]
        codes = motion.codes[:motion_frames + frames]
        if len(codes) < motion_frames + frames:  # more frames than the model is built for
            codes = frame_codes(motion_frames + frames, x.shape[2], like=x)
        normed = into(self.norm1(x), codes[motion_frames:])  # AnimateDiff adds the codes for values as well
        own = self.attn1.project(normed)
        seen = KeysValues(cat([motion.seen.keys, own.keys], dim=1), cat([motion.seen.values, own.values], dim=1))
        queries = self.attn1.to_q(normed)
        if self.self_attentions > 1:
            x, queries = cat([motion.tokens, x], dim=1), cat([motion.queries, queries], dim=1)
        x = into(self.attn1.answer(queries, seen), x)
        for index in range(2, self.self_attentions + 1):
            normed = into(getattr(self, f"norm{index}")(x), codes)
            if index == self.self_attentions:  # nobody reads the motion frames' own answers from here on
                x = into(getattr(self, f"attn{index}")(normed[:, motion_frames:], normed), x[:, motion_frames:])
            else:
                x = into(getattr(self, f"attn{index}")(normed), x)
        if speed is not None:
            x = into(x, self.attn_speed(self.norm_speed(x), speed))
        return into(x, self.ff(self.norm3(x)))


class TemporalModule(nn.Module):
    """Every cell of the picture looks along time, at the motion frames first; starts as the identity (zero output)."""

    def __init__(self, config: ModelConfig, channels: int):
        super().__init__()
        self.norm = GroupNorm(config.norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(config, channels)])
        self.proj_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def project(self, motion: Tensor) -> MotionTokens:
        """motion (B, n, N, C): features of the motion frames, zeros for the first clip -> what `forward` needs of them."""
        if is_grad_enabled() and not motion.requires_grad:
            motion = motion.detach().requires_grad_()  # torch's CPU group norm crashes where only its weight wants a gradient
        # one row of cells: the norm is of a frame, whatever its shape
        normed = self.norm(rearrange(motion, "b m n c -> (b m) c 1 n"))
        earlier = rearrange(normed, "(b m) c 1 n -> (b n) m c", b=len(motion)).contiguous()
        return self.transformer_blocks[0].project(self.proj_in(earlier))

    def project_speed(self, speed: Tensor) -> KeysValues:
        return self.transformer_blocks[0].attn_speed.project(speed)

    def forward(self, x: Tensor, motion: Tensor | MotionTokens, speed: Tensor | KeysValues | None) -> Tensor:
        """x (B F, C, H, W), motion (B, n, N, C) and speed (B, F, D), projected or not -> (B F, C, H, W)."""
        motion = motion if isinstance(motion, MotionTokens) else self.project(motion)
        height, width = x.shape[-2:]
        batch = len(motion.seen.keys) // (height * width)
        tokens = self.proj_in(rearrange(self.norm(x), "(b f) c h w -> (b h w) f c", b=batch))
        tokens = self.proj_out(self.transformer_blocks[0](tokens, motion=motion, speed=speed))
        moved = rearrange(tokens, "(b h w) f c -> b f c h w", b=batch, h=height)  # a view
        return (rearrange(x, "(b f) c h w -> b f c h w", b=batch) + moved).flatten(0, 1)

"""Our networks, guidance and sampler against tensors recorded from Hallo's own code.

An oracle is a pair of files: IO.safetensors with inputs `in.*` and results `out.*`, CONFIG.json with the sizes of the
nets. Weights are in neither: each is a pure function of its key (`seeded_weight`), so a small file proves a whole net.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from ..checkpoints import hallo
from ..checkpoints.sources import New, bare, fill
from ..config import HALLO, HalloConfig, ModelConfig, SamplingConfig
from ..models.context import Context
from ..models.emo import Emo
from ..sampling.mixed_identity import mix_identity
from ..sampling.samplers import guided, sample
from ..sampling.schedule import NoiseSchedule
from ..types import ClipConditions, MotionFrames

TOLERANCE = 1e-4
REGIONS = ("full", "face", "lip")


@dataclass(frozen=True)
class Difference:
    """One recorded tensor against ours; must_differ: a negative control, which has to be further off than the
    tolerance."""

    name: str
    max_abs: float
    tolerance: float
    must_differ: bool = False

    @property
    def is_right(self) -> bool:
        return self.max_abs > self.tolerance if self.must_differ else self.max_abs <= self.tolerance

    def __str__(self) -> str:
        verdict = ("ok" if not self.must_differ else "ok, differs as it must") if self.is_right else "WRONG"
        return f"{self.name:44} {self.max_abs:.3e}  {verdict}"


def seeded_weight(key: str, shape: tuple[int, ...], *, salt: str = "") -> Tensor:
    """The weight of a key in an oracle's net, from numpy's legacy generator seeded with the CRC-32 of salt and key."""
    draw = np.random.RandomState(zlib.crc32((salt + key).encode())).randn(*shape)
    if len(shape) == 1 and key.endswith(".weight") and fnmatchcase(key, "*norm*.weight"):
        draw = 1 + 0.1 * draw
    elif key.endswith(".bias"):
        draw = 0.05 * draw
    else:
        draw = draw / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(draw, dtype=np.float32))


def config_of(description: dict) -> ModelConfig:
    """An oracle's CONFIG.json -> our config. Raises KeyError for a part that is not described."""
    unet, audio, face, noise = (description[name] for name in ("unet", "audioproj", "imageproj", "scheduler"))
    locator = description["face_locator"]
    latent, pixels = description["latent"], description["face_mask_image"]
    return replace(
        HALLO,
        name="oracle",
        image_size=pixels,
        vae_factor=pixels // latent,
        latent_channels=unet["in_channels"],
        channels=tuple(unet["block_out_channels"]),
        layers_per_block=unet["layers_per_block"],
        attention_levels=tuple("CrossAttn" in block for block in unet["down_block_types"]),
        attention_heads=unet["attention_head_dim"],
        norm_groups=unet["norm_num_groups"],
        hallo=HalloConfig(
            identity_tokens=face["clip_extra_context_tokens"],
            identity_width=face["clip_embeddings_dim"],
            identity_context_width=face["cross_attention_dim"],
            audio_tokens=audio["context_tokens"],
            audio_projection_width=audio["intermediate_dim"],
            face_mask_channels=locator["conditioning_channels"],
        ),
        audio_margin_frames=audio["seq_len"] // 2,
        audio_layers=audio["blocks"],
        audio_width=audio["channels"],
        audio_context_width=audio["output_dim"],
        face_locator_channels=tuple(locator["block_out_channels"]),
        clip_frames=description["frames"],
        motion_frames=description["n_motion_frames"],
        beta_start=noise["beta_start"],
        beta_end=noise["beta_end"],
        beta_schedule=noise["beta_schedule"],
        prediction=noise["prediction_type"],
        zero_terminal_snr=noise["rescale_betas_zero_snr"],
        temporal_heads=description["unet_additional_kwargs"]["motion_module_kwargs"]["num_attention_heads"],
        temporal_position_limit=description["unet_additional_kwargs"]["motion_module_kwargs"][
            "temporal_position_encoding_max_len"
        ],
    )


def seeded_emo(config: ModelConfig, *, salt: str = "") -> Emo:
    """The oracle's net, all weights made from their keys."""
    emo = bare(config)

    def made(name: str, shape: tuple[int, ...]) -> New:
        return New(lambda: seeded_weight(hallo.TABLE.to_theirs(name), shape, salt=salt))

    fill(emo, {name: made(name, tuple(value.shape)) for name, value in emo.state_dict().items()})
    return emo


@torch.no_grad()
def compare(
    tensors: dict[str, Tensor], description: dict, *, salt: str = "", tolerance: float = TOLERANCE
) -> Iterator[Difference]:
    """Each recorded `out.*` against ours, in the given order; one of which we know no counterpart is infinitely far
    off."""
    emo = seeded_emo(config_of(description), salt=salt)
    ours = _Ours(emo, tensors, description)
    for name, recorded in tensors.items():
        if not name.startswith("out."):
            continue
        made = ours.made(name)
        if made is not None and ".motion" in name and made.shape[2] < recorded.shape[2]:
            recorded = recorded[:, :, -made.shape[2] :]  # Hallo's temporal modules also answer for motion frames
        if made is None or made.shape != recorded.shape:
            off = float("inf")
        else:
            off = (made.double() - recorded.double()).abs().max().item()
        allowed = (
            0.0
            if name.endswith("timesteps")
            else min(tolerance, 1e-6)
            if name.endswith("alphas_cumprod")
            else tolerance
        )
        yield Difference(name, off, allowed, must_differ=name.endswith("_evalmode"))


class _Ours:
    """What our code makes of an oracle's inputs; the costly parts once."""

    def __init__(self, emo: Emo, tensors: dict[str, Tensor], description: dict):
        self.emo, self.tensors, self.description = emo, tensors, description
        self.schedule = NoiseSchedule(emo.config)
        self.noisy = tensors["in.noisy_latents"]
        self.cache: dict[str, Tensor] = {}

    def made(self, name: str) -> Tensor | None:
        """Our counterpart of a recorded tensor, None if there is none."""
        if name in self.cache:
            return self.cache[name]
        if found := re.fullmatch(r"out\.ddim(\d+)\.timesteps", name):
            return torch.tensor(self.schedule.timesteps(int(found[1])))
        if name == "out.ddim.alphas_cumprod":
            return self.schedule.alphas_cumprod
        if found := re.fullmatch(r"out\.ddim(\d+)\.step\d+", name):
            self._sample(int(found[1]))
        elif name.startswith("out.cfg."):
            self._guide()
        else:
            self._predict()
        return self.cache.get(name)

    def _context(self) -> Context:
        emo, given = self.emo, self.tensors
        portrait, motion = given["in.ref_latents"][:1], rearrange(given["in.ref_latents"][1:], "m c h w -> 1 c m h w")
        reference = emo.encode_reference(portrait, given["in.face_emb"])
        features = emo.encode_motion(MotionFrames(motion), like=reference)
        audio = given["in.audio_features"]
        levels = range(len(emo.config.channels))
        regions = tuple(
            torch.stack([given[f"in.mask_{region}_{level}"] for region in REGIONS], dim=1) for level in levels
        )
        clip = ClipConditions(
            audio,
            torch.zeros(audio.shape[:3]),
            given["in.face_mask_image"],
            audio.shape[1],
            regions=torch.zeros(1, 3, 1, 1),
        )
        return replace(emo.prepare(reference, features, clip), regions=regions, region_weights=given["in.motion_scale"])

    def _predict(self) -> None:
        """One prediction without guidance, and everything on the way to it."""
        context = self._context()
        hooks = [module.register_forward_hook(self._keep(f"out.act.{name}")) for name, module in self._places()]
        prediction = self.emo.predict(self.noisy, self.tensors["in.timestep"], context)
        for hook in hooks:
            hook.remove()
        self.cache |= {
            "out.noise_pred": prediction,
            "out.noise_pred_evalmode": prediction,
            "out.face_tokens_uncond": context.identity[:, 0],
            "out.face_tokens": context.identity[:, 1],
            "out.audio_tokens": context.audio,
            "out.face_locator_out": context.face.expand(-1, -1, self.noisy.shape[2], -1, -1),
        }
        for block, feature in context.reference.features.items():
            self.cache[f"out.ref_bank.{block}"] = torch.cat([feature, context.motion.features[block][0]])

    def _guide(self) -> None:
        """Both halves of guidance, and the reference features that Hallo's own batch of 2 (1 + n) pictures has."""
        context = self._context()
        mixed, time = mix_identity(context), self.tensors["in.timestep"]
        halves = [mixed.without_audio().without_reference(), mixed]
        self.cache["out.cfg.noise_pred_pair"] = torch.cat([self.emo.predict(self.noisy, time, half) for half in halves])
        pictures = self.tensors["in.ref_latents"].repeat(2, 1, 1, 1)
        turns = context.identity[0, torch.arange(len(pictures)) % 2]
        self.cache |= {f"out.cfg.ref_bank.{block}": x for block, x in self.emo.reference_net(pictures, turns).items()}

    def _sample(self, steps: int) -> None:
        """The latents after each step of DDIM under guidance."""
        scale = self.description[f"guidance_scale_ddim{steps}"]
        sampling = SamplingConfig(audio_guidance=scale, reference_guidance=scale)
        predict, latents = guided(self.emo, self._context(), sampling), []

        def watched(noisy: Tensor, timestep: int) -> Tensor:
            latents.append(noisy)
            return predict(noisy, timestep)

        latents.append(sample(watched, self.noisy, self.schedule, steps=steps))
        self.cache |= {f"out.ddim{steps}.step{step}": x for step, x in enumerate(latents[1:])}

    def _keep(self, name: str):
        frames = self.noisy.shape[2]

        def hook(_: nn.Module, __: tuple, output: Tensor | tuple[Tensor, Tensor]) -> None:
            output = (output[0] if isinstance(output, tuple) else output).clone()  # what follows may write into it
            self.cache[name] = rearrange(output, "(b f) c h w -> b c f h w", f=frames) if output.ndim == 4 else output

        return hook

    def _places(self) -> Iterator[tuple[str, nn.Module]]:
        """(the oracle's name of an activation, the module of ours that puts it out)."""
        net = self.emo.backbone
        yield from (("time_embedding", net.time_embedding), ("conv_in", net.conv_in))
        blocks = [(f"down{index}", f"down_block{index}", block) for index, block in enumerate(net.down_blocks)]
        blocks += [("mid", "mid_block", net.mid_block)]
        blocks += [(f"up{index}", f"up_block{index}", block) for index, block in enumerate(net.up_blocks)]
        for short, long, block in blocks:
            parts = {"resnet": "resnets", "attn": "attentions", "audio": "audio_modules", "motion": "motion_modules"}
            for word, part in parts.items():
                yield from ((f"{short}.{word}{index}", module) for index, module in enumerate(getattr(block, part, ())))
            ends = ("resnets",) if short == "mid" else ("downsamplers", "upsamplers", "motion_modules", "resnets")
            yield long, next(getattr(block, part) for part in ends if hasattr(block, part))[-1]

"""Puts networks under ComfyUI's management: device placement, casting, patching and offloading."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import comfy.model_management as management
import comfy.model_patcher
import comfy.ops
import torch
from comfy.cli_args import args
from comfy.ldm.modules import attention
from torch import Tensor, nn

from ...emo_model.acceleration.compile import is_compiled
from ...emo_model.acceleration.group_norm import GroupNorm, group_norm
from ...emo_model.models.attention import Attend, Attention, dot_product

LAYERS = (
    "Linear",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "GroupNorm",
    "LayerNorm",
    "Embedding",
)
Made = TypeVar("Made")


class ManagedGroupNorm(comfy.ops.manual_cast.GroupNorm):
    """ComfyUI's weight handling with our arithmetic, which keeps the memory format."""

    def forward_comfy_cast_weights(self, x: Tensor) -> Tensor:
        if hasattr(comfy.ops, "CastBiasWeightContext"):  # newer ComfyUI: releases weights after use
            with comfy.ops.CastBiasWeightContext(self, x, offloadable=True) as (weight, bias):
                return group_norm(x, self.num_groups, weight, bias, self.eps)
        return group_norm(x, self.num_groups, *comfy.ops.cast_bias_weight(self, x), self.eps)


MANAGED = {getattr(nn, name): getattr(comfy.ops.manual_cast, name) for name in LAYERS} | {GroupNorm: ManagedGroupNorm}


def managed(module: nn.Module) -> nn.Module:
    """Swap the class of leaf layers in place for ComfyUI's, which places, casts and patches each by itself.

    Attentions use ComfyUI's kernel, as selected by its flags.
    """
    for part in module.modules():
        if isinstance(part, Attention):
            part.attend = kernel(management.get_torch_device(), is_small=part.is_small)
        layer = MANAGED.get(type(part))
        if layer is not None and part._parameters.get("weight") is not None:
            part.__class__ = layer
            if not hasattr(part, "bias"):
                part.bias = None  # Embedding; comfy.ops reads it
    return module.eval().requires_grad_(False)


def kernel(device: torch.device, *, is_small: bool) -> Attend:
    """The attention kernel for a device; `is_small`: few tokens in very many sequences.

    On the CPU, torch's own kernel is as economical as ComfyUI's split attention and faster; it is used unless the user
    chose another by flag.
    """
    if device.type == "cpu" and not (args.use_split_cross_attention or args.use_quad_cross_attention):
        return dot_product
    return (
        attention.optimized_attention_for_device(device, small_input=True)
        if is_small
        else attention.optimized_attention
    )


def kernels_of(module: nn.Module) -> str:
    """The names of its attention kernels, which decide on the last bits; "" for torch's own."""
    kernels = {part.attend for part in module.modules() if isinstance(part, Attention)} - {dot_product}
    return "".join(sorted(f" {kernel.__module__}.{getattr(kernel, '__qualname__', '')}" for kernel in kernels))


def patcher_of(
    module: nn.Module, load_device: torch.device, offload_device: torch.device, *, is_static: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """is_static: weights are not moved while the module runs, as compiled code and CUDA graphs require."""
    if hasattr(management, "archive_model_dtypes"):
        management.archive_model_dtypes(module)
    kind = comfy.model_patcher.ModelPatcher
    if not is_static:  # newer ComfyUI has one that loads each weight on demand
        kind = getattr(comfy.model_patcher, "CoreModelPatcher", kind)
    return kind(module, load_device=load_device, offload_device=offload_device)


def is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text


def or_smaller(work: Callable[[bool], Made], *, smaller: str) -> Made:
    """work(False); if memory runs out, work(True), which must need less. smaller: how, for the log."""
    try:
        return work(False)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
    # outside of `except`: the exception keeps the first attempt's tensors alive
    logging.warning("EMO: out of memory (%s). Retrying %s.", reason, smaller)
    management.soft_empty_cache()
    return work(True)


@contextmanager
def interruptible(module: nn.Module) -> Iterator[None]:
    """Check for cancellation before each block of `module`, many times per step; compiled blocks are not checked."""
    hooks = [block.register_forward_pre_hook(stop_if_cancelled) for block in _blocks(module)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Modules with children, but none that is compiled, into which a hook would be compiled."""
    if next(module.children(), None) is not None and not is_compiled(module):
        yield module
        for part in module.children():
            yield from _blocks(part)


def stop_if_cancelled(*_) -> None:
    management.throw_exception_if_processing_interrupted()


def to_intermediate(tensor: Tensor) -> Tensor:
    """Move to the device on which ComfyUI keeps results between nodes."""
    return tensor.to(management.intermediate_device())

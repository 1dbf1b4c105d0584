"""Networks under ComfyUI's management: placed, cast, patched and offloaded as its own are."""

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

LAYERS = ("Linear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "GroupNorm", "LayerNorm", "Embedding")
Made = TypeVar("Made")


class ManagedGroupNorm(comfy.ops.manual_cast.GroupNorm):
    """ComfyUI's, which fetches the weights, with our arithmetic, which leaves pictures as they lie in memory."""

    def forward_comfy_cast_weights(self, x: Tensor) -> Tensor:
        if hasattr(comfy.ops, "CastBiasWeightContext"):  # newer ComfyUI, which has to be told when weights are no longer needed
            with comfy.ops.CastBiasWeightContext(self, x, offloadable=True) as (weight, bias):
                return group_norm(x, self.num_groups, weight, bias, self.eps)
        return group_norm(x, self.num_groups, *comfy.ops.cast_bias_weight(self, x), self.eps)


MANAGED = {getattr(nn, name): getattr(comfy.ops.manual_cast, name) for name in LAYERS} | {GroupNorm: ManagedGroupNorm}


def managed(module: nn.Module) -> nn.Module:
    """Swap the class of the leaves, in place: ComfyUI then places, casts to the input's type, and patches each by itself.

    Attentions take ComfyUI's kernel, which its flags choose.
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
    """What computes attention on a device; `is_small`: few tokens in very many sequences.

    On the CPU, ComfyUI's choice saves memory by splitting; torch's own kernel saves it too and is faster, so it is taken unless
    the user asked for another.
    """
    if device.type == "cpu" and not (args.use_split_cross_attention or args.use_quad_cross_attention):
        return dot_product
    return attention.optimized_attention_for_device(device, small_input=True) if is_small else attention.optimized_attention


def unmanaged(module: nn.Module) -> list[str]:
    """Weights that ComfyUI would leave behind when it loads a part of the model; none, for every model of ours."""
    return [f"{name}.{own}" for name, part in module.named_modules() if not hasattr(part, "comfy_cast_weights")
            for own, _ in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))]


def patcher_of(module: nn.Module, load_device: torch.device, offload_device: torch.device, *,
               is_static: bool = False) -> comfy.model_patcher.ModelPatcher:
    """is_static: weights stay where they are while the module works, as compiled code and recordings want them to."""
    if hasattr(management, "archive_model_dtypes"):
        management.archive_model_dtypes(module)
    kind = comfy.model_patcher.ModelPatcher
    if not is_static:  # newer ComfyUI has another one, that fetches each weight when it is needed
        kind = getattr(comfy.model_patcher, "CoreModelPatcher", kind)
    return kind(module, load_device=load_device, offload_device=offload_device)


def is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text


def or_smaller(work: Callable[[bool], Made], *, smaller: str) -> Made:
    """work(False), and where memory runs out, once more work(True), which must need less: `smaller`, which the log says."""
    try:
        return work(False)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        said = str(error).splitlines()[0]
    # here, and not above: while the error is handled, it holds on to all that the first attempt had in memory
    logging.warning("EMO: memory ran out (%s). Once more, %s.", said, smaller)
    management.soft_empty_cache()
    return work(True)


@contextmanager
def interruptible(module: nn.Module) -> Iterator[None]:
    """Inside, every block of `module` checks whether the user has cancelled, many times per step; compiled blocks do not."""
    hooks = [block.register_forward_pre_hook(stop_if_cancelled) for block in _blocks(module)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Modules that have children, but none that is compiled: a hook there would be compiled, too."""
    if next(module.children(), None) is not None and not is_compiled(module):
        yield module
        for part in module.children():
            yield from _blocks(part)


def stop_if_cancelled(*_) -> None:
    management.throw_exception_if_processing_interrupted()


def keep(tensor: Tensor) -> Tensor:
    """To where ComfyUI keeps results between nodes."""
    return tensor.to(management.intermediate_device())

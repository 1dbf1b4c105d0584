"""Convolutions and matrix products in bfloat16, on CPUs that multiply it twice as fast as float32."""

from __future__ import annotations

import torch

CHECKS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # of torch.cpu; not in every version of torch


def bfloat16_products(device: torch.device | str, dtype: torch.dtype) -> torch.autocast:
    """A context for networks whose own type is `dtype`: nothing changes in it unless that is float32 and `device` is a
    CPU with instructions for bfloat16 (Intel and AMD since 2020 to 2024, by model)."""
    helps = torch.device(device).type == "cpu" and dtype == torch.float32 and multiplies_bfloat16()
    return torch.autocast("cpu", torch.bfloat16, enabled=helps or torch.is_autocast_enabled("cpu"))


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16; elsewhere they are slower than those of float32."""
    return any(getattr(torch.cpu, check, bool)() for check in CHECKS)

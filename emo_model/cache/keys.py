"""The name of a clip's file: a hash of everything that the clip is made from."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import platform
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from ..config import ModelConfig, SamplingConfig
from ..sampling.clips import SAMPLING_VERSION
from ..types import ClipConditions, Portrait, ReferenceFeatures


class _Digest:
    """sha256 over named values; names and lengths are hashed too, so that no two lists of values look alike."""

    def __init__(self, *parts: str):
        self.sha = hashlib.sha256()
        for part in parts:
            self.add("", part)

    def add(self, name: str, value: Tensor | str | None) -> None:
        if isinstance(value, Tensor):
            kind, data = f"{value.dtype} {tuple(value.shape)}", _bytes(value)
        else:
            kind, data = type(value).__name__, ("" if value is None else value).encode()
        self.sha.update(f"{name}\0{kind}\0{len(data)}\0".encode())
        self.sha.update(data)

    def hex(self) -> str:
        return self.sha.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def content_of(tensor: Tensor) -> str:
    """A hash of a tensor's type, shape and every bit."""
    digest = _Digest()
    digest.add("", tensor)
    return digest.hex()


def weights_of(module: nn.Module) -> str:
    """A hash of all weights and buffers with their names and their layout in memory, which decides on the last bits.

    Several are read at a time, because they may be gigabytes.
    """
    state = sorted(module.state_dict().items())
    with ThreadPoolExecutor(4) as pool:
        contents = pool.map(content_of, (value for _, value in state))
        return _Digest(
            *(f"{name} {value.stride()} {content}" for (name, value), content in zip(state, contents, strict=True))
        ).hex()


def machine_of(device: torch.device | str, dtype: torch.dtype) -> str:
    """What decides on the last bits beside the code: another machine rounds a little differently."""
    device = torch.device(device)
    facts = [torch.__version__, device.type, str(dtype), *_switches()]
    if device.type == "cuda":
        facts.append(torch.cuda.get_device_name(device))
        with contextlib.suppress(RuntimeError):  # newer torch refuses to report it where its newer switches were used
            facts += [str(torch.backends.cuda.matmul.allow_tf32), str(torch.backends.cudnn.allow_tf32)]
    elif device.type == "cpu":
        facts += [platform.machine(), str(torch.get_num_threads())]
    return " ".join(facts)


def _switches() -> list[str]:
    """Settings of torch that change the last bits, as a host's flags set them; those that are not torch's default."""
    cuda, settings = torch.backends.cuda.matmul, {}
    settings["deterministic"] = torch.are_deterministic_algorithms_enabled(), False
    settings["matmul precision"] = torch.get_float32_matmul_precision(), "highest"
    settings["mkldnn"] = torch.backends.mkldnn.enabled, True
    settings["benchmark"] = torch.backends.cudnn.benchmark, False
    for name, default in (
        ("allow_fp16_reduced_precision_reduction", True),
        ("allow_bf16_reduced_precision_reduction", True),
        ("allow_fp16_accumulation", False),
    ):
        with contextlib.suppress(AttributeError, RuntimeError):
            settings[name] = getattr(cuda, name), default
    return [f"{name} {value}" for name, (value, default) in settings.items() if value != default]


class ClipKeys:
    """The keys of a video's clips. What all clips share is hashed once; what is a clip's own, with each.

    weights: `weights_of` the model; reencoding: a name for what happens to motion frames between clips, "" if nothing;
    batch_branches: see `sampling.samplers.guided`, it decides on the last bits.
    """

    def __init__(
        self,
        model: ModelConfig,
        portrait: Portrait,
        sampling: SamplingConfig,
        *,
        weights: str,
        reference: ReferenceFeatures | None,
        device: torch.device | str,
        dtype: torch.dtype,
        reencoding: str = "",
        batch_branches: bool = True,
    ):
        settings = dataclasses.asdict(sampling)
        del settings["head_speed"]  # clips have their own speeds
        digest = _Digest(
            f"sampling version {SAMPLING_VERSION}",
            weights,
            model.to_json(),
            repr(sorted(settings.items())),
            machine_of(device, dtype),
            reencoding,
            str(batch_branches),
        )
        digest.add("portrait", portrait.latents)
        digest.add("identity", portrait.identity)
        for name, feature in _features(reference):
            digest.add(name, feature)
        self.shared = digest.hex()

    def of(self, number: int, clip: ClipConditions, motion: Tensor | None) -> str:
        """The key of clip `number` (from 0; it decides on the noise) after motion frames `motion` (1, C, n, h, w)."""
        digest = _Digest(self.shared, str(number))
        for name, value in (
            ("audio", clip.audio),
            ("speed", clip.speed),
            ("mask", clip.face_mask),
            ("regions", clip.regions),
            ("motion", motion),
        ):
            digest.add(name, value)
        return digest.hex()


def _features(reference: ReferenceFeatures | None) -> Iterator[tuple[str, Tensor | None]]:
    if reference is not None:
        yield from sorted(reference.features.items())
        yield from (
            (f"unconditional {name}", feature) for name, feature in sorted((reference.unconditional or {}).items())
        )
        yield "identity tokens", reference.identity

"""How much memory sampling needs beside the weights: counted, and what the nodes ask ComfyUI for.

    python benchmarks/memory.py [--preset NAME ...] [--dtype fp16] [--device meta] [--json OUT]

On the meta device every tensor that an operation makes is counted while it lives, views once, so a line takes seconds
and no memory; attention counts as a fused kernel, which keeps no table of scores. On cuda it is the allocator's own
peak, with random weights. Two clips of one step each go through `generate_clips`, as in the nodes, guided as the preset
wants it: `apart` is each half of guidance by itself, `together` both as one batch. `asked for` is what the nodes
request before they sample.
"""

from __future__ import annotations

import argparse
import json
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

sys.path.insert(0, str(Path(__file__).parents[1]))
from emo_model.config import PRESETS, SAMPLING, ModelConfig, SamplingConfig
from emo_model.estimate import activation_bytes
from emo_model.models.emo import Emo
from emo_model.sampling.clips import ClipRenderer, generate_clips
from emo_model.types import AudioFeatures, Conditions, FaceMask, Fit, Portrait, Speed

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
MIB = 1024**2


class LiveBytes(TorchDispatchMode):
    """Inside, `live` are the bytes of all tensors made since, views counted once; `peak` the most at any time."""

    def __init__(self, *known: Tensor):
        super().__init__()
        self.live = self.peak = 0
        self.storages = {id(tensor.untyped_storage()): None for tensor in known}
        self.kept = [tensor.untyped_storage() for tensor in known]  # so that their ids stay theirs

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self.storages:
            return
        self.storages[key] = weakref.finalize(storage, self._gone, key, size)
        self.live += size
        self.peak = max(self.peak, self.live)

    def _gone(self, key: int, size: int) -> None:
        del self.storages[key]
        self.live -= size


class FusedAttention(TorchFunctionMode):
    """Attention makes its answer and nothing else, as the kernels of a GPU do."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention:
            query, _, value = args[:3]
            return query.new_empty((*query.shape[:-1], value.shape[-1]))
        return function(*args, **(kwargs or {}))


def clip_pair(config: ModelConfig, device: str) -> Conditions:
    """Conditions of two clips, all zeros."""
    size, cells = config.image_size, config.latent_size
    mask = FaceMask(torch.zeros(1, 1, size, size), torch.zeros(1, 3, 64, 64) if config.hallo else None)
    audio = AudioFeatures(
        torch.zeros(2 * config.clip_frames, config.audio_layers, config.audio_width),
        config.fps,
        2 * config.clip_frames / config.fps,
    )
    portrait = Portrait(
        torch.zeros(1, config.latent_channels, cells, cells, device=device),
        torch.zeros(1, 3, size, size),
        Fit(size, size, 0, 0, size, size),
    )
    return Conditions(portrait, mask, audio, Speed.constant(0))


@torch.no_grad()
def activations(config: ModelConfig, *, dtype: torch.dtype = torch.float16, device: str = "meta", **how) -> int:
    """Bytes beside the weights at the peak of two clips of one step. how: for `ClipRenderer`."""
    sampling = replace(SAMPLING.get(config.name, SamplingConfig()), steps=1)
    with torch.device(device):
        emo = Emo(config).eval().to(dtype)
    conditions = clip_pair(config, device)

    def run() -> None:
        for _ in generate_clips(ClipRenderer(emo, conditions, sampling, device=device, dtype=dtype, **how)):
            pass

    if device == "meta":
        with FusedAttention(), LiveBytes(*emo.state_dict().values()) as count:
            run()
        return count.peak
    run()  # kernels are chosen and work spaces taken
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return torch.cuda.max_memory_allocated() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), nargs="*", default=list(PRESETS))
    parser.add_argument("--dtype", choices=DTYPES, default="fp16")
    parser.add_argument("--device", default="meta", help="meta or cuda (%(default)s)")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    dtype, rows = DTYPES[chosen.dtype], []
    sys.stdout.write(
        f"MiB beside the weights, {chosen.dtype}, {chosen.device}, torch {torch.__version__}\n"
        f"{'preset':14}{'frames':>8}{'apart':>10}{'together':>10}{'asked for':>11}{'ratio':>7}\n"
    )
    for name in chosen.preset:
        config = PRESETS[name]
        frames = config.clip_frames + config.motion_frames
        apart, together = (
            activations(config, dtype=dtype, device=chosen.device, batch_branches=is_one) for is_one in (False, True)
        )
        asked = activation_bytes(config, frames, dtype.itemsize)
        rows.append({"preset": name, "frames": frames, "apart": apart, "together": together, "asked_for": asked})
        sys.stdout.write(
            f"{name:14}{frames:8}{apart / MIB:10.1f}{together / MIB:10.1f}{asked / MIB:11.1f}{asked / together:7.2f}\n"
        )
        sys.stdout.flush()
    if chosen.json:
        chosen.json.write_text(
            json.dumps(
                {"device": chosen.device, "dtype": chosen.dtype, "torch": torch.__version__, "rows": rows}, indent=1
            )
        )


if __name__ == "__main__":
    main()

"""The project's own files: one safetensors file that carries its config and its card in the metadata.

A variant of a model may hold only the tensors that differ from its base, a whole file that lies beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..config import SAMPLING, ModelConfig, SamplingConfig
from ..models.audio_encoder import AudioEncoder
from ..models.emo import Emo
from ..models.motion_decoder import MotionDecoder
from .files import open_tensors
from .kinds import NATIVE, wrong_file

DEFAULT_WEIGHTS = Path(__file__).parents[1] / "weights" / "default.safetensors"
FAST_WEIGHTS = DEFAULT_WEIGHTS.with_name("fast.safetensors")  # what differs from it in a model for 2 steps without guidance
BASE, BASE_HASH = "base", "base_sha256"  # in the card of a variant: the name of the file with all other tensors, their hash


@dataclass(frozen=True, eq=False)
class Bundle:
    """A whole model: its config, its parts (motion decoder and audio encoder only where it brings its own), and its card."""

    config: ModelConfig
    emo: Emo
    motion_decoder: MotionDecoder | None = None
    audio_encoder: AudioEncoder | None = None
    card: dict = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, nn.Module]:
        parts = {"emo": self.emo, "motion_decoder": self.motion_decoder, "audio_encoder": self.audio_encoder}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def sampling(self) -> SamplingConfig:
        """How it is sampled best."""
        return _sampling(self.config, self.card)


def build(config: ModelConfig, *, device: torch.device | str = "cpu", card: dict | None = None) -> Bundle:
    """A model with fresh weights, or, on device 'meta', with none at all."""
    with torch.device(device):
        emo = Emo(config).eval()
        motion_decoder = MotionDecoder(config).eval() if config.motion_decoder else None
    # computes its buffers: not on 'meta'
    audio_encoder = AudioEncoder(config.audio_encoder).eval() if config.audio_encoder else None
    return Bundle(config, emo, motion_decoder, audio_encoder, card or {})


def save(path: str | Path, bundle: Bundle, *, dtype: torch.dtype = torch.float16, base: str | Path | None = None) -> None:
    """Write the model; a file is either whole or not there (written beside, then renamed).

    base: a file of this pack, of which `bundle` is a variant: only the tensors that differ from it are written.
    """
    tensors = {f"{name}.{key}": value.detach().to("cpu", dtype).contiguous()
               for name, part in bundle.parts.items() for key, value in part.state_dict().items()}
    card = {key: value for key, value in bundle.card.items() if key not in (BASE, BASE_HASH)}
    if base is not None:
        file = open_tensors(base)
        tensors = {key: value for key, value in tensors.items()
                   if file.shapes.get(key) != tuple(value.shape) or not torch.equal(file.read(key).to(dtype), value)}
        card |= {BASE: file.path.name, BASE_HASH: weights_hash(file.path)}
    write_tensors(path, tensors, {"format": NATIVE, "config": bundle.config.to_json(), "card": json.dumps(card)})


def weights_hash(path: str | Path) -> str:
    """sha256 of a safetensors file's tensors; its metadata, such as the card, may change."""
    with open(path, "rb") as file:
        header = struct.unpack("<Q", file.read(8))[0]
        file.seek(8 + header)
        digest = hashlib.sha256()
        while block := file.read(2**22):
            digest.update(block)
        return digest.hexdigest()


def write_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """safetensors, atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.touch()
    mode = beside.stat().st_mode
    save_file(tensors, beside, metadata=metadata)
    beside.chmod(mode)  # safetensors writes files that only their owner may read
    beside.replace(path)


def _metadata(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no model file {path}")
    file = open_tensors(path)
    if file.metadata.get("format") != NATIVE:
        raise wrong_file(file, "an EMO model of this pack")
    return file.metadata


def read_config(path: str | Path) -> ModelConfig:
    """The config inside a file. Raises FileNotFoundError, or ValueError that says what the file is instead."""
    return ModelConfig.from_json(_metadata(Path(path))["config"])


def read_sampling(path: str | Path) -> SamplingConfig:
    """How the model of a file is sampled best: its preset's defaults, but for what its card says. Raises as `read_config`."""
    metadata = _metadata(Path(path))
    return _sampling(ModelConfig.from_json(metadata["config"]), json.loads(metadata.get("card", "{}")))


def _sampling(config: ModelConfig, card: dict) -> SamplingConfig:
    said = card.get("sampling", {})
    unknown = sorted(said.keys() - {field.name for field in fields(SamplingConfig)})
    if unknown:
        raise ValueError(f"the model's card has settings of sampling that this version does not know: {', '.join(unknown)}; "
                         "update ComfyUI-EMO")
    return replace(SAMPLING.get(config.name, SamplingConfig()), **said)


def load(path: str | Path = DEFAULT_WEIGHTS, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> Bundle:
    """Read a model; dtype None keeps the file's. Built on the meta device, so weights are in memory once.

    What a variant does not hold is read from its base, which lies beside it or among this pack's own weights.
    Raises FileNotFoundError, or ValueError naming the first tensors that are missing, unknown or of another shape.
    """
    path = Path(path)
    metadata = _metadata(path)
    bundle = build(ModelConfig.from_json(metadata["config"]), device="meta", card=json.loads(metadata.get("card", "{}")))
    wanted = {f"{name}.{key}": list(value.shape)
              for name, part in bundle.parts.items() for key, value in part.state_dict().items()}
    states: dict[str, dict[str, Tensor]] = {name: {} for name in bundle.parts}
    sources = (path,) if BASE not in bundle.card else (_base(path, bundle.card), path)
    with contextlib.ExitStack() as opened:
        where = {}  # tensor -> the file that holds it; a variant's own come before its base's
        for file in (opened.enter_context(safe_open(source, "pt", device=str(device))) for source in sources):
            where |= {full: file for full in file.keys() if not full.startswith("idle.")}  # run by no network: checkpoints.hallo
        found = {full: file.get_slice(full).get_shape() for full, file in where.items()}
        if found != wanted:
            missing, unknown = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
            odd = sorted(full for full in found.keys() & wanted.keys() if found[full] != wanted[full])
            raise ValueError(f"{path.name} does not fit its own config: {len(missing)} tensors missing {missing[:5]}, "
                             f"{len(unknown)} unknown {unknown[:5]}, {len(odd)} of another shape {odd[:5]}; "
                             "download or copy it again")
        for full, file in where.items():
            name, key = full.split(".", 1)
            value = file.get_tensor(full)
            states[name][key] = value if dtype is None else value.to(dtype)
    for name, part in bundle.parts.items():
        part.load_state_dict(states[name], assign=True)
    return bundle


def _base(path: Path, card: dict) -> Path:
    """The file that a variant differs from, recognised by what it holds."""
    candidates = [file for file in (path.with_name(card[BASE]), path.with_name(DEFAULT_WEIGHTS.name), DEFAULT_WEIGHTS)
                  if file.is_file()]
    for file in candidates:
        if weights_hash(file) == card[BASE_HASH]:
            return file
    others = f" (the {card[BASE]} there has other weights)" if path.with_name(card[BASE]) in candidates else ""
    raise FileNotFoundError(f"{path.name} holds only what differs from {card[BASE]}, which must lie beside it in {path.parent}"
                            f"{others}; put the file there that it was made from")

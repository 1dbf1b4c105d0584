"""The project's own files: one safetensors file that carries its config and its card in the metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..config import SAMPLING, ModelConfig, SamplingConfig
from ..models.audio_encoder import AudioEncoder
from ..models.autoencoder import Autoencoder
from ..models.emo import Emo
from ..models.motion_decoder import MotionDecoder
from .files import open_tensors
from .kinds import NATIVE, wrong_file

DEFAULT_WEIGHTS = Path(__file__).parents[1] / "weights" / "default.safetensors"
FAST_WEIGHTS = DEFAULT_WEIGHTS.with_name("fast.safetensors")  # the same model for 2 steps without guidance


@dataclass(frozen=True, eq=False)
class Bundle:
    """A whole model: its config and parts (autoencoder and audio encoder only where the model brings its own), and its card."""

    config: ModelConfig
    emo: Emo
    autoencoder: Autoencoder | None = None
    motion_decoder: MotionDecoder | None = None
    audio_encoder: AudioEncoder | None = None
    card: dict = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, nn.Module]:
        parts = {"emo": self.emo, "autoencoder": self.autoencoder, "motion_decoder": self.motion_decoder,
                 "audio_encoder": self.audio_encoder}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def sampling(self) -> SamplingConfig:
        """How it is sampled best."""
        return _sampling(self.config, self.card)


def build(config: ModelConfig, *, device: torch.device | str = "cpu", card: dict | None = None) -> Bundle:
    """A model with fresh weights, or, on device 'meta', with none at all."""
    with torch.device(device):
        emo, autoencoder = Emo(config).eval(), Autoencoder(config).eval() if config.autoencoder else None
        motion_decoder = MotionDecoder(config).eval() if config.motion_decoder else None
    # computes its buffers: not on 'meta'
    audio_encoder = AudioEncoder(config.audio_encoder).eval() if config.audio_encoder else None
    return Bundle(config, emo, autoencoder, motion_decoder, audio_encoder, card or {})


def save(path: str | Path, bundle: Bundle, *, dtype: torch.dtype = torch.float16) -> None:
    """Write the model; a file is either whole or not there (written beside, then renamed)."""
    tensors = {f"{name}.{key}": value.detach().to("cpu", dtype).contiguous()
               for name, part in bundle.parts.items() for key, value in part.state_dict().items()}
    write_tensors(path, tensors, {"format": NATIVE, "config": bundle.config.to_json(), "card": json.dumps(bundle.card)})


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

    Raises FileNotFoundError, or ValueError naming the first tensors that are missing, unknown or of another shape.
    """
    path = Path(path)
    metadata = _metadata(path)
    bundle = build(ModelConfig.from_json(metadata["config"]), device="meta", card=json.loads(metadata.get("card", "{}")))
    wanted = {f"{name}.{key}": list(value.shape)
              for name, part in bundle.parts.items() for key, value in part.state_dict().items()}
    states: dict[str, dict[str, Tensor]] = {name: {} for name in bundle.parts}
    with safe_open(path, "pt", device=str(device)) as file:
        found = {full: file.get_slice(full).get_shape() for full in file.keys()
                 if not full.startswith("idle.")}  # what no network runs: see checkpoints.hallo
        if found != wanted:
            missing, unknown = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
            odd = sorted(full for full in found.keys() & wanted.keys() if found[full] != wanted[full])
            raise ValueError(f"{path.name} does not fit its own config: {len(missing)} tensors missing {missing[:5]}, "
                             f"{len(unknown)} unknown {unknown[:5]}, {len(odd)} of another shape {odd[:5]}; "
                             "download or copy it again")
        for full in found:
            name, key = full.split(".", 1)
            value = file.get_tensor(full)
            states[name][key] = value if dtype is None else value.to(dtype)
    for name, part in bundle.parts.items():
        part.load_state_dict(states[name], assign=True)
    return bundle

"""The pack's own model files: safetensors with config and card in the metadata.

A variant may contain only the tensors that differ from its base, a complete file in the same folder.
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
from torch.overrides import TorchFunctionMode

from ..auxiliary.audio_encoder import AudioEncoder
from ..auxiliary.motion_decoder import MotionDecoder
from ..config import SAMPLING, ModelConfig, SamplingConfig
from ..config_values import check_fields, listed, parse_object
from ..models.emo import Emo
from .files import check_weight, open_tensors
from .kinds import NATIVE, wrong_file

DEFAULT_WEIGHTS = Path(__file__).parents[1] / "weights" / "default.safetensors"
FAST_WEIGHTS = DEFAULT_WEIGHTS.with_name("fast.safetensors")  # the tensors of the variant for 2 steps without guidance
BASE, BASE_HASH = "base", "base_sha256"  # in a variant's card: file name and hash of its base


@dataclass(frozen=True, eq=False)
class Bundle:
    """A model: config, networks (motion decoder and audio encoder only if it has its own), and card."""

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
        """Recommended sampling settings."""
        return _sampling(self.config, self.card)


class _NoInitialValues(TorchFunctionMode):
    """Modules are built without drawing weights, which will be loaded: on device 'meta' that imports all of torch's
    compiler, which takes a second."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_):
            return kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def build(config: ModelConfig, *, device: torch.device | str = "cpu", card: dict | None = None) -> Bundle:
    """A model with newly initialised weights, or without memory on device 'meta'."""
    with torch.device(device):
        emo = Emo(config).eval()
        motion_decoder = MotionDecoder(config).eval() if config.motion_decoder else None
        audio_encoder = AudioEncoder(config.audio_encoder).eval() if config.audio_encoder else None
    return Bundle(config, emo, motion_decoder, audio_encoder, card or {})


def save(
    path: str | Path, bundle: Bundle, *, dtype: torch.dtype = torch.float16, base: str | Path | None = None
) -> None:
    """Write the model atomically (temporary file, then rename).

    base: a file of which `bundle` is a variant: only tensors that differ from it are written.
    """
    tensors = {
        f"{name}.{key}": value.detach().to("cpu", dtype).contiguous()
        for name, part in bundle.parts.items()
        for key, value in part.state_dict().items()
    }
    card = {key: value for key, value in bundle.card.items() if key not in (BASE, BASE_HASH)}
    if base is not None:
        file = open_tensors(base)
        tensors = {
            key: value
            for key, value in tensors.items()
            if file.shapes.get(key) != tuple(value.shape) or not torch.equal(file.read(key).to(dtype), value)
        }
        card |= {BASE: file.path.name, BASE_HASH: weights_hash(file.path)}
    write_tensors(path, tensors, {"format": NATIVE, "config": bundle.config.to_json(), "card": json.dumps(card)})


def weights_hash(path: str | Path) -> str:
    """SHA-256 of a safetensors file's tensors, without its metadata."""
    with open(path, "rb") as file:
        header = struct.unpack("<Q", file.read(8))[0]
        file.seek(8 + header)
        digest = hashlib.sha256()
        while block := file.read(2**22):
            digest.update(block)
        return digest.hexdigest()


def write_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write safetensors atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.touch()
    mode = beside.stat().st_mode
    save_file(tensors, beside, metadata=metadata)
    beside.chmod(mode)  # safetensors creates files with mode 600
    beside.replace(path)


def _metadata(path: Path) -> dict[str, str]:
    file = open_tensors(path)
    if file.metadata.get("format") != NATIVE:
        raise wrong_file(file, "an EMO model of this pack")
    return file.metadata


def _read(path: Path) -> tuple[ModelConfig, dict]:
    """(config, card) of a file of this pack; both checked before anything is built from them."""
    metadata = _metadata(path)
    if "config" not in metadata:
        raise ValueError(f"{path.name} has no config in its metadata; copy or download it again")
    try:
        card = parse_object(metadata.get("card", "{}"), "the model's card")
        config = ModelConfig.from_json(metadata["config"])
    except ValueError as error:
        raise ValueError(f"{path.name} cannot be used: {error}") from None
    base = card.get(BASE)
    if base is not None and not (isinstance(base, str) and base and Path(base).name == base and "\\" not in base):
        raise ValueError(
            f"{path.name} names {base!r:.80} as its base, which is not the name of a file beside it; get the file again"
        )
    return config, card


def read_config(path: str | Path) -> ModelConfig:
    """The config of a file. Raises FileNotFoundError, or ValueError that names what the file is instead."""
    return _read(Path(path))[0]


def read_sampling(path: str | Path) -> SamplingConfig:
    """Recommended sampling settings of a file: its preset's defaults, overridden by its card. Raises like
    `read_config`."""
    return _sampling(*_read(Path(path)))


def _sampling(config: ModelConfig, card: dict) -> SamplingConfig:
    settings = card.get("sampling", {})
    if not isinstance(settings, dict):
        raise ValueError(
            f"the model's card has {settings!r:.80} as sampling settings, which must be an object; "
            "correct it, or get the file again"
        )
    unknown = sorted(settings.keys() - {field.name for field in fields(SamplingConfig)})
    if unknown:
        raise ValueError(
            "the model's card has sampling settings that this version does not know: "
            f"{listed(unknown)}; update ComfyUI-EMO"
        )
    check_fields(SamplingConfig, settings, prefix="sampling.")
    try:
        return replace(
            SAMPLING.get(config.name, SamplingConfig()), **{key: _tuple(value) for key, value in settings.items()}
        )
    except ValueError as error:
        raise ValueError(f"the model's card cannot be used: {error}; correct it, or get the file again") from None


def _tuple(value):
    return tuple(value) if isinstance(value, list) else value


def check(path: str | Path) -> tuple[ModelConfig, Bundle, dict[str, Path]]:
    """(config, the model on the meta device, the file of each tensor), all compared before memory is taken.

    Raises as `load` does.
    """
    path = Path(path)
    config, card = _read(path)
    _sampling(config, card)
    try:
        with _NoInitialValues():
            bundle = build(config, device="meta", card=card)
    except (ValueError, TypeError, RuntimeError, AssertionError, ZeroDivisionError, IndexError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"{path.name} has a config of which no model can be built ({lines[0]:.120}); copy or download it again"
        ) from None
    wanted = {
        f"{name}.{key}": tuple(value.shape)
        for name, part in bundle.parts.items()
        for key, value in part.state_dict().items()
    }
    found, where = {}, {}  # a variant's tensors override its base's
    for source in (path,) if BASE not in card else (_base(path, card), path):
        for full, shape in open_tensors(source).shapes.items():
            if not full.startswith("idle."):  # weights that no network uses, see checkpoints.hallo
                found[full], where[full] = shape, source
    if found != wanted:
        missing, unknown = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
        odd = sorted(full for full in found.keys() & wanted.keys() if found[full] != wanted[full])
        raise ValueError(
            f"{path.name} does not match its own config: {len(missing)} tensors missing "
            f"{_some(missing)}, {len(unknown)} unknown {_some(unknown)}, {len(odd)} of another shape "
            f"{_some(odd)}; download or copy it again"
        )
    return config, bundle, where


def _some(names: list[str]) -> list[str]:
    return [f"{name:.80}" for name in names[:5]]


def load(
    path: str | Path = DEFAULT_WEIGHTS, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Bundle:
    """Read a model; dtype None keeps the file's. Built on the meta device, so weights are in memory once.

    Tensors that a variant lacks are read from its base, in the same folder or among the built-in weights.
    Raises FileNotFoundError, or ValueError with the first tensors that are missing, unknown or of another shape.
    """
    config, bundle, where = check(path)
    states: dict[str, dict[str, Tensor]] = {name: {} for name in bundle.parts}
    with contextlib.ExitStack() as opened:
        files = {
            source: opened.enter_context(safe_open(source, "pt", device=str(device))) for source in set(where.values())
        }
        for full, source in where.items():
            name, key = full.split(".", 1)
            value = check_weight(files[source].get_tensor(full), full, source)
            states[name][key] = value if dtype is None else value.to(dtype)
    for name, part in bundle.parts.items():
        part.load_state_dict(states[name], assign=True)
    return bundle


def files_of(path: str | Path) -> tuple[Path, ...]:
    """The files that loading a model may read: itself, and where the base of a variant is looked for."""
    path = Path(path)
    card = _read(path)[1]
    return (path,) if BASE not in card else (path, path.with_name(card[BASE]), DEFAULT_WEIGHTS)


def _base(path: Path, card: dict) -> Path:
    """The base of a variant, identified by its hash."""
    candidates = [
        file
        for file in (path.with_name(card[BASE]), path.with_name(DEFAULT_WEIGHTS.name), DEFAULT_WEIGHTS)
        if file.is_file()
    ]
    for file in candidates:
        if weights_hash(file) == card.get(BASE_HASH):
            return file
    others = f" (the {card[BASE]} there has other weights)" if path.with_name(card[BASE]) in candidates else ""
    raise FileNotFoundError(
        f"{path.name} contains only the tensors that differ from {card[BASE]}, which must be in "
        f"{path.parent}{others}; put the file that it was made from there"
    )

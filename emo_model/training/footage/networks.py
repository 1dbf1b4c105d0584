"""The networks that preparation runs: face finder, the built-in audio encoder, and what the preset's latents need."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ...auxiliary.audio_encoder import AudioEncoder
from ...checkpoints import native
from ...checkpoints.files import open_tensors
from ...checkpoints.kinds import recognise, wrong_file
from ...checkpoints.mediapipe import load_face_finder
from ...config import PRESETS, ModelConfig
from ...inputs.audio import SAMPLE_RATE, features_per_frame
from ...inputs.faces import FaceFinder
from ...inputs.vae import Vae
from ...inputs.wav2vec2 import features_per_frame_in_pieces

Features = Callable[[Tensor, float], Tensor]  # (sound (T,) at 16 kHz, fps) -> (F, L, D)


@dataclass(frozen=True, eq=False)
class Networks:
    """config: of the model to train; encoder: the built-in audio encoder, which tells speech and offset; vae: for
    latents of pixels, None for motion latents; features: the audio features to train on, None: those of `encoder`."""

    config: ModelConfig
    finder: FaceFinder
    encoder: AudioEncoder
    vae: Vae | None = None
    features: Features | None = None

    @torch.no_grad()
    def own_features(self, sound: Tensor, fps: float) -> Tensor:
        """(T,) at 16 kHz -> (F, L, D) of the built-in encoder."""
        device = next(self.encoder.parameters()).device
        seconds = len(sound) / SAMPLE_RATE
        return features_per_frame(self.encoder(sound[None].to(device))[0], fps=fps, seconds=seconds).frames


def load_networks(
    model: str | Path, *, vae: Path | None = None, audio_encoder: Path | None = None, device: str = "cpu"
) -> Networks:
    """model: a model file, 'default' for the built-in one, or a preset's name. Raises OSError or ValueError that say
    which file is needed."""
    own = native.load(dtype=torch.float32, device=device)
    encoder = own.audio_encoder.eval().requires_grad_(False)
    if model == "default":
        config = own.config
    elif model in PRESETS:
        config = own.config if model == own.config.name else PRESETS[model]
    else:
        config = native.read_config(model)
        if config.audio_encoder is not None:
            encoder = native.load(model, dtype=torch.float32, device=device).audio_encoder.eval().requires_grad_(False)
    finder = load_face_finder(device)
    if config.motion_decoder is not None:
        return Networks(config, finder, encoder)
    if vae is None or audio_encoder is None:
        missing = [name for name, file in (("--vae", vae), ("--audio-encoder", audio_encoder)) if file is None]
        raise ValueError(
            f"'{config.name}' denoises the latents of SD's VAE and hears through wav2vec 2.0: add "
            f"{' and '.join(missing)} (sd-vae-ft-mse, and a folder of wav2vec2-base-960h; see README, 'Which file goes "
            "where')"
        )
    return Networks(config, finder, encoder, load_vae(vae, device=device), load_wav2vec2(audio_encoder, device=device))


class SdVae:
    """diffusers' AutoencoderKL as a `Vae`; `encode` gives the mean of the latents: the data are the same each time."""

    def __init__(self, network):
        self.network = network

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        return self.network.encode(pixels.to(next(self.network.parameters()))).latent_dist.mean.float().cpu()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        return self.network.decode(latents.to(next(self.network.parameters()))).sample.float().cpu()


def load_vae(path: str | Path, *, device: str = "cpu") -> SdVae:
    """SD 1.5's VAE, in diffusers' layout or that of the original file. Raises ValueError for another file."""
    try:
        from diffusers import AutoencoderKL
        from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
    except ModuleNotFoundError:
        raise ModuleNotFoundError("a VAE needs diffusers: pip install diffusers") from None
    file = open_tensors(path)
    if recognise(file).name != "vae":
        raise wrong_file(file, "a VAE")
    tensors = load_file(path)
    is_original = any(key.startswith("encoder.down.") for key in tensors)
    first, kind = (
        ("encoder.down.{}.block.0.conv1.weight", "encoder.down.")
        if is_original
        else ("encoder.down_blocks.{}.resnets.0.conv1.weight", "encoder.down_blocks.")
    )
    levels = 1 + max(int(key[len(kind) :].split(".")[0]) for key in tensors if key.startswith(kind))
    widths = tuple(tensors[first.format(level)].shape[0] for level in range(levels))
    layers = 1 + max(
        int(key.split(".")[4])
        for key in tensors
        if key.startswith(first.format(0).rsplit(".0.", 1)[0] + ".") and key.split(".")[4].isdigit()
    )
    network = AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=layers,
        latent_channels=tensors["quant_conv.weight"].shape[0] // 2,
        norm_num_groups=min(32, widths[0]),
    )
    if is_original:
        tensors = convert_ldm_vae_checkpoint(tensors, network.config)
    network.load_state_dict(tensors)
    return SdVae(network.eval().requires_grad_(False).to(device))


def load_wav2vec2(folder: str | Path, *, device: str = "cpu") -> Features:
    """A folder of wav2vec2-base, as Hugging Face stores it, to audio features at the frame rate."""
    try:
        from transformers import Wav2Vec2Model
    except ModuleNotFoundError:
        raise ModuleNotFoundError("wav2vec 2.0 needs transformers: pip install transformers") from None
    network = Wav2Vec2Model.from_pretrained(folder, local_files_only=True).eval().requires_grad_(False).to(device)

    def features(sound: Tensor, fps: float) -> Tensor:
        return features_per_frame_in_pieces(network, sound, fps=fps, seconds=len(sound) / SAMPLE_RATE).frames

    return features


def hashes(*paths: str | Path | None) -> tuple[tuple[str, str], ...]:
    """(name, SHA-256) of the files that data depend on."""
    found = []
    for path in filter(None, paths):
        path = Path(path)
        for file in [path] if path.is_file() else sorted(path.glob("*.safetensors")) + sorted(path.glob("config.json")):
            with file.open("rb") as opened:
                found.append((file.name, hashlib.file_digest(opened, "sha256").hexdigest()))
    return tuple(found)

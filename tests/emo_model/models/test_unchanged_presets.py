"""Files of earlier versions mean the same: recorded names, shapes and outputs of the presets.

Weights are a pure function of their names. `PYTHONPATH=.:tests python tests/emo_model/models/test_unchanged_presets.py`
writes the record anew; that is right only where the meaning of old files changes on purpose, with `SAMPLING_VERSION`.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import small_models
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from emo_model.config import PRESETS, ModelConfig, SamplingConfig
from emo_model.models.emo import Emo
from emo_model.sampling.clips import ClipRenderer, generate_clips
from emo_model.types import AudioFeatures, Conditions, FaceMask, Fit, Portrait, Speed

RECORD = Path(__file__).parents[2] / "data" / "presets.safetensors"
SMALL = {"test": PRESETS["test"], "builtin": small_models.BUILTIN, "emo": small_models.EMO}


def weights(name: str, shape: torch.Size) -> torch.Tensor:
    draw = np.random.RandomState(zlib.crc32(name.encode())).randn(*shape)
    if len(shape) == 1:
        return torch.from_numpy(0.1 * draw + (1 if "norm" in name and name.endswith("weight") else 0)).float()
    return torch.from_numpy(draw / np.prod(shape[1:]) ** 0.5).float()


def filled(config: ModelConfig) -> Emo:
    emo = Emo(config).eval()
    emo.load_state_dict({name: weights(name, value.shape) for name, value in emo.state_dict().items()})
    return emo


def shapes(config: ModelConfig) -> dict[str, list[int]]:
    with torch.device("meta"):
        return {name: list(value.shape) for name, value in Emo(config).state_dict().items()}


def video(config: ModelConfig) -> torch.Tensor:
    """Two clips, two steps, every part at work and both guidances on."""
    draw = np.random.RandomState(7)

    def normal(*shape: int) -> torch.Tensor:
        return torch.from_numpy(draw.randn(*shape)).float()

    size, frames = config.image_size, config.clip_frames + 1
    latents, fit = normal(1, config.latent_channels, *[config.latent_size] * 2), Fit(size, size, 0, 0, size, size)
    portrait = Portrait(latents, torch.zeros(1, 3, size, size), fit)
    mask = torch.zeros(1, 1, size, size)
    mask[..., size // 4 :, : size // 2] = 1
    audio = AudioFeatures(normal(frames, config.audio_layers, config.audio_width), config.fps, frames / config.fps)
    conditions = Conditions(portrait, FaceMask(mask), audio, Speed((0.0, 0.2), (5.0, 50.0)))
    sampling = SamplingConfig(steps=2, audio_guidance=1.5, reference_guidance=1.2, seed=3)
    emo = filled(config).double()
    return torch.cat(list(generate_clips(ClipRenderer(emo, conditions, sampling, dtype=torch.float64))), dim=2)


def read() -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    with safe_open(RECORD, "pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}


@pytest.mark.parametrize("name", SMALL)
def test_parameters_keep_their_names_and_shapes(name):
    metadata, _ = read()
    config = ModelConfig.from_json(metadata[f"{name}.config"])
    assert zlib.crc32(json.dumps(shapes(config)).encode()) == int(metadata[f"{name}.shapes"])


@pytest.mark.parametrize("name", SMALL)
def test_outputs_stay_the_same(name):
    """In float64: in float32, rounding grows to nearly 1e-4 where tiny pictures are normed in groups of two numbers."""
    metadata, outputs = read()
    made = video(ModelConfig.from_json(metadata[f"{name}.config"]))
    assert outputs[name].std() > 0.3
    torch.testing.assert_close(made, outputs[name], atol=1e-4, rtol=1e-4)


def write() -> None:
    metadata, outputs = {}, {}
    for name, config in SMALL.items():
        metadata[f"{name}.config"] = config.to_json()
        metadata[f"{name}.shapes"] = str(zlib.crc32(json.dumps(shapes(config)).encode()))
        outputs[name] = video(config)
    save_file(outputs, RECORD, metadata)


if __name__ == "__main__":
    write()

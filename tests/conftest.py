"""The test preset, seeded tensors, and tiny models in which no weight is zero: what starts at zero hides what depends
on what."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from emo_model.checkpoints import native
from emo_model.config import PRESETS, ModelConfig
from emo_model.models.emo import Emo
from emo_model.types import AudioFeatures, Conditions, FaceMask, Fit, Portrait, Speed

workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
if workers > 1:  # each test process has its share of the cores, and so have the processes that it starts
    threads = max(1, (os.cpu_count() or 1) // workers)
    torch.set_num_threads(threads)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    return PRESETS["test"]


@pytest.fixture(scope="session")
def seeded() -> Callable[..., Tensor]:
    """seeded(2, 3, seed=1): normal noise, the same at every call."""

    def draw(*shape: int, seed: int = 0) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    return draw


@pytest.fixture(scope="session")
def awake() -> Callable[..., nn.Module]:
    """awake(module): the module with seeded noise in every weight, also in those that start at zero or one."""

    def stir(module: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                if parameter.ndim > 1:
                    parameter.copy_(noise / parameter[0].numel() ** 0.5)
                else:
                    parameter.copy_(0.2 * noise + (1 if "norm" in name and name.endswith("weight") else 0))
        return module.eval()

    return stir


@pytest.fixture
def emo(config, awake) -> Emo:
    return awake(Emo(config))


@pytest.fixture(scope="session")
def bundle(config, awake) -> native.Bundle:
    """A whole model with noise in every weight; for all tests, so not to be changed."""
    made = native.build(config, card={"made_by": "a test"})
    for number, part in enumerate(made.parts.values()):
        awake(part, seed=number)
    return made


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The file of the built-in model."""
    try:
        config = native.read_config(native.DEFAULT_WEIGHTS)
    except (OSError, ValueError) as reason:
        pytest.skip(f"the built-in model is not there: {reason}")
    if config.name != "builtin":
        pytest.skip(f"the built-in model is of preset '{config.name}'")
    return native.DEFAULT_WEIGHTS


@pytest.fixture(scope="session")
def conditions(seeded) -> Callable[..., Conditions]:
    """conditions(config, frames=10): a seeded portrait and voice of so many frames."""

    def make(config: ModelConfig, *, frames: int, speed: Speed = Speed.constant(12.5)) -> Conditions:
        size, cells = config.image_size, config.latent_size
        mask = torch.zeros(1, 1, size, size)
        mask[:, :, size // 4 : -size // 4, size // 4 :] = 1
        latents, fit = seeded(1, config.latent_channels, cells, cells, seed=11), Fit(size, size, 0, 0, size, size)
        audio = seeded(frames, config.audio_layers, config.audio_width, seed=12)
        portrait = Portrait(latents, torch.zeros(1, 3, size, size), fit)
        return Conditions(portrait, FaceMask(mask), AudioFeatures(audio, config.fps, frames / config.fps), speed)

    return make

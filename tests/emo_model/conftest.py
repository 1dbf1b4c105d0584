"""A tiny net of Hallo's design, files of it, and a photograph with its face mesh."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from emo_model.checkpoints import hallo
from emo_model.checkpoints.mediapipe import load_face_finder
from emo_model.checkpoints.sources import bare
from emo_model.config import HALLO, HalloConfig, ModelConfig
from emo_model.evaluation.oracle import seeded_emo, seeded_weight
from emo_model.inputs.media import read_picture
from emo_model.inputs.portrait import find_mesh
from emo_model.models.attention import frame_codes

DATA = Path(__file__).parents[1] / "data"
EXAMPLES = Path(__file__).parents[2] / "workflows" / "inputs"
TINY = replace(
    HALLO,
    image_size=64,
    channels=(32, 32, 64, 64),
    audio_width=4,
    audio_context_width=16,
    face_locator_channels=(4, 4, 8, 8),
    hallo=HalloConfig(identity_width=8, identity_context_width=12, audio_tokens=3, audio_projection_width=8),
)


@pytest.fixture(scope="session")
def photograph() -> SimpleNamespace:
    """The shipped photograph: picture (1, 3, 473, 473) in [-1, 1], its face mesh (468, 3), and the face finder."""
    finder, picture = load_face_finder(), read_picture(EXAMPLES / "emo_portrait.jpg")
    return SimpleNamespace(picture=picture, mesh=find_mesh(finder, picture), finder=finder)


@pytest.fixture(scope="session")
def data() -> Path:
    return DATA


@pytest.fixture(scope="session")
def tiny_hallo() -> SimpleNamespace:
    """config; emo: its networks; net: the weights as Hallo's net.pth has them (unused ones and frame codes too)."""
    config: ModelConfig = TINY
    parts = hallo.layout(bare(config))
    net = {key: seeded_weight(key, shape) for key, shape in (parts.runs | parts.idle).items()}
    net |= {key: frame_codes(*shape[1:], like=torch.zeros(1))[None] for key, shape in parts.codes.items()}
    return SimpleNamespace(config=config, emo=seeded_emo(config), net=net, layout=parts)

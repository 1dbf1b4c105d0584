"""One running ComfyUI for all workflows, with this pack and small models."""

from __future__ import annotations

import pytest
from comfyui_server import ComfyServer, comfyui_or_skip


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """models/emo holds 'tiny.safetensors' of the test preset, 'random.safetensors' of the built-in one, and of Hallo's
    layout 'small-hallo.safetensors', for pictures of 32x32, and 'net.pth'; beside them a VAE and a wav2vec2 with random
    weights, under the names in the workflow.
    """
    comfyui = comfyui_or_skip()
    import torch

    from emo_model.checkpoints import native
    from emo_model.checkpoints.random_files import SMALL_HALLO, hallo_shapes, vae_shapes, wav2vec2_shapes, write_random
    from emo_model.config import PRESETS

    base = tmp_path_factory.mktemp("server")
    models = base / "models"
    torch.manual_seed(0)
    native.save(models / "emo" / "tiny.safetensors", native.build(PRESETS["test"]))
    native.save(models / "emo" / "random.safetensors", native.build(PRESETS["builtin"]))
    write_random(models / "emo" / "small-hallo.safetensors", hallo_shapes(SMALL_HALLO), image_size=32)
    write_random(models / "emo" / "net.pth", hallo_shapes(SMALL_HALLO))
    write_random(models / "vae" / "vae-ft-mse-840000-ema-pruned.safetensors", vae_shapes())
    write_random(models / "audio_encoders" / "wav2vec2-base-960h.safetensors", wav2vec2_shapes())
    with ComfyServer(comfyui, base, "--preview-method", "auto") as running:
        yield running

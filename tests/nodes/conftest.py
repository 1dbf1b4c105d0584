"""Loads the pack exactly as ComfyUI does, inside this process, on the CPU."""

from __future__ import annotations

import asyncio
import inspect
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from comfyui_server import ROOT, comfyui_or_skip


class Pack:
    """The loaded pack: `nodes` by id, and its modules by name, e.g. pack["nodes.conversions"].

    The library is reached through it as well: ComfyUI loads its own copy of emo_model, with classes of its own.
    """

    def __init__(self, nodes: dict[str, type]):
        self.nodes = nodes
        self.name = str(ROOT).replace(".", "_x_")

    def __getitem__(self, module: str):
        return sys.modules[f"{self.name}.{module}"]

    def run(self, node_id: str, **inputs):
        """What a node puts out, as ComfyUI calls it: on a clone of its class, with hidden values, without gradients."""
        import torch
        from comfy_api.latest import io

        prepare = self.nodes[node_id].PREPARE_CLASS_CLONE
        hidden = {
            io.Hidden.prompt: {"1": {"class_type": node_id}},
            io.Hidden.extra_pnginfo: {"workflow": {"nodes": []}},
        }
        is_newer = "v3_data" in inspect.signature(prepare).parameters
        with torch.inference_mode():
            return prepare({"hidden_inputs": hidden} if is_newer else hidden).EXECUTE_NORMALIZED(**inputs)


@pytest.fixture(scope="session")
def comfyui() -> Path:
    path = comfyui_or_skip()
    sys.path.insert(0, str(path))  # before the repository's root, whose folder 'nodes' would hide ComfyUI's module
    from comfy.cli_args import args

    args.cpu = True
    return path


@pytest.fixture(scope="session")
def folders(comfyui, tmp_path_factory) -> SimpleNamespace:
    """ComfyUI's folders, in a temporary place: models/emo holds 'tiny.safetensors', a model of the test preset."""
    import folder_paths
    import torch

    from emo_model.checkpoints import native
    from emo_model.config import PRESETS

    base = tmp_path_factory.mktemp("comfyui")
    torch.manual_seed(0)
    native.save(base / "models" / "emo" / "tiny.safetensors", native.build(PRESETS["test"]))
    for name in ("input", "output", "temp", "user"):
        (base / name).mkdir()
        getattr(folder_paths, f"set_{name}_directory")(str(base / name))
    folder_paths.models_dir = str(base / "models")
    return SimpleNamespace(base=base, output=base / "output")


@pytest.fixture(scope="session")
def pack(comfyui, folders) -> Pack:
    import nodes

    assert Path(nodes.__file__).parent == comfyui
    before = set(nodes.NODE_CLASS_MAPPINGS)
    assert asyncio.run(nodes.load_custom_node(str(ROOT), before)), "ComfyUI could not load the pack; see the log"
    return Pack({name: node for name, node in nodes.NODE_CLASS_MAPPINGS.items() if name not in before})


@pytest.fixture(scope="session")
def tiny(pack) -> SimpleNamespace:
    """The parts of the tiny model, as 'Load EMO Model' puts them out."""
    model, audio_encoder, vae = pack.run("EmoLoadModel", model_name="tiny.safetensors").result
    return SimpleNamespace(model=model, audio_encoder=audio_encoder, vae=vae, config=model.config)


@pytest.fixture
def built_in(pack) -> None:
    """Skips where this pack's own weights are not there, or of an earlier version."""
    native = pack["emo_model.checkpoints.native"]
    try:
        native.read_sampling(native.FAST_WEIGHTS)
    except (OSError, ValueError) as error:
        pytest.skip(f"no weights of the built-in model: {error}")


@pytest.fixture(scope="session")
def portrait(pack):
    """IMAGE (1, 220, 260, 3): the shipped portrait, small, the head square of its face well inside."""
    import torch.nn.functional as F

    face = F.interpolate(pack["nodes.shipped"].portrait(), size=(120, 120), mode="area")
    return pack["nodes.conversions"].images(F.pad(face, (80, 60, 60, 40), mode="replicate"))


@pytest.fixture(scope="session")
def reference(pack, tiny, portrait):
    """EMO_REFERENCE of the portrait; it has the VAE that is bound to it."""
    return pack.run("EmoReferenceEncoder", model=tiny.model, vae=tiny.vae, fit="crop", image=portrait).result[0]

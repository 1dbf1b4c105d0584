"""Wrong files are named for what they are; real ones are stood for by their published keys."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from emo_model.checkpoints import native
from emo_model.checkpoints.files import open_tensors
from emo_model.checkpoints.kinds import KINDS, recognise
from emo_model.checkpoints.sd15 import SINGLE_FILE
from emo_model.config import PRESETS

BY_KEYS = {
    "lora": ["unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight"],
    "motion adapter": ["down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q.weight"],
    "controlnet": ["control_model.input_blocks.0.0.weight"],
    "vae": ["first_stage_model.decoder.conv_in.weight"],
    "wav2vec2": ["wav2vec2.feature_extractor.conv_layers.0.conv.weight", "wav2vec2.encoder.pos_conv_embed.conv.bias"],
    "whisper": ["model.encoder.embed_positions.weight", "model.encoder.conv1.weight"],
    "clip": ["vision_model.embeddings.class_embedding"],
    "clips": ["latents", "stills", "landmarks", "audio"],
    "training state": ["task.emo.backbone.conv_in.weight", "optimizer.exp_avg.emo.backbone.conv_in.weight"],
    "unknown": ["something.else"],
}


def write(folder, shapes):
    """A file with these keys; of each shape only the number of axes and the width of text attention matter."""

    def small(key, shape):
        return [size if key.endswith("attn2.to_k.weight") and axis == 1 else 1 for axis, size in enumerate(shape)]

    save_file({key: torch.zeros(small(key, shape)) for key, shape in shapes.items()}, folder / "x.safetensors")
    return open_tensors(folder / "x.safetensors")


@pytest.mark.parametrize("kind", BY_KEYS)
def test_a_file_is_known_by_its_keys(tmp_path, kind):
    file = write(tmp_path, {key: (1, 1) for key in BY_KEYS[kind]})
    assert recognise(file).name == kind


@pytest.mark.parametrize(
    "manifest, kind",
    [("hallo_net_keys", "hallo"), ("mm_sd_v15_v2_keys", "animatediff"), ("sd15_unet_keys", "sd15 unet")],
)
def test_published_files_are_known(tmp_path, data, manifest, kind):
    assert recognise(write(tmp_path, json.loads((data / f"{manifest}.json").read_text()))).name == kind


@pytest.mark.parametrize("width, kind", [(768, "sd15"), (1024, "sd2"), (2048, "sdxl")])
@pytest.mark.parametrize("single", [False, True])
def test_stable_diffusions_are_told_apart_by_the_width_of_their_text(tmp_path, data, width, kind, single):
    shapes = json.loads((data / "sd15_unet_keys.json").read_text())
    shapes = {key: [320, width] if key.endswith("attn2.to_k.weight") else shape for key, shape in shapes.items()}
    if single:
        shapes = {SINGLE_FILE.to_theirs(key): shape for key, shape in shapes.items()}
    assert recognise(write(tmp_path, shapes)).name == f"{kind} {'checkpoint' if single else 'unet'}"


def test_our_own_files_are_known(tmp_path):
    native.save(tmp_path / "m.safetensors", native.build(PRESETS["test"]))
    assert recognise(open_tensors(tmp_path / "m.safetensors")).name == "emo"


def test_loading_a_wrong_file_names_it(tmp_path):
    file = write(tmp_path, {key: (1,) for key in BY_KEYS["vae"]})
    with pytest.raises(
        ValueError, match="x.safetensors is not an EMO model of this pack: this is a VAE; put it into models/vae"
    ):
        native.load(file.path)


def test_every_kind_says_what_to_do():
    assert all(kind.description and kind.use for kind, _ in KINDS)
    assert len({kind.name for kind, _ in KINDS}) == len(KINDS)

"""EMO begins as SD 1.5 and AnimateDiff: every key used or known as unused, the rest new and said to be."""

from __future__ import annotations

import json
from dataclasses import replace
from fnmatch import fnmatchcase

import pytest
import torch
from safetensors.torch import save_file

from emo_model.checkpoints import native
from emo_model.checkpoints.animatediff import TABLE as MOTION_TABLE
from emo_model.checkpoints.animatediff import temporal_sources
from emo_model.checkpoints.files import TensorFile, open_tensors
from emo_model.checkpoints.initialise import initial_sources, initialise
from emo_model.checkpoints.sd15 import SINGLE_FILE, unet_sources
from emo_model.checkpoints.sources import ZERO_AT_FIRST, New, Taken, bare
from emo_model.config import EMO
from emo_model.evaluation.oracle import seeded_weight
from emo_model.models.attention import frame_codes
from emo_model.models.emo import Emo

TINY = replace(
    EMO,
    image_size=64,
    channels=(32, 32, 64, 64),
    audio_layers=2,
    audio_width=4,
    audio_context_width=16,
    speed_width=8,
    face_locator_channels=(4, 4, 8, 8),
    clip_frames=3,
    motion_frames=2,
)
TEXT = 24  # width of the text that a tiny SD 1.5 reads


def sd15(config=TINY) -> dict[str, torch.Tensor]:
    """A UNet with diffusers' keys: ours, and the text attention that we have no use for."""
    shapes = {}
    for name, value in bare(config).state_dict().items():
        if name.startswith("backbone.") and not any(part in name for part in ("motion_modules", "_audio.", ".attn2.")):
            shapes[name.removeprefix("backbone.")] = tuple(value.shape)
    for key, shape in list(shapes.items()):
        if ".attn1." in key:
            shapes[key.replace("attn1", "attn2")] = (shape[0], TEXT) if "to_k" in key or "to_v" in key else shape
    return {key: seeded_weight(key, shape) for key, shape in shapes.items()}


def motion_module(config=TINY) -> dict[str, torch.Tensor]:
    net = {}
    for name, value in bare(config).state_dict().items():
        if ".motion_modules." in name and "_speed." not in name:
            key = MOTION_TABLE.to_theirs(name.removeprefix("backbone."))
            net[key] = seeded_weight(key, tuple(value.shape))
            if key.endswith(".to_q.weight"):
                net[key.replace("to_q.weight", "pos_encoder.pe")] = frame_codes(
                    config.temporal_position_limit, len(value), like=torch.zeros(1)
                )[None]
    return net


@pytest.fixture
def files(tmp_path):
    save_file(sd15(), tmp_path / "sd15.safetensors")
    torch.save(motion_module(), tmp_path / "mm.ckpt")
    return tmp_path / "sd15.safetensors", tmp_path / "mm.ckpt"


def published(data, name: str) -> TensorFile:
    """A published file's keys and shapes, without its weights; frame codes as AnimateDiff's are."""
    shapes = {key: tuple(shape) for key, shape in json.loads((data / f"{name}.json").read_text()).items()}
    return TensorFile(
        data / f"{name}.json",
        shapes,
        dict.fromkeys(shapes, torch.float16),
        lambda key: frame_codes(*shapes[key][1:], like=torch.zeros(1)).half()[None],
    )


def test_the_published_unet_gives_the_paper_size_model_all_it_can(data):
    file = published(data, "sd15_unet_keys")
    sources, unused = unet_sources(bare(EMO), file)
    used = {source.key for source in sources.values()}
    assert used | set(unused) == set(file.shapes) and not used & set(unused)
    assert all(
        fnmatchcase(key, "*.attentions.*.attn2.*") or fnmatchcase(key, "*.attentions.*.norm2.*") for key in unused
    )


def test_the_published_motion_module_gives_all_temporal_modules(data):
    file = published(data, "mm_sd_v15_v2_keys")
    sources, codes = temporal_sources(bare(EMO), file)
    assert sorted([*(source.key for source in sources.values()), *codes]) == sorted(file.shapes)
    assert len(file.shapes) == 588
    wanted = {name for name in bare(EMO).state_dict() if ".motion_modules." in name and "_speed." not in name}
    assert set(sources) == wanted


def test_a_motion_module_without_mid_block_leaves_that_new(files):
    net = {key: value for key, value in motion_module().items() if not key.startswith("mid_block.")}
    torch.save(net, files[1])
    sources = initial_sources(TINY, *files)
    new = {
        name
        for name, source in sources.items()
        if isinstance(source, New) and "motion_modules" in name and "_speed." not in name
    }
    assert new and all(name.startswith("backbone.mid_block.motion_modules.") for name in new)


def test_weights_stand_where_the_report_says(files, tmp_path):
    said = initialise(TINY, files[0], tmp_path / "emo.safetensors", motion_module=files[1], dtype=torch.float32)
    emo = native.load(tmp_path / "emo.safetensors").emo.state_dict()
    origins = json.loads((tmp_path / "emo.safetensors.sources.json").read_text())
    assert origins.keys() == emo.keys()
    tables = {"sd15.safetensors": sd15(), "mm.ckpt": motion_module()}
    taken = {name: origin.split(": ") for name, origin in origins.items() if origin != "new"}
    assert all(torch.equal(emo[name], tables[file][key]) for name, (file, key) in taken.items())
    assert {origin.split(":")[0] for origin in origins.values()} == {"sd15.safetensors", "mm.ckpt", "new"}
    for part in ("reference_net", "backbone (temporal modules)", "face_locator", "audio_projection", "speed_layers"):
        assert part in said


def test_what_is_new_is_what_no_file_has(files):
    new = {name for name, source in initial_sources(TINY, *files).items() if isinstance(source, New)}
    own = ("face_locator.", "audio_projection.", "speed_layers.")
    assert new == {
        name for name in bare(TINY).state_dict() if "_audio." in name or "_speed." in name or name.startswith(own)
    }


def test_reference_attention_begins_as_self_attention(files):
    sources = initial_sources(TINY, *files)
    name = "backbone.up_blocks.2.attentions.1.transformer_blocks.0.attn2.to_k.weight"
    assert sources[name].key == "up_blocks.2.attentions.1.transformer_blocks.0.attn1.to_k.weight"


def test_the_single_file_gives_the_same_as_diffusers_layout(files, tmp_path):
    single = {SINGLE_FILE.to_theirs(key): value for key, value in sd15().items()}
    single |= {
        "first_stage_model.decoder.conv_in.weight": torch.zeros(1),
        "cond_stage_model.x": torch.zeros(1),
        "model_ema.decay": torch.zeros(1),
    }
    torch.save({"state_dict": single, "epoch": 1}, tmp_path / "sd15.ckpt")
    ours, theirs = initial_sources(TINY, files[0]), initial_sources(TINY, tmp_path / "sd15.ckpt")
    taken = [name for name, source in ours.items() if isinstance(source, Taken)]
    assert len(taken) > 500
    assert all(torch.equal(ours[name].tensor(), theirs[name].tensor()) for name in taken)


def test_the_single_files_keys_are_those_that_diffusers_reads(data):
    pytest.importorskip("diffusers", reason="diffusers is the judge of the layout")
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    keys = list(json.loads((data / "sd15_unet_keys.json").read_text()))
    single = {SINGLE_FILE.to_theirs(key): torch.full((), float(number)) for number, key in enumerate(keys)}
    config = {"layers_per_block": 2, "class_embed_type": None, "addition_embed_type": None}
    converted = convert_ldm_unet_checkpoint(dict(single), config)
    assert {key: int(value) for key, value in converted.items()} == {key: number for number, key in enumerate(keys)}


def test_a_new_layer_begins_as_training_would_begin(files, tmp_path):
    """Zero where a fresh model is zero, spread as a fresh one elsewhere."""
    torch.manual_seed(0)
    fresh = Emo(TINY).state_dict()
    initialise(TINY, files[0], tmp_path / "emo.safetensors", dtype=torch.float32)
    made = native.load(tmp_path / "emo.safetensors").emo.state_dict()
    sources = initial_sources(TINY, files[0])
    for name in (name for name, source in sources.items() if isinstance(source, New)):
        assert (made[name] == 0).all() == (fresh[name] == 0).all(), name
        assert (made[name] == 1).all() == (fresh[name] == 1).all(), name
        if made[name].numel() > 100 and not (made[name] == made[name].flatten()[0]).all():
            assert 0.8 < made[name].std() / fresh[name].std() < 1.25, name
    assert all(
        any(fnmatchcase(name, pattern) for name in fresh) for pattern in ZERO_AT_FIRST if "zero_conv" not in pattern
    )


def test_the_same_seed_makes_the_same_file(files, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.rand(3)
        initialise(TINY, files[0], tmp_path / name, seed=seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b and a != c


@pytest.mark.parametrize(
    "wrong, said",
    [
        (0, "is not a Stable Diffusion 1.5 UNet: this is an AnimateDiff motion module"),
        (1, "is not an AnimateDiff motion module: this is a UNet of Stable Diffusion 1.5"),
    ],
)
def test_files_in_the_wrong_place_are_named(files, tmp_path, wrong, said):
    mixed = [files[0], files[1]]
    mixed[wrong] = files[1 - wrong]
    with pytest.raises(ValueError, match=said):
        initialise(TINY, mixed[0], tmp_path / "emo.safetensors", motion_module=mixed[1])
    assert not (tmp_path / "emo.safetensors").exists()


def test_a_unet_of_another_size_is_refused_by_shape(files):
    with pytest.raises(ValueError, match="of another shape .*conv_in.bias"):
        initial_sources(replace(TINY, channels=(64, 32, 64, 64)), files[0])


def test_an_incomplete_unet_is_refused_by_key(tmp_path):
    net = sd15()
    net.pop("mid_block.resnets.1.conv2.bias")
    save_file(net, tmp_path / "sd15.safetensors")
    with pytest.raises(ValueError, match=r"1 missing \(mid_block.resnets.1.conv2.bias\)"):
        unet_sources(bare(TINY), open_tensors(tmp_path / "sd15.safetensors"))

"""Too little memory: models that are loaded in part, kept in eight bits, or tried again in smaller pieces."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from comfyui_server import ROOT

from emo_model.checkpoints.random_files import SMALL_HALLO
from emo_model.config import PRESETS

CPU, META = torch.device("cpu"), torch.device("meta")
CONFIGS = {"hallo": replace(SMALL_HALLO, image_size=32, clip_frames=3), "test": PRESETS["test"]}
LAYER = "backbone.time_embedding.linear_2"
OutOfMemory = torch.cuda.OutOfMemoryError


@pytest.fixture(scope="module")
def bridge(pack):
    return pack["nodes.comfy_bridge"]


@pytest.fixture
def managed(bridge, pack):
    """managed(name): a small network as ComfyUI has it, noise in every weight."""

    def make(name: str):
        config = pack["emo_model.config"].ModelConfig.from_json(CONFIGS[name].to_json())
        torch.manual_seed(1)
        emo = pack["emo_model.models.emo"].Emo(config)
        for weight in emo.parameters():
            torch.nn.init.normal_(weight, std=0.1)
        return bridge.managed(emo)

    return make


@torch.no_grad()
def predict(emo, pack, device=CPU):
    """One evaluation of the whole: reference net, motion frames, voice, mask, backbone."""
    types, config = pack["emo_model.types"], emo.config
    draw = torch.Generator().manual_seed(2)
    size = (config.latent_size, config.latent_size)
    portrait = torch.randn(1, config.latent_channels, *size, generator=draw).to(device)
    noisy = torch.randn(1, config.latent_channels, config.clip_frames, *size, generator=draw).to(device)
    audio = torch.randn(
        1, config.clip_frames, config.audio_window, config.audio_layers, config.audio_width, generator=draw
    )
    clip = types.ClipConditions(
        audio,
        torch.full(audio.shape[:3], 20.0),
        torch.ones(1, 1, config.image_size, config.image_size),
        config.clip_frames,
        torch.rand(1, 3, 64, 64, generator=draw),
    )
    reference = emo.encode_reference(portrait)
    motion = emo.encode_motion(types.MotionFrames(noisy[:, :, : config.motion_frames]), like=reference)
    return emo.predict(noisy, torch.tensor([500], device=device), emo.prepare(reference, motion, clip))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_half_on_a_device_computes_there_and_leaves_nothing_behind(bridge, pack, managed, name):
    """On a simulated GPU, weights that stay on the CPU and are not moved for their turn stop the run with an error."""
    emo = managed(name)
    patcher = bridge.patcher_of(emo, META, CPU)
    patcher.load(device_to=META, lowvram_model_memory=patcher.model_size() // 3)
    there = sum(weight.nbytes for weight in emo.parameters() if weight.is_meta) / patcher.model_size()
    assert 0.1 < there < 0.9, "all of it is in one place: the test says nothing"
    assert predict(emo, pack, META).device == META


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_with_loras_computes_the_same_loaded_in_part_and_as_a_whole(bridge, pack, managed, name):
    import comfy.lora

    emo = managed(name)
    plain, (out, inside) = predict(emo, pack), emo.get_parameter(f"{LAYER}.weight").shape
    patcher = bridge.patcher_of(emo, CPU, CPU).clone()
    draw = torch.Generator().manual_seed(3)
    lora = {
        "some_layer.lora_up.weight": torch.randn(out, 4, generator=draw),
        "some_layer.lora_down.weight": torch.randn(4, inside, generator=draw),
        "some_layer.alpha": torch.tensor(4.0),
    }
    patches = comfy.lora.load_lora(lora, {"some_layer": f"{LAYER}.weight"})
    assert patcher.add_patches(patches, 0.7) == [f"{LAYER}.weight"]
    patcher.patch_model(device_to=CPU)
    whole = predict(emo, pack)
    patcher.unpatch_model()
    assert torch.equal(predict(emo, pack), plain) and (whole - plain).abs().max() > 0.01 * plain.std()
    patcher.load(device_to=CPU, lowvram_model_memory=1)
    assert emo.get_submodule(LAYER).comfy_cast_weights
    torch.testing.assert_close(predict(emo, pack), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_in_eight_bits_compute_nearly_the_same_in_the_type_of_the_input(pack, managed, name):
    emo = managed(name)
    plain = predict(emo, pack)
    small = predict(emo.to(torch.float8_e4m3fn), pack)
    assert small.dtype == torch.float32
    assert torch.corrcoef(torch.stack([small.flatten(), plain.flatten()]))[0, 1] > 0.9


@pytest.mark.parametrize("how", ["as a whole", "in part", "in half precision", "with a LoRA"])
def test_pictures_and_weights_stay_in_channels_last_however_comfyui_brings_the_weights(bridge, pack, managed, how):
    emo = managed("hallo").to(memory_format=torch.channels_last)
    patcher = bridge.patcher_of(emo.half() if how == "in half precision" else emo, CPU, CPU)
    if how == "with a LoRA":
        key = "backbone.mid_block.resnets.0.conv1.weight"
        assert patcher.add_patches({key: (torch.ones_like(emo.get_parameter(key)),)}, 0.1) == [key]
    patcher.load(device_to=CPU, lowvram_model_memory=patcher.model_size() // 3 if how == "in part" else 0)
    looked_at, wrong = [], []  # pictures of one cell have no layout, and those made of them none to keep

    def look(name: str, *pictures) -> None:
        looked_at.append(name)
        if not all(x.is_contiguous(memory_format=torch.channels_last) for x in pictures if x.shape[-1] > 2):
            wrong.append(name)

    for name, part in emo.backbone.named_modules():
        if isinstance(part, (torch.nn.Conv2d, torch.nn.GroupNorm)):
            part.register_forward_hook(lambda _, given, made, name=name: look(name, given[0], made))
    predict(emo, pack)
    assert len(looked_at) > 50 and not wrong
    weights = [part.weight for part in emo.backbone.modules() if isinstance(part, torch.nn.Conv2d)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


def test_comfyuis_flag_for_eight_bits_stores_them_so_and_computes_in_another_type(bridge, pack, managed, monkeypatch):
    from comfy.cli_args import args

    monkeypatch.setattr(args, "fp8_e4m3fn_unet", True)
    emo = managed("test")
    model = bridge.EmoModel.of(emo, emo.config)
    assert {weight.dtype for weight in emo.parameters()} == {torch.float8_e4m3fn} and model.compute == torch.float32


def test_nobody_elses_model_is_thrown_out_and_no_weight_is_moved_by_hand():
    for file in sorted((ROOT / "nodes").rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"unload_all_models|\bfree_memory\(|\.cuda\(|\.model\.to\(", text), file


def test_reference_net_and_backbone_are_loaded_at_once_with_room_for_what_they_compute(tiny, monkeypatch):
    from comfy import model_management

    asked = []
    load = model_management.load_models_gpu
    monkeypatch.setattr(
        model_management,
        "load_models_gpu",
        lambda models, **how: asked.append((models, how["memory_required"])) or load(models, **how),
    )
    with tiny.model.loaded(frames=6) as emo:
        assert emo.reference_net and emo.backbone
    assert asked == [([tiny.model.patcher], tiny.model.activation_bytes(6))]


def test_a_run_that_is_short_of_memory_is_tried_once_more_with_twice_the_room(tiny, monkeypatch, caplog):
    from comfy import model_management

    asked, tried = [], []
    monkeypatch.setattr(
        model_management, "load_models_gpu", lambda models, memory_required: asked.append(memory_required)
    )

    def work(emo, is_short: bool, room: int) -> str:
        tried.append((is_short, room))
        if not is_short:
            raise OutOfMemory("CUDA out of memory. Tried to allocate 1.50 GiB")
        return "done"

    assert tiny.model.run(work, frames=6) == "done" and tried == [(False, 6), (True, 12)]
    assert asked[1] == 2 * asked[0] == 2 * tiny.model.activation_bytes(6)
    assert "out of memory" in caplog.text and "more weights offloaded" in caplog.text


@pytest.mark.parametrize(("free", "asked", "chosen"), [(3.0, [6], (False, 6)), (2.0, [6, 3], (True, 3))])
def test_memory_that_is_free_decides_whether_work_may_do_all_at_once(tiny, monkeypatch, free, asked, chosen):
    """In parts of what six frames at a time need, beside weights of which half lie on the device."""
    from comfy import model_management

    model, half, given = tiny.model, tiny.model.patcher.model_size() // 2, []
    monkeypatch.setattr(
        model_management, "load_models_gpu", lambda models, memory_required: given.append(memory_required)
    )
    monkeypatch.setattr(model.patcher, "loaded_size", lambda: half, raising=False)
    room = model.activation_bytes(6) + model.patcher.model_size() - half
    monkeypatch.setattr(model_management, "get_free_memory", lambda *_: room + (1 if free > 2 else -1))
    assert model.has_room(6) is (free > 2)
    assert model.run(lambda emo, is_short, room: (is_short, room), frames=6, fewer=3) == chosen
    assert given == [model.activation_bytes(frames) for frames in asked]
    assert model.run(lambda emo, is_short, room: (is_short, room), frames=6) == (False, 6), "work that is what it is"


def test_what_the_first_attempt_held_is_gone_before_the_second(tiny):
    import weakref

    held = []

    def work(emo, is_short: bool, room: int) -> bool:
        if is_short:
            return held[0]() is None
        large = torch.zeros(8)
        held.append(weakref.ref(large))
        raise OutOfMemory("CUDA out of memory")

    assert tiny.model.run(work, frames=6)


def test_a_run_that_is_short_of_memory_twice_ends_with_numbers_and_remedies(tiny):
    def work(emo, is_short: bool, room: int):
        raise OutOfMemory("CUDA out of memory")

    with pytest.raises(
        OutOfMemory, match=r"requested \d+\.\d GiB .* 6 frames of 64x64; \d+\.\d GiB were free.*--novram"
    ):
        tiny.model.run(work, frames=6)


def test_other_errors_and_cancelling_are_not_tried_again(tiny):
    from comfy.model_management import InterruptProcessingException

    for error in (RuntimeError("shapes differ"), InterruptProcessingException()):
        tried = []

        def work(emo, is_short: bool, room: int, error=error, tried=tried):
            tried.append(is_short)
            raise error

        with pytest.raises(type(error)):
            tiny.model.run(work, frames=6)
        assert tried == [False]


def test_frames_are_decoded_one_by_one_where_memory_runs_out(bridge):
    sizes = []

    class Vae:
        def decode(self, latents):
            sizes.append(len(latents))
            if len(latents) > 1:
                raise OutOfMemory("CUDA out of memory")
            return latents[:, :3].movedim(1, -1)

    latents = torch.randn(3, 4, 2, 2)
    assert torch.equal(bridge.decode(Vae(), latents), latents[:, :3].movedim(1, -1))
    assert sizes == [3, 1, 1, 1]

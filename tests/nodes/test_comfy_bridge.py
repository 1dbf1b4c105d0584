"""Our models under ComfyUI's management: placed, cast, cancelled and estimated as its own are."""

from __future__ import annotations

import copy
import dataclasses
import sys
import time

import numpy as np
import pytest
import torch

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bridge(pack):
    return pack["nodes.comfy_bridge"]


def fresh(pack, preset: str = "test", **options):
    torch.manual_seed(1)
    bundle = pack["emo_model.checkpoints.native"].build(pack["emo_model.config"].PRESETS[preset], **options)
    for part in bundle.parts.values():
        for weight in part.parameters():
            if not weight.is_meta:
                torch.nn.init.normal_(weight, std=0.1)  # also where training starts from zero
    return bundle


def predict(emo, pack, how=None):
    """One evaluation of the whole: reference net, motion frames, voice, speed, mask, backbone."""
    types, config = pack["emo_model.types"], emo.config
    draw = torch.Generator().manual_seed(2)
    size = (config.latent_size, config.latent_size)
    portrait = torch.randn(1, config.latent_channels, *size, generator=draw)
    noisy = torch.randn(1, config.latent_channels, config.clip_frames, *size, generator=draw)
    audio = torch.randn(
        1, config.clip_frames, config.audio_window, config.audio_layers, config.audio_width, generator=draw
    )
    clip = types.ClipConditions(
        audio,
        torch.full(audio.shape[:3], 20.0),
        torch.ones(1, 1, config.image_size, config.image_size),
        config.clip_frames,
    )
    with torch.no_grad():
        reference = emo.encode_reference(portrait)
        motion = emo.encode_motion(types.MotionFrames(noisy[:, :, : config.motion_frames]), like=reference)
        return (how or emo.predict)(noisy, torch.tensor([500]), emo.prepare(reference, motion, clip))


def unmanaged(module) -> list[str]:
    """Weights outside layers with ComfyUI's casting."""
    return [
        f"{name}.{own}"
        for name, part in module.named_modules()
        if not hasattr(part, "comfy_cast_weights")
        for own, _ in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))
    ]


@pytest.mark.parametrize("preset", ["test", "builtin", "emo", "hallo"])
def test_no_weight_is_left_to_be_forgotten(bridge, pack, preset):
    bundle = fresh(pack, preset, device="meta")
    assert unmanaged(bundle.emo)  # plain layers: ComfyUI would not move them when it loads the model partially
    weights = {name: sum(1 for _ in part.parameters()) for name, part in bundle.parts.items()}
    for name, part in bundle.parts.items():
        assert weights[name] > 0
        left = unmanaged(bridge.managed(part))
        own = {
            "emo": [".noise_shapes"] * bool(bundle.config.noise_shapes),
            "audio_encoder": [],
            "motion_decoder": ["coarse.1.positions"],
        }
        assert left == own[name]  # these are cast where they are read


def test_managed_layers_compute_the_same_to_the_bit(bridge, pack):
    emo = fresh(pack).emo
    plain = predict(emo, pack)
    assert plain.std() > 1e-3
    assert torch.equal(predict(bridge.managed(copy.deepcopy(emo)), pack), plain)


def test_a_model_that_is_loaded_in_part_computes_the_same(bridge, pack):
    emo = fresh(pack).emo
    plain = predict(emo, pack)
    patcher = bridge.patcher_of(bridge.managed(emo), CPU, CPU)
    patcher.load(device_to=CPU, lowvram_model_memory=patcher.model_size() // 3)
    casting = sum(getattr(part, "comfy_cast_weights", False) for part in emo.modules())
    assert casting > 10, "everything was loaded: the test says nothing"
    torch.testing.assert_close(predict(emo, pack), plain)


def test_half_precision_storage_computes_in_the_type_of_its_input(bridge, pack):
    emo = bridge.managed(fresh(pack).emo)
    plain = predict(emo, pack)
    half = predict(emo.half(), pack)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, plain, atol=0.02 * plain.std().item(), rtol=0.05)


def test_a_lora_patches_the_layers(bridge, pack):
    emo = bridge.managed(fresh(pack).emo)
    plain = predict(emo, pack)
    patcher = bridge.patcher_of(emo, CPU, CPU).clone()
    key = "backbone.conv_in.weight"
    assert patcher.add_patches({key: (torch.ones_like(emo.backbone.conv_in.weight),)}, 0.5) == [key]
    patcher.patch_model(device_to=CPU)
    assert not torch.allclose(predict(emo, pack), plain)
    patcher.unpatch_model()
    assert torch.equal(predict(emo, pack), plain)


def test_a_cancelled_run_ends_before_the_next_block(bridge, tiny, pack):
    from comfy import model_management

    emo, evaluated = tiny.model.patcher.model, []
    hook = emo.backbone.up_blocks[0].register_forward_hook(lambda *_: evaluated.append(1))
    tracer = emo.backbone.mid_block.resnets[0].register_forward_hook(
        lambda *_: model_management.interrupt_current_processing()
    )
    try:
        with pytest.raises(model_management.InterruptProcessingException), tiny.model.loaded(frames=4):
            predict(emo, pack)
        assert not evaluated
        assert not any(part._forward_pre_hooks for part in emo.modules()), "hooks are left behind"
    finally:
        hook.remove()
        tracer.remove()
        model_management.interrupt_current_processing(False)


def test_compiled_blocks_compute_the_same_and_have_no_hooks(bridge, pack, monkeypatch):
    """A hook would be compiled, too; a cancelled run ends between compiled blocks at the latest with its step."""
    compiling = pack["emo_model.acceleration.compile"]
    monkeypatch.setattr(
        pack["nodes.comfy_bridge.parts"],
        "compile_blocks",
        lambda emo, device: compiling.compile_blocks(emo, device=device, backend="aot_eager"),
    )  # traces as the real one does, and calls no C++ compiler
    plain, config = fresh(pack).emo.eval(), pack["emo_model.config"].PRESETS["test"]
    expected = predict(plain, pack)
    model = bridge.EmoModel.of(plain, config, compiled=True)
    emo = model.patcher.model
    assert all(map(compiling.is_compiled, compiling.regions(emo)))
    try:
        with model.loaded(frames=4):
            torch.testing.assert_close(predict(emo, pack), expected, rtol=1e-5, atol=1e-5)
            assert emo.backbone._forward_pre_hooks
            assert not any(part._forward_pre_hooks for region in compiling.regions(emo) for part in region.modules())
    finally:
        torch.compiler.reset()


def test_cuda_graphs_are_freed_when_a_run_ends_and_their_weights_stay_in_place(bridge, pack, monkeypatch, caplog):
    import comfy.model_patcher

    graphs, parts = pack["emo_model.acceleration.cuda_graphs"], pack["nodes.comfy_bridge.parts"]
    plain, config = fresh(pack).emo.eval(), pack["emo_model.config"].PRESETS["test"]
    model = bridge.EmoModel.of(copy.deepcopy(plain), config, cuda_graphs=True)
    assert "need a CUDA device" in caplog.text and model.graphs is None and "graphs" not in model.weights

    class StandIn:  # for a capture by CUDA
        def __init__(self):
            self.prediction = None

        def __call__(self, run):
            self.run, self.prediction = run, run()
            return self

        def replay(self):
            self.prediction.copy_(self.run())

    monkeypatch.setattr(parts, "capture_steps", lambda emo, *, device: graphs.CudaGraphs(emo, StandIn()))
    model = bridge.EmoModel.of(copy.deepcopy(plain), config, cuda_graphs=True)
    assert model.weights.endswith(" CUDA graphs") and type(model.patcher) is comfy.model_patcher.ModelPatcher
    emo = model.patcher.model
    with model.loaded(frames=4):
        made = predict(emo, pack, how=lambda noisy, time, context: model.graphs(noisy, time, emo.cache(context)))
        torch.testing.assert_close(made, predict(plain, pack), rtol=1e-5, atol=1e-5)
        assert len(model.graphs.graphs) == 1
    assert not model.graphs.graphs


def test_running_out_of_memory_says_how_much_and_what_helps(tiny):
    with pytest.raises(
        torch.cuda.OutOfMemoryError, match=r"requested \d+\.\d GiB .* for 6 frames of 64x64; .* --novram"
    ):
        with tiny.model.loaded(frames=6):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")


def test_other_errors_pass_as_they_are(tiny):
    with pytest.raises(RuntimeError, match="^shapes differ$"), tiny.model.loaded(frames=6):
        raise RuntimeError("shapes differ")


def test_the_memory_estimate_grows_with_frames_and_with_the_picture(bridge, pack):
    def estimate(preset: str, frames: int) -> int:
        config = pack["emo_model.config"].PRESETS[preset]
        return bridge.EmoModel(config, None, torch.float16, "").activation_bytes(frames)

    assert estimate("builtin", 20) == 2 * estimate("builtin", 10)
    assert 0.2 < estimate("emo", 16) / 1024**3 < 6


def attentions(module) -> list:
    return [part for part in module.modules() if hasattr(part, "attend")]


@pytest.mark.parametrize("name", ["attention_pytorch", "attention_sub_quad", "attention_split", "attention_basic"])
def test_attention_by_comfyuis_kernels_computes_the_same(bridge, pack, name):
    from comfy.ldm.modules import attention

    emo = bridge.managed(fresh(pack).emo)
    plain = predict(emo, pack)
    for part in attentions(emo):
        part.attend = getattr(attention, name)
    torch.testing.assert_close(predict(emo, pack), plain, rtol=1e-4, atol=1e-4)


def test_a_gpu_attends_with_comfyuis_kernel_and_with_the_one_for_small_inputs_over_time(bridge, pack, monkeypatch):
    from comfy import model_management
    from comfy.ldm.modules import attention

    cuda = torch.device("cuda")
    monkeypatch.setattr(model_management, "get_torch_device", lambda: cuda)
    chosen = {part.is_small: part.attend for part in attentions(bridge.managed(fresh(pack).emo))}
    assert chosen == {
        False: attention.optimized_attention,
        True: attention.optimized_attention_for_device(cuda, small_input=True),
    }


def test_the_cpu_attends_with_torchs_kernel_unless_the_user_asked_for_another(bridge, pack, monkeypatch):
    from comfy.cli_args import args
    from comfy.ldm.modules import attention

    own = pack["emo_model.models.attention"].dot_product
    assert {part.attend for part in attentions(bridge.managed(fresh(pack).emo))} == {own}
    monkeypatch.setattr(args, "use_split_cross_attention", True)
    assert attention.optimized_attention in {part.attend for part in attentions(bridge.managed(fresh(pack).emo))}


@torch.inference_mode()
def test_cores_vae_nodes_accept_the_vae_of_a_portrait(tiny, reference, portrait):
    import nodes

    (latent,) = nodes.VAEEncode().encode(reference.vae, portrait.repeat(3, 1, 1, 1))
    assert latent["samples"].shape == (3, tiny.config.latent_channels, 4, 4)
    (decoded,) = nodes.VAEDecode().decode(reference.vae, latent)
    (tiled,) = nodes.VAEDecodeTiled().decode(reference.vae, latent, tile_size=512)
    (encoded_tiled,) = nodes.VAEEncodeTiled().encode(reference.vae, portrait.repeat(3, 1, 1, 1), 512, 64)
    assert decoded.shape == (3, *portrait.shape[1:]) and torch.equal(tiled, decoded)
    assert torch.equal(encoded_tiled["samples"], latent["samples"])


def test_the_vae_of_a_portrait_decodes_what_the_library_does_and_changes_nothing_outside_of_the_head(
    pack, tiny, reference
):
    vae, fit, config = reference.vae, reference.portrait.fit, tiny.config
    latents = torch.randn(10, config.latent_channels, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.3
    decoder = pack["emo_model.outputs.portrait_decoder"].PortraitDecoder(
        vae.first_stage_model, config, vae.picture, vae.portrait
    )
    expected = decoder.decode(pack["emo_model.inputs.vae"].to_scaled(latents, config))
    with torch.inference_mode():
        frames = vae.decode(latents)
    assert torch.equal((frames * 255).round().byte(), torch.from_numpy(expected))
    still = pack["emo_model.inputs.media"].to_uint8(vae.picture)[0]
    assert (expected[:, : fit.top] == still[: fit.top]).all() and (
        expected[:, :, : fit.left] == still[:, : fit.left]
    ).all()
    assert (expected != still).any()


def test_the_loaders_vae_knows_no_portrait_and_says_where_to_get_one_that_does(tiny):
    for use, what in (
        (lambda: tiny.vae.decode(torch.zeros(1, 8, 4, 4)), "decode"),
        (lambda: tiny.vae.encode(torch.zeros(1, 64, 64, 3)), "encode"),
    ):
        with pytest.raises(
            ValueError, match=f"^Connect the 'vae' output of 'EMO Reference Encoder' instead.*cannot {what}"
        ):
            use()


def test_latents_and_frames_of_another_kind_are_refused_with_their_sizes(reference):
    for strange in (torch.zeros(1, 4, 64, 64), torch.zeros(1, 8, 3, 4, 4)):
        with pytest.raises(ValueError, match="'EMO Clips To Latent'.*are \\(8, 4, 4\\)"):
            reference.vae.decode(strange)
    with pytest.raises(ValueError, match="Connect frames of 260x220 pixels.*these are 64x32"):
        reference.vae.encode(torch.zeros(1, 32, 64, 3))


def test_the_vae_of_a_portrait_goes_through_comfyuis_model_management(tiny, reference, monkeypatch):
    import comfy.model_management as management

    asked = []
    load = management.load_models_gpu
    monkeypatch.setattr(
        management,
        "load_models_gpu",
        lambda models, memory_required=0, **how: (
            asked.append((models[0], memory_required)) or load(models, memory_required=memory_required, **how)
        ),
    )
    reference.vae.decode(torch.zeros(2, 8, 4, 4))
    assert {model for model, _ in asked} == {tiny.vae.patcher} and min(required for _, required in asked) > 1e6


def test_cores_audio_encoder_node_accepts_the_audio_encoder(tiny):
    from comfy_extras.nodes_audio_encoder import AudioEncoderEncode

    sound = {"waveform": torch.randn(1, 2, 44100, generator=torch.Generator().manual_seed(0)), "sample_rate": 44100}
    output = AudioEncoderEncode.execute(tiny.audio_encoder, sound).result[0]
    assert output["encoded_audio"].shape == (1, 50, tiny.config.audio_width)
    assert len(output["encoded_audio_all_layers"]) == tiny.config.audio_layers
    assert output["audio_samples"] == 16000


def test_hearing_a_long_sound_ends_at_the_next_piece_when_the_user_cancels(bridge, tiny, monkeypatch):
    import comfy.model_management as management

    pieces, heard = [], tiny.audio_encoder.model.forward
    monkeypatch.setattr(
        tiny.audio_encoder.model,
        "forward",
        lambda sound: pieces.append(management.interrupt_current_processing(True)) or heard(sound),
    )
    with pytest.raises(management.InterruptProcessingException):
        bridge.audio_layers(tiny.audio_encoder, torch.zeros(120 * 16_000))
    assert len(pieces) == 1


def test_an_audio_encoder_of_core_gives_one_row_of_every_block_per_20_ms(bridge):
    class Core:  # wav2vec 2.0 has one row less than 50 per second; the first entry is what the blocks are given
        def encode_audio(self, audio, sample_rate):
            assert audio.shape[:2] == (1, 1) and sample_rate == 16000
            rows = torch.arange(audio.shape[-1] // 320 - 1.0)[None, :, None].expand(1, -1, 6)
            return {"encoded_audio_all_layers": (rows * 0 - 1, rows, rows + 100)}

    layers = bridge.audio_layers(Core(), torch.zeros(16000 * 70))
    assert layers.shape == (3500, 2, 6)
    assert torch.equal(layers[:, 1] - layers[:, 0], torch.full((3500, 6), 100.0))


def test_a_part_that_a_model_does_not_bring_stops_its_user_with_a_remedy(bridge, pack, folders):
    config = pack["emo_model.config"]
    lean = config.replace(config.PRESETS["test"], motion_decoder=None, audio_encoder=None)
    native = pack["emo_model.checkpoints.native"]
    native.save(folders.base / "models" / "emo" / "lean.safetensors", native.build(lean))
    try:
        model, audio_encoder, vae = bridge.load_model("lean.safetensors")
        assert model.config == lean
        assert "'Load VAE'" in vae.message and "wav2vec2" in audio_encoder.message
    finally:
        (folders.base / "models" / "emo" / "lean.safetensors").unlink()


def test_folders_named_in_extra_model_paths_are_searched_too(bridge, tmp_path):
    import folder_paths

    (tmp_path / "elsewhere.safetensors").touch()
    (tmp_path / "notes.txt").touch()
    folder_paths.add_model_folder_path("emo", str(tmp_path))
    try:
        bridge.register_model_folder()  # as when the pack is loaded, after the yaml file was read
        assert "elsewhere.safetensors" in bridge.model_names() and "notes.txt" not in bridge.model_names()
        assert bridge.model_path("elsewhere.safetensors") == tmp_path / "elsewhere.safetensors"
    finally:
        folder_paths.folder_names_and_paths["emo"][0].remove(str(tmp_path))
        folder_paths.filename_list_cache.pop("emo", None)


@pytest.mark.parametrize("name", ["none.safetensors", "../../etc/passwd"])
def test_a_missing_model_names_the_folder_to_put_it_in(bridge, folders, name):
    with pytest.raises(FileNotFoundError, match=str(folders.base / "models" / "emo")):
        bridge.model_path(name)


def test_both_built_in_models_load_and_each_brings_its_own_settings(bridge, built_in):
    default, fast = (bridge.load_model(name) for name in ("built-in default", "built-in fast"))
    assert dataclasses.replace(fast[0].config, noise_scale=1.0) == dataclasses.replace(
        default[0].config, noise_scale=1.0
    )
    assert all(type(part) is type(other) for part, other in zip(fast, default, strict=True))
    assert (default[0].sampling.steps, default[0].sampling.audio_guidance) == (2, 1.2)
    assert (fast[0].sampling.steps, fast[0].sampling.audio_guidance) == (2, 1.0)


def test_previews_come_only_where_comfyui_wants_them_and_the_model_can(pack, tiny, reference, monkeypatch):
    from comfy.cli_args import LatentPreviewMethod, args

    previewer_of, presets = pack["nodes.comfy_bridge.previews"].previewer_of, pack["emo_model.config"].PRESETS
    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.NoPreviews)
    assert previewer_of(tiny.config, CPU, reference.vae) is None
    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.Latent2RGB)
    assert previewer_of(tiny.config, CPU, tiny.vae) is None  # it knows no portrait
    assert previewer_of(presets["hallo"], CPU, None) is not None  # Stable Diffusion's colours
    _, image, _ = previewer_of(tiny.config, CPU, reference.vae).decode_latent_to_preview_image(
        "JPEG", torch.zeros(1, 8, 4, 4)
    )
    assert image.size == (260, 220)


@pytest.mark.parametrize("size", [120, 260])
def test_the_preview_is_the_warped_portrait_made_small(pack, reference, seeded_latents, size, monkeypatch):
    from comfy.cli_args import args

    monkeypatch.setattr(args, "preview_size", size)
    previewer = pack["nodes.comfy_bridge.previews"].PortraitPreviewer(reference.vae)
    scaled = pack["emo_model.inputs.vae"].to_scaled(seeded_latents, reference.vae.made_for)
    _, image, _ = previewer.decode_latent_to_preview_image("JPEG", scaled)
    assert max(image.size) == size
    frame = reference.vae.decode(seeded_latents).movedim(-1, 1)
    expected = torch.nn.functional.interpolate(frame, size=image.size[::-1], mode="area")[0].movedim(0, -1)
    shown = torch.from_numpy(np.array(image)).float() / 255
    assert (shown - expected).abs().mean() < 0.02


@pytest.fixture(scope="module")
def seeded_latents(reference):
    """Unscaled latents (1, C, h, w) of a head that has moved a little."""
    moved = torch.zeros(1, 8, 4, 4)
    moved[:, 0] = 0.3
    return moved


def wait_until(is_so, *, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def animated(bridge):
    """A bar of 5 with its moving picture, as red as the latents are large, and what it sent."""
    from PIL import Image

    class Reds:
        def decode_latent_to_preview_image(self, preview_format, x0):
            return preview_format, Image.new("RGB", (4, 4), (int((x0[0, 0, 0, 0].item() + 1) * 127.5), 0, 0)), None

    shown = []
    progress = bridge.Progress(5, previewer=Reds(), size=32)
    progress.bar.update_absolute = lambda done, total, preview: shown.append((done, preview))
    return progress, shown


def test_the_preview_shows_the_frames_of_the_latest_estimate_one_after_another_and_ends_with_the_run(animated):
    progress, shown = animated
    frames = torch.tensor([-1.0, 0.0, 1.0]).view(1, 1, 3, 1, 1).expand(1, 4, 3, 4, 4)

    def reds():
        return [preview[1].getpixel((9, 9))[0] for _, preview in shown if preview is not None]

    with progress:
        progress.update(2, frames)
        wait_until(lambda: len(reds()) >= 5)
        assert reds()[:5] == [0, 127, 255, 0, 127]
        assert {preview[1].size for _, preview in shown if preview is not None} == {(32, 32)}
        progress.update(3, torch.ones_like(frames))
        wait_until(lambda: reds()[-3:] == [255] * 3)
        assert shown[-1][0] == 3
    count = len(shown)
    time.sleep(0.3)
    assert len(shown) == count and not progress.animation.thread.is_alive()


def test_a_preview_does_not_swallow_the_users_cancel(animated):
    import comfy.model_management as management

    progress, shown = animated
    send = progress.bar.update_absolute

    def hooked(done, total, preview):
        management.throw_exception_if_processing_interrupted()  # as ComfyUI's own hook
        send(done, total, preview)

    progress.bar.update_absolute = hooked
    with pytest.raises(management.InterruptProcessingException), progress:
        progress.update(1, torch.zeros(1, 4, 3, 4, 4))
        wait_until(lambda: len(shown) > 2)
        management.interrupt_current_processing(True)
        wait_until(lambda: not progress.animation.thread.is_alive())  # the thread was the first to see it
        progress.update(2)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_preview_that_fails_does_not_stop_the_run(animated):
    progress, shown = animated
    progress.animation.previewer.decode_latent_to_preview_image = None  # to call it is an error
    with progress:
        progress.update(1, torch.zeros(1, 4, 3, 4, 4))
        progress.animation.thread.join(20)
        assert not progress.animation.thread.is_alive()
        progress.update(2, torch.zeros(1, 4, 3, 4, 4))
    assert shown == [(1, None), (2, None)]


def test_the_templates_files_are_offered_and_files_of_the_user_are_kept(pack, folders, tmp_path, monkeypatch, caplog):
    import folder_paths

    offer, shipped = pack["nodes.comfy_bridge.files"].offer_as_inputs, pack["nodes.shipped"]
    portrait, voice = shipped.PORTRAITS["photograph"], shipped.VOICE
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / portrait.name).write_bytes(b"mine")
    offer([portrait, voice])
    assert (tmp_path / "input" / portrait.name).read_bytes() == b"mine"
    assert (tmp_path / "input" / voice.name).read_bytes() == voice.read_bytes()
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input" / voice.name / "no folder"))
    offer([portrait])
    assert "could not be put into" in caplog.text


def test_sentences_of_a_part_are_shown_in_the_node_that_it_is_a_part_of(pack, monkeypatch):
    from types import SimpleNamespace

    running, sent = pack["nodes.comfy_bridge.running"], []
    instance = SimpleNamespace(send_progress_text=lambda text, node: sent.append((text, node)))
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=instance)))
    for node in ("3", "3.0.0.5", "9:4", "9:4.0.0.1", None):
        running.show(SimpleNamespace(unique_id=node), "said")
    assert [node for _, node in sent] == ["3", "3", "9:4", "9:4"]
    assert [running.is_part(SimpleNamespace(unique_id=node)) for node in ("3", "9:4", "9:4.0.0.1", None)] == [
        False,
        False,
        True,
        False,
    ]

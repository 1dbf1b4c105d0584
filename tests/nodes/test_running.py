"""The nodes one after the other, on the tiny model."""

from __future__ import annotations

import copy
import dataclasses
import errno
import json
import threading
from fractions import Fraction

import av
import pytest
import torch


@pytest.fixture(scope="module")
def voice():
    seconds = 0.9  # 22.5 frames, so the sound ends within one
    waveform = torch.randn(1, 2, round(44100 * seconds), generator=torch.Generator().manual_seed(3)) * 0.1
    return {"waveform": waveform, "sample_rate": 44100}


@pytest.fixture(scope="module")
def audio(pack, tiny, voice):
    return pack.run("EmoAudioEncoder", audio_encoder=tiny.audio_encoder, fps=25.0, audio=voice).result[0]


@pytest.fixture(scope="module")
def sample(pack, tiny, reference, audio):
    def run(**changes):
        widgets = {"seed": 0, "steps": 2, "sampler": "ddim", "audio_guidance": 1.5, "reference_guidance": 1.0}
        inputs = {"model": tiny.model, "reference": reference, "audio_features": audio, **widgets, **changes}
        return pack.run("EmoSampler", **inputs).result[0]

    return run


@pytest.fixture(scope="module")
def latents(pack, sample):
    """LATENT of a video with these changes."""
    return lambda **changes: pack.run("EmoClipsToLatent", clips=sample(**changes)).result[0]


def streams(path) -> tuple:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        rate, metadata = container.streams.video[0].average_rate, dict(container.metadata)
        sound = container.streams.audio[0] if container.streams.audio else None
        seconds = None if sound is None else float(sound.duration * sound.time_base)
    return frames, rate, seconds, metadata


def test_the_face_is_found_and_the_square_around_the_head_fitted_and_shown(pack, tiny, portrait, folders):
    output = pack.run("EmoReferenceEncoder", model=tiny.model, vae=tiny.vae, fit="crop", image=portrait)
    reference, picture, vae = output.result
    fit = reference.portrait.fit
    assert picture.shape == (1, 64, 64, 3) and vae is reference.vae and vae.is_bound and not tiny.vae.is_bound
    assert reference.portrait.latents.shape == (1, 8, 4, 4) and reference.features.features
    assert 100 < fit.left + fit.side / 2 < 180 and 80 < fit.top + fit.side / 2 < 160 and 80 < fit.side < 220
    (shown,) = output.ui.as_dict()["images"]
    assert (folders.base / "temp" / shown["subfolder"] / shown["filename"]).is_file()


def test_unconnected_portrait_and_voice_are_those_that_come_with_the_pack(pack, tiny):
    reference, picture, _ = pack.run("EmoReferenceEncoder", model=tiny.model, vae=tiny.vae, fit="crop").result
    features, audio, fps = pack.run("EmoAudioEncoder", audio_encoder=tiny.audio_encoder, fps=25.0).result
    assert picture.std() > 0.05 and reference.portrait.fit.width >= 128
    assert audio["waveform"].std() > 0.01 and 1 < features.seconds < 20
    assert len(features.frames) == round(features.seconds * 25) and fps == 25.0


@pytest.mark.parametrize("name", ["audio", "mix", "image"])
def test_a_wire_that_brings_nothing_is_refused_and_not_replaced_by_what_comes_with_the_pack(pack, tiny, name):
    """Core's 'Get Video Components' gives None as the sound of a silent video."""
    node, others = (
        ("EmoReferenceEncoder", {"model": tiny.model, "vae": tiny.vae, "fit": "crop"})
        if name == "image"
        else ("EmoAudioEncoder", {"audio_encoder": tiny.audio_encoder, "fps": 25.0})
    )
    with pytest.raises(ValueError, match=f"The link to '{name}' carries nothing.*disconnect '{name}'"):
        pack.run(node, **others, **{name: None})


def test_the_sound_passes_through_unchanged(pack, tiny, voice):
    assert pack.run("EmoAudioEncoder", audio_encoder=tiny.audio_encoder, fps=25.0, audio=voice).result[1] is voice


def test_a_vae_of_another_model_is_refused(pack, tiny, portrait):
    other = copy.copy(tiny.vae)
    other.made_for = dataclasses.replace(tiny.config, latent_scale=(0.5,) * 8)
    for vae in (object(), other):
        with pytest.raises(ValueError, match="Connect the 'vae' output of the same 'Load EMO Model', or disconnect"):
            pack.run("EmoReferenceEncoder", model=tiny.model, vae=vae, fit="crop", image=portrait)


def test_features_of_another_audio_encoder_are_refused(pack, sample):
    other = pack["emo_model.types"].AudioFeatures(torch.zeros(5, 12, 768), 25.0, 0.2)
    with pytest.raises(ValueError, match="12 layers of width 768.*'audio_encoder' of the same 'Load EMO Model'"):
        sample(audio_features=other)


def test_a_reference_of_another_model_is_refused(pack, sample, reference):
    other = dataclasses.replace(
        reference, portrait=dataclasses.replace(reference.portrait, latents=torch.zeros(1, 8, 32, 32))
    )
    with pytest.raises(ValueError, match="made for another model.*'EMO Reference Encoder'"):
        sample(reference=other)


@pytest.mark.parametrize(
    ("mode", "widgets", "share"),
    [
        ("whole picture", {}, 1.0),
        ("box", {}, 0.25),
        ("box", {"bounding_box": True}, 0.5),
        ("mask", {"mask": torch.ones(1, 220, 260)}, 1.0),
    ],
)
def test_the_mask_covers_what_its_mode_says(pack, reference, mode, widgets, share):
    edges = {"left": 0.0, "top": 0.5, "right": 0.5, "bottom": 1.0}
    fit = reference.portrait.fit
    if "bounding_box" in widgets:
        widgets = {"bounding_box": {"x": fit.left, "y": fit.top, "width": fit.side / 2, "height": 2 * fit.side}}
    face_mask, mask = pack.run("EmoFaceMaskBuilder", reference=reference, mode=mode, **edges, **widgets).result
    assert face_mask.mask.shape == (1, 1, 64, 64) and torch.equal(mask, face_mask.mask[0])
    assert mask.mean().item() == pytest.approx(share, abs=0.02)


def test_a_mask_from_some_second_on_renders_only_the_clips_from_there(pack, reference, audio, sample):
    edges = {"left": 0.0, "top": 0.5, "right": 0.5, "bottom": 1.0}

    def masked(**widgets):
        return pack.run("EmoFaceMaskBuilder", reference=reference, **{"mode": "box", **edges, **widgets}).result

    first, _ = masked()
    over_time, shown = masked(mode="whole picture", before=first, from_second=0.5)
    assert (
        shown.mean() == 1
        and over_time.between(0, 0.4).mask.mean() == 0.25
        and over_time.between(0.5, 9).mask.mean() == 1
    )
    whole, changed = sample(face_mask=first), sample(face_mask=over_time)
    clips, same = -(-len(audio.frames) // 4), int(0.5 * audio.fps) // 4
    assert len(changed.keys) == clips and 0 < same < clips
    assert [one == other for one, other in zip(whole.keys, changed.keys, strict=True)] == [True] * same + [False] * (
        clips - same
    )
    for wrong in (0.0, 0.5):
        with pytest.raises(ValueError, match=f"'from_second' is {wrong:g}, but the mask at 'before' starts at 0.5 s"):
            masked(before=over_time, from_second=wrong)


def test_latents_are_one_per_frame_and_the_seed_decides(latents, audio):
    first = latents()["samples"]
    assert first.shape == (len(audio.frames), 8, 4, 4) and first.dtype == torch.float32 and len(first) in (22, 23)
    assert torch.equal(latents()["samples"], first)
    assert not torch.allclose(latents(seed=1)["samples"], first)


def test_the_bar_counts_every_step_of_every_clip(pack, sample, audio, monkeypatch):
    seen, progress = [], pack["nodes.comfy_bridge"].Progress
    update = progress.update
    monkeypatch.setattr(
        progress, "update", lambda self, done, latents: seen.append((done, self.total)) or update(self, done, latents)
    )
    sample(steps=3)
    total = 3 * -(-len(audio.frames) // 4)
    assert seen == [(done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize("kind", ["latent", "clips"])
def test_a_video_has_as_many_frames_with_sound_and_workflow(pack, reference, sample, latents, voice, folders, kind):
    made, latent = {"latent": latents, "clips": sample}[kind](), latents()
    for old in (folders.output / "sub").glob("*"):
        old.unlink()
    output = pack.run(
        "EmoVideoCombine",
        fps=25.0,
        quality=20,
        filename_prefix="sub/talk",
        **{kind: made},
        vae=reference.vae,
        audio=voice,
    )
    shown = output.ui.as_dict()
    assert shown == {
        "images": [{"filename": "talk_00001_.mp4", "subfolder": "sub", "type": "output"}],
        "animated": (True,),
    }
    frames, rate, seconds, metadata = streams(folders.output / "sub" / "talk_00001_.mp4")
    assert len(frames) == len(latent["samples"]) and rate == 25 and frames[0].shape == (220, 260, 3)
    assert seconds == pytest.approx(0.9, abs=1e-4)  # every sample, though the frames end half a frame before
    assert json.loads(metadata["workflow"]) == {"nodes": []} and "class_type" in metadata["prompt"]
    assert metadata["comment"].startswith("Generated")
    video = output.result[0]
    assert video.get_dimensions() == (260, 220) and len(video.get_components().images) == len(frames)


def test_latents_are_decoded_and_written_a_few_at_a_time_in_order(pack, folders):
    sizes = []

    class Grey:
        def decode(self, samples):
            sizes.append(len(samples))
            return samples[:, :1, :1, :1].expand(-1, 32, 32, 3)

    latent = {"samples": torch.linspace(0.1, 0.9, 37)[:, None, None, None].expand(37, 4, 4, 4)}
    pack.run("EmoVideoCombine", fps=25.0, quality=10, filename_prefix="blocks", latent=latent, vae=Grey())
    assert sizes == [16, 16, 5]
    frames, *_ = streams(folders.output / "blocks_00001_.mp4")
    assert [frame.mean() / 255 for frame in frames] == pytest.approx(latent["samples"][:, 0, 0, 0].tolist(), abs=0.01)


def test_nothing_changes_outside_of_the_head_and_the_head_alone_can_be_shown(
    pack, reference, portrait, sample, folders
):
    clips, fit = sample(), reference.portrait.fit

    def frames(name, **inputs):
        pack.run(
            "EmoVideoCombine",
            fps=25.0,
            quality=0,
            filename_prefix=f"still_{name}",
            clips=clips,
            vae=reference.vae,
            **inputs,
        )
        return torch.stack([torch.from_numpy(one) for one in streams(folders.output / f"still_{name}_00001_.mp4")[0]])

    whole, head = frames("whole"), frames("head", frame="head only")
    still = (portrait[0] * 255).round()
    outside = torch.ones(220, 260, dtype=torch.bool)
    outside[fit.top - 2 : fit.top + fit.side + 2, fit.left - 2 : fit.left + fit.side + 2] = (
        False  # colours are halved in the file
    )
    difference = (whole.float() - still).abs().amax(3)
    assert difference[:, outside].mean() < 2 and difference[:, ~outside].max() > 20
    assert (whole[1:, outside] == whole[0, outside]).float().mean() > 0.999
    side = fit.side + fit.side % 2
    assert head.shape == (clips.frames, side, side, 3)
    assert (head.float() - whole[:, fit.top : fit.top + side, fit.left : fit.left + side]).abs().mean() < 3


def test_a_loaders_vae_is_replaced_by_that_of_the_reference_and_refused_without_one(pack, tiny, reference, sample):
    clips = sample()
    for vae in (tiny.vae, None):
        made = pack.run(
            "EmoVideoCombine",
            fps=25.0,
            quality=30,
            filename_prefix="old_graph",
            clips=clips,
            vae=vae,
            reference=reference,
        ).result[0]
        assert made.get_dimensions() == (260, 220)
    with pytest.raises(ValueError, match="^Connect the 'vae' output of 'EMO Reference Encoder' instead"):
        pack.run("EmoVideoCombine", fps=25.0, quality=30, filename_prefix="old_graph", clips=clips, vae=tiny.vae)


def test_pictures_are_shown_whole_or_the_head_of_them_and_squares_are_put_back(pack, reference, portrait, folders):
    fit = reference.portrait.fit
    side = fit.side + fit.side % 2

    def shape(**inputs):
        return (
            pack.run("EmoVideoCombine", fps=25.0, quality=30, filename_prefix="shown", **inputs)
            .result[0]
            .get_dimensions()
        )

    square = torch.rand(1, 64, 64, 3)
    assert shape(images=portrait, reference=reference) == (260, 220)
    assert shape(images=portrait, reference=reference, frame="head only") == (side, side)
    assert shape(images=square, reference=reference) == (260, 220)
    assert shape(images=square, frame="head only") == (64, 64)
    with pytest.raises(ValueError, match="^Connect 'reference'.*260x220"):
        shape(images=portrait, frame="head only")


def test_a_picture_larger_than_asked_for_is_made_smaller_and_boxes_of_it_still_fit(pack, tiny, portrait, reference):
    double = portrait.repeat_interleave(2, 1).repeat_interleave(2, 2)
    large, _, vae = pack.run(
        "EmoReferenceEncoder", model=tiny.model, vae=tiny.vae, fit="crop", image=double, long_side=260
    ).result
    assert tuple(vae.picture.shape) == (1, 3, 220, 260) and large.shrink == 2
    assert abs(large.portrait.fit.side - reference.portrait.fit.side) <= 3
    fit = large.portrait.fit
    box = {"x": 2 * fit.left, "y": 2 * fit.top, "width": fit.side, "height": 2 * fit.side}
    _, mask = pack.run(
        "EmoFaceMaskBuilder", reference=large, mode="box", left=0.0, top=0.0, right=1.0, bottom=1.0, bounding_box=box
    ).result
    assert mask.mean().item() == pytest.approx(0.5, abs=0.02)


def test_one_of_several_faces_is_chosen_by_place_or_number(pack, tiny, portrait):
    two = torch.cat([portrait, portrait.flip(2)], dim=2)

    def centre(which):
        fit = (
            pack.run("EmoReferenceEncoder", model=tiny.model, vae=tiny.vae, fit="crop", image=two, which_face=which)
            .result[0]
            .portrait.fit
        )
        return fit.left + fit.side / 2

    assert centre("leftmost") == centre("1") < 260 < centre("2") == centre("rightmost")
    with pytest.raises(ValueError, match="^Set 'which_face' to another face: there are 2 faces.*3"):
        centre("3")


def test_where_no_face_is_found_the_mask_is_the_remedy_and_takes_what_is_under_it(pack, tiny):
    inputs = {"model": tiny.model, "vae": tiny.vae, "fit": "crop", "image": torch.rand(1, 90, 120, 3)}
    for nothing in ({}, {"face": torch.zeros(1, 64, 64)}):
        with pytest.raises(
            ValueError, match="^Paint over the face with 'Open in MaskEditor'.*its MASK to 'face'.*No face"
        ):
            pack.run("EmoReferenceEncoder", **inputs, **nothing)
    mask = torch.zeros(1, 90, 120)
    mask[:, 20:60, 70:100] = 1
    fit = pack.run("EmoReferenceEncoder", **inputs, face=mask).result[0].portrait.fit
    assert 65 < fit.left + fit.side / 2 < 105 and 15 < fit.top + fit.side / 2 < 65


def test_a_block_is_written_while_the_next_is_decoded(pack, folders, monkeypatch):
    decoding, waited = threading.Event(), []
    writer = pack["emo_model.outputs.video"].VideoWriter
    write = writer.write

    def slowly(self, frames):
        waited.append(decoding.wait(timeout=20))  # the first block ends no sooner than the second begins
        write(self, frames)

    class Grey:
        asked = 0

        def decode(self, samples):
            self.asked += 1
            if self.asked == 2:
                decoding.set()
            return samples[:, :1, :1, :1].expand(-1, 32, 32, 3)

    monkeypatch.setattr(writer, "write", slowly)
    pack.run(
        "EmoVideoCombine",
        fps=25.0,
        quality=20,
        filename_prefix="behind",
        latent={"samples": torch.zeros(40, 4, 4, 4)},
        vae=Grey(),
    )
    assert waited == [True] * 3 and len(streams(folders.output / "behind_00001_.mp4")[0]) == 40


def test_a_full_disk_is_told_while_a_video_is_written(pack, monkeypatch):
    def full(self, frames):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pack["emo_model.outputs.video"].VideoWriter, "write", full)
    with pytest.raises(OSError, match="No space left"):
        pack.run("EmoVideoCombine", fps=25.0, quality=20, filename_prefix="full", images=torch.rand(40, 32, 32, 3))


def test_pictures_of_odd_size_become_a_silent_video_at_a_broken_rate(pack, folders):
    pack.run("EmoVideoCombine", fps=29.97, quality=20, filename_prefix="odd", images=torch.rand(3, 33, 35, 3))
    frames, rate, seconds, _ = streams(folders.output / "odd_00001_.mp4")
    assert len(frames) == 3 and frames[0].shape == (34, 36, 3) and seconds is None
    assert float(rate) == pytest.approx(29.97, abs=1e-3) and isinstance(rate, Fraction)


def test_a_second_video_does_not_overwrite_the_first(pack, folders):
    for _ in range(2):
        pack.run("EmoVideoCombine", fps=25.0, quality=20, filename_prefix="twice", images=torch.rand(2, 32, 32, 3))
    assert sorted(path.name for path in folders.output.glob("twice*")) == ["twice_00001_.mp4", "twice_00002_.mp4"]


def test_a_prefix_that_leads_out_of_the_output_folder_is_refused(pack, folders):
    with pytest.raises(Exception, match="outside the output folder"):
        pack.run("EmoVideoCombine", fps=25.0, quality=20, filename_prefix="../../evil", images=torch.rand(2, 32, 32, 3))
    assert not list(folders.base.parent.glob("evil*"))


def test_no_workflow_is_written_when_comfyui_is_told_so(pack, folders, monkeypatch):
    from comfy.cli_args import args

    monkeypatch.setattr(args, "disable_metadata", True)
    pack.run("EmoVideoCombine", fps=25.0, quality=20, filename_prefix="private", images=torch.rand(2, 32, 32, 3))
    *_, metadata = streams(folders.output / "private_00001_.mp4")
    assert not {"prompt", "workflow"} & metadata.keys()


def test_cores_nodes_fit_between_sampler_and_combine(pack, reference, latents, folders):
    import nodes

    (images,) = nodes.VAEDecode().decode(reference.vae, latents())
    assert images.shape == (len(latents()["samples"]), 220, 260, 3)
    (larger,) = nodes.ImageScale().upscale(images, "bilinear", 48, 48, "disabled")
    pack.run("EmoVideoCombine", fps=25.0, quality=20, filename_prefix="larger", images=larger)
    frames, *_ = streams(folders.output / "larger_00001_.mp4")
    assert len(frames) == len(images) and frames[0].shape == (48, 48, 3)


def test_the_models_own_audio_encoder_vae_and_settings_are_used_unless_others_are_given(pack, tiny, portrait, voice):
    """Bit for bit what comes by wire in older graphs."""
    reference = pack.run("EmoReferenceEncoder", model=tiny.model, fit="crop", image=portrait).result[0]
    audio = pack.run("EmoAudioEncoder", model=tiny.model, fps=25.0, audio=voice).result[0]
    wired = pack.run("EmoReferenceEncoder", model=tiny.model, vae=tiny.vae, fit="crop", image=portrait).result[0]
    heard = pack.run("EmoAudioEncoder", audio_encoder=tiny.audio_encoder, fps=25.0, audio=voice).result[0]
    assert torch.equal(reference.portrait.latents, wired.portrait.latents) and torch.equal(audio.frames, heard.frames)
    assert reference.vae.first_stage_model is tiny.vae.first_stage_model

    def clips(steps, sampler, audio_guidance, reference_guidance):
        widgets = {"steps": steps, "sampler": sampler}
        scales = {"audio_guidance": audio_guidance, "reference_guidance": reference_guidance}
        inputs = {"model": tiny.model, "reference": reference, "audio_features": audio, "seed": 4}
        return pack.run("EmoSampler", **inputs, **widgets, **scales).result[0]

    own = tiny.model.sampling
    chosen = clips(own.steps, own.sampler, own.audio_guidance, own.reference_guidance)
    assert clips(0, "model's own", 0.0, 0.0).keys == chosen.keys != clips(own.steps + 1, "model's own", 0.0, 0.0).keys
    output = pack.run("EmoVideoCombine", fps=25.0, quality=30, filename_prefix="own", clips=chosen, reference=reference)
    assert output.result[0].get_dimensions() == (260, 220)


def test_the_card_of_a_model_says_how_it_is_sampled(pack, tiny, folders, reference, voice):
    """'built-in fast' is fast by being chosen."""
    native = pack["emo_model.checkpoints.native"]
    path = folders.base / "models" / "emo" / "quick.safetensors"
    made = native.load(folders.base / "models" / "emo" / "tiny.safetensors")
    native.save(path, dataclasses.replace(made, card={"sampling": {"steps": 1, "audio_guidance": 1.0}}))
    model = pack.run("EmoLoadModel", model_name=path.name).result[0]
    path.unlink()
    assert (model.sampling.steps, model.sampling.audio_guidance, model.sampling.sampler) == (1, 1.0, "ddim")


def test_without_a_model_the_voice_has_no_encoder_and_the_node_says_what_to_connect(pack):
    with pytest.raises(ValueError, match="^Connect 'model' of 'Load EMO Model'"):
        pack.run("EmoAudioEncoder", fps=25.0)

"""The nodes one after the other, on the tiny model."""

from __future__ import annotations

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
def portrait():
    return torch.rand(1, 50, 40, 3, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def reference(pack, tiny, portrait):
    return pack.run("EmoReferenceEncoder", model=tiny.model, vae=tiny.vae, fit="crop", image=portrait).result[0]


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


def test_the_portrait_is_fitted_read_and_shown(pack, tiny, portrait, folders):
    output = pack.run("EmoReferenceEncoder", model=tiny.model, vae=tiny.vae, fit="crop", image=portrait)
    reference, picture = output.result
    assert picture.shape == (1, 32, 32, 3)
    assert reference.portrait.latents.shape == (1, 4, 4, 4) and reference.portrait.fit.side == 40
    assert reference.features.features
    shown, = output.ui.as_dict()["images"]
    assert (folders.base / "temp" / shown["subfolder"] / shown["filename"]).is_file()


def test_unconnected_portrait_and_voice_are_those_that_come_with_the_pack(pack, tiny):
    reference, picture = pack.run("EmoReferenceEncoder", model=tiny.model, vae=tiny.vae, fit="crop").result
    features, audio, fps = pack.run("EmoAudioEncoder", audio_encoder=tiny.audio_encoder, fps=25.0).result
    assert picture.std() > 0.05 and reference.portrait.fit.width >= 128
    assert audio["waveform"].std() > 0.01 and 1 < features.seconds < 20
    assert len(features.frames) == round(features.seconds * 25) and fps == 25.0


@pytest.mark.parametrize("name", ["audio", "mix", "image"])
def test_a_wire_that_brings_nothing_is_refused_and_not_replaced_by_what_comes_with_the_pack(pack, tiny, name):
    """Core's 'Get Video Components' gives None as the sound of a silent video."""
    node, others = ("EmoReferenceEncoder", {"model": tiny.model, "vae": tiny.vae, "fit": "crop"}) if name == "image" else (
        "EmoAudioEncoder", {"audio_encoder": tiny.audio_encoder, "fps": 25.0})
    with pytest.raises(ValueError, match=f"Nothing came over the wire to '{name}'.*disconnect '{name}'"):
        pack.run(node, **others, **{name: None})


def test_the_sound_passes_through_unchanged(pack, tiny, voice):
    assert pack.run("EmoAudioEncoder", audio_encoder=tiny.audio_encoder, fps=25.0, audio=voice).result[1] is voice


def test_a_vae_of_another_model_is_refused(pack, tiny, portrait):
    class Other:
        def encode(self, image):
            return torch.zeros(1, 16, 2, 2)

    with pytest.raises(ValueError, match=r"latents of \(16, 2, 2\).*'vae' output of 'Load EMO Model'"):
        pack.run("EmoReferenceEncoder", model=tiny.model, vae=Other(), fit="crop", image=portrait)


def test_features_of_another_audio_encoder_are_refused(pack, sample):
    other = pack["emo_model.types"].AudioFeatures(torch.zeros(5, 12, 768), 25.0, 0.2)
    with pytest.raises(ValueError, match="12 layers of 768 numbers.*'audio_encoder' of the same 'Load EMO Model'"):
        sample(audio_features=other)


def test_a_reference_of_another_model_is_refused(pack, sample, reference):
    import dataclasses

    other = dataclasses.replace(reference, portrait=dataclasses.replace(reference.portrait, latents=torch.zeros(1, 8, 32, 32)))
    with pytest.raises(ValueError, match="made for another model.*'EMO Reference Encoder'"):
        sample(reference=other)


@pytest.mark.parametrize(("mode", "widgets", "share"), [
    ("whole picture", {}, 1.0), ("box", {}, 0.25), ("box", {"bounding_box": {"x": 0, "y": 3, "width": 10, "height": 40}}, 0.25),
    ("mask", {"mask": torch.ones(1, 50, 40)}, 1.0)])
def test_the_mask_covers_what_its_mode_says(pack, reference, mode, widgets, share):
    edges = {"left": 0.0, "top": 0.5, "right": 0.5, "bottom": 1.0}
    face_mask, mask = pack.run("EmoFaceMaskBuilder", reference=reference, mode=mode, **edges, **widgets).result
    assert face_mask.mask.shape == (1, 1, 32, 32) and torch.equal(mask, face_mask.mask[0])
    assert mask.mean().item() == pytest.approx(share, abs=0.02)


def test_a_mask_from_some_second_on_renders_only_the_clips_from_there(pack, reference, audio, sample):
    edges = {"left": 0.0, "top": 0.5, "right": 0.5, "bottom": 1.0}

    def masked(**widgets):
        return pack.run("EmoFaceMaskBuilder", reference=reference, **{"mode": "box", **edges, **widgets}).result

    first, _ = masked()
    over_time, shown = masked(mode="whole picture", before=first, from_second=0.5)
    assert shown.mean() == 1 and over_time.between(0, 0.4).mask.mean() == 0.25 and over_time.between(0.5, 9).mask.mean() == 1
    whole, changed = sample(face_mask=first), sample(face_mask=over_time)
    clips, same = -(-len(audio.frames) // 4), int(0.5 * audio.fps) // 4
    assert len(changed.keys) == clips and 0 < same < clips
    assert [one == other for one, other in zip(whole.keys, changed.keys, strict=True)] == [True] * same + [False] * (clips - same)
    for wrong in (0.0, 0.5):
        with pytest.raises(ValueError, match=f"'from_second' is {wrong:g}, but the mask at 'before' begins at 0.5 s"):
            masked(before=over_time, from_second=wrong)


def test_latents_are_one_per_frame_and_the_seed_decides(latents, audio):
    first = latents()["samples"]
    assert first.shape == (len(audio.frames), 4, 4, 4) and first.dtype == torch.float32 and len(first) in (22, 23)
    assert torch.equal(latents()["samples"], first)
    assert not torch.allclose(latents(seed=1)["samples"], first)


def test_the_bar_counts_every_step_of_every_clip(pack, sample, audio, monkeypatch):
    seen, progress = [], pack["nodes.comfy_bridge"].Progress
    update = progress.update
    monkeypatch.setattr(progress, "update",
                        lambda self, done, latents: seen.append((done, self.total)) or update(self, done, latents))
    sample(steps=3)
    total = 3 * -(-len(audio.frames) // 4)
    assert seen == [(done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize("kind", ["latent", "clips"])
def test_a_video_has_as_many_frames_with_sound_and_workflow(pack, tiny, sample, latents, voice, folders, kind):
    made, latent = {"latent": latents, "clips": sample}[kind](), latents()
    for old in (folders.output / "sub").glob("*"):
        old.unlink()
    output = pack.run("EmoVideoCombine", fps=25.0, quality=20, filename_prefix="sub/talk", **{kind: made}, vae=tiny.vae,
                      audio=voice)
    shown = output.ui.as_dict()
    assert shown == {"images": [{"filename": "talk_00001_.mp4", "subfolder": "sub", "type": "output"}], "animated": (True,)}
    frames, rate, seconds, metadata = streams(folders.output / "sub" / "talk_00001_.mp4")
    assert len(frames) == len(latent["samples"]) and rate == 25 and frames[0].shape == (32, 32, 3)
    assert seconds == pytest.approx(0.9, abs=1e-4)  # every sample, though the frames end half a frame before
    assert json.loads(metadata["workflow"]) == {"nodes": []} and "class_type" in metadata["prompt"]
    video = output.result[0]
    assert video.get_dimensions() == (32, 32) and len(video.get_components().images) == len(frames)


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


def large(pack, tiny, **inputs):
    """(reference, the fitted picture) of a wide picture with a mask around (30, 20)."""
    cells = torch.rand(1, 5, 9, 1, generator=torch.Generator().manual_seed(5))  # large and grey: codecs keep such pictures
    image = cells.repeat_interleave(10, 1).repeat_interleave(10, 2).repeat(1, 1, 1, 3)
    mask = torch.zeros(1, 50, 90)
    mask[:, 14:26, 24:36] = 1
    return image, pack.run("EmoReferenceEncoder", model=tiny.model, vae=tiny.vae, **{
        "fit": "crop", "image": image, "face": mask, **inputs}).result


def test_the_square_is_cut_around_the_face_and_put_back_into_the_whole_picture(pack, tiny, sample, voice, folders):
    image, (reference, picture) = large(pack, tiny)
    fit = reference.portrait.fit
    assert (fit.left, fit.top, fit.side) == (18, 6, 24) and picture.shape == (1, 32, 32, 3)
    clips = sample(reference=reference)
    path = pack.run("EmoVideoCombine", fps=25.0, quality=0, filename_prefix="whole", clips=clips, vae=tiny.vae, audio=voice,
                    reference=reference).result[0].get_stream_source()
    frames, *_ = streams(path)
    assert len(frames) == clips.frames and frames[0].shape == (50, 90, 3)
    moves = torch.stack([torch.from_numpy(frame) for frame in frames]).float().sub(image * 255).abs().mean((0, 3))
    assert moves[10:26, 22:38].mean() > 3 * moves[:, 50:].mean()

    def continued(images, **others):
        return pack.run("EmoContinueFrom", model=tiny.model, vae=tiny.vae, images=images, **others).result[0].latents

    last = torch.stack([torch.from_numpy(frame) for frame in frames[-2:]]).float() / 255
    square = pack["nodes.conversions"].fitted_frames(last, tiny.config, 2, fit)
    torch.testing.assert_close(continued(last, reference=reference), continued(square), atol=1e-4, rtol=0)
    assert not torch.allclose(continued(last), continued(square), atol=1e-2)


def test_a_face_that_nobody_painted_is_told(pack, tiny):
    with pytest.raises(ValueError, match="at 'face' is empty.*transparency.*Paint the face.*disconnect 'face'"):
        large(pack, tiny, face=torch.zeros(1, 64, 64))


def test_a_block_is_written_while_the_next_is_decoded(pack, folders, monkeypatch):
    decoding, waited = threading.Event(), []
    writer = pack["emo_model.inputs.media"].VideoWriter
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
    pack.run("EmoVideoCombine", fps=25.0, quality=20, filename_prefix="behind", latent={"samples": torch.zeros(40, 4, 4, 4)},
             vae=Grey())
    assert waited == [True] * 3 and len(streams(folders.output / "behind_00001_.mp4")[0]) == 40


def test_a_full_disk_is_told_while_a_video_is_written(pack, monkeypatch):
    def full(self, frames):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pack["emo_model.inputs.media"].VideoWriter, "write", full)
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


def test_cores_nodes_fit_between_sampler_and_combine(pack, tiny, latents, folders):
    import nodes

    images, = nodes.VAEDecode().decode(tiny.vae, latents())
    larger, = nodes.ImageScale().upscale(images, "bilinear", 48, 48, "disabled")
    pack.run("EmoVideoCombine", fps=25.0, quality=20, filename_prefix="larger", images=larger)
    frames, *_ = streams(folders.output / "larger_00001_.mp4")
    assert len(frames) == len(images) and frames[0].shape == (48, 48, 3)

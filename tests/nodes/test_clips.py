"""Clips on their way through the nodes: kept, found, continued, and handed on after a stop."""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
import torch
from videos import read_video

WIDGETS = {"seed": 3, "steps": 2, "sampler": "ddim", "audio_guidance": 1.0, "reference_guidance": 1.0}


@pytest.fixture(scope="module")
def voice():
    return {
        "waveform": torch.randn(1, 1, 16_000, generator=torch.Generator().manual_seed(3)) * 0.1,
        "sample_rate": 16_000,
    }


@pytest.fixture(scope="module")
def audio(pack, tiny, voice):
    return pack.run("EmoAudioEncoder", audio_encoder=tiny.audio_encoder, fps=25.0, audio=voice).result[0]


@pytest.fixture(autouse=True)
def folder(folders, monkeypatch, tmp_path) -> Path:
    """An empty folder of clips for each test, named as extra_model_paths.yaml would."""
    import folder_paths

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "emo_clips", ([str(tmp_path / "clips")], set()))
    return tmp_path / "clips"


@pytest.fixture
def sample(pack, tiny, reference, audio):
    def run(**changes):
        inputs = {"model": tiny.model, "reference": reference, "audio_features": audio, **WIDGETS, **changes}
        return pack.run("EmoSampler", **inputs).result[0]

    return run


@pytest.fixture
def said(pack, monkeypatch):
    """What the nodes say in the page."""
    texts = []
    for name in ("rendering", "running"):
        monkeypatch.setattr(pack[f"nodes.comfy_bridge.{name}"], "show", lambda hidden, text: texts.append(text))
    return texts


def stop_at(pack, monkeypatch, count: int, error: BaseException, *, is_once: bool = False) -> None:
    """Let the `count`-th update of the bar raise, and that of step `count` when the run is tried again."""
    progress, seen = pack["nodes.comfy_bridge"].Progress, []
    update = progress.update

    def stopping(self, done, latents=None):
        seen.append(done)
        if len(seen) == count or (done == count and not is_once):
            raise error
        update(self, done, latents)

    monkeypatch.setattr(progress, "update", stopping)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def test_clips_are_a_small_value_and_their_files_lie_where_comfyui_says(sample, folder):
    clips = sample()
    assert clips.frames == clips.wanted == 25 and clips.fps == 25.0 and len(files(folder)) == len(clips.keys) == 7
    assert sum(len(key) for key in clips.keys) < 1000


def test_by_default_clips_lie_in_the_user_folder_which_comfyui_does_not_empty(pack, folders, monkeypatch):
    import folder_paths

    monkeypatch.delitem(folder_paths.folder_names_and_paths, "emo_clips")
    assert pack["nodes.comfy_bridge"].clips_folder() == folders.base / "user" / "emo_clips"


def test_the_same_graph_again_renders_nothing(sample, said, folder, pack, monkeypatch):
    first = sample()
    before = {path.name: path.stat().st_size for path in files(folder)}
    stop_at(pack, monkeypatch, 1, AssertionError("something was rendered"))
    again = sample()
    assert again.keys == first.keys and {path.name: path.stat().st_size for path in files(folder)} == before
    assert "25 of 25 frames were finished before; nothing was rendered" in said[-1]


def test_comfyui_asks_the_sampler_again_once_clips_are_gone_and_only_then(sample, folder, pack):
    """It keeps the sampler's result while inputs and fingerprint stay as they were; the clips may be gone from the
    disk."""
    state = pack.nodes["EmoSampler"].fingerprint_inputs
    before = state(seed=3)  # in the order of a server that has just started
    assert "/" not in before and folder.name not in before, "it lands in the videos' metadata"
    clips = sample()
    list(clips)
    assert state(seed=3) == state(seed=4) == before
    files(folder)[0].unlink()
    with pytest.raises(FileNotFoundError, match="render the video again"):
        list(clips)
    missed = state(seed=3)
    assert missed != before and sample().keys == clips.keys and len(list(clips)) == 7 and state(seed=3) == missed
    shutil.rmtree(folder)
    assert state(seed=3) not in (before, missed) and len(list(sample())) == 7


def test_frames_and_time_are_said_in_the_node_memory_and_folders_in_the_log(sample, said, folder, caplog):
    caplog.set_level("INFO")
    sample()
    first, timed = said[0], said[1]
    assert first == "25 frames in 7 clips." and "on this machine" in timed and "about" in timed
    assert "7 of 7 clips rendered" in said[-1]
    assert said[-1].endswith(": 2 steps of ddim.")  # guided by nothing
    assert "of disk for clips" in caplog.text and str(folder) in caplog.text
    assert not [text for text in said if str(folder.parent) in text or "0.00 GB" in text]


def test_a_cancelled_run_keeps_its_clips_says_so_and_goes_on(sample, said, folder, pack, monkeypatch):
    import comfy.model_management as management

    whole = torch.cat(list(sample(seed=8)), dim=2)
    for path in files(folder):
        path.unlink()
    with monkeypatch.context() as patch:
        stop_at(pack, patch, 6, management.InterruptProcessingException())  # in the third clip
        with pytest.raises(management.InterruptProcessingException):
            sample(seed=8)
    assert said[-1] == (
        "2 of 7 clips are kept; queue again to continue; set 'render' to 'finished clips only' for a video of what is "
        "done."
    )
    assert len(files(folder)) == 2
    part = sample(seed=8, render="finished clips only")
    assert (part.frames, part.wanted, len(files(folder))) == (8, 25, 2)
    assert torch.equal(torch.cat(list(part), dim=2), whole[:, :, :8])
    resumed = sample(seed=8)
    assert "5 of 7 clips rendered" in said[-1] and torch.equal(torch.cat(list(resumed), dim=2), whole)


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), ValueError("anything")]
)
def test_an_error_tells_what_is_kept(sample, said, folder, pack, monkeypatch, error):
    stop_at(pack, monkeypatch, 4, error)
    with pytest.raises(type(error)) as raised:
        sample()
    assert "1 of 7 clips are kept; queue again to continue" in str(raised.value)
    assert not list(folder.glob("*.lease"))


@pytest.mark.parametrize(("step", "is_one_batch"), [(1, False), (4, True)])
def test_memory_that_runs_out_once_costs_no_finished_clip(sample, said, folder, pack, monkeypatch, step, is_one_batch):
    """In the first clip, branches are then evaluated one by one; later, finished clips were made in one batch."""
    whole = torch.cat(list(sample(seed=8)), dim=2)
    for path in files(folder):
        path.unlink()
    rendering, asked = pack["nodes.comfy_bridge.rendering"], []
    renderer = rendering.ClipRenderer
    monkeypatch.setattr(
        rendering, "ClipRenderer", lambda *given, **how: asked.append(how["batch_branches"]) or renderer(*given, **how)
    )
    stop_at(pack, monkeypatch, step, torch.cuda.OutOfMemoryError("CUDA out of memory"), is_once=True)
    torch.testing.assert_close(torch.cat(list(sample(seed=8)), dim=2), whole, atol=1e-4, rtol=1e-4)
    assert asked == [True, True, is_one_batch] and "7 of 7 clips rendered" in said[-1]


@pytest.mark.parametrize("is_scarce_first", [True, False])
def test_a_run_goes_on_as_it_began_though_another_amount_of_memory_is_free(
    sample, said, folder, pack, monkeypatch, tiny, is_scarce_first
):
    """Halves of guidance one after the other, or in one batch: clips are those of one way, and found whatever is free
    now."""
    rendering, asked = pack["nodes.comfy_bridge.rendering"], []
    cached = rendering.CachedRenderer

    def watched(render, *given, **how):
        if not how.get("finished_only"):
            asked.append(render.batch_branches)
        return cached(render, *given, **how)

    monkeypatch.setattr(rendering, "CachedRenderer", watched)
    has_room = not is_scarce_first
    monkeypatch.setattr(type(tiny.model), "has_room", lambda self, frames: has_room)
    clips = sample(seed=8, audio_guidance=2.0)
    whole = torch.cat(list(clips), dim=2)
    for key in clips.keys[3:]:
        (folder / f"{key}.safetensors").unlink()
    has_room = is_scarce_first
    assert torch.equal(torch.cat(list(sample(seed=8, audio_guidance=2.0)), dim=2), whole)
    assert "4 of 7 clips rendered" in said[-1] and asked == [not is_scarce_first] * 2
    assert sample(seed=8, audio_guidance=2.0, render="finished clips only").frames == whole.shape[2]


def test_what_is_finished_of_a_video_that_was_never_begun_is_an_error(sample):
    with pytest.raises(ValueError, match="Set 'render' to 'all clips': no clip of this video is finished yet in"):
        sample(render="finished clips only")


def test_what_cannot_fit_on_the_disk_is_refused_before_anything_is_rendered(sample, folder, pack, monkeypatch):
    monkeypatch.setattr(pack["emo_model.outputs.disk"].shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    stop_at(pack, monkeypatch, 1, AssertionError("something was rendered"))
    with pytest.raises(
        OSError, match=r"needs about \d+ kB on the disk of .*, and 0 kB are free: 25 frames, of which 0 of"
    ):
        sample()


def test_other_weights_are_another_video(sample, tiny):
    assert not set(sample(model=dataclasses.replace(tiny.model, weights="others")).keys) & set(sample().keys)


def test_a_vae_in_the_way_of_motion_frames_is_part_of_the_name(pack, sample, tiny, reference, monkeypatch):
    monkeypatch.setattr(
        type(tiny.vae),
        "encode",  # a face that random weights have torn is not found again
        lambda self, frames: torch.zeros(len(frames), 8, 4, 4),
    )
    plain, renewed = sample(), sample(vae=reference.vae)
    assert not set(plain.keys[1:]) & set(renewed.keys) and sample(vae=tiny.vae).keys == renewed.keys


# ---- to a file


def test_what_is_done_of_a_video_plays_with_its_sound_cut(pack, reference, sample, said, voice, folders, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(pack, patch, 8, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            sample()
    clips = sample(render="finished clips only")
    output = pack.run(
        "EmoVideoCombine", fps=10.0, quality=20, filename_prefix="part", clips=clips, vae=reference.vae, audio=voice
    )
    (shown,) = output.ui.as_dict()["images"]
    with av.open(str(folders.output / shown["filename"])) as container:
        assert container.streams.video[0].average_rate == 25  # the clips' own
        assert sum(1 for _ in container.decode(video=0)) == 12
    with av.open(str(folders.output / shown["filename"])) as container:
        sound = container.streams.audio[0]
        assert round(sound.duration * sound.time_base * 16_000) == 12 / 25 * 16_000
    assert any("The sound lasts 1.00 s and the frames 0.48 s: the sound is trimmed." in text for text in said)


def test_every_sample_is_in_the_file_when_flac_is_chosen(pack, reference, sample, folders):
    exact = (torch.randn(1, 2, 44_100, generator=torch.Generator().manual_seed(1)) * 3000).round() / 32768
    output = pack.run(
        "EmoVideoCombine",
        fps=25.0,
        quality=20,
        filename_prefix="exact",
        clips=sample(),
        vae=reference.vae,
        sound="flac",
        audio={"waveform": exact, "sample_rate": 44_100},
    )
    (shown,) = output.ui.as_dict()["images"]
    read, rate = pack["emo_model.inputs.audio"].read_audio(folders.output / shown["filename"])
    assert rate == 44_100 and torch.equal(read, exact[0])


def test_a_mix_is_heard_while_the_voice_is_followed(pack, tiny, voice, audio, said):
    mix = {"waveform": torch.zeros(1, 2, 48_000), "sample_rate": 48_000}
    features, heard, _ = pack.run(
        "EmoAudioEncoder", audio_encoder=tiny.audio_encoder, fps=25.0, audio=voice, mix=mix
    ).result
    assert heard is mix and torch.equal(features.frames, audio.frames)
    assert said[-1] == "1.000 s at 25 frames per second are 25 frames."
    longer = {"waveform": torch.zeros(1, 2, 96_000), "sample_rate": 48_000}
    pack.run("EmoAudioEncoder", audio_encoder=tiny.audio_encoder, fps=25.0, audio=voice, mix=longer)
    assert "At 'mix': The sound lasts 2.00 s and the frames 1.00 s" in said[-1]


def test_latents_say_what_memory_they_will_take(pack, sample, said):
    clips = sample()
    latent = pack.run("EmoClipsToLatent", clips=clips).result[0]["samples"]
    assert latent.shape == (25, 8, 4, 4)
    assert "25 latents take 13 kB of RAM" in said[-1] and "0.30 GB more for each megapixel of the portrait" in said[-1]


# ---- going on


def test_clips_are_continued_exactly(pack, tiny, sample):
    clips = sample()
    motion = pack.run("EmoContinueFrom", model=tiny.model, clips=clips).result[0]
    assert torch.equal(motion.latents, torch.cat(list(clips), dim=2)[:, :, -2:])
    assert sample(motion=motion).keys != clips.keys


@pytest.fixture
def carrying(pack, reference, portrait, folders, seeded_motion):
    """A video of the portrait that moves, and the latents of its last frames, which it carries."""

    def make(**inputs):
        latent = pack["nodes.conversions"].latent_of([seeded_motion], reference.vae.made_for)
        (shown,) = pack.run(
            "EmoVideoCombine", fps=25.0, quality=17, filename_prefix="go_on", latent=latent, vae=reference.vae, **inputs
        ).ui.as_dict()["images"]
        path = folders.output / shown["filename"]
        pack["emo_model.outputs.embedded_latents"].append_latents(path, seeded_motion[:, :, -2:])
        return path

    return make


@pytest.fixture(scope="module")
def seeded_motion(pack, reference):
    """Scaled latents (1, C, 6, h, w) of a head that moves aside by up to 0.3 cells, a little more in each frame."""
    rest = reference.portrait.latents
    moves = torch.zeros(1, rest.shape[1], 6, *rest.shape[2:])
    moves[:, :1] = torch.linspace(0, 0.3, 6).view(1, 1, 6, 1, 1)
    return rest[:, :, None] + pack["emo_model.inputs.vae"].to_scaled(moves, reference.vae.made_for)


@pytest.mark.parametrize("how", ["vae", "reference"])
def test_a_video_of_this_pack_is_continued_from_the_latents_that_it_carries(
    pack, tiny, carrying, reference, seeded_motion, how
):
    from comfy_api.latest import InputImpl

    given = {"vae": reference.vae} if how == "vae" else {"vae": tiny.vae, "reference": reference}
    video = InputImpl.VideoFromFile(str(carrying()))
    motion = pack.run("EmoContinueFrom", model=tiny.model, video=video, **given).result[0]
    assert torch.equal(motion.latents, seeded_motion[:, :, -2:].half().float())


def test_latents_that_are_not_of_a_videos_last_frames_are_not_believed(pack, tiny, carrying, reference, seeded_motion):
    from comfy_api.latest import InputImpl

    path, kept = carrying(), seeded_motion[:, :, -2:]
    content = path.read_bytes()
    for strange in (-kept, seeded_motion[:, :, :2] - 2, kept[:, :, :1], kept[:, :3], None):
        path.write_bytes(content[: content.index(b"comfyui-emo tail") - 8])
        if strange is not None:
            pack["emo_model.outputs.embedded_latents"].append_latents(path, strange)
        motion = (
            pack.run("EmoContinueFrom", model=tiny.model, vae=reference.vae, video=InputImpl.VideoFromFile(str(path)))
            .result[0]
            .latents
        )
        assert motion.shape == kept.shape and motion.isfinite().all()
        assert not any(torch.equal(motion, wrong.half().float()) for wrong in (-kept, kept))


@pytest.mark.parametrize("kind", ["video", "images", "head only"])
def test_a_video_is_continued_from_the_motion_in_its_last_frames(pack, tiny, carrying, reference, seeded_motion, kind):
    """The heads lie where the latents say, as far as the face mesh tells."""
    from comfy_api.latest import InputImpl

    path = carrying(frame="head only") if kind == "head only" else carrying()
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"comfyui-emo tail") - 8])
    given = {"video": InputImpl.VideoFromFile(str(path))}
    if kind == "images":
        frames = read_video(path)[0]
        given = {"images": pack["nodes.conversions"].picture_of(frames)}
    motion = pack.run("EmoContinueFrom", model=tiny.model, vae=reference.vae, **given).result[0].latents
    assert motion.shape == (1, 8, 2, 4, 4)
    raw = pack["emo_model.inputs.vae"].to_raw(motion, tiny.config)
    assert raw[0, 0, :, 1:3, 1:3].mean().item() == pytest.approx(0.27, abs=0.1)  # the flow over the face, to the side


def test_a_video_in_memory_is_continued_from_its_pictures(pack, tiny, reference, portrait):
    """ComfyUI 0.3 cannot make a file of what core's 'Create Video' gives."""
    from fractions import Fraction

    from comfy_api.latest import InputImpl, Types

    images = portrait.repeat(5, 1, 1, 1)
    video = InputImpl.VideoFromComponents(Types.VideoComponents(images=images, frame_rate=Fraction(25)))
    first, second = (
        pack.run("EmoContinueFrom", model=tiny.model, vae=reference.vae, **given).result[0].latents
        for given in ({"video": video}, {"images": images})
    )
    assert torch.equal(first, second)
    torch.testing.assert_close(first[:, :2], torch.zeros(1, 2, 2, 4, 4), atol=0.1, rtol=0)  # nothing moved


def test_a_video_that_was_cut_is_continued_from_its_cut(pack, tiny, reference, portrait, folders):
    """By core's 'Video Slice', which leaves the file as it is; ComfyUI 0.3 has none."""
    from comfy_api.latest import InputImpl

    images = portrait.repeat(10, 1, 1, 1)
    images[5:] = images[5:].roll(6, dims=2)
    (shown,) = pack.run("EmoVideoCombine", fps=10.0, quality=1, filename_prefix="cut", images=images).ui.as_dict()[
        "images"
    ]
    whole = InputImpl.VideoFromFile(str(folders.output / shown["filename"]))
    if not hasattr(whole, "as_trimmed"):
        pytest.skip("this ComfyUI cuts no videos")
    motion = pack.run("EmoContinueFrom", model=tiny.model, vae=reference.vae, video=whole.as_trimmed(0.0, 0.5)).result[
        0
    ]
    frames = read_video(folders.output / shown["filename"])[0][:5]
    images = pack["nodes.conversions"].picture_of(frames)
    expected = pack.run("EmoContinueFrom", model=tiny.model, vae=reference.vae, images=images).result[0]
    assert torch.equal(motion.latents, expected.latents)


def test_what_is_missing_to_continue_is_said(pack, tiny, sample, reference):
    with pytest.raises(ValueError, match="Nothing to continue from: connect one of 'clips', 'video', 'images'"):
        pack.run("EmoContinueFrom", model=tiny.model)
    with pytest.raises(ValueError, match="must be encoded: connect 'reference' of 'EMO Reference Encoder'"):
        pack.run("EmoContinueFrom", model=tiny.model, images=torch.zeros(3, 32, 32, 3))
    with pytest.raises(ValueError, match="30x50 pixels, the portrait's picture 260x220"):
        pack.run("EmoContinueFrom", model=tiny.model, images=torch.zeros(3, 50, 30, 3), vae=reference.vae)
    with pytest.raises(ValueError, match="'clips' and 'images' are connected, but only one"):
        pack.run("EmoContinueFrom", model=tiny.model, clips=sample(), images=torch.zeros(3, 32, 32, 3))


def test_a_run_holds_its_clips_as_long_as_comfyui_holds_the_result(pack, sample, folder):
    import gc

    clips, cache = sample(), pack["emo_model.cache.folder"]
    strict = cache.ClipCache(folder, cache.CacheLimits(max_gb=0, max_days=0))
    with strict.run():
        assert len(files(folder)) == 7
    del clips
    gc.collect()
    time.sleep(0.01)
    with strict.run():
        assert not files(folder)


@pytest.mark.parametrize(("saved", "now"), [("euler", "ddim"), ("lcm", "ddim"), ("unipc", "dpmpp_2m")])
def test_workflows_that_name_a_sampler_of_earlier_versions_still_run(sample, pack, saved, now):
    assert pack["nodes.sampler"].EmoSampler.validate_inputs(saved) is True
    assert sample(sampler=saved).keys == sample(sampler=now).keys


def test_one_picture_per_clip_is_shown_where_comfyui_asks_for_none(pack, sample, monkeypatch):
    from comfy.cli_args import LatentPreviewMethod, args

    shown, progress = [], pack["nodes.comfy_bridge.running"].Progress
    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.NoPreviews)
    monkeypatch.setattr(progress, "_send", lambda self, preview: shown.append(preview))
    sample(seed=55)
    pictures = [preview[1] for preview in shown if preview is not None]
    assert len(pictures) == 7 and {picture.size for picture in pictures} == {(256, 217)}

"""What nodes refuse: the sentence, and that nothing is left behind."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch


def combine(pack, name: str, **inputs):
    return pack.run("EmoVideoCombine", **{"fps": 25.0, "quality": 20, "filename_prefix": name, **inputs})


def free(pack, monkeypatch, count: int) -> None:
    monkeypatch.setattr(pack["emo_model.outputs.disk"].shutil, "disk_usage", lambda _: SimpleNamespace(free=count))


def test_a_video_that_the_disk_has_no_room_for_is_refused_before_it_is_written(pack, folders, monkeypatch):
    free(pack, monkeypatch, 20_000)
    noisy = torch.rand(20, 96, 128, 3, generator=torch.Generator().manual_seed(0))
    audio = {"waveform": torch.zeros(1, 1, 12_800), "sample_rate": 16_000}
    with pytest.raises(
        OSError,
        match=r"^The video needs about \d+ kB on the disk of .*, and 20 kB are free: 20 frames of 128x96 pixels\. Make",
    ):
        combine(pack, "scarce", images=noisy, audio=audio)
    assert not list(folders.output.rglob("scarce*"))
    combine(pack, "scarce", images=torch.full_like(noisy, 0.5)[:2])  # smooth and short: it fits
    assert [path.name for path in folders.output.rglob("scarce*")] == ["scarce_00001_.mp4"]


def test_the_samplers_estimate_knows_the_size_and_the_grain_of_the_whole_picture(pack, tiny, reference, caplog):
    voice = {
        "waveform": torch.randn(1, 1, 3200, generator=torch.Generator().manual_seed(3)) * 0.1,
        "sample_rate": 16_000,
    }
    audio = pack.run("EmoAudioEncoder", audio_encoder=tiny.audio_encoder, fps=25.0, audio=voice).result[0]
    widgets = {"seed": 77, "steps": 1, "sampler": "ddim", "audio_guidance": 1.0, "reference_guidance": 1.0}
    with caplog.at_level(logging.INFO):
        pack.run("EmoSampler", model=tiny.model, reference=reference, audio_features=audio, **widgets)
    disk, picture = pack["emo_model.outputs.disk"], reference.whole.still
    needed = disk.video_bytes(
        len(audio.frames), fps=25.0, width=picture.shape[1], height=picture.shape[0], grain=disk.grain_of(picture)
    )
    config = tiny.config
    needed += config.latent_channels * config.latent_size**2
    assert picture.shape == (220, 260, 3) and f"at most about {disk.size(needed)} for the video" in caplog.text


@pytest.mark.parametrize(
    ("shape", "what"),
    [((2, 4, 64, 64), r"\(Stable Diffusion's, of pictures\)"), ((2, 16, 64, 64), r"\(SD3's or FLUX's, of pictures\)")],
)
def test_latents_of_picture_models_are_refused_by_their_name(pack, reference, folders, shape, what):
    with pytest.raises(ValueError, match=rf"^Connect the LATENT of 'EMO Clips To Latent', or decode .*{what}, the"):
        combine(pack, "other", latent={"samples": torch.zeros(shape)}, reference=reference)
    assert not list(folders.output.rglob("other*"))


@pytest.mark.parametrize("quality", [-1, 52])
def test_a_quality_from_a_link_that_h264_does_not_have_is_refused(pack, folders, quality):
    with pytest.raises(ValueError, match="^Set 'quality' to a number from 0 to 51"):
        combine(pack, "worse", images=torch.rand(2, 32, 32, 3), quality=quality)
    assert not list(folders.output.rglob("worse*"))


@pytest.mark.parametrize("long_side", [0, 10**6])
def test_a_size_from_a_link_beyond_the_widget_is_refused(pack, tiny, portrait, long_side):
    with pytest.raises(ValueError, match="^Set 'long_side' to a number from 64 to 8192 pixels"):
        pack.run("EmoReferenceEncoder", model=tiny.model, fit="crop", image=portrait, long_side=long_side)


def test_settings_from_a_link_beyond_the_widgets_say_what_to_do(pack, tiny, reference):
    audio = pack["emo_model.types"].AudioFeatures(
        torch.zeros(4, tiny.config.audio_layers, tiny.config.audio_width), fps=25.0, seconds=0.16
    )
    widgets = {"seed": 0, "steps": 2, "sampler": "ddim", "audio_guidance": 1.0, "reference_guidance": 1.0}
    inputs = {"model": tiny.model, "reference": reference, "audio_features": audio}
    for change, said in (
        ({"steps": 5000}, "steps must be 1 to 1000"),
        ({"audio_guidance": float("nan")}, "audio_guid"),
    ):
        with pytest.raises(ValueError, match=f"^Set or connect another value: {said}"):
            pack.run("EmoSampler", **inputs, **{**widgets, **change})


def test_nothing_finished_is_one_sentence_in_log_and_error(pack, tiny, reference, caplog):
    audio = pack["emo_model.types"].AudioFeatures(
        torch.rand(4, tiny.config.audio_layers, tiny.config.audio_width), fps=25.0, seconds=0.16
    )
    widgets = {"seed": 4711, "steps": 1, "sampler": "ddim", "audio_guidance": 1.0, "reference_guidance": 1.0}
    inputs = {"model": tiny.model, "reference": reference, "audio_features": audio, "render": "finished clips only"}
    with caplog.at_level(logging.INFO), pytest.raises(ValueError, match="^Set 'render' to 'all clips'") as refused:
        pack.run("EmoSampler", **inputs, **widgets)
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("EMO")]
    assert said == [f"EMO: {refused.value}"] and "\n" not in str(refused.value)

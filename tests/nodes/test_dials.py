"""Dials and idle videos on their way through the nodes."""

from __future__ import annotations

import pytest
import torch
from videos import read_video

WIDGETS = {"seed": 3, "steps": 2, "sampler": "ddim", "audio_guidance": 1.0, "reference_guidance": 1.0}
DIALS = dict.fromkeys(("smile", "brows", "gaze_x", "gaze_y", "yaw", "pitch", "roll"), "0")
DIALS |= {"audio_strength": "1", "blink_rate": "1"}


@pytest.fixture(autouse=True)
def folder(folders, monkeypatch, tmp_path):
    import folder_paths

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "emo_clips", ([str(tmp_path / "clips")], set()))
    return tmp_path / "clips"


@pytest.fixture(scope="module")
def audio(pack, tiny):
    sound = torch.randn(1, 1, 12_000, generator=torch.Generator().manual_seed(3)) * 0.1
    voice = {"waveform": sound, "sample_rate": 16_000}
    return pack.run("EmoAudioEncoder", audio_encoder=tiny.audio_encoder, fps=25.0, audio=voice).result[0]


@pytest.fixture
def sample(pack, tiny, reference, audio):
    def run(**changes):
        inputs = {"model": tiny.model, "reference": reference, "audio_features": audio, **WIDGETS, **changes}
        return pack.run("EmoSampler", **inputs).result[0]

    return run


def expression(pack, **dials):
    return pack.run("EmoExpression", **{**DIALS, **dials}).result[0]


def test_changing_a_dial_samples_nothing_again_and_continues_the_motion_without_it(pack, tiny, sample, folder):
    plain = sample()
    files = sorted(folder.glob("*.safetensors"))
    dialled = sample(expression=expression(pack, smile="0: 0; 0.3: 1", yaw="8"))
    assert sorted(folder.glob("*.safetensors")) == files
    before, after = torch.cat(list(plain), 2), torch.cat(list(dialled), 2)
    assert torch.equal(after[:, : before.shape[1]], before)
    assert after.shape[1] > before.shape[1]
    continued = [pack.run("EmoContinueFrom", model=tiny.model, clips=one).result[0] for one in (plain, dialled)]
    assert torch.equal(*(one.latents for one in continued))


def test_neutral_dials_give_the_very_clips(pack, sample):
    plain, neutral = sample(), sample(expression=expression(pack))
    assert torch.equal(torch.cat(list(plain), 2), torch.cat(list(neutral), 2))


def test_a_dialled_video_is_continued_from_the_latents_that_it_carries_without_the_dials(
    pack, tiny, reference, folders
):
    from comfy_api.latest import InputImpl

    rest = reference.portrait.latents[:, :, None].repeat(1, 1, 6, 1, 1)
    rest[:, :1] += 0.3
    direction = pack["emo_model.sampling.direction"].Direction(expression(pack, roll="12"))
    dialled = direction.dialled(rest, 0, total=6)
    latent = pack["nodes.conversions"].latent_of([dialled], tiny.config)
    made = pack.run("EmoVideoCombine", fps=25.0, quality=17, filename_prefix="d", latent=latent, vae=reference.vae)
    path = folders.output / made.ui.as_dict()["images"][0]["filename"]
    pack["emo_model.outputs.embedded_latents"].append_latents(path, dialled[:, :, -2:])
    video = InputImpl.VideoFromFile(str(path))
    motion = pack.run("EmoContinueFrom", model=tiny.model, video=video, vae=reference.vae).result[0]
    assert torch.equal(motion.latents, rest[:, :, -2:].half().float())


def test_core_decodes_a_dialled_latent_as_the_combiner_does(pack, reference, sample):
    clips = sample(expression=expression(pack, roll="12"))
    (latent,) = pack.run("EmoClipsToLatent", clips=clips).result
    plain = pack.run("EmoClipsToLatent", clips=sample()).result[0]
    turned, straight = (reference.vae.decode(one["samples"]) for one in (latent, plain))
    assert (turned - straight).abs().amax() > 0.1


def test_a_list_per_frame_and_a_curve_are_dials(pack):
    class Line:
        def interp(self, x: float) -> float:
            return x

    made = expression(pack, smile=[0.0, 0.5, 1.0], gaze_x=Line(), yaw=3.5)
    seen = made.at(0, 3, fps=25, total=3, seed=0, blinks=0)
    assert seen[:, 1].tolist() == [0.0, 0.5, 1.0]
    torch.testing.assert_close(seen[:, 4], torch.tensor([0.0, 0.5, 1.0]))


def test_an_idle_video_is_as_long_as_asked_silent_and_says_what_it_is_like(pack, tiny, reference, sample, monkeypatch):
    texts = []
    monkeypatch.setattr(pack["nodes.comfy_bridge.running"], "show", lambda hidden, text: texts.append(text))
    features = pack.run("EmoIdle", model=tiny.model, seconds=1.0, fps=25.0).result[0]
    clips = sample(audio_features=features)
    assert clips.frames == 25
    assert (torch.cat(list(clips), 2)[0, tiny.config.latent_channels] == -1).all()  # the mouth rests
    video = pack.run("EmoVideoCombine", fps=25.0, quality=23, filename_prefix="idle", clips=clips, reference=reference)
    assert len(read_video(video.result[0].get_stream_source())[0]) == 25
    assert any("25 frames, 1.00 s" in text and "0 pixels changed outside" in text for text in texts)


def test_a_talking_portrait_is_idle_or_has_a_voice_and_hands_its_dials_on(pack):
    inputs = {"model": "built-in default", "seed": 0, "quality": "high"}
    made = pack.run("EmoTalkingPortrait", **inputs, idle_seconds=2.0, expression=["7", 0]).expand
    kinds = {node["class_type"]: node["inputs"] for node in made.values()}
    assert kinds["EmoIdle"]["seconds"] == 2.0 and "EmoAudioEncoder" not in kinds
    assert kinds["EmoSampler"]["expression"] == ["7", 0]
    assert "audio" not in kinds["EmoVideoCombine"]
    with pytest.raises(ValueError, match="idle_seconds"):
        pack.run("EmoTalkingPortrait", **inputs, voice=["5", 0], idle_seconds=2.0)


@pytest.mark.parametrize("wrong", [{"smile": "wide"}, {"blinks": "often"}, {"yaw": "400"}])
def test_a_dial_that_cannot_be_read_is_named(pack, wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=rf"^[^\n]*'{name}'[^\n]*\.$"):
        pack.run("EmoExpression", **{**DIALS, **wrong})

"""Hallo through the nodes: the same graph, with a wav2vec 2.0 of core, regions of the face, and who it is where that is
known."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from videos import read_video

from emo_model.checkpoints import random_files

FRAMES = 18  # two clips
EDGES = {"left": 0.2, "top": 0.2, "right": 0.8, "bottom": 0.9}


class Folded:
    """A VAE of Stable Diffusion's shape: eight by eight pixels become the mean of each colour, and a fourth channel."""

    def __init__(self):
        self.decoded = []

    def encode(self, image):
        small = F.avg_pool2d(image.movedim(-1, 1), 8) * 2 - 1
        return torch.cat([small, small[:, :1]], dim=1)

    def decode(self, samples):
        self.decoded.append(len(samples))
        return F.interpolate(samples[:, :3].float() / 2 + 0.5, scale_factor=8).movedim(1, -1).clamp(0, 1)


class Voice:
    """Core's AUDIO_ENCODER around a small network of core's own class."""

    def __init__(self, *, is_large: bool = False):
        import comfy.model_patcher
        import comfy.ops
        from comfy.audio_encoders.wav2vec2 import Wav2Vec2Model

        torch.manual_seed(3)
        self.load_device = torch.device("cpu")
        self.model = (
            Wav2Vec2Model(
                embed_dim=32,
                num_heads=4,
                num_layers=12,
                conv_norm=is_large,
                conv_bias=is_large,
                do_normalize=is_large,
                do_stable_layer_norm=is_large,
                operations=comfy.ops.manual_cast,
            )
            .eval()
            .requires_grad_(False)
        )
        for weight in self.model.parameters():
            nn.init.normal_(weight, std=0.2) if weight.ndim > 1 else nn.init.normal_(weight, mean=0.5, std=0.1)
        self.patcher = comfy.model_patcher.ModelPatcher(self.model, self.load_device, self.load_device)

    def encode_audio(self, audio, sample_rate):
        out, layers = self.model(audio)
        return {"encoded_audio": out, "encoded_audio_all_layers": layers}


@pytest.fixture(scope="module")
def hallo(pack, folders) -> SimpleNamespace:
    """A small net of Hallo's layout for pictures of 32x32, whose voice has twelve layers of 32."""
    config = replace(random_files.SMALL_HALLO, audio_width=32)
    path = folders.base / "models" / "emo" / "small-hallo.safetensors"
    random_files.write_random(path, random_files.hallo_shapes(config), image_size=32)
    model, audio_encoder, vae = pack.run("EmoLoadModel", model_name=path.name).result
    yield SimpleNamespace(model=model, audio_encoder=audio_encoder, vae=vae, config=config)
    path.unlink()


@pytest.fixture(scope="module")
def sound() -> dict:
    waveform = torch.randn(1, 1, round(16000 * FRAMES / 25), generator=torch.Generator().manual_seed(3)) * 0.1
    return {"waveform": waveform, "sample_rate": 16000}


@pytest.fixture(scope="module")
def portrait() -> torch.Tensor:
    return torch.rand(1, 50, 40, 3, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def face(pack):
    """IMAGE (1, 150, 180, 3) with a face that fills most of it."""
    small = F.interpolate(pack["nodes.shipped"].portrait(), size=(150, 150), mode="area")
    return pack["nodes.conversions"].images(F.pad(small, (15, 15, 0, 0), mode="replicate"))


@pytest.fixture(scope="module")
def reference(pack, hallo, portrait):
    return pack.run("EmoReferenceEncoder", model=hallo.model, vae=Folded(), fit="crop", image=portrait).result[0]


@pytest.fixture(scope="module")
def voice(pack, hallo, sound):
    return pack.run("EmoAudioEncoder", audio_encoder=Voice(), fps=25.0, audio=sound, model=hallo.model).result[0]


@pytest.fixture(scope="module")
def face_mask(pack, reference):
    return pack.run("EmoFaceMaskBuilder", reference=reference, mode="box", **EDGES).result[0]


@pytest.fixture(scope="module")
def sample(pack, hallo, reference, voice, face_mask):
    def run(**changes):
        inputs = {
            "model": hallo.model,
            "reference": reference,
            "audio_features": voice,
            "face_mask": face_mask,
            "seed": 0,
            "steps": 1,
            "sampler": "ddim",
            "audio_guidance": 3.5,
            "reference_guidance": 3.5,
            **changes,
        }
        (clips,) = pack.run("EmoSampler", **inputs).result
        return pack.run("EmoClipsToLatent", clips=clips).result[0]["samples"]

    return run


def test_the_file_in_hallos_layout_is_loaded_and_names_what_it_lacks(hallo):
    assert hallo.model.config.hallo is not None and hallo.model.config.image_size == 32
    assert "'Load VAE'" in hallo.vae.message and "wav2vec2" in hallo.audio_encoder.message


def test_a_pickle_is_listed_and_loaded_and_one_with_more_than_weights_is_refused(pack, folders):
    folder = folders.base / "models" / "emo"
    try:
        random_files.write_random(folder / "net.pth", random_files.hallo_shapes(random_files.SMALL_HALLO))
        torch.save({"hook": nn.Linear(1, 1)}, folder / "evil.ckpt")
        assert {"net.pth", "evil.ckpt"} < set(pack["nodes.comfy_bridge"].model_names())
        model = pack.run("EmoLoadModel", model_name="net.pth").result[0]
        assert model.config.image_size == 512 and model.config.channels == (32, 64, 64, 64)
        with pytest.raises(ValueError, match="contains more than weights.*refused"):
            pack.run("EmoLoadModel", model_name="evil.ckpt")
    finally:
        for name in ("net.pth", "evil.ckpt"):
            (folder / name).unlink(missing_ok=True)


def test_two_clips_are_sampled_and_the_seed_decides(sample):
    first = sample()
    assert first.shape == (FRAMES, 4, 4, 4) and first.isfinite().all()
    assert torch.equal(sample(), first) and not torch.allclose(sample(seed=1), first)


def test_a_vae_at_the_sampler_renews_the_motion_frames_of_the_second_clip_only(sample):
    vae, plain = Folded(), sample()
    renewed = sample(vae=vae)
    assert vae.decoded and set(vae.decoded) == {2}
    assert torch.equal(renewed[:16], plain[:16]) and not torch.allclose(renewed[16:], plain[16:], atol=1e-4)


def test_the_face_embedding_reaches_the_model_and_its_absence_is_told(
    pack, hallo, portrait, reference, monkeypatch, caplog
):
    identity = pack["emo_model.inputs.identity"]
    with caplog.at_level("INFO"):
        plain = pack.run("EmoReferenceEncoder", model=hallo.model, vae=Folded(), fit="crop", image=portrait).result[0]
    assert "insightface" in caplog.text and "Without a face embedding" in caplog.text
    assert plain.portrait.identity is None and torch.equal(
        plain.features.features["mid_block.attentions.0"], plain.features.unconditional["mid_block.attentions.0"]
    )
    found = identity.FoundFace(torch.linspace(-1, 1, 512)[None], (8, 8, 24, 28), (12, 20, 20, 26))
    monkeypatch.setattr(identity, "find_face", lambda pixels, folder: found)
    known = pack.run("EmoReferenceEncoder", model=hallo.model, vae=Folded(), fit="crop", image=portrait).result[0]
    assert known.portrait.identity.shape == (1, 512) and known.features.identity.shape == (1, 2, 4, 24)
    features = known.features
    assert not torch.allclose(
        features.features["mid_block.attentions.0"], features.unconditional["mid_block.attentions.0"]
    )


def test_who_it_is_is_looked_up_in_the_square_around_the_face_and_not_in_all_of_a_large_picture(
    pack, hallo, monkeypatch
):
    identity, seen = pack["emo_model.inputs.identity"], []
    found = identity.FoundFace(torch.zeros(1, 512), (8, 8, 24, 28), (12, 20, 20, 26))
    monkeypatch.setattr(identity, "find_face", lambda pixels, folder: seen.append(pixels) or found)
    image, mask = torch.rand(1, 60, 100, 3), torch.zeros(1, 60, 100)
    mask[:, 20:30, 70:80] = 1
    for others in ({}, {"face": mask}):
        pack.run("EmoReferenceEncoder", model=hallo.model, vae=Folded(), fit="crop", image=image, **others)
    assert [tuple(one.shape) for one in seen] == [(1, 3, 60, 100), (1, 3, 20, 20)]
    assert torch.equal(seen[1], seen[0][..., 13:33, 65:85])


def test_a_detected_face_gives_the_box_the_lips_and_the_regions(pack, hallo, face):
    """By the networks of this pack, without insightface."""
    reference = pack.run("EmoReferenceEncoder", model=hallo.model, vae=Folded(), fit="crop", image=face).result[0]
    face_mask, mask = pack.run("EmoFaceMaskBuilder", reference=reference, mode="detected", **EDGES).result
    rows, columns = mask[0].any(1).nonzero().flatten(), mask[0].any(0).nonzero().flatten()
    assert rows[0] < 12 and rows[-1] > 22 and 0 < columns[0] < 12 and 20 < columns[-1] < 31 and 0.2 < mask.mean() < 0.95
    lips = face_mask.regions[0, 2]
    peak = lips.flatten().argmax().item()
    assert (
        face_mask.regions.shape == (1, 3, 64, 64) and 36 < peak // 64 < 56 and 24 < peak % 64 < 40 and lips[4, 4] < 0.1
    )


def test_where_the_mode_detected_finds_no_face_it_says_what_to_do(pack, reference):
    with pytest.raises(ValueError, match="^Set 'mode' to 'box' or 'mask'. No face"):
        pack.run("EmoFaceMaskBuilder", reference=reference, mode="detected", **EDGES)


def test_the_square_is_cut_around_the_face_and_put_back_into_the_whole_picture(pack, hallo, voice, face_mask, sound):
    cells = torch.rand(
        1, 5, 9, 1, generator=torch.Generator().manual_seed(5)
    )  # large and grey: codecs keep such pictures
    image = cells.repeat_interleave(10, 1).repeat_interleave(10, 2).repeat(1, 1, 1, 3)
    mask, vae = torch.zeros(1, 50, 90), Folded()
    mask[:, 14:26, 24:36] = 1
    reference, picture, same = pack.run(
        "EmoReferenceEncoder", model=hallo.model, vae=vae, fit="crop", image=image, face=mask
    ).result
    fit = reference.portrait.fit
    assert (fit.left, fit.top, fit.side) == (18, 6, 24) and picture.shape == (1, 32, 32, 3) and same is vae
    (clips,) = pack.run(
        "EmoSampler",
        model=hallo.model,
        reference=reference,
        audio_features=voice,
        face_mask=face_mask,
        seed=0,
        steps=1,
        sampler="ddim",
        audio_guidance=1.0,
        reference_guidance=1.0,
    ).result

    def written(**inputs):
        video = pack.run(
            "EmoVideoCombine", fps=25.0, quality=0, filename_prefix="whole", clips=clips, vae=vae, audio=sound, **inputs
        ).result[0]
        return read_video(video.get_stream_source())[0]

    frames = written(reference=reference)
    assert frames.shape == (FRAMES, 50, 90, 3)
    moves = torch.from_numpy(frames).float().sub(image * 255).abs().mean((0, 3))
    assert moves[10:26, 22:38].mean() > 3 * moves[:, 50:].mean()
    assert written(reference=reference, frame="head only").shape == written().shape == (FRAMES, 32, 32, 3)

    def continued(images, **others):
        return pack.run("EmoContinueFrom", model=hallo.model, vae=vae, images=images, **others).result[0].latents

    last = torch.from_numpy(frames[-2:]).float() / 255
    square = pack["nodes.conversions"].fitted_frames(last, hallo.model.config, 2, fit)
    torch.testing.assert_close(continued(last, reference=reference), continued(square), atol=1e-4, rtol=0)
    assert not torch.allclose(continued(last), continued(square), atol=1e-2)


def test_a_face_that_nobody_painted_is_told(pack, hallo, portrait):
    with pytest.raises(ValueError, match="at 'face' is empty.*transparency.*Paint the face.*disconnect 'face'"):
        pack.run(
            "EmoReferenceEncoder",
            model=hallo.model,
            vae=Folded(),
            fit="crop",
            image=portrait,
            face=torch.zeros(1, 64, 64),
        )


def test_drawn_lips_take_the_place_of_the_guess(pack, reference, face_mask):
    lips = torch.zeros(1, 50, 40)
    lips[:, 5:15, 5:15] = 1
    drawn = pack.run("EmoFaceMaskBuilder", reference=reference, mode="box", lips=lips, **EDGES).result[0]
    assert torch.equal(drawn.mask, face_mask.mask) and not torch.allclose(drawn.regions, face_mask.regions)
    with pytest.raises(ValueError, match="at 'lips' is empty.*disconnect 'lips'"):
        pack.run("EmoFaceMaskBuilder", reference=reference, mode="box", lips=lips * 0, **EDGES)


def test_the_voice_is_brought_to_the_frame_rate_before_the_transformer_and_in_pieces(pack, hallo, sound, voice):
    encoder, rows = Voice(), 32
    waveform = sound["waveform"][0, 0]
    normal = F.pad(
        (waveform - waveform.mean()) / (waveform.var(unbiased=False) + 1e-7).sqrt(), (0, (rows - FRAMES) * 640)
    )
    with torch.no_grad():
        features = encoder.model.feature_extractor(normal[None]).transpose(1, 2)
        features = F.interpolate(features, size=rows, mode="linear", align_corners=True).transpose(1, 2)
        whole = torch.stack(encoder.model.encoder(encoder.model.feature_projection(features))[1][1:], dim=2)[0]
    assert voice.resampling == "convolutions" and voice.padding == rows - FRAMES and whole.std() > 0.3
    torch.testing.assert_close(voice.frames, whole, atol=1e-3, rtol=0)
    wav2vec2 = pack["emo_model.inputs.wav2vec2"]
    pieces = wav2vec2.features_at_frame_rate(encoder.model, waveform, fps=25.0, clip_frames=16, piece_rows=7)
    torch.testing.assert_close(pieces.frames, voice.frames, atol=1e-3, rtol=0)


def test_without_a_model_cores_wav2vec2_gives_its_layers_at_the_frame_rate_exactly(pack, sound):
    encoder = Voice()
    features = pack.run("EmoAudioEncoder", audio_encoder=encoder, fps=25.0, audio=sound).result[0]
    assert features.resampling == "features" and features.frames.shape == (FRAMES, 12, 32)
    waveform = sound["waveform"]
    normal = (waveform - waveform.mean()) / (waveform.var(unbiased=False) + 1e-7).sqrt()
    with torch.no_grad():
        layers = torch.stack(encoder.encode_audio(normal, 16000)["encoded_audio_all_layers"][1:], dim=2)[0]
    expected = pack["emo_model.inputs.audio"].features_per_frame(layers, fps=25.0, seconds=FRAMES / 25).frames
    torch.testing.assert_close(features.frames, expected, atol=1e-3, rtol=0)


def test_features_made_without_the_model_are_refused_with_the_wire_that_is_missing(pack, sample, sound, hallo):
    plain = pack.run("EmoAudioEncoder", audio_encoder=Voice(), fps=25.0, audio=sound).result[0]
    with pytest.raises(ValueError, match="connect 'model' of 'Load EMO Model' to 'EMO Audio Encoder'"):
        sample(audio_features=plain)


@pytest.mark.parametrize("other", ["large", "built in"])
def test_an_encoder_that_is_no_base_wav2vec2_is_refused_by_name(pack, hallo, tiny, sound, other):
    encoder = Voice(is_large=True) if other == "large" else tiny.audio_encoder
    with pytest.raises(ValueError, match="wav2vec2-base-960h to 'audio_encoder'"):
        pack.run("EmoAudioEncoder", audio_encoder=encoder, fps=25.0, audio=sound, model=hallo.model)


def test_a_large_wav2vec2_is_still_heard_for_other_models(pack, sound):
    features = pack.run("EmoAudioEncoder", audio_encoder=Voice(is_large=True), fps=25.0, audio=sound).result[0]
    assert features.frames.shape == (FRAMES, 12, 32)


def test_without_a_face_mask_the_sampler_says_what_to_connect(sample):
    with pytest.raises(ValueError, match="'EMO Face Mask Builder' to 'face_mask'"):
        sample(face_mask=None)


def test_features_for_hallo_do_not_fit_the_built_in_kind_of_model(pack, tiny, voice):
    conversions, types = pack["nodes.conversions"], pack["emo_model.types"]
    size = tiny.config.latent_size
    portrait = types.Portrait(torch.zeros(1, tiny.config.latent_channels, size, size), None, None)
    features = types.AudioFeatures(torch.zeros(4, 1, 8), 25.0, 0.16, resampling="convolutions")
    with pytest.raises(ValueError, match="Connect the 'Load EMO Model' of 'test' to 'model' of 'EMO Audio Encoder'"):
        conversions.check_match(tiny.config, portrait, features, None)

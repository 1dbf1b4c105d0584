from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emo_model.models.emo import Emo
from emo_model.types import MotionFrames


@pytest.fixture
def prepared(emo, config, conditions):
    """(features of the portrait, context of the first clip)."""
    calm = conditions(config, frames=config.clip_frames)
    with torch.no_grad():
        reference = emo.encode_reference(calm.portrait.latents)
        clip = calm.clip(0, clip_frames=config.clip_frames, margin_frames=config.audio_margin_frames)
        return reference, emo.prepare(reference, emo.encode_motion(MotionFrames(), like=reference), clip)


def test_the_first_clip_has_motion_maps_of_zeros_at_every_layer(emo, config, prepared):
    reference, _ = prepared
    motion = emo.encode_motion(MotionFrames(), like=reference)
    assert motion.features.keys() == reference.features.keys()
    for name, feature in reference.features.items():
        assert motion.features[name].shape == (1, config.motion_frames, *feature.shape[1:])
        assert not motion.features[name].any() and feature.any()


def test_motion_frames_are_read_as_portraits_are(emo, config, seeded, prepared):
    latents = seeded(2, 8, config.motion_frames, config.latent_size, config.latent_size)
    with torch.no_grad():
        motion = emo.encode_motion(MotionFrames(latents), like=prepared[0]).features
        for frame in range(config.motion_frames):
            alone = emo.encode_reference(latents[:, :, frame]).features
            for name, feature in alone.items():
                torch.testing.assert_close(motion[name][:, frame], feature, rtol=1e-4, atol=1e-5)


def test_the_face_locators_features_are_added_to_the_noise(emo, config, seeded, prepared):
    context, noisy, timestep = prepared[1], seeded(1, 8, config.clip_frames, 4, 4), torch.tensor([300])
    assert context.face.shape == (1, 8, 1, 4, 4) and context.face.any()
    with torch.no_grad():
        there = emo.predict(noisy, timestep, context)
        by_hand = emo.predict(noisy + context.face, timestep, replace(context, face=torch.zeros_like(context.face)))
    assert torch.equal(there, by_hand)


def test_without_audio_leaves_silent_tokens_and_all_else(prepared):
    context = prepared[1]
    silent = context.without_audio()
    assert context.audio.any() and not silent.audio.any() and silent.audio.shape == context.audio.shape
    assert silent.reference is context.reference and silent.motion is context.motion and silent.speed is context.speed


def test_without_reference_leaves_a_portrait_of_zeros_and_all_else(prepared):
    context = prepared[1]
    nobody = context.without_reference()
    assert nobody.reference.features.keys() == context.reference.features.keys()
    assert not any(feature.any() for feature in nobody.reference.features.values())
    assert nobody.audio is context.audio and nobody.motion is context.motion and nobody.face is context.face


def test_portrait_voice_speed_and_time_all_reach_the_prediction(emo, config, seeded, prepared):
    context, noisy, timestep = prepared[1], seeded(1, 8, config.clip_frames, 4, 4), torch.tensor([300])
    others = {
        "portrait": context.without_reference(),
        "audio": context.without_audio(),
        "speed": replace(context, speed=-context.speed),
        "motion": replace(context, motion=context.motion.map(lambda x: seeded(*x.shape, seed=7))),
    }
    with torch.no_grad():
        prediction = emo.predict(noisy, timestep, context)
        others = {name: emo.predict(noisy, timestep, other) for name, other in others.items()}
        others["time"] = emo.predict(noisy, timestep + 300, context)
    assert [name for name, other in others.items() if (prediction - other).abs().max() < 1e-3] == []


def test_a_portrait_of_another_size_is_refused_with_both_sizes(emo):
    with pytest.raises(
        ValueError, match=r"are \(8, 8, 8\), model 'test' needs \(8, 4, 4\): encode the portrait with the VAE"
    ):
        emo.encode_reference(torch.zeros(1, 8, 8, 8))


def test_another_number_of_motion_frames_is_refused(emo, prepared):
    with pytest.raises(ValueError, match="3 motion frames given, this model was built for 2"):
        emo.encode_motion(MotionFrames(torch.zeros(1, 8, 3, 4, 4)), like=prepared[0])


def test_the_clips_conditions_go_to_the_models_device_and_dtype(config, conditions):
    with torch.device("meta"):
        emo = Emo(config).to(torch.bfloat16)
    calm = conditions(config, frames=config.clip_frames)
    reference = emo.encode_reference(calm.portrait.latents.to("meta", torch.bfloat16))
    clip = calm.clip(0, clip_frames=config.clip_frames, margin_frames=config.audio_margin_frames)  # on the CPU, float32
    context = emo.prepare(reference, emo.encode_motion(MotionFrames(), like=reference), clip)
    noisy = torch.zeros(1, 8, config.clip_frames, 4, 4, device="meta", dtype=torch.bfloat16)
    said = emo.predict(noisy, torch.zeros(1, device="meta"), context)
    for tensor in (context.audio, context.speed, context.face, said):
        assert tensor.device.type == "meta" and tensor.dtype == torch.bfloat16
    assert said.shape == noisy.shape

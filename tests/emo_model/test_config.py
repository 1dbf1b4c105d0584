from __future__ import annotations

import json
from dataclasses import replace

import pytest

from emo_model.config import PRESETS, ModelConfig, SamplingConfig


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_its_json(name):
    again = ModelConfig.from_json(PRESETS[name].to_json())
    assert again == PRESETS[name] and hash(again) == hash(PRESETS[name])  # tuples stay tuples, all the way down


def test_a_model_of_an_earlier_version_that_painted_the_portrait_anew_is_refused_with_a_sentence():
    values = json.loads(PRESETS["test"].to_json()) | {"autoencoder": {"patch": 4}, "latent_rgb": []}
    with pytest.raises(ValueError, match="is of an earlier version, .*use the built-in model of this version"):
        ModelConfig.from_json(json.dumps(values))


def test_other_models_of_an_earlier_version_mean_what_they_meant():
    values = json.loads(PRESETS["hallo"].to_json()) | {"autoencoder": None, "latent_rgb": []}
    assert ModelConfig.from_json(json.dumps(values)) == PRESETS["hallo"]


def test_noise_shapes_need_a_spread_over_time_for_each_channel():
    with pytest.raises(ValueError, match="3 noise_shapes and 1 noise_frames do not go with 8 latent channels"):
        replace(PRESETS["test"], noise_shapes=3, noise_frames=(1.0,))


def test_the_emo_preset_has_the_papers_numbers():
    emo = PRESETS["emo"]
    assert (emo.image_size, emo.clip_frames, emo.motion_frames, emo.audio_margin_frames) == (512, 12, 4, 2)
    assert (emo.channels, emo.latent_channels, emo.latent_size) == ((320, 640, 1280, 1280), 4, 64)  # SD 1.5
    assert (emo.audio_window, emo.audio_layers * emo.audio_width) == (5, 12 * 768)


@pytest.mark.parametrize("part", [None, "motion_decoder", "audio_encoder"])
def test_a_field_of_a_newer_version_is_refused_by_name(part):
    values = json.loads(PRESETS["test"].to_json())
    (values if part is None else values[part])["flux_capacitor"] = 1.21
    with pytest.raises(ValueError, match="does not know: .*flux_capacitor; update ComfyUI-EMO"):
        ModelConfig.from_json(json.dumps(values))


def test_a_config_of_an_older_version_gets_the_defaults():
    values = json.loads(PRESETS["emo"].to_json())
    del values["noise_shapes"], values["reference_positions"]
    assert ModelConfig.from_json(json.dumps(values)) == PRESETS["emo"]


@pytest.mark.parametrize(("change", "says"), [
    ({"image_size": 33}, "image_size 33 is not a multiple of vae_factor 16"),
    ({"channels": (16, 32, 64)}, "3 channels but 2 attention_levels"),
    ({"speed_radii": (1.0,)}, "5 speed_centres but 1 speed_radii"),
    ({"clip_frames": 31}, "2 motion frames and 31 frames do not fit temporal_position_limit 32"),
    ({"prediction": "x0"}, "prediction must be .* got 'x0'"),
    ({"prediction": "epsilon"}, "zero_terminal_snr needs prediction 'v_prediction'"),
])
def test_a_config_that_cannot_work_is_refused(change, says):
    with pytest.raises(ValueError, match=says):
        replace(PRESETS["test"], **change)


@pytest.mark.parametrize(("change", "says"), [
    ({"steps": 0}, "steps must be at least 1, got 0"),
    ({"audio_guidance": -1.0}, "audio_guidance must be a number >= 0, got -1"),
    ({"reference_guidance": float("nan")}, "reference_guidance must be a number >= 0, got nan"),
    ({"noise_scale": 2.5}, "noise_scale must be 0 to 2, got 2.5"),
    ({"head_speed": float("inf")}, "head_speed must be a number >= 0, got inf"),
])
def test_sampling_that_cannot_work_is_refused(change, says):
    with pytest.raises(ValueError, match=says):
        SamplingConfig(**change)

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from emo_model.checkpoints.native import DEFAULT_WEIGHTS, FAST_WEIGHTS, read_config
from emo_model.config import EMO_SWITCHES, PRESETS, HalloConfig, ModelConfig, SamplingConfig


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


def flat(name: str, **changes) -> str:
    """The JSON of a preset as files had it before `ModelConfig.hallo`: Hallo's fields beside EMO's."""
    values = json.loads(PRESETS[name].to_json())
    hallo = values.pop("hallo")
    emo = EMO_SWITCHES | {
        "identity_width": 512,
        "identity_context_width": 768,
        "audio_projection_width": 512,
        "face_mask_channels": 1,
    }
    is_hallo = {
        "reference_attention": "joined",
        "audio_transformers": True,
        "audio_resampling": "convolutions",
        "temporal_without_attention": False,
        "first_motion_frames": "portrait",
        "face_after_conv_in": True,
    }
    return json.dumps(values | emo | (is_hallo | hallo if hallo else {}) | changes)


@pytest.mark.parametrize("name", PRESETS)
def test_a_file_with_hallos_fields_beside_emos_still_loads(name):
    assert ModelConfig.from_json(flat(name)) == PRESETS[name]
    assert "audio_tokens" not in json.loads(PRESETS[name].to_json())


def test_sizes_of_a_flat_file_are_kept():
    hallo = ModelConfig.from_json(flat("hallo", identity_width=8, audio_tokens=3)).hallo
    assert hallo == HalloConfig(identity_width=8, audio_tokens=3)


def test_the_shipped_files_load():
    for file in (DEFAULT_WEIGHTS, FAST_WEIGHTS):
        assert read_config(file).hallo is None


def test_a_flat_file_that_mixes_emo_and_hallo_is_refused():
    with pytest.raises(
        ValueError, match="model 'hallo' mixes parts of EMO and Hallo, .*load it with the version that wrote it"
    ):
        ModelConfig.from_json(flat("hallo", first_motion_frames="zeros"))


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


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image_size": 33}, "image_size 33 is not a multiple of vae_factor 16"),
        ({"channels": (16, 32, 64)}, "3 channels but 2 attention_levels"),
        ({"speed_radii": (1.0,)}, "5 speed_centres but 1 speed_radii"),
        ({"clip_frames": 31}, "2 motion frames and 31 frames do not fit temporal_position_limit 32"),
        ({"prediction": "x0"}, "prediction must be .* got 'x0'"),
        ({"prediction": "epsilon"}, "zero_terminal_snr needs prediction 'v_prediction'"),
    ],
)
def test_a_config_that_cannot_work_is_refused(change, says):
    with pytest.raises(ValueError, match=says):
        replace(PRESETS["test"], **change)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"audio_guidance": -1.0}, "audio_guidance must be a number >= 0, got -1"),
        ({"reference_guidance": float("nan")}, "reference_guidance must be a number >= 0, got nan"),
        ({"noise_scale": 2.5}, "noise_scale must be 0 to 2, got 2.5"),
        ({"head_speed": float("inf")}, "head_speed must be a number >= 0, got inf"),
    ],
)
def test_sampling_that_cannot_work_is_refused(change, says):
    with pytest.raises(ValueError, match=says):
        SamplingConfig(**change)

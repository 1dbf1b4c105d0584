"""What the nodes promise to workflows and to readers of the page."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
from comfyui_server import ROOT

# Workflows store widgets by their order, required before optional ones: never reorder them, append optional ones at the
# end. Sockets are stored by name and may move.
INPUTS = {
    "EmoTalkingPortrait": ["portrait", "voice", "model", "seed", "quality", "expression", "idle_seconds"],
    "EmoDubVideo": ["video", "quality", "filename_prefix", "voice", "which_face", "strength"],
    "EmoTalkingFaces": [
        "picture",
        "voice_a",
        "voice_b",
        "voice_c",
        "voice_d",
        "schedule",
        "order",
        "model",
        "seed",
        "quality",
        "expression_a",
        "expression_b",
        "expression_c",
        "expression_d",
    ],
    "EmoSeveralFaces": [
        "model",
        "schedule",
        "order",
        "image",
        "voice_a",
        "voice_b",
        "voice_c",
        "voice_d",
        "masks",
        "boxes",
        "long_side",
        "expression_a",
        "expression_b",
        "expression_c",
        "expression_d",
    ],
    "EmoCombineFaces": [
        "clips",
        "reference",
        "clips_2",
        "reference_2",
        "clips_3",
        "reference_3",
        "clips_4",
        "reference_4",
    ],
    "EmoExample": ["portrait"],
    "EmoLoadModel": ["model_name", "compile", "cuda_graphs", "vae_name", "audio_encoder_name"],
    "EmoReferenceEncoder": ["model", "fit", "image", "vae", "face", "which_face", "long_side"],
    "EmoAudioEncoder": ["fps", "audio", "model", "audio_encoder", "mix"],
    "EmoFaceMaskBuilder": [
        "reference",
        "mode",
        "left",
        "top",
        "right",
        "bottom",
        "mask",
        "bounding_box",
        "lips",
        "before",
        "from_second",
    ],
    "EmoHeadSpeed": ["speed", "curve"],
    "EmoSampler": [
        "model",
        "reference",
        "audio_features",
        "seed",
        "steps",
        "sampler",
        "audio_guidance",
        "reference_guidance",
        "face_mask",
        "speed",
        "vae",
        "motion",
        "render",
        "options",
        "expression",
    ],
    "EmoExpression": [
        "audio_strength",
        "smile",
        "brows",
        "blink_rate",
        "gaze_x",
        "gaze_y",
        "yaw",
        "pitch",
        "roll",
        "blinks",
    ],
    "EmoIdle": ["model", "seconds", "fps"],
    "EmoVideoCombine": [
        "fps",
        "quality",
        "filename_prefix",
        "clips",
        "reference",
        "audio",
        "vae",
        "latent",
        "images",
        "sound",
        "frame",
        "faces",
    ],
    "EmoClipsToLatent": ["clips"],
    "EmoContinueFrom": ["model", "clips", "video", "images", "vae", "reference"],
    "EmoSamplingOptions": [
        "audio_guidance_start",
        "audio_guidance_end",
        "reference_guidance_start",
        "reference_guidance_end",
        "deep_cache",
        "noise_scale",
        "mixed_identity",
        "blinks",
        "pose_weight",
        "face_weight",
        "lip_weight",
    ],
}
OUTPUTS = {
    "EmoTalkingPortrait": ["VIDEO"],
    "EmoDubVideo": ["VIDEO"],
    "EmoTalkingFaces": ["VIDEO"],
    "EmoSeveralFaces": ["EMO_REFERENCE", "EMO_AUDIO", "AUDIO", "IMAGE", "EMO_EXPRESSION"],
    "EmoCombineFaces": ["EMO_FACES"],
    "EmoExample": ["IMAGE", "AUDIO"],
    "EmoLoadModel": ["EMO_MODEL", "AUDIO_ENCODER", "VAE"],
    "EmoReferenceEncoder": ["EMO_REFERENCE", "IMAGE", "VAE"],
    "EmoAudioEncoder": ["EMO_AUDIO", "AUDIO", "FLOAT"],
    "EmoFaceMaskBuilder": ["EMO_FACE_MASK", "MASK"],
    "EmoHeadSpeed": ["EMO_SPEED"],
    "EmoSampler": ["EMO_CLIPS"],
    "EmoExpression": ["EMO_EXPRESSION"],
    "EmoIdle": ["EMO_AUDIO"],
    "EmoVideoCombine": ["VIDEO"],
    "EmoClipsToLatent": ["LATENT"],
    "EmoContinueFrom": ["EMO_MOTION"],
    "EmoSamplingOptions": ["EMO_OPTIONS"],
}


def test_ids_and_inputs_stay_as_released(pack):
    assert {name: [one.id for one in node.define_schema().inputs] for name, node in pack.nodes.items()} == INPUTS


def test_outputs_stay_as_released(pack):
    assert {name: [one.io_type for one in node.define_schema().outputs] for name, node in pack.nodes.items()} == OUTPUTS


@pytest.mark.parametrize("name", INPUTS)
def test_everything_is_explained(pack, name):
    schema = pack.nodes[name].define_schema()
    assert schema.description and schema.category == "EMO" and schema.display_name
    assert all(one.tooltip and one.tooltip.endswith(".") for one in (*schema.inputs, *schema.outputs))
    page = (ROOT / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert schema.display_name in page
    assert [one.id for one in schema.inputs if f"`{one.id}`" not in page] == []


@pytest.mark.parametrize("name", INPUTS)
def test_execute_takes_exactly_the_inputs_and_may_miss_only_the_optional(pack, name):
    schema = pack.nodes[name].define_schema()
    parameters = inspect.signature(pack.nodes[name].execute).parameters
    assert list(parameters) == [one.id for one in schema.inputs]
    may_miss = {key for key, one in parameters.items() if one.default is not one.empty}
    assert may_miss == {one.id for one in schema.inputs if one.optional}


def test_defaults_are_those_of_the_library(pack):
    defaults = dataclasses.asdict(pack["emo_model.config"].SamplingConfig())
    widgets = {
        one.id: one.default
        for name in ("EmoSampler", "EmoSamplingOptions")
        for one in pack.nodes[name].define_schema().inputs
        if hasattr(one, "default")
    }
    assert widgets.pop("render") == "all clips"  # what to do, not how
    own = {"steps": 0, "sampler": "model's own", "audio_guidance": 0, "reference_guidance": 0}  # by the model's card
    assert {name: widgets.pop(name) for name in own} == own and all(defaults.pop(name) for name in own)
    assert widgets.pop("deep_cache") == 1  # without effect; it keeps the place of the widgets after it
    widgets["region_weights"] = tuple(widgets.pop(f"{part}_weight") for part in ("pose", "face", "lip"))
    assert pack.nodes["EmoHeadSpeed"].define_schema().inputs[0].default == defaults.pop("head_speed")
    assert widgets == defaults


def test_sampling_options_as_they_come_change_nothing(pack):
    inputs = pack.nodes["EmoSamplingOptions"].define_schema().inputs
    (options,) = pack.run("EmoSamplingOptions", **{one.id: one.default for one in inputs}).result
    assert options == pack["emo_model.config"].SamplingConfig()


def test_a_part_of_the_steps_that_ends_before_it_begins_is_refused(pack):
    inputs = {one.id: one.default for one in pack.nodes["EmoSamplingOptions"].define_schema().inputs}
    with pytest.raises(ValueError, match="^Set or connect another value: reference_guidance .* 0.6 to 0.5"):
        pack.run("EmoSamplingOptions", **{**inputs, "reference_guidance_start": 0.6, "reference_guidance_end": 0.5})


def test_a_box_comes_by_wire_only(pack):
    """Pages of 2026 would make a widget of it, which always sends a box."""
    optional = pack.nodes["EmoFaceMaskBuilder"].INPUT_TYPES()["optional"]
    assert optional["bounding_box"][0] == "BOUNDING_BOX" and optional["bounding_box"][1]["forceInput"] is True


def test_the_loader_lists_the_built_in_models_first_and_then_the_files(pack):
    model = pack.nodes["EmoLoadModel"].define_schema().inputs[0]
    assert (
        model.options == ["built-in default", "built-in fast", "tiny.safetensors"]
        and model.default == "built-in default"
    )


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("EmoTalkingPortrait", {"model": "gone.safetensors"}),
        ("EmoTalkingFaces", {"schedule": "soon B"}),
        ("EmoSeveralFaces", {"schedule": "all day"}),
        ("EmoExample", {"portrait": "of me"}),
        ("EmoReferenceEncoder", {"which_face": "prettiest"}),
        ("EmoReferenceEncoder", {"which_face": "0"}),
        ("EmoFaceMaskBuilder", {"mode": "guess"}),
        ("EmoHeadSpeed", {"curve": "fast"}),
        ("EmoSampler", {"sampler": "magic"}),
    ],
)
def test_a_wrong_value_is_refused_with_a_sentence_before_the_run(pack, name, wrong):
    answer = pack.nodes[name].validate_inputs(**wrong)
    assert isinstance(answer, str) and answer.endswith(".") and next(iter(wrong.values())) in answer


@pytest.mark.parametrize(
    ("name", "linked"),
    [
        ("EmoTalkingPortrait", {"model": None}),
        ("EmoTalkingFaces", {"schedule": None}),
        ("EmoSeveralFaces", {"schedule": None}),
        ("EmoExample", {"portrait": None}),
        ("EmoLoadModel", {"model_name": None}),
        ("EmoFaceMaskBuilder", {"mode": None}),
        ("EmoHeadSpeed", {"curve": None}),
        ("EmoSampler", {"sampler": None}),
        ("EmoReferenceEncoder", {"which_face": None}),
    ],
)
def test_a_linked_value_is_not_known_yet_when_a_graph_is_queued_and_passes(pack, name, linked):
    assert pack.nodes[name].validate_inputs(**linked) is True
    if "fingerprint_inputs" in vars(pack.nodes[name]):
        assert isinstance(pack.nodes[name].fingerprint_inputs(**linked), str)


def test_fingerprints_name_no_place_of_this_machine(pack, folders):
    """ComfyUI writes them into the prompt that goes along in each video."""
    for name, inputs in (("EmoLoadModel", {"model_name": "tiny.safetensors"}), ("EmoSampler", {"seed": 1})):
        fingerprint = pack.nodes[name].fingerprint_inputs(**inputs)
        assert len(fingerprint) == 16 and int(fingerprint, 16) >= 0


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("EmoLoadModel", {"model_name": "../../secret.safetensors"}),
        ("EmoLoadModel", {"model_name": "gone.safetensors"}),
        ("EmoLoadModel", {"vae_name": "gone.safetensors", "model_name": "built-in default"}),
        ("EmoLoadModel", {"audio_encoder_name": "../gone.safetensors", "model_name": "built-in default"}),
        ("EmoLoadModel", {"model_name": 3}),
        ("EmoReferenceEncoder", {"fit": "squash"}),
        ("EmoReferenceEncoder", {"which_face": "some", "fit": "crop"}),
        ("EmoTalkingPortrait", {"quality": "gold"}),
        ("EmoTalkingFaces", {"quality": "gold", "order": "together"}),
        ("EmoTalkingFaces", {"order": "by age", "quality": "high"}),
        ("EmoSeveralFaces", {"order": "by age"}),
        ("EmoDubVideo", {"which_face": "nobody", "quality": "high"}),
        ("EmoDubVideo", {"quality": "gold"}),
        ("EmoVideoCombine", {"frame": "feet"}),
        ("EmoFaceMaskBuilder", {"mode": "guess"}),
        ("EmoSampler", {"sampler": "magic"}),
        ("EmoSampler", {"render": "some", "sampler": "ddim"}),
        ("EmoVideoCombine", {"sound": "wax"}),
        ("EmoVideoCombine", {"sound": None}),
    ],
)
def test_a_linked_value_outside_its_list_is_refused_when_it_comes(pack, name, wrong):
    inputs = {one.id: None for one in pack.nodes[name].define_schema().inputs if not one.optional}
    with pytest.raises((ValueError, FileNotFoundError), match=f"{next(iter(wrong.values()))}.*choose"):
        pack.run(name, **{**inputs, **wrong})


def test_a_check_before_the_run_names_one_input_so_that_comfyui_reports_it_once_and_checks_the_others(pack):
    for name, node in pack.nodes.items():
        if "validate_inputs" in vars(node) and name != "EmoLoadModel":  # refuses nothing
            parameters = inspect.signature(node.validate_inputs).parameters.values()
            assert len(parameters) == 1, f"{name}: ComfyUI repeats the answer for each name"
            kinds = {one.kind for one in parameters}
            assert inspect.Parameter.VAR_KEYWORD not in kinds, f"{name}: **kwargs turns ComfyUI's own range checks off"


WIDGETS = {  # of the first release, in which saved workflows have their values by place
    "EmoReferenceEncoder": ["fit", "which_face", "long_side"],
    "EmoAudioEncoder": ["fps"],
    "EmoSampler": ["seed", "steps", "sampler", "audio_guidance", "reference_guidance", "render"],
    "EmoVideoCombine": ["fps", "quality", "filename_prefix", "sound", "frame"],
}


@pytest.mark.parametrize("name", WIDGETS)
def test_widgets_keep_their_places(pack, name):
    types = pack.nodes[name].INPUT_TYPES()
    kinds = {key: spec[0] for part in ("required", "optional") for key, spec in types[part].items()}
    widgets = [
        key for key, kind in kinds.items() if isinstance(kind, list) or kind in ("INT", "FLOAT", "COMBO", "STRING")
    ]
    assert widgets[: len(WIDGETS[name])] == WIDGETS[name]


def test_rarely_needed_widgets_are_folded_where_the_host_can(pack):
    def folded(name):
        types = pack.nodes[name].INPUT_TYPES()
        specs = {**types.get("required", {}), **types.get("optional", {})}
        return [key for key, spec in specs.items() if spec[1].get("advanced")]

    assert folded("EmoLoadModel") == ["compile", "cuda_graphs", "vae_name", "audio_encoder_name"]
    assert folded("EmoSampler") == ["sampler", "reference_guidance"]
    assert folded("EmoVideoCombine") == ["fps", "sound"]


def test_nodes_are_found_by_what_people_look_for(pack):
    """ComfyUI 0.3.64 has no aliases: there the names count alone."""
    schemas = [node.define_schema() for node in pack.nodes.values()]
    if not hasattr(schemas[0], "search_aliases"):
        pytest.skip("this ComfyUI has no search aliases")
    assert all(schema.search_aliases for schema in schemas)
    found = {alias for schema in schemas for alias in schema.search_aliases}
    assert {"talking head", "lip sync", "avatar", "对口型", "数字人"} <= found

"""The shipped workflows: true to the schemas, and run by a real ComfyUI."""

from __future__ import annotations

import io
import json
import os
import socket
import sys

import av
import numpy as np
import pytest
from comfyui_server import ROOT

sys.path.insert(0, str(ROOT / "workflows"))
from to_api import to_api  # noqa: E402

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
CORE = {
    "LoadImage",
    "LoadAudio",
    "LoadVideo",
    "RecordAudio",
    "VAELoader",
    "AudioEncoderLoader",
    "VAEDecode",
    "SaveVideo",
    "CreateVideo",
    "PreviewImage",
    "MarkdownNote",
    "Note",
}


def read(path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def by_name(path):
    return path.stem


@pytest.fixture(scope="module")
def schemas(server) -> dict:
    return server.get("/object_info")


def tiny(prompt: dict, **changes) -> dict:
    """A prompt on the tiny model and a small picture, with other values for some widgets."""
    prompt, changes = json.loads(json.dumps(prompt)), {"long_side": 128, **changes}
    for node in prompt.values():
        node["inputs"].update({key: value for key, value in changes.items() if key in node["inputs"]})
        if node["class_type"] == "EmoLoadModel":
            node["inputs"]["model_name"] = "tiny.safetensors"
    return prompt


def played(data: bytes) -> tuple[int, float, float]:
    """(frames, frame rate, seconds of sound) of a video."""
    with av.open(io.BytesIO(data)) as container:
        (sound,) = container.streams.audio
        rate, seconds = float(container.streams.video[0].average_rate), float(sound.duration * sound.time_base)
        return sum(1 for _ in container.decode(video=0)), rate, seconds


def test_there_is_a_workflow():
    assert ROOT / "workflows" / "talking_portrait.json" in WORKFLOWS


@pytest.mark.parametrize("path", WORKFLOWS, ids=by_name)
def test_api_form_is_made_from_the_workflow(path):
    api = path.parent / "api" / path.name
    assert read(api) == to_api(read(path)), "run `python workflows/to_api.py`"
    assert path.with_suffix(".jpg").is_file(), "a template needs its picture"


@pytest.mark.parametrize("path", WORKFLOWS, ids=by_name)
def test_nodes_links_and_values_are_those_of_the_schemas(schemas, path):
    workflow = read(path)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for _, origin, out, target, into, kind in workflow["links"]:
        assert schemas[nodes[origin]["type"]]["output"][out] == kind
        assert nodes[target]["inputs"][into]["type"] == kind
    for number, node in to_api(workflow).items():
        if not node["class_type"].startswith("Emo"):
            assert node["class_type"] in CORE
            continue
        schema = schemas[node["class_type"]]["input"]
        inputs = {**schema["required"], **schema.get("optional", {})}
        sockets = nodes[int(number)]["inputs"]
        assert {socket["name"] for socket in sockets} == set(inputs)
        for name, value in node["inputs"].items():
            kind, options = inputs[name][0], inputs[name][1]
            if isinstance(value, list):
                continue  # a link; checked above
            if kind == "COMBO" or isinstance(kind, list):
                assert value in options.get("options", kind)
            if kind in ("INT", "FLOAT"):
                assert options["min"] <= value <= options["max"]
        missing = set(schema["required"]) - set(node["inputs"])
        assert not missing, f"{node['class_type']} lacks {missing}"


def test_the_pack_is_imported_without_a_warning(server):
    lines = [line for line in server.log.splitlines() if "ComfyUI-EMO" in line]
    assert lines and not [
        line for line in lines if "FAILED" in line or "Error" in line or "Warning" in line or "Unable" in line
    ]


def test_templates_and_help_are_served(server):
    assert sorted(server.get("/api/workflow_templates")["ComfyUI-EMO"]) == [path.stem for path in WORKFLOWS]
    for path in WORKFLOWS:
        assert server.get(f"/api/workflow_templates/ComfyUI-EMO/{path.name}") == read(path)
        assert server.get(f"/api/workflow_templates/ComfyUI-EMO/{path.stem}.jpg")[:2] == b"\xff\xd8"
    assert b"EMO Sampler" in server.get("/extensions/ComfyUI-EMO/docs/EmoSampler.md")


def test_talking_portrait_runs_on_a_fresh_machine(server):
    prompt = tiny(read(ROOT / "workflows" / "api" / "talking_portrait.json"), steps=1)
    result = server.run(prompt)
    assert result["status"] == "success", result["error"]
    combine = next(number for number, node in prompt.items() if node["class_type"] == "EmoVideoCombine")
    (shown,) = result["outputs"][combine]["images"]
    frames, rate, seconds = played(server.view(shown))
    assert rate == 25 and frames > 25 and abs(seconds - frames / 25) <= 0.06
    assert any(maximum >= frames // 4 for _, maximum in result["progress"])


def test_dub_video_runs_and_keeps_the_frames_of_the_video(server):
    from fractions import Fraction

    with (
        av.open(str(ROOT / "workflows" / "inputs" / "emo_video.mp4")) as whole,
        av.open(str(server.base / "input" / "short.mp4"), "w") as short,
    ):
        stream = short.add_stream("libx264", rate=10, width=384, height=384, pix_fmt="yuv420p")
        for number, frame in zip(range(4), whole.decode(video=0), strict=False):
            frame.pts, frame.time_base = number, Fraction(1, 10)
            short.mux(stream.encode(frame))
        short.mux(stream.encode(None))
    with av.open(str(server.base / "input" / "short.flac"), "w") as container:
        stream = container.add_stream("flac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 6400), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    workflow = read(ROOT / "workflows" / "dub_video.json")
    for node in workflow["nodes"]:
        if node["type"] in ("LoadVideo", "LoadAudio"):
            node["widgets_values"][0] = "short.mp4" if node["type"] == "LoadVideo" else "short.flac"
    result = server.run(to_api(workflow))
    assert result["status"] == "success", result["error"]
    frames, rate, seconds = played(server.view(result["outputs"]["1"]["images"][0]))
    assert (frames, rate) == (4, 10) and abs(seconds - 0.4) <= 0.07


def test_changing_the_seed_runs_the_sampler_again_and_not_the_encoders(server):
    workflow = read(ROOT / "workflows" / "api" / "talking_portrait.json")
    for seed in (76, 77):  # ComfyUI keeps what the last prompt made, and may forget what those before it did
        begin = len(server.log)
        result = server.run(tiny(workflow, steps=1, seed=seed))
        assert result["status"] == "success", result["error"]
    assert "Portrait " not in server.log[begin:] and "EMO: " in server.log[begin:]


def test_talking_portrait_takes_files_of_ones_own(server):
    from PIL import Image

    with Image.open(ROOT / "workflows" / "inputs" / "emo_portrait.jpg") as shipped:
        shipped.resize((160, 160)).crop((0, -15, 171, 160)).save(
            server.base / "input" / "mine.jpg"
        )  # 171x175: odd sides
    with av.open(str(server.base / "input" / "mine.flac"), "w") as container:
        stream = container.add_stream("flac", rate=44100, layout="stereo")
        noise = np.random.default_rng(0).integers(
            -3000, 3000, (1, 2 * 44100), dtype=np.int16
        )  # a second, channels side by side
        frame = av.AudioFrame.from_ndarray(noise, format="s16", layout="stereo")
        frame.sample_rate = 44100
        container.mux([*stream.encode(frame), *stream.encode(None)])
    workflow = read(ROOT / "workflows" / "talking_portrait.json")
    for node in workflow["nodes"]:
        node["mode"] = 0  # awake
        if node["type"] in ("LoadImage", "LoadAudio"):
            node["widgets_values"][0] = "mine.jpg" if node["type"] == "LoadImage" else "mine.flac"
    prompt = tiny(to_api(workflow), steps=1, long_side=1920)
    result = server.run(prompt)
    assert result["status"] == "success", result["error"]
    combine = next(number for number, node in prompt.items() if node["class_type"] == "EmoVideoCombine")
    data = server.view(result["outputs"][combine]["images"][0])
    frames, rate, seconds = played(data)
    assert (frames, rate) == (25, 25) and abs(seconds - 1) <= 0.06
    with av.open(io.BytesIO(data)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (172, 176)
    assert "Portrait 172x176 padded to a square of" in server.log  # a head that fills the picture


@pytest.mark.parametrize(
    ("node", "name", "wrong"),
    [
        ("EmoSampler", "sampler", "magic"),
        ("EmoSampler", "render", "some"),
        ("EmoReferenceEncoder", "fit", "squash"),
        ("EmoReferenceEncoder", "which_face", "prettiest"),
        ("EmoVideoCombine", "frame", "feet"),
        ("EmoVideoCombine", "sound", "wax"),
        ("EmoSamplingOptions", "audio_guidance_start", 2.0),
        ("EmoSamplingOptions", "reference_guidance_end", 0.25),
        ("EmoExpression", "smile", "wide"),
        ("EmoExpression", "blinks", "often"),
    ],
)
def test_a_wrong_value_is_reported_once_where_it_is(server, schemas, node, name, wrong):
    """Before the run where ComfyUI knows the list or the range, or our one check names the input; 0.3.64 knows none of
    the lists."""
    prompt = tiny(read(ROOT / "workflows" / "api" / "talking_portrait.json"), steps=1)
    for number, kind in (("20", "EmoSamplingOptions"), ("21", "EmoExpression")):
        inputs = schemas[kind]["input"]
        given = {key: spec[1]["default"] for key, spec in inputs["required"].items()}
        prompt[number] = {
            "class_type": kind,
            "inputs": given | ({"reference_guidance_start": 0.5} if number == "20" else {}),
        }
    place = {one["class_type"]: number for number, one in prompt.items()}
    prompt[place["EmoSampler"]]["inputs"] |= {"options": ["20", 0], "expression": ["21", 0]}
    prompt[place[node]]["inputs"][name] = wrong
    result = server.run(prompt)
    if result["status"] == "invalid":
        errors = result["error"]["node_errors"]
        assert list(errors) == [place[node]]
        (error,) = errors[place[node]]["errors"]
        assert error["extra_info"]["input_name"] == name
    else:
        assert result["status"] == "error" and result["error"]["node_id"] == place[node]
        said = result["error"]["exception_message"]
        assert str(wrong) in said or "acts in a part of the steps" in said


def test_a_video_tells_nothing_of_this_machine_and_that_it_is_generated(server):
    prompt = tiny(read(ROOT / "workflows" / "api" / "talking_portrait.json"), steps=1, seed=78)
    result = server.run(prompt)
    assert result["status"] == "success", result["error"]
    combine = next(number for number, node in prompt.items() if node["class_type"] == "EmoVideoCombine")
    data = server.view(result["outputs"][combine]["images"][0])
    with av.open(io.BytesIO(data)) as container:
        assert container.metadata["comment"].startswith("Generated")
        prompt = container.metadata["prompt"]
        assert "EmoSampler" in prompt and "is_changed" not in prompt
    for place in (str(server.base), str(ROOT), socket.gethostname(), os.path.expanduser("~")):
        assert len(place) < 6 or place.encode() not in data  # shorter names may be there by chance


def test_a_run_is_cancelled_within_a_step(server):
    import time

    prompt = tiny(read(ROOT / "workflows" / "api" / "talking_portrait.json"), steps=150, seed=5)
    cancelled = []

    def on_progress(done: int, total: int) -> None:
        if total > 1000 and not cancelled:
            cancelled.append(time.monotonic())
            server.post("/interrupt", {})

    result = server.run(prompt, on_progress=on_progress)
    assert result["status"] == "interrupted" and cancelled
    assert time.monotonic() - cancelled[0] < 5

"""The workflow for Hallo in a real ComfyUI: a small net of its layout, core's VAE and core's wav2vec 2.0, random
weights."""

from __future__ import annotations

import io
import json

import av
import pytest
import torch
from comfyui_server import ROOT

FRAMES = 18  # two clips


@pytest.fixture(scope="module")
def prompt(server) -> dict:
    """The workflow with a picture and a sound of one's own, one step, and the small net."""
    from PIL import Image

    with Image.open(ROOT / "workflows" / "inputs" / "emo_portrait.jpg") as shipped:
        shipped.resize((140, 140)).save(server.base / "input" / "face.png")
    with av.open(str(server.base / "input" / "speech.flac"), "w") as container:
        stream = container.add_stream("flac", rate=16000, layout="mono")
        sound = torch.randn(1, 16000 * FRAMES // 25, generator=torch.Generator().manual_seed(0)) * 3000
        frame = av.AudioFrame.from_ndarray(sound.short().numpy(), format="s16", layout="mono")
        frame.sample_rate = 16000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    prompt = json.loads((ROOT / "workflows" / "api" / "hallo_portrait.json").read_text(encoding="utf-8"))
    prompt["1"]["inputs"]["model_name"] = "small-hallo.safetensors"
    prompt["4"]["inputs"]["image"] = ["20", 0]
    prompt["5"]["inputs"]["audio"] = ["21", 0]
    prompt["8"]["inputs"]["steps"] = 1
    prompt["20"] = {"class_type": "LoadImage", "inputs": {"image": "face.png"}}
    prompt["21"] = {"class_type": "LoadAudio", "inputs": {"audio": "speech.flac"}}
    return prompt


def frames_of(data: bytes) -> list:
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_hallo_goes_through_all_nodes_with_cores_vae_and_audio_encoder(server, prompt):
    begin = len(server.log)
    result = server.run(prompt)
    assert result["status"] == "success", result["error"]
    frames = frames_of(server.view(result["outputs"]["9"]["images"][0]))
    assert len(frames) == FRAMES and frames[0].shape == (140, 140, 3)  # pasted back into the whole picture
    log = server.log[begin:]
    assert "EMO 'hallo': 32x32" in log
    assert (
        "missing audio encoder" not in log and "unexpected audio encoder" not in log and "Missing VAE keys" not in log
    )
    assert "insightface is not installed" in log or "no insightface models" in log


def test_another_seed_keeps_portrait_and_voice(server, prompt):
    server.run(prompt)
    begin = len(server.log)
    other = {**prompt, "8": {**prompt["8"], "inputs": {**prompt["8"]["inputs"], "seed": 7}}}
    assert server.run(other)["status"] == "success"
    assert "Portrait " not in server.log[begin:] and "EMO: " in server.log[begin:]


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        (("1", "vae_name"), "'vae_name' of 'Load EMO Model'"),
        (("1", "audio_encoder_name"), "wav2vec2"),
        (("5", "model"), "Connect 'model' of 'Load EMO Model'"),
        (("8", "face_mask"), "EMO Face Mask Builder"),
    ],
)
def test_a_missing_wire_is_named(server, prompt, wire, said):
    node, socket = wire
    inputs = {key: value for key, value in prompt[node]["inputs"].items() if key != socket}
    result = server.run({**prompt, node: {**prompt[node], "inputs": inputs}})
    assert result["status"] != "success" and said in json.dumps(result["error"])


def test_three_missing_files_are_one_error_that_names_them_and_their_folders(server):
    prompt = json.loads((ROOT / "workflows" / "api" / "hallo_portrait.json").read_text(encoding="utf-8"))
    gone = {"model_name": "a.pth", "vae_name": "b.safetensors", "audio_encoder_name": "c.safetensors"}
    result = server.run({**prompt, "1": {**prompt["1"], "inputs": {**prompt["1"]["inputs"], **gone}}})
    assert result["status"] == "error" and result["error"]["node_id"] == "1"
    said = "'a.pth' in models/emo, 'b.safetensors' in models/vae and 'c.safetensors' in models/audio_encoders"
    assert said in result["error"]["exception_message"]

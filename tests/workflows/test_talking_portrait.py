"""EMO Talking Portrait in a real ComfyUI: one node, made of the others."""

from __future__ import annotations

import io
import json

import av
import numpy as np
from comfyui_server import ROOT
from PIL import Image

INPUTS = {"model": "tiny.safetensors", "seed": 11, "quality": "high"}


def prompt(*, links: bool = True, **changes) -> dict:
    """The node behind core's loaders with the pack's own files; links: whether they are connected."""
    node = {"class_type": "EmoTalkingPortrait", "inputs": {**INPUTS, **changes}}
    if not links:
        return {"9": node}
    node["inputs"] |= {"portrait": ["1", 0], "voice": ["2", 0]}
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "emo_portrait.jpg"}},
        "2": {"class_type": "LoadAudio", "inputs": {"audio": "emo_voice.wav"}},
        "9": node,
    }


def frames(server, result: dict) -> np.ndarray:
    assert result["status"] == "success", result["error"]
    shown = [one for output in result["outputs"].values() for one in output.get("images", ())]
    (video,) = (one for one in shown if one["filename"].endswith(".mp4"))
    with av.open(io.BytesIO(server.view(video))) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_picture_and_a_voice_become_the_video_that_the_separate_nodes_make(server):
    """The clips are the same ones: the sampler finds those of the other graph and renders nothing."""
    one = frames(server, server.run(prompt()))
    separate = json.loads((ROOT / "workflows" / "api" / "talking_portrait.json").read_text(encoding="utf-8"))
    for node in separate.values():
        values = {"model_name": "tiny.safetensors", "seed": 11}
        node["inputs"].update({key: value for key, value in values.items() if key in node["inputs"]})
    begin = len(server.log)
    other = frames(server, server.run(separate))
    assert f"{len(one)} of {len(one)} frames were finished before; nothing was rendered" in server.log[begin:]
    assert np.array_equal(one, other)


def test_without_links_it_takes_what_ships_with_the_pack(server):
    made = frames(server, server.run(prompt(links=False)))
    assert made.shape == (163, 474, 474, 3)


def test_another_seed_renders_again_and_reads_neither_portrait_nor_voice(server):
    frames(server, server.run(prompt(seed=12)))
    begin = len(server.log)
    result = server.run(prompt(seed=13))
    frames(server, result)
    log = server.log[begin:]
    assert "clips rendered" in log and "Portrait " not in log and "frames per second are" not in log
    assert any(maximum > 100 for _, maximum in result["progress"])
    assert result["previews"] >= 5 and Image.open(io.BytesIO(result["preview"])).size == (474, 474)


def test_the_same_prompt_again_shows_the_same_file_and_computes_nothing(server):
    """As after the page was loaded again, or a video dropped on it."""
    first = server.run(prompt(seed=14))
    begin = len(server.log)
    second = server.run(prompt(seed=14))
    assert first["status"] == second["status"] == "success"
    assert first["outputs"] == second["outputs"] != {}
    assert "EMO: " not in server.log[begin:]


def test_a_sound_that_a_link_does_not_carry_is_named(server):
    """A silent video, whose sound is None."""
    silent = prompt()
    made = server.run(
        {
            **silent,
            "9": {**silent["9"], "inputs": {**silent["9"]["inputs"], "voice": ["3", 1]}},
            "3": {"class_type": "GetVideoComponents", "inputs": {"video": ["4", 0]}},
            "4": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 25.0}},
        }
    )
    assert made["status"] == "error" and "The link to 'audio' carries nothing" in made["error"]["exception_message"]
    assert made["error"]["node_id"] == "9"


def test_a_model_that_is_not_there_is_refused_before_the_run_and_reported_once(server):
    result = server.run(prompt(model="gone.safetensors"))
    assert result["status"] == "invalid"
    (error,) = result["error"]["node_errors"]["9"]["errors"]
    assert error["extra_info"]["input_name"] == "model"
    assert "There is no model 'gone.safetensors'" in error["details"]


def test_a_wrong_quality_is_refused_before_a_model_is_loaded_and_reported_once(server):
    result = server.run(prompt(quality="gold"))
    if result["status"] == "invalid":
        (error,) = result["error"]["node_errors"]["9"]["errors"]
        assert error["extra_info"]["input_name"] == "quality" and "'gold' not in" in error["details"]
    else:  # ComfyUI 0.3.64 leaves the lists of such nodes unchecked
        assert result["status"] == "error" and result["error"]["node_id"] == "9"
        assert "'gold' is not a quality; choose one of" in result["error"]["exception_message"]
        assert set(result["error"]["executed"]) <= {"1", "2"}  # core's loaders


def test_the_example_is_a_portrait_and_a_voice(server):
    example = {
        "1": {"class_type": "EmoExample", "inputs": {"portrait": "drawing"}},
        "9": {"class_type": "EmoTalkingPortrait", "inputs": {**INPUTS, "portrait": ["1", 0], "voice": ["1", 1]}},
    }
    made = frames(server, server.run(example))
    assert made.shape[1:] == (512, 512, 3) and len(made) > 100

"""EMO Talking Faces in a real ComfyUI: one node, whose parts run once for each face."""

from __future__ import annotations

import io
import json
import re

import av
from comfyui_server import ROOT


def prompt(**changes) -> dict:
    """The template's API form on the tiny model."""
    made = json.loads((ROOT / "workflows" / "api" / "two_people_talk.json").read_text(encoding="utf-8"))
    (node,) = (node for node in made.values() if node["class_type"] == "EmoTalkingFaces")
    node["inputs"].update({"model": "tiny.safetensors", "order": "together", "seed": 21, **changes})
    return made


def video(server, result: dict) -> tuple[int, int, int]:
    """Frames, width, height."""
    assert result["status"] == "success", result["error"]
    shown = [one for output in result["outputs"].values() for one in output.get("images", ())]
    (made,) = (one for one in shown if one["filename"].endswith(".mp4"))
    with av.open(io.BytesIO(server.view(made))) as container:
        stream = container.streams.video[0]
        return sum(1 for _ in container.decode(stream)), stream.width, stream.height


def test_both_speak_for_as_long_as_the_longer_voice_and_another_seed_reads_no_voice_again(server):
    begin = len(server.log)
    assert video(server, server.run(prompt())) == (75, 494, 262)  # 2.99 s
    log = server.log[begin:]
    assert "A speaks 0 to 1.85 s." in log and "B speaks 0 to 2.99 s." in log
    assert len(re.findall(r"(\d+) of \1 clips rendered", log)) == 2
    begin = len(server.log)
    assert video(server, server.run(prompt(seed=22)))[0] == 75
    assert "speaks" not in server.log[begin:] and "clips rendered" in server.log[begin:]


def test_one_voice_by_a_schedule_and_a_schedule_that_cannot_be_read(server):
    graph = prompt(schedule="0-1 A; 1-1.8 B")
    (node,) = (node for node in graph.values() if node["class_type"] == "EmoTalkingFaces")
    del node["inputs"]["voice_b"]
    begin = len(server.log)
    assert video(server, server.run(graph))[0] == 46  # 1.855 s
    assert "A speaks 0 to 1 s." in server.log[begin:] and "B speaks 1 to 1.8 s." in server.log[begin:]
    refused = server.run(prompt(schedule="0-1 A; later B"))
    (error,) = (one for node in refused["error"]["node_errors"].values() for one in node["errors"])
    assert error["extra_info"]["input_name"] == "schedule" and "'later B' at position 8" in error["details"]

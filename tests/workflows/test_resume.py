"""A real ComfyUI that is cancelled or killed in the middle of a video, and asked for it again."""

from __future__ import annotations

import io
import json
import re

import av
import numpy as np
import pytest
from comfyui_server import ROOT, ComfyServer, comfyui_or_skip


def prompt(**changes) -> dict:
    """The shipped workflow on the tiny model, its video lossless."""
    made = json.loads((ROOT / "workflows" / "api" / "talking_portrait.json").read_text(encoding="utf-8"))
    values = {"model_name": "tiny.safetensors", "steps": 3, "quality": 0, "long_side": 128, **changes}
    for node in made.values():
        node["inputs"].update({key: value for key, value in values.items() if key in node["inputs"]})
    return made


def video(server: ComfyServer, result: dict) -> np.ndarray:
    assert result["status"] == "success", result["error"]
    (shown,) = (
        one
        for output in result["outputs"].values()
        for one in output.get("images", ())
        if one["filename"].endswith(".mp4")
    )
    with av.open(io.BytesIO(server.view(shown))) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def at_share(share: float, act):
    """For `on_progress`: act once, when the sampler has come so far."""
    done = []

    def on_progress(value: int, total: int) -> None:
        if total > 50 and value >= share * total and not done:
            done.append(value)
            act()

    return on_progress


def rendered(log: str) -> tuple[int, int]:
    """(clips rendered, clips) of the last run in a log."""
    return tuple(map(int, re.findall(r"(\d+) of (\d+) clips rendered", log)[-1]))


def test_a_run_cancelled_in_the_middle_of_a_clip_goes_on_and_makes_the_same_video(server):
    whole = video(server, server.run(prompt(seed=101)))
    clips = rendered(server.log)[1]
    for file in (server.base / "user" / "emo_clips").glob("*.safetensors"):
        file.unlink()
    assert server.run(prompt(seed=102, steps=1))["status"] == "success"  # so that ComfyUI forgets the first result
    begin = len(server.log)
    cancelled = server.run(prompt(seed=101), on_progress=at_share(0.4, lambda: server.post("/interrupt", {})))
    assert cancelled["status"] == "interrupted"
    said = re.search(r"(\d+) of (\d+) clips are kept; queue again to continue; set 'render' to", server.log[begin:])
    kept, of = map(int, said.groups())
    assert 0.3 * clips < kept < of == clips

    part = video(server, server.run(prompt(seed=101, render="finished clips only")))
    assert len(part) == 4 * kept and np.array_equal(part, whole[: 4 * kept])
    assert np.array_equal(video(server, server.run(prompt(seed=101))), whole)
    assert rendered(server.log) == (clips - kept, clips)


def test_a_killed_server_has_lost_nothing_that_was_finished(tmp_path):
    comfyui = comfyui_or_skip()
    import torch

    from emo_model.checkpoints import native
    from emo_model.config import PRESETS

    torch.manual_seed(0)
    server = ComfyServer(comfyui, tmp_path)
    native.save(tmp_path / "models" / "emo" / "tiny.safetensors", native.build(PRESETS["test"]))
    folder = tmp_path / "user" / "emo_clips"
    with server:
        with pytest.raises((AssertionError, OSError)):  # the connection breaks
            server.run(prompt(), on_progress=at_share(0.5, server.process.kill))
        server.process.wait()
    kept = len(list(folder.glob("*.safetensors")))
    with server:
        resumed = video(server, server.run(prompt()))
        again, clips = rendered(server.log)
        assert kept > 10 and again == clips - kept
        assert server.run(prompt(seed=5, steps=1))["status"] == "success"
        for file in folder.glob("*.safetensors"):
            file.unlink()
        whole = video(server, server.run(prompt()))
        assert rendered(server.log) == (clips, clips) and np.array_equal(resumed, whole)


def test_another_mask_from_some_second_on_renders_only_from_there(server):
    """A second builder chained behind the first, as a shared graph would have it."""
    graph = prompt(seed=103, steps=1)
    (reference,) = (number for number, node in graph.items() if node["class_type"] == "EmoReferenceEncoder")
    (sampler,) = (number for number, node in graph.items() if node["class_type"] == "EmoSampler")
    edges = {"left": 0.15, "top": 0.1, "right": 0.85, "bottom": 0.95}
    early = {"reference": [reference, 0], "mode": "detected", **edges, "from_second": 0.0}
    graph["early"] = {"class_type": "EmoFaceMaskBuilder", "inputs": early}
    graph[sampler]["inputs"]["face_mask"] = ["early", 0]
    assert server.run(graph)["status"] == "success"
    clips = rendered(server.log)[1]
    late = {**early, "mode": "box", "before": ["early", 0], "from_second": 4.0}
    graph["late"] = {"class_type": "EmoFaceMaskBuilder", "inputs": late}
    graph[sampler]["inputs"]["face_mask"] = ["late", 0]
    assert server.run(graph)["status"] == "success"
    assert rendered(server.log) == (clips - 4 * 25 // 4, clips)  # clips of 4 frames, 25 of them a second


def test_the_portrait_moves_in_the_node_while_the_clip_is_in_work(server):
    """The estimate of a clip is played as the video would show it, small."""
    from PIL import Image

    result = server.run(
        prompt(model_name="random.safetensors", steps=4, seed=7),
        on_progress=at_share(0.25, lambda: server.post("/interrupt", {})),
    )
    assert result["status"] == "interrupted"
    assert result["previews"] >= 5 and Image.open(io.BytesIO(result["preview"])).size == (128, 128)

"""ComfyUI's real page: a workflow dropped as a file, a graph wired with the mouse; run by the button, played in the
node."""

from __future__ import annotations

import json

import pytest
from comfyui_page import PROBLEMS, SET, add, clear, drop, made_file, press_run_and_play, wire
from comfyui_server import ROOT

WIRES = (
    ("EMO Reference Encoder", "model", "Load EMO Model", "model"),
    ("EMO Audio Encoder", "model", "Load EMO Model", "model"),
    ("EMO Sampler", "model", "Load EMO Model", "model"),
    ("EMO Sampler", "reference", "EMO Reference Encoder", "reference"),
    ("EMO Sampler", "audio_features", "EMO Audio Encoder", "audio_features"),
    ("EMO Video Combine", "clips", "EMO Sampler", "clips"),
    ("EMO Video Combine", "reference", "EMO Reference Encoder", "reference"),
    ("EMO Video Combine", "audio", "EMO Audio Encoder", "audio"),
)
"""(node, input, node, output)"""
INSIDE = ("EmoReferenceEncoder", "EmoAudioEncoder", "EmoSampler")
SELECT = """types => { const canvas = window.app.canvas;
    canvas.deselectAll();
    canvas.selectItems(window.app.graph._nodes.filter(n => types.includes(n.type)));
    canvas.canvas.focus(); }"""


@pytest.fixture(scope="module")
def page(open_page):
    opened = open_page()
    yield opened
    opened.close()


def shipped() -> dict:
    return json.loads((ROOT / "workflows" / "talking_portrait.json").read_text(encoding="utf-8"))


def shipped_on_the_tiny_model(*, seed: int) -> dict:
    """seed: another one for each test, for ComfyUI hands on the video of before, with its workflow, where nothing
    changed."""
    workflow = shipped()
    for node in workflow["nodes"]:
        if node["type"] == "EmoLoadModel":
            node["widgets_values"] = ["tiny.safetensors"]
        if node["type"] == "EmoReferenceEncoder":
            node["widgets_values"][2] = 128  # pixels of the long side
        if node["type"] == "EmoSampler":
            node["widgets_values"][0], node["widgets_values"][2] = seed, 1
    return workflow


def test_a_dropped_workflow_shows_no_red_node_and_queues_the_shipped_api_form(page):
    drop(page, json.dumps(shipped()).encode(), "talking_portrait.json", nodes=len(shipped()["nodes"]))
    assert page.evaluate(PROBLEMS) == []
    queued = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    without_titles = {number: {key: node[key] for key in ("class_type", "inputs")} for number, node in queued.items()}
    without_titles["3"]["inputs"].pop("audioUI", None)  # the player in core's Load Audio, on pages of 2025
    assert without_titles == json.loads(
        (ROOT / "workflows" / "api" / "talking_portrait.json").read_text(encoding="utf-8")
    )


def test_nodes_found_by_name_and_wired_with_the_mouse_make_a_video_that_plays(page):
    clear(page)
    names = sorted({name for node, _, source, _ in WIRES for name in (node, source)})
    nodes = {name: add(page, name, 160 + index % 3 * 520, 240 + index // 3 * 560) for index, name in enumerate(names)}
    for node, slot, source, output in WIRES:
        wire(page, nodes[node], slot, nodes[source], output)
    page.evaluate(SET, [nodes["Load EMO Model"], "model_name", "tiny.safetensors"])
    page.evaluate(SET, [nodes["EMO Reference Encoder"], "long_side", 128])
    page.evaluate(SET, [nodes["EMO Sampler"], "steps", 1])
    press_run_and_play(page)


def test_nodes_put_into_a_subgraph_make_a_video_that_gives_the_subgraph_back(page):
    """The way of many shared workflows: what belongs together is one node, and the nodes in it have numbers such as
    9:4."""
    workflow = shipped_on_the_tiny_model(seed=1)
    drop(page, json.dumps(workflow).encode(), "tiny.json", nodes=len(workflow["nodes"]))
    page.evaluate(SELECT, INSIDE)
    page.locator("#graph-canvas").press("Control+Shift+E")
    page.wait_for_function(
        "count => window.app.graph._nodes.length === count", arg=len(workflow["nodes"]) - len(INSIDE) + 1
    )
    queued = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    assert sorted(node["class_type"] for number, node in queued.items() if ":" in number) == sorted(INSIDE)
    press_run_and_play(page)

    drop(page, made_file(page), "EMO_00001_.mp4", nodes=len(workflow["nodes"]) - len(INSIDE) + 1)
    assert page.evaluate(PROBLEMS) == []
    assert page.evaluate("async () => (await window.app.graphToPrompt()).output") == queued


def test_run_is_pressed_and_the_video_plays_and_gives_its_workflow_back(page):
    workflow = shipped_on_the_tiny_model(seed=2)
    drop(page, json.dumps(workflow).encode(), "tiny.json", nodes=len(workflow["nodes"]))
    press_run_and_play(page)

    drop(page, made_file(page), "EMO_00001_.mp4", nodes=len(workflow["nodes"]))
    assert page.evaluate(PROBLEMS) == []
    loader = "() => window.app.graph._nodes.find(n => n.type === 'EmoLoadModel').widgets[0].value"
    assert page.evaluate(loader) == "tiny.safetensors"

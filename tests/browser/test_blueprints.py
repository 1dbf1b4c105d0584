"""The blueprints: placed by the search box, wired (on the classic page with the mouse), run; they show their video."""

from __future__ import annotations

import json
import time

import pytest
from comfyui_page import PROBLEMS, SET, add, clear, overlaps, picture, press_run_and_play, wire
from comfyui_server import ROOT

BLUEPRINTS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "subgraphs").glob("*.json")}
FROM = {
    "portrait": ("Load Image", "IMAGE", {"image": "emo_portrait.jpg"}),
    "picture": ("Load Image", "IMAGE", {"image": "emo_two_people.jpg"}),
    "voice": ("Load Audio", "AUDIO", {"audio": "emo_voice.wav"}),
    "voice_a": ("Load Audio", "AUDIO", {"audio": "emo_voice_a.wav"}),
    "voice_b": ("Load Audio", "AUDIO", {"audio": "emo_voice_b.wav"}),
    "video": ("Load Video", "VIDEO", {"file": "earlier.mp4"}),
}
"""By input of a blueprint: the node that feeds it, its output, its widgets."""


@pytest.fixture(scope="module")
def earlier(server) -> None:
    """The video that is continued, in the input folder: the shipped portrait and voice."""
    prompt = json.loads((ROOT / "workflows" / "api" / "talking_portrait.json").read_text(encoding="utf-8"))
    _, answer = server.post("/prompt", {"prompt": prompt})
    deadline = time.monotonic() + 300
    while not (done := server.get(f"/history/{answer['prompt_id']}")):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    outputs = done[answer["prompt_id"]]["outputs"].values()
    shown = (one for output in outputs for one in output.get("images", ()))
    (server.base / "input" / "earlier.mp4").write_bytes(
        server.view(next(one for one in shown if one["filename"].endswith(".mp4")))
    )


LEFT = """id => { const node = app.graph.getNodeById(id);
    return [...node.widgets.map(w => w.name).filter(name => name.startsWith('$$')),
            ...app.nodePreviewImages[id] ?? []]; }"""
"""Previews that a subgraph still shows beside its video."""
CONNECT = """([to, input, from, output]) => { const [source, target] = [from, to].map(id => app.graph.getNodeById(id));
    source.connect(source.outputs.findIndex(slot => slot.name === output), target,
                   target.inputs.findIndex(slot => slot.name === input)); }"""


@pytest.fixture(scope="module", params=["classic", "Nodes 2.0"])
def page(request, server, open_page, earlier):
    try:
        packs = server.get("/global_subgraphs")
    except OSError:
        pytest.skip("this ComfyUI has no blueprints of packs")
    ours = {entry["name"] for entry in packs.values() if entry["info"]["node_pack"].endswith("ComfyUI-EMO")}
    assert ours == set(BLUEPRINTS)
    opened = open_page(is_2_0=request.param == "Nodes 2.0")
    yield opened
    opened.close()


@pytest.mark.parametrize("name", sorted(BLUEPRINTS))
def test_a_blueprint_is_placed_wired_and_run_and_shows_its_video(page, name):
    (inside,) = BLUEPRINTS[name]["definitions"]["subgraphs"]
    clear(page)
    placed, loaders = add(page, name, 700, 240), []
    page.evaluate(SET, [placed, "seed", 40 + page.is_2_0])  # clips that are not made yet, so that previews come
    for socket in inside["inputs"]:
        if socket["type"] in ("IMAGE", "AUDIO", "VIDEO"):
            kind, output, widgets = FROM[socket["name"]]
            loader = add(page, kind, 100, 240 + 420 * len(loaders))
            loaders.append(loader)
            for widget, value in widgets.items():
                page.evaluate(SET, [loader, widget, value])
            if page.is_2_0:
                page.evaluate(CONNECT, [placed, socket["name"], loader, output])
            else:
                wire(page, placed, socket["name"], loader, output)
    queued = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    assert sorted(node["class_type"] for number, node in queued.items() if ":" in number) == sorted(
        node["type"] for node in inside["nodes"]
    )
    press_run_and_play(page)
    page.wait_for_timeout(1500)
    assert page.evaluate(LEFT, placed) == []
    assert page.evaluate(PROBLEMS) == []
    assert overlaps(page) == []
    picture(page, f"blueprint {name}")

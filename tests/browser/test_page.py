"""ComfyUI's real page: a workflow dropped as a file, a graph wired with the mouse; run by the button, played in the
node."""

from __future__ import annotations

import base64
import json
import os
import shutil

import pytest
from comfyui_server import ROOT, ComfyServer, comfyui_or_skip

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required"]
RUN_BUTTONS = (
    '[data-testid="queue-button"]:is(button):visible',
    '[data-testid="queue-button"] button:visible',
    'button[aria-label="Run"]:visible',
)
READY = """() => window.app?.graph && window.LiteGraph && window.app.vueAppReady !== false
    && 'EmoSampler' in window.LiteGraph.registered_node_types"""
DROP = """([base64, name]) => {
    const bytes = Uint8Array.from(atob(base64), c => c.charCodeAt(0)), files = new DataTransfer();
    files.items.add(new File([bytes], name, {type: name.endsWith('mp4') ? 'video/mp4' : 'application/json'}));
    const canvas = document.querySelector('#graph-canvas') ?? document.querySelector('canvas');
    const box = canvas.getBoundingClientRect();
    for (const kind of ['dragenter', 'dragover', 'drop'])
        canvas.dispatchEvent(new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: files,
                                                  clientX: box.x + box.width / 2, clientY: box.y + box.height / 2}));
}"""
PROBLEMS = """() => window.app.graph._nodes.filter(n => n.has_errors
    || !(n.type in window.LiteGraph.registered_node_types || n.isVirtualNode)).map(n => n.type)
    .concat([...document.querySelectorAll('.p-dialog')].filter(e => e.offsetParent).map(e => e.innerText))
    .concat(Object.keys(window.app.lastNodeErrors ?? {}).length ? [JSON.stringify(window.app.lastNodeErrors)] : [])
    .concat(window.app.lastExecutionError ? [JSON.stringify(window.app.lastExecutionError)] : [])"""
VIDEO = """() => [...document.querySelectorAll('video')].map(v => ({seconds: v.duration, ready: v.readyState,
    at: v.currentTime, error: v.error?.message ?? null}))[0]"""

FREE = (1200, 500)  # a place of the page with nothing on it
SEARCH = 'input[id^="comfy-vue-node-search-box-input"], input[placeholder="Add a node..."]'  # pages of 2025, of 2026
FOUND = """name => { const flat = text => text.toLowerCase().replace(/[^a-z0-9]/g, '');
    const first = document.querySelector('.p-autocomplete-option, [data-testid="result-item"]');
    return first && flat(first.innerText).includes(flat(name)); }"""
IDS = "() => window.app.graph._nodes.map(n => n.id)"
PLACE = """([id, x, y]) => { const canvas = window.app.canvas; window.app.graph.getNodeById(id).pos = [x, y];
    canvas.ds.scale = 0.6; canvas.ds.offset = [0, 0]; canvas.setDirty(true, true); }"""
DOT = """([id, isInput, name]) => {
    const node = window.app.graph.getNodeById(id), slots = isInput ? node.inputs : node.outputs;
    const place = slots.findIndex(slot => slot.name === name), canvas = window.app.canvas;
    const at = isInput ? node.getInputPos(place) : node.getOutputPos(place);
    const box = canvas.canvas.getBoundingClientRect(), {offset, scale} = canvas.ds;
    return [(at[0] + offset[0]) * scale + box.x, (at[1] + offset[1]) * scale + box.y];
}"""
SOURCE = """([id, name]) => {
    const input = window.app.graph.getNodeById(id).inputs.find(i => i.name === name);
    const links = window.app.graph.links;
    const link = input.link == null ? null : links.get?.(input.link) ?? links[input.link];
    return link && [link.origin_id, window.app.graph.getNodeById(link.origin_id).outputs[link.origin_slot].name]; }"""
SET = """([id, name, value]) => {
    const widget = window.app.graph.getNodeById(id).widgets.find(w => w.name === name);
    widget.value = value;
    widget.callback?.(value);
}"""
WIRES = (
    ("EMO Reference Encoder", "model", "Load EMO Model", "model"),
    ("EMO Reference Encoder", "vae", "Load EMO Model", "vae"),
    ("EMO Audio Encoder", "audio_encoder", "Load EMO Model", "audio_encoder"),
    ("EMO Sampler", "model", "Load EMO Model", "model"),
    ("EMO Sampler", "reference", "EMO Reference Encoder", "reference"),
    ("EMO Sampler", "audio_features", "EMO Audio Encoder", "audio_features"),
    ("EMO Video Combine", "clips", "EMO Sampler", "clips"),
    ("EMO Video Combine", "vae", "EMO Reference Encoder", "vae"),
    ("EMO Video Combine", "audio", "EMO Audio Encoder", "audio"),
)
"""(node, input, node, output)"""
INSIDE = ("EmoReferenceEncoder", "EmoAudioEncoder", "EmoSampler")
SELECT = """types => { const canvas = window.app.canvas;
    canvas.deselectAll();
    canvas.selectItems(window.app.graph._nodes.filter(n => types.includes(n.type)));
    canvas.canvas.focus(); }"""
FILE_OF_VIDEO = """async () => {
    const video = document.querySelector('video');
    const reply = await fetch(video.currentSrc || video.querySelector('source').src);
    let text = '';
    for (const byte of new Uint8Array(await reply.arrayBuffer())) text += String.fromCharCode(byte);
    return btoa(text);
}"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """ComfyUI's page in headless Chromium, on a server that has a tiny model in models/emo."""
    comfyui = comfyui_or_skip()
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: `pip install playwright`")
    if CHROMIUM is None:
        pytest.skip("no Chromium: install it, or name its program in CHROMIUM")
    import torch

    from emo_model.checkpoints import native
    from emo_model.config import PRESETS

    base = tmp_path_factory.mktemp("page")
    torch.manual_seed(0)
    native.save(base / "models" / "emo" / "tiny.safetensors", native.build(PRESETS["test"]))
    with ComfyServer(comfyui, base) as server, playwright.sync_playwright() as driver:
        server.post("/api/settings/Comfy.TutorialCompleted", True)
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(300_000)
        page.route(lambda url: not url.startswith((server.url, "data:", "blob:")), lambda route: route.abort())
        page.goto(server.url, wait_until="domcontentloaded")
        page.wait_for_function(READY)
        page.wait_for_timeout(1000)
        yield page
        browser.close()


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


def drop(page, data: bytes, name: str, *, nodes: int) -> None:
    page.evaluate("() => window.app.graph.clear()")
    page.evaluate(DROP, [base64.b64encode(data).decode(), name])
    page.wait_for_function("count => window.app.graph._nodes.length === count", arg=nodes)
    page.wait_for_timeout(1000)


def test_a_dropped_workflow_shows_no_red_node_and_queues_the_shipped_api_form(page):
    drop(page, json.dumps(shipped()).encode(), "talking_portrait.json", nodes=len(shipped()["nodes"]))
    assert page.evaluate(PROBLEMS) == []
    queued = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    without_titles = {number: {key: node[key] for key in ("class_type", "inputs")} for number, node in queued.items()}
    assert without_titles == json.loads(
        (ROOT / "workflows" / "api" / "talking_portrait.json").read_text(encoding="utf-8")
    )


def add(page, name: str, x: int, y: int):
    """Double-click the empty canvas, type the name, press Enter -> the new node's id."""
    before = page.evaluate(IDS)
    box = page.locator(SEARCH).first
    for _ in range(10):  # a page that has just been loaded, or closed its box, may not listen yet
        page.mouse.dblclick(*FREE)
        page.wait_for_timeout(2000)
        if box.is_visible():
            break
    box.fill(name)
    page.wait_for_function(FOUND, arg=name)
    page.wait_for_timeout(300)
    box.press("Enter")
    box.wait_for(state="hidden")
    if page.evaluate("() => (window.app.canvas.state?.ghostNodeId ?? null) !== null"):
        page.mouse.click(*FREE)  # pages of 2026 hang a new node on the pointer until a click puts it down
    page.wait_for_function("count => window.app.graph._nodes.length > count", arg=len(before))
    page.wait_for_timeout(500)  # the closing box swallows the next double click
    (new,) = set(page.evaluate(IDS)) - set(before)
    page.evaluate(PLACE, [new, x, y])
    return new


def wire(page, node, slot: str, source, output: str) -> None:
    """Drag from an output's dot to an input's, with the mouse."""
    for _ in range(3):  # a page that is still drawing takes a drag for one of the canvas
        (x0, y0), (x1, y1) = page.evaluate(DOT, [source, False, output]), page.evaluate(DOT, [node, True, slot])
        page.mouse.move(x0, y0)
        page.mouse.down()
        page.mouse.move((x0 + x1) / 2, (y0 + y1) / 2, steps=5)
        page.mouse.move(x1, y1, steps=5)
        page.mouse.up()
        page.wait_for_timeout(300)
        if page.evaluate(SOURCE, [node, slot]) == [source, output]:
            return
    raise AssertionError(f"dragging from '{output}' to '{slot}' made no link")


def press_run_and_play(page) -> None:
    with page.expect_response(lambda reply: reply.url.endswith("/prompt") and reply.request.method == "POST") as answer:
        next(button for button in map(page.locator, RUN_BUTTONS) if button.count()).first.click()
    assert answer.value.status == 200
    page.wait_for_function("() => document.querySelector('video')?.readyState >= 3 || window.app.lastExecutionError")
    assert page.evaluate(PROBLEMS) == []
    page.evaluate("() => { const video = document.querySelector('video'); video.muted = true; return video.play(); }")
    page.wait_for_function("() => document.querySelector('video').currentTime > 0.2")
    video = page.evaluate(VIDEO)
    assert video["error"] is None and video["seconds"] > 1


def test_nodes_found_by_name_and_wired_with_the_mouse_make_a_video_that_plays(page):
    page.evaluate("() => window.app.graph.clear()")
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

    written = page.evaluate(FILE_OF_VIDEO)
    drop(page, base64.b64decode(written), "EMO_00001_.mp4", nodes=len(workflow["nodes"]) - len(INSIDE) + 1)
    assert page.evaluate(PROBLEMS) == []
    assert page.evaluate("async () => (await window.app.graphToPrompt()).output") == queued


def test_run_is_pressed_and_the_video_plays_and_gives_its_workflow_back(page):
    workflow = shipped_on_the_tiny_model(seed=2)
    drop(page, json.dumps(workflow).encode(), "tiny.json", nodes=len(workflow["nodes"]))
    press_run_and_play(page)

    written = page.evaluate(FILE_OF_VIDEO)
    drop(page, base64.b64decode(written), "EMO_00001_.mp4", nodes=len(workflow["nodes"]))
    assert page.evaluate(PROBLEMS) == []
    loader = "() => window.app.graph._nodes.find(n => n.type === 'EmoLoadModel').widgets[0].value"
    assert page.evaluate(loader) == "tiny.safetensors"

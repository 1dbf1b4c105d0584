"""The shipped workflow in ComfyUI's real page: dropped as a file, run by the button, played in the node."""

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
RUN_BUTTONS = ('[data-testid="queue-button"]:is(button):visible', '[data-testid="queue-button"] button:visible',
               'button[aria-label="Run"]:visible')
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

FILE_OF_VIDEO = """async () => {
    const video = document.querySelector('video'), reply = await fetch(video.currentSrc || video.querySelector('source').src);
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
    assert without_titles == json.loads((ROOT / "workflows" / "api" / "talking_portrait.json").read_text(encoding="utf-8"))


def test_run_is_pressed_and_the_video_plays_and_gives_its_workflow_back(page):
    workflow = shipped()
    for node in workflow["nodes"]:
        if node["type"] == "EmoLoadModel":
            node["widgets_values"] = ["tiny.safetensors"]
        if node["type"] == "EmoSampler":
            node["widgets_values"][2] = 1
    drop(page, json.dumps(workflow).encode(), "tiny.json", nodes=len(workflow["nodes"]))
    with page.expect_response(lambda reply: reply.url.endswith("/prompt") and reply.request.method == "POST") as answer:
        next(button for button in map(page.locator, RUN_BUTTONS) if button.count()).first.click()
    assert answer.value.status == 200
    page.wait_for_function("() => document.querySelector('video')?.readyState >= 3 || window.app.lastExecutionError")
    assert page.evaluate(PROBLEMS) == []
    page.evaluate("() => { const video = document.querySelector('video'); video.muted = true; return video.play(); }")
    page.wait_for_function("() => document.querySelector('video').currentTime > 0.2")
    video = page.evaluate(VIDEO)
    assert video["error"] is None and video["seconds"] > 1

    written = page.evaluate(FILE_OF_VIDEO)
    drop(page, base64.b64decode(written), "EMO_00001_.mp4", nodes=len(workflow["nodes"]))
    assert page.evaluate(PROBLEMS) == []
    loader = "() => window.app.graph._nodes.find(n => n.type === 'EmoLoadModel').widgets[0].value"
    assert page.evaluate(loader) == "tiny.safetensors"

"""ComfyUI's page in headless Chromium, used with mouse and keyboard."""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from itertools import combinations, count
from pathlib import Path

from comfyui_server import ROOT

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required"]
FLAGS += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # a microphone that beeps
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
MADE = """[...document.querySelectorAll('video')].find(video => video.checkVisibility()
    && window.made?.some(name => decodeURIComponent(video.currentSrc || video.src
        || video.querySelector('source')?.src || '').includes(name)))"""
"""The video of the last run that was waited for, where the page shows it."""
FINISHED = """async id => { const {[id]: run} = await (await window.app.api.fetchApi(`/history/${id}`)).json();
    window.made = Object.values(run?.outputs ?? {}).flatMap(output => output.images ?? [])
        .filter(one => one.type === 'output' && one.filename.endsWith('.mp4')).map(one => one.filename);
    return run?.status?.completed || run?.status?.status_str || null; }"""
FILE_OF_VIDEO = f"""async () => {{
    const video = {MADE};
    const reply = await fetch(video.currentSrc || video.querySelector('source').src);
    let text = '';
    for (const byte of new Uint8Array(await reply.arrayBuffer())) text += String.fromCharCode(byte);
    return btoa(text);
}}"""
QUEUED = """async () => { const { output } = await window.app.graphToPrompt();
    for (const { inputs } of Object.values(output)) { delete inputs.audioUI; delete inputs['video-preview']; }
    return output; }"""
"""The prompt, without the players that pages write into core's loaders."""
VIDEO = f"""() => {{ const video = {MADE};
    return video && {{seconds: video.duration, ready: video.readyState, error: video.error?.message ?? null}}; }}"""
PLAYABLE = f"() => {MADE}?.readyState >= 3"

DROPPED = count(1)
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
BOXES = """is20 => window.app.graph._nodes.map(node => {
    if (is20) {
        const box = document.querySelector(`[data-node-id="${node.id}"]`).getBoundingClientRect();
        const s = window.app.canvas.ds.scale;
        return [node.title, box.x / s, box.y / s, box.width / s, box.height / s];
    }
    return [node.title, node.pos[0], node.pos[1] - 30, node.size[0], node.size[1] + 30];
})"""
STATE = """() => ({
    nodes: window.app.graph._nodes.map(n => [n.id, n.type, n.widgets?.map(w => w.name)]),
    outputs: window.app.nodeOutputs, previews: window.app.nodePreviewImages, made: window.made,
    videos: [...document.querySelectorAll('video')].map(v => [v.currentSrc || v.src, v.checkVisibility(), v.readyState,
                                                              v.error?.message])})"""
"""What the page knows of the graph and of videos, for a test that failed."""
STILL = """() => { for (const video of document.querySelectorAll('video')) {
    video.loop = video.controls = false;
    video.pause();
    video.currentTime = 0.44; } }"""
"""For pictures: no bar over a video, and a frame in which its mouth is open."""
FIT = """() => { window.app.canvas.deselectAll?.(); window.app.canvas.fitViewToSelectionAnimated?.({duration: 1});
    window.app.canvas.setDirty(true, true); }"""
SET = """([id, name, value]) => {
    const widget = window.app.graph.getNodeById(id).widgets.find(w => w.name === name);
    widget.value = value;
    widget.callback?.(value);
}"""


def template(name: str, **changes) -> dict:
    """A template; changes: the first widget's value by type of node."""
    workflow = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if node["type"] in changes:
            node["widgets_values"][0] = changes[node["type"]]
    return workflow


def show(page, workflow: dict) -> None:
    drop(page, json.dumps(workflow).encode(), "dropped.json", nodes=len(workflow["nodes"]))


def made_file(page) -> bytes:
    """The mp4 that the page plays."""
    return base64.b64decode(page.evaluate(FILE_OF_VIDEO))


def fit(page) -> None:
    """All nodes in sight: the page hides videos of others. Twice: the page knows their places once they are drawn."""
    for _ in range(2):
        page.evaluate(FIT)
        page.wait_for_timeout(700)


def overlaps(page) -> list[tuple[str, str]]:
    """Titles of nodes that cover each other, with their texts and previews."""
    fit(page)
    return [
        (one[0], other[0])
        for one, other in combinations(page.evaluate(BOXES, page.is_2_0), 2)
        if one[1] < other[1] + other[3] - 1
        and other[1] < one[1] + one[3] - 1
        and one[2] < other[2] + other[4] - 1
        and other[2] < one[2] + one[4] - 1
    ]


def picture(page, name: str) -> None:
    """The graph as the page shows it, to $EMO_SCREENSHOTS/name.jpg (on Nodes 2.0 name_2.jpg)."""
    if "EMO_SCREENSHOTS" not in os.environ:
        return
    page.set_viewport_size({"width": 2700, "height": 1700})  # in a smaller one the page leaves texts out
    fit(page)
    scale, left, top, x, y = page.evaluate(
        """() => { const {ds, canvas} = window.app.canvas, box = canvas.getBoundingClientRect();
        return [ds.scale, ...ds.offset, box.x, box.y]; }"""
    )
    page.evaluate(STILL)
    page.wait_for_timeout(700)
    boxes = page.evaluate(BOXES, page.is_2_0)
    if page.is_2_0:
        left = top = x = y = 0  # these boxes are of the page, not of the graph
    x0, y0 = (min(box[axis] for box in boxes) - 20 for axis in (1, 2))
    x1, y1 = (max(box[axis] + box[axis + 2] for box in boxes) + 20 for axis in (1, 2))
    clip = {
        "x": (x0 + left) * scale + x,
        "y": (y0 + top) * scale + y,
        "width": (x1 - x0) * scale,
        "height": (y1 - y0) * scale,
    }
    path = Path(os.environ["EMO_SCREENSHOTS"]) / f"{name}{'_2' if page.is_2_0 else ''}.jpg"
    page.screenshot(path=str(path), type="jpeg", quality=88, clip=clip)
    page.set_viewport_size({"width": 1600, "height": 1000})


def clear(page) -> None:
    """An empty page, that also forgets what nodes made: it numbers new ones as the old."""
    page.evaluate("() => { window.app.graph.clear(); window.app.clean(); }")


def drop(page, data: bytes, name: str, *, nodes: int) -> None:
    """As a file of another name than those before: the page shows what nodes of the same numbers made where it takes
    two files for one."""
    clear(page)
    page.evaluate(DROP, [base64.b64encode(data).decode(), f"{next(DROPPED)}_{name}"])
    page.wait_for_function("count => window.app.graph._nodes.length === count", arg=nodes)
    page.wait_for_timeout(1000)


def open_search(page):
    """Double-click the empty canvas -> the box for words."""
    box = page.locator(SEARCH).first
    for _ in range(10):  # a page that has just been loaded, or closed its box, may not listen yet
        page.mouse.dblclick(*FREE)
        page.wait_for_timeout(2000)
        if box.is_visible():
            return box
    raise AssertionError("a double click on the empty canvas opens no search box")


def add(page, name: str, x: int, y: int):
    """Double-click the empty canvas, type the name, press Enter -> the new node's id."""
    before = page.evaluate(IDS)
    box = open_search(page)
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


def record_voice(page) -> None:
    """Two seconds from the microphone, by the buttons of Nodes 2.0 and of App mode."""
    page.locator("button:visible", has_text="Start Recording").last.click()
    page.wait_for_timeout(2500)
    page.locator('button[title="Stop Recording"]:visible').last.click()
    page.wait_for_timeout(1000)


def press_run(page) -> str:
    """Click the button -> the prompt's id."""
    with page.expect_response(lambda reply: reply.url.endswith("/prompt") and reply.request.method == "POST") as answer:
        next(button for button in map(page.locator, RUN_BUTTONS) if button.count()).first.click()
    assert answer.value.status == 200
    return answer.value.json()["prompt_id"]


def wait_for_video(page, prompt: str) -> None:
    """Until the run has ended and the page can play the video that it made."""
    deadline = time.monotonic() + 300
    while not page.evaluate(FINISHED, prompt):
        assert time.monotonic() < deadline, f"the run has not ended after 300 s: {page.evaluate(PROBLEMS)}"
        page.wait_for_timeout(300)
    assert page.evaluate(PROBLEMS) == []
    page.wait_for_function(PLAYABLE, timeout=60_000)


def press_run_and_play(page) -> None:
    fit(page)
    wait_for_video(page, press_run(page))
    page.evaluate(f"() => {{ const video = {MADE}; video.muted = true; return video.play(); }}")
    page.wait_for_function(f"() => {MADE}.currentTime > 0.2")
    video = page.evaluate(VIDEO)
    assert video["error"] is None and video["seconds"] > 1

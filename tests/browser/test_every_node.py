"""Every node of the pack: found in the search box by its name and by other words, wired with the mouse, and run.

Pictures of the nodes, as the help pages show them, are written to $EMO_SCREENSHOTS/help if that is set, with the
built-in fast model.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from comfyui_page import PROBLEMS, SET, STILL, add, clear, open_search, press_run, wire
from comfyui_server import ROOT

ALIASES = json.loads((ROOT / "locales" / "aliases.json").read_text(encoding="utf-8"))
NAMES = {
    name: texts["display_name"]
    for name, texts in json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8")).items()
}

NODES = {
    "voice": ("Load Audio", {"audio": "emo_voice.wav"}),
    "example": ("EMO Example", {"portrait": "photograph"}),
    "model": ("Load EMO Model", {}),
    "reference": ("EMO Reference Encoder", {}),
    "heard": ("EMO Audio Encoder", {}),
    "mask": ("EMO Face Mask Builder", {}),
    "speed": ("EMO Head Speed", {}),
    "expression": ("EMO Expression", {"smile": "0.6", "yaw": "0: 0; 1: 8"}),
    "options": ("EMO Sampling Options", {}),
    "sampler": ("EMO Sampler", {"seed": 21}),
    "combine": ("EMO Video Combine", {}),
    "latent": ("EMO Clips To Latent", {}),
    "decode": ("VAE Decode", {}),
    "frames": ("Preview Image", {}),
    "motion": ("EMO Continue From", {}),
    "idle": ("EMO Idle", {"seconds": 2.0}),
    "waiting": ("EMO Sampler", {"seed": 22}),
    "second": ("EMO Video Combine", {"filename_prefix": "video/idle"}),
    "talking": ("EMO Talking Portrait", {"seed": 23}),
}
"""Name here -> (name in the search box, values of widgets)."""
WIRES = (
    ("reference", "model", "model", "model"),
    ("reference", "image", "example", "image"),
    ("heard", "model", "model", "model"),
    ("heard", "audio", "voice", "AUDIO"),
    ("mask", "reference", "reference", "reference"),
    ("sampler", "model", "model", "model"),
    ("sampler", "reference", "reference", "reference"),
    ("sampler", "audio_features", "heard", "audio_features"),
    ("sampler", "face_mask", "mask", "face_mask"),
    ("sampler", "speed", "speed", "speed"),
    ("sampler", "expression", "expression", "expression"),
    ("sampler", "options", "options", "options"),
    ("combine", "clips", "sampler", "clips"),
    ("combine", "reference", "reference", "reference"),
    ("combine", "audio", "heard", "audio"),
    ("latent", "clips", "sampler", "clips"),
    ("decode", "samples", "latent", "latent"),
    ("decode", "vae", "reference", "vae"),
    ("frames", "images", "decode", "IMAGE"),
    ("motion", "model", "model", "model"),
    ("motion", "clips", "sampler", "clips"),
    ("idle", "model", "model", "model"),
    ("waiting", "model", "model", "model"),
    ("waiting", "reference", "reference", "reference"),
    ("waiting", "audio_features", "idle", "audio_features"),
    ("waiting", "motion", "motion", "motion"),
    ("second", "clips", "waiting", "clips"),
    ("second", "reference", "reference", "reference"),
    ("talking", "portrait", "example", "image"),
    ("talking", "voice", "voice", "AUDIO"),
)
"""(node, input, node, output)"""
CORE = {
    "Load Audio": "LoadAudio",
    "Load Image": "LoadImage",
    "Load Video": "LoadVideo",
    "VAE Decode": "VAEDecode",
    "Preview Image": "PreviewImage",
}
FACES = {
    "two": ("Load Image", {"image": "emo_two_people.jpg"}),
    "several": ("EMO Several Faces", {"order": "together", "long_side": 640}),
    "each": ("EMO Sampler", {"seed": 24}),
    "faces": ("EMO Combine Faces", {}),
    "both": ("EMO Video Combine", {"filename_prefix": "video/two"}),
    "people": ("EMO Talking Faces", {"order": "together"}),
    "video": ("Load Video", {"file": "emo_video.mp4"}),
    "dub": ("EMO Dub Video", {}),
}
"""Further nodes of the pictures."""
WIRES_OF_FACES = (
    ("several", "model", "model", "model"),
    ("several", "image", "two", "IMAGE"),
    ("several", "voice_a", "voice", "AUDIO"),
    ("several", "voice_b", "voice", "AUDIO"),
    ("each", "model", "model", "model"),
    ("each", "reference", "several", "reference"),
    ("each", "audio_features", "several", "audio_features"),
    ("faces", "clips", "each", "clips"),
    ("faces", "reference", "several", "reference"),
    ("both", "faces", "faces", "faces"),
    ("both", "audio", "several", "audio"),
    ("people", "picture", "two", "IMAGE"),
    ("people", "voice_a", "voice", "AUDIO"),
    ("people", "voice_b", "voice", "AUDIO"),
    ("dub", "video", "video", "VIDEO"),
    ("dub", "voice", "voice", "AUDIO"),
)
UNSEEN = {"waiting", "second", "talking"}  # a clip stands for EMO Talking Portrait: docs/make_pictures.py
AGAIN = {"each", "both"}
RESULTS = """() => [...document.querySelectorAll('.p-autocomplete-option, [data-testid="result-item"]')]
    .map(e => e.innerText)"""
LOOK = """id => { const node = window.app.graph.getNodeById(id), canvas = window.app.canvas;
    canvas.deselectAll?.();
    canvas.ds.scale = 1;
    canvas.ds.offset = [120 - node.pos[0], 140 - node.pos[1]];
    canvas.setDirty(true, true);
    return [node.size[0], node.size[1]]; }"""
NO_WIRES = "() => { window.app.canvas.links_render_mode = -1; }"
"""For the pictures: those to nodes elsewhere would cross them."""
GRAPH = """([nodes, wires]) => { const graph = window.app.graph, ids = {};
    for (const [key, type, values] of nodes) {
        const node = window.LiteGraph.createNode(type);
        graph.add(node);
        node.pos = [3000 * Object.keys(ids).length, 0];  // apart, so that none is in another's picture
        node.setSize([Math.max(300, node.size[0]), node.size[1]]);
        ids[key] = node.id;
        for (const widget of node.widgets ?? []) {
            if (['model', 'model_name'].includes(widget.name)) widget.value = 'built-in fast';
            if (widget.name === 'control_after_generate') widget.value = 'fixed';
            if (widget.name in values) { widget.value = values[widget.name]; widget.callback?.(widget.value); }
        }
    }
    for (const [to, input, from, output] of wires) {
        const [source, target] = [from, to].map(key => graph.getNodeById(ids[key]));
        source.connect(source.outputs.findIndex(slot => slot.name === output), target,
                       target.inputs.findIndex(slot => slot.name === input));
    }
    return ids; }"""
STAGE = """([source, target]) => { let parked = 0;
    for (const node of window.app.graph._nodes)
        node.pos = node.id === source ? [140, 240] : node.id === target ? [900, 240] : [9000 + 800 * parked++, 0];
    window.app.canvas.setDirty(true, true); }"""
"""Two nodes in sight, the others far away, so that none lies above a dot."""
ROWS = """() => { for (const [place, node] of window.app.graph._nodes.entries())
    node.pos = [place % 7 * 420, Math.floor(place / 7) * 900]; }"""
DONE = """() => { window.done = null; window.shown = {};
    window.app.api.addEventListener('executed', ({detail}) =>
        window.shown[detail.display_node] = [...window.shown[detail.display_node] ?? [],
                                             ...(detail.output?.images ?? []).map(one => one.filename)]);
    for (const kind of ['execution_success', 'execution_error'])
        window.app.api.addEventListener(kind, () => window.done = kind); }"""


@pytest.fixture(scope="module")
def page(open_page):
    opened = open_page()
    yield opened
    opened.close()


@pytest.fixture
def schemas(server) -> dict:
    return server.get("/object_info")


def test_the_table_has_every_node(schemas):
    ours = {schema["display_name"] for schema in schemas.values() if schema["category"] == "EMO"}
    assert ours == {name for name, _ in (NODES | FACES).values() if "EMO" in name} == set(NAMES.values())


def test_other_words_find_each_node(page, schemas):
    """The first word of each node and its last, which is Chinese."""
    if "search_aliases" not in schemas["EmoTalkingPortrait"]:
        pytest.skip("this ComfyUI has no search aliases")
    missed = []
    clear(page)  # a page begins with a graph, which a double click would hit
    box = open_search(page)
    for node, words in ALIASES.items():
        for word in (words[0], words[-1]):
            box.fill(word)
            for _ in range(20):
                page.wait_for_timeout(250)
                if any(NAMES[node] in found for found in page.evaluate(RESULTS)):
                    break
            else:
                missed.append((node, word))
    page.keyboard.press("Escape")
    page.wait_for_timeout(700)
    assert missed == []


def test_every_node_is_found_by_its_name_wired_with_the_mouse_and_run(page):
    clear(page)
    ids = {}
    for key, (name, values) in (NODES | FACES).items():
        ids[key] = add(page, name, 9000, 0)
        for widget, value in values.items():
            page.evaluate(SET, [ids[key], widget, value])
    for key, widget in (("model", "model_name"), ("talking", "model"), ("people", "model")):
        page.evaluate(SET, [ids[key], widget, "tiny.safetensors"])
    for node, slot, source, output in WIRES + WIRES_OF_FACES:
        page.evaluate(STAGE, [ids[source], ids[node]])
        wire(page, ids[node], slot, ids[source], output)
    page.evaluate(ROWS)
    page.evaluate(DONE)
    press_run(page)
    page.wait_for_function("() => window.done")
    assert page.evaluate("() => window.done") == "execution_success", page.evaluate(PROBLEMS)
    assert page.evaluate(PROBLEMS) == []
    shown = page.evaluate("() => Object.entries(window.shown)")
    videos = {number for number, output in shown if any(one.endswith(".mp4") for one in output)}
    assert {str(ids[key]) for key in ("combine", "second", "talking", "both", "people", "dub")} <= videos


@pytest.mark.skipif("EMO_SCREENSHOTS" not in os.environ, reason="makes pictures: set EMO_SCREENSHOTS to a folder")
def test_pictures_of_the_help_pages(page, schemas):
    """Each node of the pack as the page shows it after a run, $EMO_SCREENSHOTS/help/<id of the node>.webp."""
    from PIL import Image

    page.set_viewport_size({"width": 1600, "height": 1500})
    types = {name: node for node, name in NAMES.items()} | CORE
    nodes = {key: (types[name], values) for key, (name, values) in (NODES | FACES).items() if key not in UNSEEN}
    wires = [wire for wire in WIRES + WIRES_OF_FACES if {wire[0], wire[2]} <= set(nodes)]
    clear(page)
    ids = page.evaluate(GRAPH, [[(key, *node) for key, node in nodes.items()], wires])
    page.evaluate(DONE)
    press_run(page)
    page.wait_for_function("() => window.done")
    assert page.evaluate("() => window.done") == "execution_success", page.evaluate(PROBLEMS)
    page.evaluate(NO_WIRES)
    page.wait_for_timeout(3000)
    folder = Path(os.environ["EMO_SCREENSHOTS"]) / "help"
    folder.mkdir(exist_ok=True)
    for key, number in ids.items():
        if nodes[key][0] not in NAMES or key in AGAIN:
            continue
        page.evaluate(LOOK, number)
        page.wait_for_timeout(1500)
        width, height = page.evaluate(LOOK, number)
        page.evaluate(STILL)
        page.wait_for_timeout(700)
        clip = {"x": 90, "y": 86, "width": width + 60, "height": min(height + 74, 1400)}
        picture = Image.open(io.BytesIO(page.screenshot(clip=clip)))
        picture.convert("RGB").save(folder / f"{nodes[key][0]}.webp", quality=82, method=6)

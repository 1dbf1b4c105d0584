"""What somebody meets in the first five minutes: templates, own files, App mode, blueprints, search; on the classic
page and on Nodes 2.0.

Pictures of the templates, as README and ComfyUI show them, are written to $EMO_SCREENSHOTS if that is set.
"""

from __future__ import annotations

import json
import os
import time
import wave
from itertools import combinations
from pathlib import Path

import pytest
from comfyui_page import PLAYED, PROBLEMS, SEARCH, add, drop, press_run, press_run_and_play, wire
from comfyui_server import ROOT

BOXES = """is20 => window.app.graph._nodes.map(node => {
    if (is20) {
        const box = document.querySelector(`[data-node-id="${node.id}"]`).getBoundingClientRect();
        const s = window.app.canvas.ds.scale;
        return [node.title, box.x / s, box.y / s, box.width / s, box.height / s];
    }
    return [node.title, node.pos[0], node.pos[1] - 30, node.size[0], node.size[1] + 30];
})"""
FIT = """() => { window.app.canvas.deselectAll?.(); window.app.canvas.fitViewToSelectionAnimated?.({duration: 1});
    window.app.canvas.setDirty(true, true); }"""
SHOWN = """([type, is20]) => {
    const node = window.app.graph._nodes.find(n => n.type === type);
    if (!is20) return node.widgets.filter(w => node.isWidgetVisible?.(w) ?? !w.hidden).map(w => w.name);
    const box = document.querySelector(`[data-node-id="${node.id}"]`);
    return node.widgets.map(w => w.name).filter(name => [...box.querySelectorAll('*')].some(
        e => e.children.length === 0 && e.innerText?.trim() === name && e.offsetParent
            && !node.inputs.some(i => i.name === name && !i.widget)));
}"""
CHOOSE = """([type, value]) => {
    const widget = window.app.graph._nodes.find(n => n.type === type).widgets[0];
    widget.value = value;
    widget.callback?.(value);
}"""
LINKS = """() => window.app.graph._nodes.flatMap(node => (node.inputs ?? []).filter(i => i.link != null).map(input => {
    const links = window.app.graph.links, link = links.get?.(input.link) ?? links[input.link];
    const from = window.app.graph.getNodeById(link.origin_id);
    return [from.type, from.outputs[link.origin_slot].name, node.type, input.name].join(' ');
})).sort()"""


SEED = """([type, seed]) => { window.app.graph._nodes.find(n => n.type === type)
    .widgets.find(w => w.name === 'seed').value = seed; }"""
LISTEN = """() => { window.previewed = [];
    window.app.api.addEventListener('b_preview_with_metadata', e => window.previewed.push(e.detail.displayNodeId)); }"""
PREVIEWS = """type => { const node = window.app.graph._nodes.find(n => n.type === type);
    const box = document.querySelector(`[data-node-id="${node.id}"]`);
    return [window.previewed.includes(String(node.id)),
            [(node.widgets ?? []).filter(w => w.name.startsWith('$$canvas-image')).length
                + (window.app.nodePreviewImages[node.id] ?? []).length,
             [...box?.querySelectorAll('img') ?? []].filter(e => e.src.startsWith('blob:')).length]]; }"""
"""[whether previews came to the node, [previews that the classic page still shows, those that Nodes 2.0 does]]"""


HALLOS = {  # as the server's fixture puts them there
    "emo/net.pth",
    "vae/vae-ft-mse-840000-ema-pruned.safetensors",
    "audio_encoders/wav2vec2-base-960h.safetensors",
}


def template(name: str, **changes) -> dict:
    """A template; changes: the first widget's value by type of node."""
    workflow = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if node["type"] in changes:
            node["widgets_values"][0] = changes[node["type"]]
    return workflow


def show(page, workflow: dict) -> None:
    drop(page, json.dumps(workflow).encode(), "dropped.json", nodes=len(workflow["nodes"]))


@pytest.fixture(scope="module", params=["classic", "Nodes 2.0"])
def page(request, server, open_page):
    is_2_0 = request.param == "Nodes 2.0"
    opened = open_page(is_2_0=is_2_0)
    version = opened.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__")
    if is_2_0 and [int(part) for part in version.split(".")[:2]] < [1, 33]:
        opened.close()
        pytest.skip(f"Nodes 2.0 were an experiment in frontend {version}")
    opened.is_2_0 = is_2_0
    yield opened
    opened.close()


def overlaps(page) -> list[tuple[str, str]]:
    """Titles of nodes that cover each other, with their texts and previews."""
    page.evaluate(FIT)
    page.wait_for_timeout(1500)
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
    page.wait_for_timeout(500)
    page.evaluate(FIT)
    page.wait_for_timeout(1500)
    scale, left, top = page.evaluate("() => [window.app.canvas.ds.scale, ...window.app.canvas.ds.offset]")
    boxes = page.evaluate(BOXES, False)
    x0, y0 = (min(box[axis] for box in boxes) - 20 for axis in (1, 2))
    x1, y1 = (max(box[axis] + box[axis + 2] for box in boxes) + 20 for axis in (1, 2))
    clip = {"x": (x0 + left) * scale, "y": (y0 + top) * scale, "width": (x1 - x0) * scale, "height": (y1 - y0) * scale}
    path = Path(os.environ["EMO_SCREENSHOTS"]) / f"{name}{'_2' if page.is_2_0 else ''}.jpg"
    page.screenshot(path=str(path), type="jpeg", quality=88, clip=clip)
    page.set_viewport_size({"width": 1600, "height": 1000})


@pytest.mark.parametrize("name", ["first_video", "talking_portrait"])
def test_a_template_runs_untouched_and_nothing_overlaps(page, name):
    show(page, template(name))
    assert page.evaluate(PROBLEMS) == []
    press_run_and_play(page)
    page.wait_for_timeout(2000)
    assert overlaps(page) == []
    picture(page, name)


@pytest.mark.parametrize(
    ("name", "quick"),
    [
        ("dials_over_time", {"EmoTalkingPortrait": "tiny.safetensors"}),
        ("waiting_loop", {"EmoLoadModel": "tiny.safetensors", "EmoIdle": 1.5}),
    ],
)
def test_templates_of_dials_and_waiting_run_and_nothing_overlaps(page, name, quick):
    """Their pictures show them before a run."""
    show(page, template(name))
    assert page.evaluate(PROBLEMS) == []
    assert overlaps(page) == []
    picture(page, name)
    show(page, template(name, **quick))
    press_run_and_play(page)
    page.wait_for_timeout(2000)
    assert overlaps(page) == []


def test_a_clip_is_seen_while_it_is_made_and_only_the_video_afterwards(page):
    show(page, template("first_video", EmoTalkingPortrait="tiny.safetensors"))
    page.evaluate(SEED, ["EmoTalkingPortrait", 7 + page.is_2_0])
    page.evaluate(LISTEN)
    press_run_and_play(page)
    page.wait_for_timeout(1500)
    shown_by, left = page.evaluate(PREVIEWS, "EmoTalkingPortrait")
    assert shown_by and left == [0, 0]
    assert overlaps(page) == []


def test_hallos_files_are_named_each_once_with_folder_and_address(page):
    show(page, template("hallo_portrait"))
    page.wait_for_timeout(2000)
    assert page.evaluate(PROBLEMS) == []
    models = page.evaluate("() => window.app.graph._nodes.flatMap(n => n.properties?.models ?? [])")
    assert sorted(f"{model['directory']}/{model['name']}" for model in models) == sorted(HALLOS)
    assert all(model["url"].startswith("https://huggingface.co/") for model in models)
    assert overlaps(page) == []
    picture(page, "hallo_portrait")
    page.evaluate("() => window.app.graph.clear()")


def test_ones_own_files_are_chosen_in_the_page(page, tmp_path):
    """Through the browser's file dialogue, as a click on 'choose file to upload' opens it."""
    if page.is_2_0:
        pytest.skip("the buttons are drawn otherwise there; the classic page shows the way")
    from PIL import Image

    with Image.open(ROOT / "workflows" / "inputs" / "emo_drawn.png") as drawn:
        drawn.convert("RGB").resize((256, 256)).save(tmp_path / "mine.jpg")
    with wave.open(str(ROOT / "workflows" / "inputs" / "emo_voice.wav")) as source:
        with wave.open(str(tmp_path / "mine.wav"), "wb") as target:
            target.setparams(source.getparams())
            target.writeframes(source.readframes(20_000))
    show(page, template("first_video"))
    for kind, file in (("LoadImage", "mine.jpg"), ("LoadAudio", "mine.wav")):
        with page.expect_file_chooser() as chooser:
            page.evaluate(
                """type => { const node = window.app.graph._nodes.find(n => n.type === type);
                node.widgets.find(w => w.type === 'button').callback(); }""",
                kind,
            )
        chooser.value.set_files(tmp_path / file)
        page.wait_for_function(
            "([type, name]) => window.app.graph._nodes.find(n => n.type === type).widgets[0].value === name",
            arg=[kind, file],
        )
    press_run_and_play(page)


def test_the_mask_builder_shows_the_widgets_of_its_mode(page):
    show(page, template("hallo_portrait"))
    edges = ["left", "top", "right", "bottom"]
    for mode, expected in (("detected", ["mode"]), ("box", ["mode", *edges]), ("mask", ["mode"])):
        page.evaluate(CHOOSE, ["EmoFaceMaskBuilder", mode])
        page.wait_for_timeout(700)
        assert page.evaluate(SHOWN, ["EmoFaceMaskBuilder", page.is_2_0]) == expected
    page.evaluate("() => window.app.graph.clear()")


def test_links_have_colours_of_their_own(page):
    colours = page.evaluate(
        """() => ['MODEL', 'REFERENCE', 'AUDIO', 'FACE_MASK', 'SPEED', 'CLIPS', 'FACES', 'MOTION', 'OPTIONS']
        .map(name => window.app.canvas.constructor.link_type_colors[`EMO_${name}`])"""
    )
    assert all(colours) and len(set(colours)) == 9


def test_a_workflow_of_the_first_release_keeps_its_wires_and_values(page):
    old = json.loads((ROOT / "tests" / "data" / "workflows" / "talking_portrait_0.1.json").read_text(encoding="utf-8"))
    nodes = {node["id"]: node for node in old["nodes"]}
    wires = sorted(
        " ".join(
            (nodes[a]["type"], nodes[a]["outputs"][out]["name"], nodes[b]["type"], nodes[b]["inputs"][into]["name"])
        )
        for _, a, out, b, into, _ in old["links"]
    )
    show(page, old)
    assert page.evaluate(LINKS) == wires
    queued = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    sampler = next(node["inputs"] for node in queued.values() if node["class_type"] == "EmoSampler")
    assert (sampler["steps"], sampler["sampler"], sampler["audio_guidance"]) == (3, "ddim", 1.3)
    combine = next(node["inputs"] for node in queued.values() if node["class_type"] == "EmoVideoCombine")
    assert (combine["quality"], combine["filename_prefix"], combine["frame"]) == (17, "video/EMO", "whole picture")
    page.evaluate("() => window.app.graph.clear()")


def test_a_voice_is_recorded_in_the_page(page):
    if page.is_2_0:
        pytest.skip("the recorder has no button of the graph there; the classic page shows the way")
    show(page, template("record_your_voice", EmoTalkingPortrait="tiny.safetensors"))
    press = """() => { const node = window.app.graph._nodes.find(n => n.type === 'RecordAudio');
        return node.widgets.find(w => w.type === 'audiorecord' || w.type === 'button').callback(); }"""
    page.evaluate(press)
    page.wait_for_timeout(2500)
    page.evaluate(press)
    page.wait_for_timeout(1000)
    press_run_and_play(page)
    assert overlaps(page) == []
    picture(page, "record_your_voice")


@pytest.mark.parametrize("words", ["lip sync", "talking head", "数字人"])
def test_the_node_is_found_by_what_people_look_for(page, server, words):
    if "search_aliases" not in server.get("/object_info/EmoTalkingPortrait")["EmoTalkingPortrait"]:
        pytest.skip("this ComfyUI has no search aliases")
    page.evaluate("() => window.app.graph.clear()")
    page.mouse.dblclick(1200, 500)
    box = page.locator(SEARCH).first
    box.wait_for()
    box.fill(words)
    page.wait_for_function(
        "() => [...document.querySelectorAll('.p-autocomplete-option, [data-testid=\"result-item\"]')]"
        ".slice(0, 6).some(e => e.innerText.includes('EMO Talking Portrait'))",
        timeout=20_000,
    )
    page.keyboard.press("Escape")
    page.wait_for_timeout(700)


def test_app_mode_shows_portrait_voice_and_run(page):
    if not page.is_2_0:
        pytest.skip("App mode is of the newer page")
    workflow = template("first_video", EmoTalkingPortrait="tiny.safetensors")
    workflow["extra"]["linearMode"] = True
    page.evaluate("workflow => window.app.loadGraphData(workflow)", workflow)
    page.wait_for_timeout(2500)
    if page.locator("button:visible", has_text="Skip").count():
        page.locator("button:visible", has_text="Skip").first.click()
    for text in ("portrait", "voice"):
        assert page.get_by_text(text, exact=True).locator("visible=true").count()
    with page.expect_response(lambda reply: reply.url.endswith("/prompt") and reply.request.method == "POST") as answer:
        page.locator("button:visible", has_text="Run").last.click()
    assert answer.value.status == 200
    page.wait_for_function(PLAYED)
    assert page.evaluate("() => window.app.lastExecutionError") is None
    if "EMO_SCREENSHOTS" in os.environ:
        page.screenshot(path=str(Path(os.environ["EMO_SCREENSHOTS"]) / "app_mode.png"))
    page.evaluate("workflow => window.app.loadGraphData(workflow)", template("first_video"))


@pytest.mark.parametrize("name", ["Talk", "Talk in a Large Picture"])
def test_a_blueprint_is_placed_wired_and_run(page, server, name):
    if page.is_2_0:
        pytest.skip("once is enough")
    try:
        packs = server.get("/global_subgraphs")
    except OSError:
        pytest.skip("this ComfyUI has no blueprints of packs")
    assert name in [entry["name"] for entry in packs.values() if entry["info"]["node_pack"].endswith("ComfyUI-EMO")]
    page.evaluate("() => window.app.graph.clear()")
    placed = add(page, name, 700, 240)
    loader, sound = add(page, "Load Image", 100, 240), add(page, "Load Audio", 100, 700)
    page.evaluate(CHOOSE, ["LoadImage", "emo_portrait.jpg"])
    page.evaluate(CHOOSE, ["LoadAudio", "emo_voice.wav"])
    wire(page, placed, "portrait", loader, "IMAGE")
    wire(page, placed, "voice", sound, "AUDIO")
    queued = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    assert sorted(node["class_type"] for node in queued.values() if node["class_type"].startswith("Emo")) == [
        "EmoAudioEncoder",
        "EmoLoadModel",
        "EmoReferenceEncoder",
        "EmoSampler",
        "EmoVideoCombine",
    ]
    if name == "Talk":
        queued = press_run(page)
        deadline = time.monotonic() + 200
        while not (done := server.get(f"/history/{queued}")) and time.monotonic() < deadline:
            page.wait_for_timeout(500)
        assert done[queued]["status"]["status_str"] == "success"
        shown = [one["filename"] for output in done[queued]["outputs"].values() for one in output.get("images", ())]
        assert any(name.endswith(".mp4") for name in shown)
        assert overlaps(page) == []
        picture(page, "blueprint")

"""Every template: dropped on the page, run untouched, run on one's own files, as an app; on the classic page and on
Nodes 2.0. A new file in workflows/ is tested by being there.

Pictures of the templates after a run are written to $EMO_SCREENSHOTS if that is set.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from comfyui_page import (
    PROBLEMS,
    QUEUED,
    drop,
    made_file,
    overlaps,
    picture,
    press_run_and_play,
    record_voice,
    show,
    template,
    wait_for_video,
)
from comfyui_server import ROOT
from videos import shorten, shorten_sound

INPUTS = ROOT / "workflows" / "inputs"
TEMPLATES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "workflows").glob("*.json")}

for _node in (node for workflow in TEMPLATES.values() for node in workflow["nodes"] if node["type"] == "EmoIdle"):
    _node["widgets_values"][0] = 1.5  # seconds: a loop of 20 takes minutes


def runs_untouched(workflow: dict) -> bool:
    """Whether it needs neither a microphone nor a download."""
    return not any(node["type"] == "RecordAudio" or node["properties"].get("models") for node in workflow["nodes"])


RUNNING = sorted(name for name, workflow in TEMPLATES.items() if runs_untouched(workflow))
APPS = sorted(name for name, workflow in TEMPLATES.items() if workflow["extra"].get("linearData"))
OWN = {"LoadImage": "png", "LoadAudio": "wav", "LoadVideo": "mp4"}
"""By type of loader: what a file of one's own ends in."""

TINY = """seed => { for (const node of window.app.graph._nodes) for (const widget of node.widgets ?? []) {
    if (['model', 'model_name'].includes(widget.name)) widget.value = 'tiny.safetensors';
    if (widget.name === 'seed') widget.value = seed; } }"""
LOOK_AT_NOTE = """() => { const {pos} = window.app.graph._nodes.find(n => n.type === 'MarkdownNote');
    window.app.canvas.ds.scale = 0.9;  // smaller, the classic page leaves texts out
    window.app.canvas.ds.offset = [120 - pos[0], 200 - pos[1]];
    window.app.canvas.setDirty(true, true); }"""
NOTE = """() => { const s = window.app.canvas.ds.scale;
    const box = [...document.querySelectorAll('.comfy-markdown-content, .tiptap')].find(e => e.checkVisibility());
    const {top, height} = box.getBoundingClientRect();
    return [(box.lastElementChild.getBoundingClientRect().bottom - top) / s, height / s,
            box.scrollHeight - box.clientHeight]; }"""
"""[where the text of the note ends, its room, what does not fit], in the graph's pixels."""
RECORDER = "audio#1"
"""Core's recorder in an app: the second widget of its node; the first one is the player of what was recorded."""
LOADERS = """types => window.app.graph._nodes.filter(n => types.includes(n.type))
    .map(n => [n.id, n.type, n.widgets[0].value])"""
PRESS_UPLOAD = """id => window.app.graph.getNodeById(id).widgets.find(w => w.type === 'button').callback()"""
CHOSEN = "([id, name]) => window.app.graph.getNodeById(id).widgets[0].value === name"


@pytest.mark.parametrize("name", RUNNING)
def test_a_template_runs_untouched_nothing_overlaps_and_the_video_gives_the_graph_back(page, name):
    show(page, TEMPLATES[name])
    assert page.evaluate(PROBLEMS) == []
    queued = page.evaluate(QUEUED)
    press_run_and_play(page)
    made = made_file(page)
    page.wait_for_timeout(2000)
    assert overlaps(page) == []
    picture(page, name)

    drop(page, made, "EMO_00001_.mp4", nodes=len(TEMPLATES[name]["nodes"]))
    assert page.evaluate(PROBLEMS) == []
    assert page.evaluate(QUEUED) == queued


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_the_note_holds_its_text_and_little_else(page, name):
    show(page, TEMPLATES[name])
    page.evaluate(LOOK_AT_NOTE)
    page.wait_for_timeout(700)
    text, room, cut = page.evaluate(NOTE)
    assert cut <= 1 and 0.6 * room < text <= room


@pytest.mark.parametrize("name", RUNNING)
def test_ones_own_files_are_chosen_in_the_page(page, name, tmp_path):
    """Through the browser's file dialogue, as a click on 'choose file to upload' opens it."""
    if page.is_2_0:
        pytest.skip("the buttons are drawn otherwise there; the classic page shows the way")
    show(page, TEMPLATES[name])
    page.evaluate(TINY, 31)
    for number, kind, shipped in page.evaluate(LOADERS, list(OWN)):
        mine = tmp_path / f"{name}_{number}.{OWN[kind]}"
        own_file(kind, shipped, mine)
        with page.expect_file_chooser() as chooser:
            page.evaluate(PRESS_UPLOAD, number)
        chooser.value.set_files(mine)
        page.wait_for_function(CHOSEN, arg=[number, mine.name])
    press_run_and_play(page)


def own_file(kind: str, shipped: str, path: Path) -> None:
    """A file like the shipped one, which the server does not have yet: a mirrored picture, a shorter sound or video."""
    from PIL import Image

    if kind == "LoadAudio":
        shorten_sound(INPUTS / shipped, path, seconds=1.1)
    elif kind == "LoadVideo":
        shorten(INPUTS / shipped, path, seconds=0.5)
    else:
        with Image.open(INPUTS / shipped) as shown:
            shown.convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)


@pytest.mark.parametrize("name", APPS)
def test_app_mode_shows_the_inputs_and_run(page, name):
    if not page.is_2_0:
        pytest.skip("App mode is of the newer page")
    workflow = TEMPLATES[name] | {"extra": TEMPLATES[name]["extra"] | {"linearMode": True}}
    page.evaluate("workflow => window.app.loadGraphData(workflow)", workflow)
    page.wait_for_timeout(2500)
    page.evaluate(TINY, 32)
    if page.locator("button:visible", has_text="Skip").count():
        page.locator("button:visible", has_text="Skip").first.click()
    for text in names_of_inputs(workflow):
        assert page.get_by_text(text, exact=True).locator("visible=true").count() or text == RECORDER, text
    is_recorder_shown = page.locator("button:visible", has_text="Start Recording").count() > 0
    if is_recorder_shown:  # page 1.49 cannot: two widgets of core's recorder have one name there
        record_voice(page)
    if name in RUNNING or is_recorder_shown:
        with page.expect_response(
            lambda reply: reply.url.endswith("/prompt") and reply.request.method == "POST"
        ) as answer:
            page.locator("button:visible", has_text="Run").last.click()
        assert answer.value.status == 200
        wait_for_video(page, answer.value.json()["prompt_id"])
    if "EMO_SCREENSHOTS" in os.environ:
        page.screenshot(path=str(Path(os.environ["EMO_SCREENSHOTS"]) / f"app_{name}.png"))
    page.evaluate("workflow => window.app.loadGraphData(workflow)", template("first_video"))


def names_of_inputs(workflow: dict) -> list[str]:
    """The words at the inputs of a template's app: a widget's label, or its name."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    return [
        next((one.get("label") for one in nodes[number].get("inputs", ()) if one["name"] == widget), None) or widget
        for number, widget, *_ in workflow["extra"]["linearData"]["inputs"]
    ]

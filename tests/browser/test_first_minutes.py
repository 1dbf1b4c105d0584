"""What somebody meets in the first five minutes beside the templates' runs: previews, Hallo's files, widgets that come
and go, colours, search, a recorded voice; on the classic page and on Nodes 2.0.
"""

from __future__ import annotations

import json
import os

import pytest
from comfyui_page import (
    PROBLEMS,
    clear,
    open_search,
    overlaps,
    picture,
    press_run_and_play,
    record_voice,
    show,
    template,
)
from comfyui_server import ROOT

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
SAY = """([node, text]) => { const api = window.app.api;
    window.app.canvas.ds.scale = 0.9;
    window.app.canvas.ds.offset = window.app.graph.getNodeById(node).pos.map((at, axis) => [100, 150][axis] - at);
    api.dispatchEvent(new CustomEvent('execution_start', {detail: {prompt_id: 'x'}}));
    api.dispatchEvent(new CustomEvent('progress_text', {detail: {nodeId: String(node), text}}));
    api.dispatchEvent(new CustomEvent('execution_success', {detail: {prompt_id: 'x'}}));
    window.app.canvas.setDirty(true, true); }"""
ROOM_OF_SENTENCE = """() => { const box = [...document.querySelectorAll('.overflow-y-auto')]
    .find(e => e.innerText.includes('This sentence'));
    return [box.scrollHeight, Math.min(box.clientHeight, box.parentElement.clientHeight),
            getComputedStyle(box.querySelector('.flex-1')).wordBreak]; }"""
"""[height of the text, height that is given to it, where its lines are broken]"""
SENTENCE = """type => window.app.graph._nodes.find(n => n.type === type)
    .widgets.find(w => w.name === '$$node-text-preview')?.value ?? ''"""
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


def test_a_clip_is_seen_while_it_is_made_and_only_the_video_afterwards(page):
    show(page, template("first_video", EmoTalkingPortrait="tiny.safetensors"))
    page.evaluate(SEED, ["EmoTalkingPortrait", 7 + page.is_2_0])
    page.evaluate(LISTEN)
    press_run_and_play(page)
    page.wait_for_timeout(1500)
    shown_by, left = page.evaluate(PREVIEWS, "EmoTalkingPortrait")
    assert shown_by and left == [0, 0]
    assert "frames" in page.evaluate(SENTENCE, "EmoTalkingPortrait")
    assert overlaps(page) == []


def test_a_long_sentence_is_shown_whole_after_the_run(page):
    if page.is_2_0:
        pytest.skip("Nodes 2.0 lay their sentences out themselves")
    show(page, template("talking_portrait"))
    node = page.evaluate("() => window.app.graph._nodes.find(n => n.type === 'EmoReferenceEncoder').id")
    page.evaluate(SAY, [node, "This sentence has ten words and sixty-three letters in it. " * 5])
    page.wait_for_timeout(2500)
    shown, room, lines_break = page.evaluate(ROOM_OF_SENTENCE)
    assert 0 < shown <= room and lines_break == "normal"  # between words
    clear(page)


def test_hallos_files_are_named_each_once_with_folder_and_address(page):
    show(page, template("hallo_portrait"))
    page.wait_for_timeout(2000)
    assert page.evaluate(PROBLEMS) == []
    models = page.evaluate("() => window.app.graph._nodes.flatMap(n => n.properties?.models ?? [])")
    assert sorted(f"{model['directory']}/{model['name']}" for model in models) == sorted(HALLOS)
    assert all(model["url"].startswith("https://huggingface.co/") for model in models)
    assert overlaps(page) == []
    picture(page, "hallo_portrait")
    clear(page)


def test_the_mask_builder_shows_the_widgets_of_its_mode(page):
    show(page, template("hallo_portrait"))
    edges = ["left", "top", "right", "bottom"]
    for mode, expected in (("detected", ["mode"]), ("box", ["mode", *edges]), ("mask", ["mode"])):
        page.evaluate(CHOOSE, ["EmoFaceMaskBuilder", mode])
        page.wait_for_timeout(700)
        assert page.evaluate(SHOWN, ["EmoFaceMaskBuilder", page.is_2_0]) == expected
    clear(page)


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
    clear(page)


def test_a_voice_is_recorded_in_the_page(page):
    model = "built-in default" if "EMO_SCREENSHOTS" in os.environ else "tiny.safetensors"
    show(page, template("record_your_voice", EmoTalkingPortrait=model))
    if page.is_2_0:
        record_voice(page)
    else:
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
    clear(page)
    open_search(page).fill(words)
    page.wait_for_function(
        "() => [...document.querySelectorAll('.p-autocomplete-option, [data-testid=\"result-item\"]')]"
        ".slice(0, 6).some(e => e.innerText.includes('EMO Talking Portrait'))",
        timeout=20_000,
    )
    page.keyboard.press("Escape")
    page.wait_for_timeout(700)

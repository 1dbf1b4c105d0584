"""Three and four faces with a voice each, and a portrait that waits, made in the page."""

from __future__ import annotations

import numpy as np
import pytest
from comfyui_page import PROBLEMS, SET, add, clear, made_file, overlaps, press_run_and_play, show, template, wire
from comfyui_server import ROOT
from videos import read_video

FIND = "type => window.app.graph._nodes.find(n => n.type === type).id"


@pytest.fixture(scope="module")
def page(server, open_page):
    from PIL import Image

    with Image.open(ROOT / "workflows" / "inputs" / "emo_two_people.jpg") as two:
        width, height = two.size
        for count in (3, 4):
            row = Image.new("RGB", (count * width // 2, height))
            row.paste(two, (0, 0))
            row.paste(two, (width, 0))
            row.save(server.base / "input" / f"{count}_people.jpg")
    opened = open_page()
    yield opened
    opened.close()


@pytest.mark.parametrize("count", [3, 4])
def test_each_of_several_faces_speaks_with_the_voice_that_is_wired_to_it(page, server, count, tmp_path):
    show(page, template("two_people_talk"))
    faces = page.evaluate(FIND, "EmoTalkingFaces")
    for name, value in (("model", "tiny.safetensors"), ("seed", count), ("order", "one after another")):
        page.evaluate(SET, [faces, name, value])
    page.evaluate(SET, [page.evaluate(FIND, "LoadImage"), "image", f"{count}_people.jpg"])
    for number, slot in enumerate(("voice_c", "voice_d")[: count - 2]):
        loader = add(page, "Load Audio", 0, 820 + 210 * number)
        page.evaluate(SET, [loader, "audio", "emo_voice_b.wav"])
        wire(page, faces, slot, loader, "AUDIO")
    begin = len(server.log)
    press_run_and_play(page)
    assert page.evaluate(PROBLEMS) == [] and overlaps(page) == []
    said = server.log[begin:]
    assert all(f"{letter} speaks " in said for letter in "ABCD"[:count])
    (tmp_path / "made.mp4").write_bytes(made_file(page))
    frames, _ = read_video(tmp_path / "made.mp4")
    assert len(frames) == pytest.approx(count * 0.6 * 25, abs=2)


def test_a_portrait_waits_as_a_loop_without_a_jump(page, tmp_path):
    clear(page)
    portrait = add(page, "EMO Talking Portrait", 400, 240)
    page.evaluate(SET, [portrait, "idle_seconds", 2.0])
    press_run_and_play(page)
    (tmp_path / "made.mp4").write_bytes(made_file(page))
    frames = read_video(tmp_path / "made.mp4")[0].astype(np.float32)
    assert len(frames) == 50
    neighbours = np.abs(np.diff(frames, axis=0)).mean()
    assert 0 < np.abs(frames[0] - frames[-1]).mean() < 1.5 * neighbours

"""Pictures of people to puppets, and puppets to look at."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from emo_model.__main__ import EXAMPLES
from emo_model.inputs.media import read_video
from emo_model.synthetic.puppet_store import PuppetStore
from emo_model.training.__main__ import main

pytest.importorskip("accelerate")
pytest.importorskip("numba")


def test_a_folder_of_pictures_becomes_puppets_and_those_without_a_face_are_left_out(photograph, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    shutil.copy(EXAMPLES / "emo_portrait.jpg", pictures / "b.jpg")
    Image.linear_gradient("L").save(pictures / "a.png")
    assert main(["prepare-puppets", str(pictures), "--out", str(tmp_path / "new" / "puppets.safetensors")]) == 0
    store = PuppetStore(tmp_path / "new" / "puppets.safetensors")
    assert [store[index].name for index in range(len(store))] == ["b.jpg"] and store[0].picture.shape == (256, 256, 3)
    tall = (store[0].mesh[10] - store[0].mesh[152]).norm()
    assert 256 / tall == pytest.approx(1.8, abs=0.05)


@pytest.mark.parametrize(("file", "says"), [(None, "there is no picture"), ("wall.png", "none of the 1 pictures")])
def test_a_folder_of_which_nothing_can_be_used_is_refused(tmp_path, caplog, file, says):
    if file:
        Image.linear_gradient("L").resize((90, 61)).save(tmp_path / file)
    assert main(["prepare-puppets", str(tmp_path), "--out", str(tmp_path / "puppets.safetensors")]) == 2
    assert says in caplog.text and not (tmp_path / "puppets.safetensors").exists()


def test_puppets_are_shown_as_a_sheet_and_as_a_video_with_sound(puppets, speech_folder, tmp_path):
    assert main(["show-puppets", str(puppets), "--people", "2", "--out", str(tmp_path / "sheet.png")]) == 0
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (2 * 64, 8 * 64, 3)
    assert main(["show-puppets", str(puppets), "--people", "2", "--seconds", "0.4", "--speech", str(speech_folder), "--out",
                 str(tmp_path / "some.mp4")]) == 0
    frames, fps = read_video(tmp_path / "some.mp4")
    assert frames.shape == (10, 64, 128, 3) and fps == 25


def test_a_video_of_puppets_needs_speech(puppets, tmp_path, caplog):
    assert main(["show-puppets", str(puppets), "--out", str(tmp_path / "some.mp4")]) == 2
    assert "as a video (.mp4) together with --speech" in caplog.text

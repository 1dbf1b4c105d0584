"""Where a video goes: what cannot be written is said before the work, and no other file is touched."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import numpy as np
import pytest
from videos import moving, read_video

from emo_model.outputs.destination import check_destination, windows_refuses
from emo_model.outputs.video import VideoWriter


def write(path, frames: int = 4, *, fails: bool = False, **how) -> VideoWriter:
    with VideoWriter(path, fps=25, width=32, height=32, **how) as video:
        video.write(moving(frames))
        if fails:
            raise RuntimeError("stopped")
    return video


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.mkdir(), "is a folder. Name a file in it"),
        (lambda path: os.mkfifo(path), "is not a regular file"),
        (lambda path: path.symlink_to(path.with_name("nowhere") / "a.mp4"), "is a broken link"),
        (lambda path: path.symlink_to(path), "is a broken link"),
    ],
    ids=["folder", "pipe", "broken link", "circle"],
)
@pytest.mark.skipif(os.name == "nt", reason="pipes and links need rights on Windows")
def test_what_cannot_be_written_is_said_before(tmp_path, make, said):
    make(tmp_path / "a.mp4")
    with pytest.raises(OSError, match=said) as caught:
        check_destination(tmp_path / "a.mp4")
    assert "Errno" not in str(caught.value)


@pytest.mark.parametrize("letters", ["a", "ä", "字"])
def test_a_name_too_long_is_refused_and_the_longest_is_written(tmp_path, letters):
    most = 251 // len(letters.encode())
    with pytest.raises(OSError, match="the name is too long"):
        check_destination(tmp_path / f"{letters * (most + 1)}.mp4".replace("mp4", "mp4 "))
    write(tmp_path / f"{letters * most}.mp4")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(OSError, match="is not a folder"):
        check_destination(tmp_path / "a" / "b" / "talk.mp4")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_or_file_without_permission_is_refused(tmp_path):
    (tmp_path / "a").mkdir(mode=0o500)
    with pytest.raises(OSError, match="permission denied"):
        check_destination(tmp_path / "a" / "talk.mp4")
    (tmp_path / "b.mp4").touch(mode=0o400)
    with pytest.raises(OSError, match="write-protected"):
        check_destination(tmp_path / "b.mp4")


@pytest.mark.parametrize("alias", ["itself", "hard link", "link", "other spelling"])
def test_an_input_is_never_the_output_under_any_name(tmp_path, alias):
    (tmp_path / "voice.mp4").write_bytes(b"the only recording")
    path = tmp_path / "a.mp4"
    if alias == "hard link":
        os.link(tmp_path / "voice.mp4", path)
    elif alias == "link":
        path.symlink_to(tmp_path / "voice.mp4")
    else:
        path = tmp_path / "voice.mp4" if alias == "itself" else tmp_path / ".." / tmp_path.name / "voice.mp4"
    with pytest.raises(ValueError, match="which this run reads"):
        check_destination(path, inputs=[tmp_path / "missing.png", tmp_path / "voice.mp4"])


def test_trying_leaves_nothing_behind_and_creates_no_folder(tmp_path):
    assert check_destination(tmp_path / "new" / "folder" / "talk.mp4") == tmp_path / "new" / "folder" / "talk.mp4"
    assert not list(tmp_path.iterdir())


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real.mp4").write_bytes(b"old")
    (tmp_path / "a.mp4").symlink_to(tmp_path / "there" / "real.mp4")
    write(tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").is_symlink() and len(read_video(tmp_path / "there" / "real.mp4")[0]) == 4
    assert {file.name for file in tmp_path.iterdir()} == {"there", "a.mp4"}


def test_a_file_with_a_name_like_the_growing_one_is_not_touched(tmp_path):
    (tmp_path / "mine.part.mp4").write_bytes(b"the only recording")
    write(tmp_path / "mine.mp4")
    assert (tmp_path / "mine.part.mp4").read_bytes() == b"the only recording"


def test_of_two_writers_at_once_the_last_to_finish_wins_and_both_are_whole(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32) as first:
        first.write(moving(3))
        write(tmp_path / "a.mp4", frames=5)
        assert len(read_video(tmp_path / "a.mp4")[0]) == 5
        first.write(moving(4))
    assert len(read_video(tmp_path / "a.mp4")[0]) == 7 and len(list(tmp_path.iterdir())) == 1


def test_a_stopped_writer_leaves_a_part_that_plays_or_nothing(tmp_path):
    for keeps_part, left in ((False, 0), (True, 1)):
        with pytest.raises(RuntimeError, match="stopped"):
            write(tmp_path / "a.mp4", fails=True, keeps_part=keeps_part)
        found = list(tmp_path.iterdir())
        assert len(found) == left and all(len(read_video(file)[0]) == 4 for file in found)


def test_a_video_whose_name_is_taken_meanwhile_stays_under_its_own(tmp_path):
    with pytest.raises(OSError, match="the video is complete, but cannot be named") as caught:
        with VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32) as video:
            video.write(moving(4))
            (tmp_path / "a.mp4").mkdir()
    assert str(video.partial) in str(caught.value) and len(read_video(video.partial)[0]) == 4


def test_a_new_video_has_the_rights_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "a.mp4")
    finally:
        os.umask(before)
    if os.name != "nt":
        assert stat.S_IMODE((tmp_path / "a.mp4").stat().st_mode) == 0o640


def test_frames_larger_than_the_codec_takes_are_refused_with_the_limit(tmp_path):
    with pytest.raises(ValueError, match="16400x16 pixels cannot be written: H.264 takes 1 to 16384"):
        VideoWriter(tmp_path / "a.mp4", fps=25, width=16400, height=16)
    assert not list(tmp_path.iterdir())
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=16384, height=4) as video:
        video.write(np.zeros((1, 4, 16384, 3), np.uint8))
    assert read_video(tmp_path / "a.mp4")[0].shape == (1, 4, 16384, 3)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("con.mp4", "reserves the name"),
        ("LPT1.x.mp4", "reserves the name"),
        ("a.mp4:b.mp4", "allows no ':'"),
        ("what?.mp4", r"allows no '\?'"),
        ("talk.mp4.", "drops dots"),
        ("a" * 236 + ".mp4", "the path would have 2[67][0-9] characters, and Windows takes 259"),
    ],
)
def test_names_that_windows_changes_or_refuses_are_told(name, says):
    assert re.search(says, windows_refuses(Path("/videos") / name))


@pytest.mark.parametrize("name", ["talk.mp4", "console.mp4", "字 ä.mp4", "com10.mp4", "a" * 150 + ".mp4"])
def test_other_names_are_good_on_windows(name):
    assert windows_refuses(Path("/videos") / name) is None

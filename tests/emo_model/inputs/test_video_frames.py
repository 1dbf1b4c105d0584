"""Frames of a video with their own times."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest
from videos import moving, tone

from emo_model.inputs.video_frames import GivenFrames, VideoFrames
from emo_model.outputs.video import VideoWriter

TIMES = [Fraction(n, 90) for n in (0, 3, 7, 9, 20, 22)]  # of a variable rate


def write(path, frames, times=None, **how):
    how = {"fps": 25, "crf": 0, **how}
    with VideoWriter(path, width=frames.shape[2], height=frames.shape[1], **how) as video:
        video.write(frames, times)
    return path


def test_frames_keep_their_own_times(tmp_path):
    path = write(tmp_path / "a.mp4", moving(6), TIMES, fps=30, tick=Fraction(1, 90))
    video = VideoFrames(path)
    assert [seconds for seconds, _ in video] == TIMES
    assert video.size == (32, 32)
    assert [seconds for seconds, _ in video] == TIMES  # it can be read again


def test_sound_goes_to_the_end_of_the_last_frame_of_a_variable_rate(tmp_path):
    path = write(
        tmp_path / "a.mp4", moving(6), TIMES, fps=30, tick=Fraction(1, 90), audio=(tone(1, 8_000), 8_000), codec="flac"
    )
    import av

    with av.open(str(path)) as container:
        sound = sum(frame.samples for frame in container.decode(audio=0)) / 8_000
    assert sound == pytest.approx(22 / 90 + 1 / 30, abs=0.01)


def test_a_window_of_time_is_read_from_its_start(tmp_path):
    path = write(tmp_path / "a.mp4", moving(25))
    whole, part = list(VideoFrames(path)), list(VideoFrames(path, since=0.2, until=0.6))
    assert [seconds for seconds, _ in part] == [Fraction(n, 25) for n in range(10)]
    assert np.array_equal(part[0][1], whole[5][1])


def test_an_open_file_is_read_like_a_path(tmp_path):
    path = write(tmp_path / "a.mp4", moving(3))
    video = VideoFrames(io.BytesIO(path.read_bytes()))
    assert len(list(video)) == len(list(video)) == 3


def test_sound_alone_is_refused(tmp_path):
    from emo_model.__main__ import EXAMPLES

    with pytest.raises(ValueError, match="has no pictures in it; use a file with a video track"):
        VideoFrames(EXAMPLES / "emo_voice.wav")


def test_text_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"a film")
    with pytest.raises(ValueError, match="a.mp4 is not a video"):
        VideoFrames(tmp_path / "a.mp4")


def test_a_window_without_frames_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no frames that can be decoded between the chosen times"):
        VideoFrames(write(tmp_path / "a.mp4", moving(3)), since=5)


def test_frames_in_memory_have_a_constant_rate():
    frames = moving(3)
    video = GivenFrames(lambda number: frames[number], 3, 12.5)
    assert [seconds for seconds, _ in video] == [0, Fraction(2, 25), Fraction(4, 25)]
    next(iter(video))[1][:] = 0  # what is handed out may be drawn into
    assert frames[0].any()
    with pytest.raises(ValueError, match="no frames"):
        GivenFrames(lambda number: frames[number], 0, 25)

import av
import numpy as np
import pytest

from emo_model.inputs.media import VideoFile
from emo_model.outputs.video import VideoWriter


def _levels(path, **how):
    return [round(frame.mean() / 20) for frame in VideoFile(path, **how)]


@pytest.fixture
def video(tmp_path):
    """Ten frames at 25 frames per second, each brighter by 20."""
    frames = np.stack([np.full((32, 48, 3), 20 * k, np.uint8) for k in range(10)])
    with VideoWriter(tmp_path / "video.mp4", fps=25, width=48, height=32, crf=4) as file:
        file.write(frames)
    return tmp_path / "video.mp4"


def test_every_frame_is_read_once_at_the_files_own_rate(video):
    file = VideoFile(video)
    assert (file.width, file.height, file.fps, file.has_sound) == (48, 32, 25.0, False)
    assert _levels(video) == list(range(10)) == _levels(video)
    assert [len(block) for block in file.blocks(4)] == [4, 4, 2]


def test_only_so_many_seconds_are_read(video):
    assert _levels(video, most_seconds=0.16) == [0, 1, 2, 3]


def test_frames_that_are_missing_in_time_are_repeated(tmp_path):
    path = tmp_path / "gaps.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "bgr0"
        for number in (0, 1, 2, 5, 6, 7, 8, 9):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20 * number, np.uint8), format="rgb24")
            frame = frame.reformat(format="bgr0")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    file = VideoFile(path)
    levels = [round(frame.mean() / 20) for frame in file]
    shown = {k: level for k, level in enumerate(levels)}
    assert levels == sorted(levels) and set(levels) == {0, 1, 2, 5, 6, 7, 8, 9}
    seconds = {level: (k + 0.5) / file.fps for k, level in shown.items()}  # of each level's last frame
    assert seconds[2] == pytest.approx(5 / 25, abs=1 / file.fps)  # held until the next one comes


def test_what_is_no_video_is_refused_with_the_reason(tmp_path, video):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match="is not a video that PyAV can read"):
        VideoFile(tmp_path / "text.mp4")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        VideoFile(tmp_path / "none.mp4")

"""The pictures of videos: their times, orientation, colour, damage."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc
from videos import moving, read_video, tone

from emo_model.inputs.video_frames import GivenFrames, VideoFrames
from emo_model.outputs.video import VideoWriter

TIMES = [Fraction(n, 90) for n in (0, 3, 7, 9, 20, 22)]  # of a variable rate


def write(path, frames, times=None, **how):
    how = {"fps": 25, "crf": 0, **how}
    with VideoWriter(path, width=frames.shape[2], height=frames.shape[1], **how) as video:
        video.write(frames, times)
    return path


def coded(path, pictures, times=None, *, rate=25, pix_fmt="yuv420p", codec="libx264", **context):
    """A video of grey pictures (their luminance 0..255), each shown from its time on."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, options={"crf": "1", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 64, 48, pix_fmt, Fraction(1, 1000)
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        for number, grey in enumerate(pictures):
            pixels = np.full((48, 64, 3), grey, np.uint8) if np.ndim(grey) == 0 else grey
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
            frame.pts = round(1000 * (number / rate if times is None else times[number]))
            frame.time_base = Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def turned(source, path):
    """The same mp4, shown a quarter clockwise: a phone writes how its pictures must be turned."""
    data = bytearray(source.read_bytes())
    upright = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 2**30)
    at = data.index(upright, data.index(b"tkhd"))
    data[at : at + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 2**30)
    path.write_bytes(data)
    return path


def greys(frames) -> list[int]:
    return [round(float(pixels.mean())) for pixels in frames]


def at_rate(path, fps=25.0) -> list[int]:
    return greys(frame.pixels for frame in VideoFrames(path).retimed(fps))


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


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("cut.mp4", lambda video: video[: len(video) // 3], "(is not a video that PyAV can read, or is|has no)"),
        ("text.mp4", lambda video: b"a film", "is not a video that PyAV can read"),
        ("sound.wav", lambda video: None, "has no pictures in it; use a file with a video track"),
    ],
)
def test_what_has_no_pictures_gets_a_sentence(tmp_path, name, data, said):
    from emo_model.__main__ import EXAMPLES

    found = data(write(tmp_path / "a.mp4", moving(5)).read_bytes())
    (tmp_path / name).write_bytes((EXAMPLES / "emo_voice.wav").read_bytes() if found is None else found)
    with pytest.raises(ValueError, match=f"{name} {said}"):
        VideoFrames(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        VideoFrames(tmp_path / "none.mp4")


@pytest.mark.parametrize("read", [list, lambda video: video.last(2)])
def test_a_window_without_frames_is_refused(tmp_path, read):
    video = VideoFrames(write(tmp_path / "a.mp4", moving(3)), since=5)
    with pytest.raises(ValueError, match="no frames that can be decoded between the chosen times"):
        read(video)


def test_frames_in_memory_have_a_constant_rate():
    frames = moving(3)
    video = GivenFrames(lambda number: frames[number], 3, 12.5)
    assert [seconds for seconds, _ in video] == [0, Fraction(2, 25), Fraction(4, 25)]
    next(iter(video))[1][:] = 0  # what is handed out may be drawn into
    assert frames[0].any()
    with pytest.raises(ValueError, match="no frames"):
        GivenFrames(lambda number: frames[number], 0, 25)


def test_a_variable_frame_rate_is_brought_to_a_constant_one_by_the_time_stamps(tmp_path):
    path = coded(tmp_path / "vfr.mkv", [40, 90, 140, 190, 190], [0.0, 0.04, 0.2, 0.24, 0.28])
    found = np.array(at_rate(path))
    assert np.abs(found - [40, 90, 90, 90, 90, 140, 190, 190]).max() <= 3
    assert len(at_rate(path, fps=50.0)) == 2 * len(found)


def test_a_fast_video_gives_the_picture_in_the_middle_of_each_frames_time(tmp_path):
    path = coded(tmp_path / "fast.mkv", [20 + 20 * number for number in range(10)], rate=50)
    assert np.abs(np.array(at_rate(path)) - [40, 80, 120, 160, 200]).max() <= 3


def test_a_gap_of_seconds_is_a_cut_and_is_not_filled(tmp_path):
    path = coded(tmp_path / "gap.mkv", [50, 50, 200, 200], [0.0, 0.04, 20.0, 20.04])
    video = VideoFrames(path)
    frames = list(video.retimed(25.0))
    assert len(frames) < 2 + 25 + 4 and [frame.number for frame in frames if frame.is_cut] == [0, 500]
    assert video.notes == ("pictures are missing for more than a second",)


def test_time_stamps_that_begin_again_go_on(tmp_path):
    """As in MPEG streams that were joined end to end."""
    one, two = (coded(tmp_path / name, greys * 20).read_bytes() for name, greys in (("a.ts", [50]), ("b.ts", [200])))
    (tmp_path / "both.ts").write_bytes(one + two)
    video = VideoFrames(tmp_path / "both.ts")
    assert [seconds * 25 for seconds, _ in video] == list(range(40))
    assert [frame.number for frame in video.retimed(25.0) if frame.is_cut] == [0, 20]
    assert video.notes == ("the time stamps jump",)


def test_what_is_shown_at_the_files_own_rate_is_every_frame_once(tmp_path):
    path = write(tmp_path / "a.mp4", np.stack([np.full((32, 48, 3), 20 * k, np.uint8) for k in range(10)]))
    video = VideoFrames(path)
    assert (video.size, video.rate, video.has_sound) == ((32, 48), 25, False)
    levels = [20 * k for k in range(10)]
    assert np.abs(np.subtract(greys(video.shown()), levels)).max() <= 2
    assert [len(block) for block in video.blocks(4)] == [4, 4, 2]
    assert len(list(VideoFrames(path, until=0.16).shown())) == 4


def test_what_is_shown_is_held_where_frames_are_missing_or_come_late(tmp_path):
    path = coded(tmp_path / "gaps.mkv", [40, 80, 160, 200], [0.12, 0.16, 2.16, 2.2])
    video = VideoFrames(path)
    levels = np.round(np.array(greys(video.shown())) / 40)
    changes = [k / video.rate for k in np.flatnonzero(np.diff(levels)) + 1]
    assert set(levels) == {1, 2, 4, 5} and np.abs(np.subtract(changes, [0.16, 2.16, 2.2])).max() <= 1 / video.rate


def test_a_damaged_file_gives_what_can_be_decoded(tmp_path):
    rng = np.random.default_rng(0)
    noisy = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(30)]
    path = coded(tmp_path / "whole.mkv", noisy)
    data = path.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    assert 5 < len(at_rate(tmp_path / "cut.mkv")) < 30


def test_a_video_turned_by_its_metadata_comes_upright(tmp_path):
    lies = write(tmp_path / "a.mp4", moving(4, width=64, height=32))
    stands = turned(lies, tmp_path / "b.mp4")
    expected = np.rot90(read_video(lies)[0], -1, (1, 2))
    assert VideoFrames(stands).size == (64, 32)
    assert np.array_equal(VideoFrames(stands).last(4), expected)
    assert np.array_equal(np.stack([frame.pixels for frame in VideoFrames(stands).retimed(25.0)]), expected)


def test_wide_pixels_become_square(tmp_path):
    path = coded(tmp_path / "a.mkv", [100], sample_aspect_ratio=Fraction(4, 3))
    assert VideoFrames(path).size == next(iter(VideoFrames(path)))[1].shape[:2] == (48, 85)


def test_where_the_size_changes_pictures_keep_their_shape(tmp_path):
    """As where a call was recorded and the phone was turned."""
    parts = []
    for name, size in (("a.ts", (32, 64)), ("b.ts", (64, 32))):
        with av.open(str(tmp_path / name), "w") as file:
            stream = file.add_stream("libx264", rate=25, options={"crf": "1"})
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            for _ in range(20):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((*size, 3), 200, np.uint8), format="rgb24")))
            file.mux(stream.encode(None))
        parts.append((tmp_path / name).read_bytes())
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    (_, first), *_, (_, second) = VideoFrames(tmp_path / "both.ts")
    assert first.min() > 190
    assert second[:, 24:40].min() > 190 and second[:, :22].max() == second[:, 42:].max() == 0


def test_ten_bits_give_the_colours_of_eight(tmp_path):
    eight = at_rate(coded(tmp_path / "8.mkv", [30, 128, 220]))
    ten = at_rate(coded(tmp_path / "10.mkv", [30, 128, 220], pix_fmt="yuv420p10le"))
    assert np.abs(np.array(eight) - ten).max() <= 2


@pytest.mark.parametrize("curve, white", [(ColorTrc.SMPTE2084, 148), (ColorTrc.ARIB_STD_B67, 191)])
def test_hdr_is_tone_mapped_to_where_sdr_has_its_white(tmp_path, curve, white):
    """203 nits, diffuse white, are 58 % of the PQ signal and 75 % of the HLG signal (ITU-R BT.2408)."""
    path = coded(
        tmp_path / "hdr.mkv",
        [16, white, 250],
        pix_fmt="yuv420p10le",
        color_trc=curve,
        color_primaries=ColorPrimaries.BT2020,
        colorspace=Colorspace.ITU709,
    )
    dark, diffuse, bright = at_rate(path)
    assert dark < 40 and 205 <= diffuse < bright <= 255


def test_pictures_are_downscaled_to_the_long_side(tmp_path):
    path = coded(tmp_path / "small.mkv", [100])
    assert next(VideoFrames(path, long_side=32).retimed(25.0)).pixels.shape == (24, 32, 3)


@pytest.mark.parametrize(("frames", "count"), [(3, 1), (40, 4), (300, 4), (600, 70), (5, 9)])
def test_the_last_frames_are_those_of_the_whole_video(tmp_path, frames, count):
    """300 frames and more have several key frames; 70 frames at 25 a second are longer than the first look back."""
    path = write(tmp_path / "a.mp4", moving(frames), audio=(tone(frames / 25, 16_000), 16_000))
    whole, _ = read_video(path)
    assert np.array_equal(VideoFrames(path).last(count), whole[-count:])
    with open(path, "rb") as file:
        assert np.array_equal(VideoFrames(file).last(count), whole[-count:])


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (0.0, 10.0, (248, 250)),
        (9.96, 10.0, (249, 250)),
        (4.0, 4.04, (100, 101)),
        (0.0, 0.02, (0, 1)),
        (8.0, None, (298, 300)),
    ],
)
def test_of_a_cut_video_the_last_frames_are_those_before_the_cut(tmp_path, since, until, expected):
    path = write(tmp_path / "a.mp4", moving(300))
    whole, _ = read_video(path)
    assert np.array_equal(VideoFrames(path, since=since, until=until).last(2), whole[slice(*expected)])


def test_a_colon_in_the_name_of_a_video_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("take:2.mp4", moving(3))
    assert len(read_video("take:2.mp4")[0]) == len(VideoFrames("take:2.mp4").last(3)) == 3


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="Linux tells the names of threads")
def test_no_thread_decodes_ahead_of_a_reader_which_may_stop(tmp_path):
    """Freeing a decoder with such threads can wait for ever; FFmpeg names them after the codec and 'df'."""
    frames = iter(VideoFrames(write(tmp_path / "a.mp4", moving(20))))
    next(frames)
    names = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
    assert not [name for name in names if name.startswith("av:") and ":df" in name]

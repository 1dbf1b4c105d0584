"""Videos of any kind at one frame rate: time, orientation, colour, damage."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc

from emo_model.inputs.video_decoding import VideoFrames


def write(path, pictures, times=None, *, rate=25, pix_fmt="yuv420p", codec="libx264", **context):
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


def greys(path, fps=25.0) -> list[int]:
    return [round(float(frame.pixels.mean())) for frame in VideoFrames(path, fps=fps)]


def test_a_variable_frame_rate_is_brought_to_a_constant_one_by_the_time_stamps(tmp_path):
    path = write(tmp_path / "vfr.mkv", [40, 90, 140, 190, 190], [0.0, 0.04, 0.2, 0.24, 0.28])
    found = np.array(greys(path))
    assert np.abs(found - [40, 90, 90, 90, 90, 140, 190, 190]).max() <= 3
    assert len(greys(path, fps=50.0)) == 2 * len(found)


def test_a_fast_video_gives_the_picture_in_the_middle_of_each_frames_time(tmp_path):
    path = write(tmp_path / "fast.mkv", [20 + 20 * number for number in range(10)], rate=50)
    assert np.abs(np.array(greys(path)) - [40, 80, 120, 160, 200]).max() <= 3


def test_a_gap_of_seconds_is_a_cut_and_is_not_filled(tmp_path):
    path = write(tmp_path / "gap.mkv", [50, 50, 200, 200], [0.0, 0.04, 20.0, 20.04])
    video = VideoFrames(path, fps=25.0)
    frames = list(video)
    assert len(frames) < 2 + 25 + 4 and [frame.number for frame in frames if frame.is_cut] == [0, 500]
    assert video.notes == ("pictures are missing for more than a second",)


def test_a_damaged_file_gives_what_can_be_decoded(tmp_path):
    rng = np.random.default_rng(0)
    noisy = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(30)]
    path = write(tmp_path / "whole.mkv", noisy)
    data = path.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    assert 5 < len(greys(tmp_path / "cut.mkv")) < 30


def test_a_video_that_lies_on_its_side_is_turned(tmp_path):
    """A phone writes how the picture must be turned."""
    path = write(tmp_path / "still.mp4", [100] * 3)
    with av.open(str(path)) as source, av.open(str(tmp_path / "turned.mp4"), "w") as file:
        stream = file.add_stream_from_template(source.streams.video[0])
        try:
            stream.set_display_rotation(90)
        except AttributeError:
            pytest.skip("this PyAV cannot write the rotation")
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                file.mux(packet)
    assert next(iter(VideoFrames(tmp_path / "turned.mp4", fps=25.0))).pixels.shape == (64, 48, 3)


def test_ten_bits_give_the_colours_of_eight(tmp_path):
    eight = greys(write(tmp_path / "8.mkv", [30, 128, 220]))
    ten = greys(write(tmp_path / "10.mkv", [30, 128, 220], pix_fmt="yuv420p10le"))
    assert np.abs(np.array(eight) - ten).max() <= 2


@pytest.mark.parametrize("curve, white", [(ColorTrc.SMPTE2084, 148), (ColorTrc.ARIB_STD_B67, 191)])
def test_hdr_is_tone_mapped_to_where_sdr_has_its_white(tmp_path, curve, white):
    """203 nits, diffuse white, are 58 % of the PQ signal and 75 % of the HLG signal (ITU-R BT.2408)."""
    path = write(
        tmp_path / "hdr.mkv",
        [16, white, 250],
        pix_fmt="yuv420p10le",
        color_trc=curve,
        color_primaries=ColorPrimaries.BT2020,
        colorspace=Colorspace.ITU709,
    )
    dark, diffuse, bright = greys(path)
    assert dark < 40 and 205 <= diffuse < bright <= 255


def test_pictures_are_downscaled_to_the_long_side(tmp_path):
    path = write(tmp_path / "small.mkv", [100])
    assert next(iter(VideoFrames(path, fps=25.0, long_side=32))).pixels.shape == (24, 32, 3)


def test_a_file_without_moving_pictures_says_so(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(ValueError, match="text.mp4 is not a video that PyAV can read"):
        VideoFrames(tmp_path / "text.mp4", fps=25.0)

"""Pictures in, videos out, and what is read back from them."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from emo_model.inputs.audio import SoundFile, read_audio
from emo_model.inputs.media import VideoWriter, last_frames, read_picture, read_video, to_uint8


def corners(pixels: torch.Tensor) -> list[int]:
    """Red of the four corners of (1, 3, H, W), clockwise from the upper left, 0..255."""
    red = ((pixels[0, 0] + 1) * 127.5).round().int()
    return [red[0, 0].item(), red[0, -1].item(), red[-1, -1].item(), red[-1, 0].item()]


@pytest.fixture
def marked() -> Image.Image:
    """30x20 pixels, its corners 0, 60, 120, 180 red, clockwise from the upper left."""
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:10, 15:, 0], picture[10:, 15:, 0], picture[10:, :15, 0] = 60, 120, 180
    return Image.fromarray(picture)


def test_a_picture_is_read_pixel_by_pixel(tmp_path, marked):
    marked.save(tmp_path / "a.png")
    pixels = read_picture(tmp_path / "a.png")
    assert pixels.shape == (1, 3, 20, 30) and pixels.dtype == torch.float32 and corners(pixels) == [0, 60, 120, 180]
    assert np.array_equal(to_uint8(pixels)[0], np.array(marked))


def test_a_photograph_is_turned_as_its_camera_was_held(tmp_path, marked):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by a quarter to look at it
    marked.save(tmp_path / "a.png", exif=exif)
    pixels = read_picture(tmp_path / "a.png")
    assert pixels.shape == (1, 3, 30, 20) and corners(pixels) == [180, 0, 60, 120]


def test_transparency_becomes_white(tmp_path):
    Image.new("RGBA", (5, 7), (200, 0, 0, 0)).save(tmp_path / "a.png")
    assert torch.equal(read_picture(tmp_path / "a.png"), torch.ones(1, 3, 7, 5))


@pytest.mark.parametrize(("mode", "colour"), [("L", 128), ("LA", (128, 255)), ("1", 1), ("P", 3), ("CMYK", (0, 0, 0, 0)),
                                              ("I;16", 40_000), ("F", 128.0)])
def test_pictures_of_every_kind_become_three_channels_in_range(tmp_path, mode, colour):
    path = tmp_path / ("a.tiff" if mode in ("CMYK", "F") else "a.png")
    Image.new(mode, (9, 5), colour).save(path)
    pixels = read_picture(path)
    assert pixels.shape == (1, 3, 5, 9) and pixels.min() >= -1 and pixels.max() <= 1


def test_sixteen_bit_grey_keeps_its_greys(tmp_path):
    ramp = np.linspace(0, 65_535, 64).astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    pixels = read_picture(tmp_path / "a.png")
    torch.testing.assert_close(pixels[0, 0, 0], torch.linspace(-1, 1, 64), rtol=0, atol=0.01)


def test_what_is_no_picture_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(ValueError, match="a.png is not a picture that Pillow can read; give a PNG, JPEG or WebP file"):
        read_picture(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match="nobody.png"):
        read_picture(tmp_path / "nobody.png")


def test_a_picture_that_was_cut_off_is_refused(tmp_path, seeded):
    Image.fromarray(to_uint8(seeded(1, 3, 64, 64))[0]).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[:len(data) // 2])
    with pytest.raises(ValueError, match="a.jpg is damaged"):
        read_picture(tmp_path / "a.jpg")


def moving(frames: int, *, width: int = 32, height: int = 32) -> np.ndarray:
    """(F, H, W, 3): a soft slope that turns brighter frame by frame."""
    slope = np.linspace(0, 80, width)[None, None, :, None] + np.arange(frames)[:, None, None, None] * (160 / max(frames, 1))
    return np.broadcast_to(slope, (frames, height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("fps", [25.0, 12.5, 30_000 / 1001, 23.976, 60.0])
def test_a_video_has_the_frames_it_was_given_at_their_rate(tmp_path, fps):
    frames = moving(11)
    with VideoWriter(tmp_path / "a.mp4", fps=fps, width=32, height=32) as video:
        video.write(frames[:4])
        video.write(frames[4:])
    read, rate = read_video(tmp_path / "a.mp4")
    assert len(read) == 11 and abs(rate - fps) < 1e-3
    assert np.abs(read.astype(int) - frames).mean() < 3  # of 255


@pytest.mark.parametrize(("width", "height"), [(33, 32), (32, 17), (35, 19)])
def test_an_odd_last_row_or_column_is_repeated(tmp_path, width, height):
    frames = moving(3, width=width, height=height)
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=width, height=height) as video:
        video.write(frames)
    read, _ = read_video(tmp_path / "a.mp4")
    assert read.shape == (3, height + height % 2, width + width % 2, 3)
    assert np.abs(read[:, :height, :width].astype(int) - frames).mean() < 3
    if width % 2:
        assert np.abs(read[:, :, -1].astype(int) - read[:, :, -2]).mean() < 4


def tone(seconds: float, rate: int, *, channels: int = 1) -> torch.Tensor:
    """(C, T) of 440 Hz, half of full scale."""
    return (0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(round(seconds * rate)) / rate)).expand(channels, -1)


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 12_345, 192_000])
def test_the_sound_ends_with_the_frames_at_any_rate_and_number_of_channels(tmp_path, rate, channels):
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32, audio=(tone(2, rate, channels=channels), rate)) as video:
        for part in np.split(moving(30), 3):  # 1.2 s
            video.write(part)
    sound, played = read_audio(tmp_path / "a.mp4")
    assert len(read_video(tmp_path / "a.mp4")[0]) == 30
    assert len(sound) == channels and played == rate
    assert abs(sound.shape[1] - 1.2 * played) <= 1024  # an AAC frame
    assert abs(sound[:3, played // 10:played].std() - 0.5 / 2**0.5) < 0.03  # the fourth of six is for basses


def lengths(path) -> tuple[int, Fraction, int, int, float]:
    """What the file says and what its decoded frames say: (frames, their rate, samples by the file, rate, offset in seconds)."""
    with av.open(str(path)) as container:
        frames = sum(1 for _ in container.decode(video=0))
        rate, start = container.streams.video[0].average_rate, container.streams.video[0].start_time
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        decoded = list(container.decode(stream))
        told = round(stream.duration * stream.time_base * stream.rate)
        assert sum(frame.samples for frame in decoded) - told in range(1024)  # AAC's frames have 1024
        return frames, rate, told, stream.rate, float(decoded[0].pts * decoded[0].time_base) - float(start or 0)


@pytest.mark.parametrize("codec", ["aac", "flac"])
@pytest.mark.parametrize(("fps", "rate", "seconds", "channels"), [
    (fps, (8_000, 16_000, 22_050, 44_100, 48_000, 96_000)[(row + column) % 6], seconds, (1, 2, 6)[(row + 2 * column) % 3])
    for row, fps in enumerate([8.0, 12.5, 23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 60.0])
    for column, seconds in enumerate([0.03, 0.5, 1.01, 2.3333, 3.99])])
def test_video_and_sound_are_as_long_as_the_recording(tmp_path, fps, rate, seconds, channels, codec):
    sound = tone(seconds, rate, channels=channels)
    samples = sound.shape[1]
    frames = max(1, round(samples / rate * fps))  # as `features_per_frame` counts
    with VideoWriter(tmp_path / "a.mp4", fps=fps, width=32, height=32, audio=(sound, rate), codec=codec) as video:
        for start in range(0, frames, 16):
            video.write(moving(min(16, frames - start)))
    count, written_fps, told, played, offset = lengths(tmp_path / "a.mp4")
    assert (count, told, played, offset) == (frames, samples, rate, 0.0)
    assert abs(count / float(written_fps) - samples / rate) <= 0.5 / fps + 1e-6 or count == 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("rate", [12_345, 44_100, 192_000])
def test_flac_keeps_every_sample_and_channel_as_it_was(tmp_path, rate, channels, seeded):
    sound = (seeded(channels, rate // 2, seed=channels) * 5_000).round().clamp(-32_768, 32_767) / 32_768
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32, audio=(sound, rate), codec="flac") as video:
        for _ in range(13):
            video.write(moving(1))
    read, played = read_audio(tmp_path / "a.mp4")
    assert played == rate and torch.equal(read, sound)


@pytest.mark.parametrize(("rate", "channels", "codec"), [(44_100, 2, "aac"), (48_000, 6, "aac"), (48_000, 8, "flac"),
                                                         (192_000, 2, "flac"), (12_345, 1, "flac")])
def test_what_aac_cannot_have_becomes_flac(tmp_path, rate, channels, codec):
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32, audio=(tone(0.4, rate, channels=channels), rate)) as video:
        video.write(moving(10))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == codec and container.streams.audio[0].channels == channels


def test_channels_of_aac_stay_in_their_places(tmp_path):
    rate, hertz = 48_000, torch.tensor([300, 500, 700, 60, 1100, 1300])
    sound = 0.3 * torch.sin(2 * torch.pi * hertz[:, None] * torch.arange(rate) / rate)
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32, audio=(sound, rate)) as video:
        video.write(moving(25))
    read, _ = read_audio(tmp_path / "a.mp4")
    assert torch.fft.rfft(read[:, :rate]).abs().argmax(1).tolist() == hertz.tolist()


def test_more_channels_than_a_file_can_have_are_mixed(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32, audio=(tone(0.4, 16_000, channels=12), 16_000)) as video:
        video.write(moving(10))
    sound, _ = read_audio(tmp_path / "a.mp4")
    assert len(sound) == 1 and abs(sound[0, 1_000:5_000].std() - 0.5 / 2**0.5) < 0.03


def test_the_sound_of_a_file_is_written_without_being_read_as_a_whole(tmp_path):
    sound = tone(1, 44_100, channels=2)
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32, audio=(sound, 44_100), codec="flac") as video:
        video.write(moving(25))
    file = SoundFile(tmp_path / "a.mp4")
    assert (file.rate, file.channels, file.samples) == (44_100, 2, 44_100)
    with VideoWriter(tmp_path / "b.mp4", fps=25, width=32, height=32, audio=file, codec="flac") as video:
        video.write(moving(10))
        assert video.sound.waiting.shape[1] < 10_000
        video.write(moving(15))
    assert torch.equal(read_audio(tmp_path / "b.mp4")[0], read_audio(tmp_path / "a.mp4")[0])


@pytest.mark.parametrize("rate", [16_000, 44_100, 12_345])
def test_sound_stays_in_time_with_the_frames(tmp_path, rate):
    time = torch.arange(rate) / rate
    click = 2 * tone(1, rate) * ((time > 0.6) & (time < 0.7))
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32, audio=(click, rate)) as video:
        for part in np.split(moving(25), 25):
            video.write(part)
    sound, played = read_audio(tmp_path / "a.mp4")
    loud = (sound[0].abs() > 0.3).nonzero().flatten() / played
    assert abs(loud.min() - 0.6) < 0.02 and abs(loud.max() - 0.7) < 0.02


def test_sound_shorter_than_the_frames_ends_and_the_frames_go_on(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32, audio=(tone(0.25, 16_000), 16_000)) as video:
        video.write(moving(25))
    sound, rate = read_audio(tmp_path / "a.mp4")
    assert len(read_video(tmp_path / "a.mp4")[0]) == 25 and abs(sound.shape[1] / rate - 0.25) <= 1024 / rate


def test_a_video_without_sound_has_none(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32) as video:
        video.write(moving(2))
    with pytest.raises(ValueError, match="a.mp4 has no sound in it"):
        read_audio(tmp_path / "a.mp4")


def test_small_pictures_are_written_the_same_way_each_time(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    files = set()
    for number in range(12):
        with VideoWriter(tmp_path / f"{number}.mp4", fps=25, width=32, height=32) as video:
            video.write(frames)
        files.add((tmp_path / f"{number}.mp4").read_bytes())
    assert len(files) == 1


def test_text_travels_in_the_videos_metadata(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32, metadata={"workflow": '{"nodes": "äöü"}'}) as video:
        video.write(moving(2))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.metadata["workflow"] == '{"nodes": "äöü"}'


def test_an_interrupted_video_leaves_the_old_file_and_a_playable_part(tmp_path):
    (tmp_path / "a.mp4").write_text("an older video")
    with pytest.raises(InterruptedError), VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32) as video:
        video.write(moving(5))
        assert (tmp_path / "a.mp4").read_text() == "an older video"
        raise InterruptedError
    assert (tmp_path / "a.mp4").read_text() == "an older video"
    assert len(read_video(tmp_path / "a.part.mp4")[0]) == 5


def test_frames_of_another_size_are_refused_with_both_sizes(tmp_path):
    with pytest.raises(ValueError, match="frames of 64x48 given to a video of 32x32"), \
            VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32) as video:
        video.write(moving(1, width=64, height=48))


def test_the_folder_of_a_video_is_made(tmp_path):
    with VideoWriter(tmp_path / "new" / "folder" / "a.mp4", fps=Fraction(25), width=32, height=32) as video:
        video.write(moving(2))
    assert (tmp_path / "new" / "folder" / "a.mp4").stat().st_size > 500


@pytest.mark.parametrize(("frames", "count"), [(3, 1), (40, 4), (300, 4), (600, 70), (5, 9)])
def test_the_last_frames_are_those_of_the_whole_video(tmp_path, frames, count):
    """300 frames and more have several key frames; 70 frames at 25 a second are longer than the first look back."""
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32, audio=(tone(frames / 25, 16_000), 16_000)) as video:
        video.write(moving(frames))
    whole, _ = read_video(tmp_path / "a.mp4")
    assert np.array_equal(last_frames(tmp_path / "a.mp4", count), whole[-count:])
    with open(tmp_path / "a.mp4", "rb") as file:
        assert np.array_equal(last_frames(file, count), whole[-count:])


@pytest.mark.parametrize(("since", "until", "expected"), [
    (0.0, 10.0, (248, 250)), (9.96, 10.0, (249, 250)), (4.0, 4.04, (100, 101)), (0.0, 0.02, (0, 1)), (8.0, None, (298, 300)),
    (11.99, None, (300, 300))])
def test_of_a_cut_video_the_last_frames_are_those_before_the_cut(tmp_path, since, until, expected):
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32) as video:
        video.write(moving(300))
    whole, _ = read_video(tmp_path / "a.mp4")
    assert np.array_equal(last_frames(tmp_path / "a.mp4", 2, since=since, until=until), whole[slice(*expected)])


@pytest.mark.parametrize("height", [32, 1088])
def test_a_file_says_how_its_colours_are_coded(tmp_path, height):
    """Browsers take large pictures that say nothing for BT.709: in Chromium, a green was 25 of 255 darker there."""
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=height) as video:
        video.write(np.full((1, height, 32, 3), (40, 200, 40), np.uint8))
    with av.open(str(tmp_path / "a.mp4")) as container:
        coded = container.streams.video[0].codec_context
        assert (coded.colorspace, coded.color_range, coded.color_primaries, coded.color_trc) == (5, 1, 1, 13)
        brightness = next(container.decode(video=0)).to_ndarray()[height // 2, 16]
    assert abs(brightness - 131) <= 2  # BT.601 with 16 as black; BT.709 would be 149


def test_a_colon_in_the_name_of_a_video_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with VideoWriter("take:2.mp4", fps=25, width=32, height=32) as video:
        video.write(moving(3))
    assert len(read_video("take:2.mp4")[0]) == len(last_frames("take:2.mp4", 3)) == 3


def test_a_picture_too_large_for_pillow_is_refused_with_a_sentence(tmp_path, monkeypatch, marked):
    marked.save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(ValueError, match="huge.png has more than 0 million pixels.*scale it down"):
        read_picture(tmp_path / "huge.png")

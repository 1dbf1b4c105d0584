"""Videos as they are written, read back by PyAV."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from videos import moving, read_video, tone

from emo_model.inputs.audio import SoundFile, read_audio
from emo_model.outputs.video import VideoWriter


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


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 12_345, 192_000])
def test_the_sound_ends_with_the_frames_at_any_rate_and_number_of_channels(tmp_path, rate, channels):
    with VideoWriter(
        tmp_path / "a.mp4", fps=25, width=32, height=32, audio=(tone(2, rate, channels=channels), rate)
    ) as video:
        for part in np.split(moving(30), 3):  # 1.2 s
            video.write(part)
    sound, played = read_audio(tmp_path / "a.mp4")
    assert len(read_video(tmp_path / "a.mp4")[0]) == 30
    assert len(sound) == channels and played == rate
    assert abs(sound.shape[1] - 1.2 * played) <= 1024  # an AAC frame
    assert abs(sound[:3, played // 10 : played].std() - 0.5 / 2**0.5) < 0.03  # the fourth of six is for basses


def lengths(path) -> tuple[int, Fraction, int, int, float]:
    """What the file says and what its decoded frames say: (frames, their rate, samples by the file, rate, offset in
    seconds)."""
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
@pytest.mark.parametrize(
    ("fps", "rate", "seconds", "channels"),
    [
        (
            fps,
            (8_000, 16_000, 22_050, 44_100, 48_000, 96_000)[(row + column) % 6],
            seconds,
            (1, 2, 6)[(row + 2 * column) % 3],
        )
        for row, fps in enumerate([8.0, 12.5, 23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 60.0])
        for column, seconds in enumerate([0.03, 0.5, 1.01, 2.3333, 3.99])
    ],
)
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


@pytest.mark.parametrize(
    ("rate", "channels", "codec"),
    [(44_100, 2, "aac"), (48_000, 6, "aac"), (48_000, 8, "flac"), (192_000, 2, "flac"), (12_345, 1, "flac")],
)
def test_what_aac_cannot_have_becomes_flac(tmp_path, rate, channels, codec):
    with VideoWriter(
        tmp_path / "a.mp4", fps=25, width=32, height=32, audio=(tone(0.4, rate, channels=channels), rate)
    ) as video:
        video.write(moving(10))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert (
            container.streams.audio[0].codec_context.name == codec and container.streams.audio[0].channels == channels
        )


def test_channels_of_aac_stay_in_their_places(tmp_path):
    rate, hertz = 48_000, torch.tensor([300, 500, 700, 60, 1100, 1300])
    sound = 0.3 * torch.sin(2 * torch.pi * hertz[:, None] * torch.arange(rate) / rate)
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32, audio=(sound, rate)) as video:
        video.write(moving(25))
    read, _ = read_audio(tmp_path / "a.mp4")
    assert torch.fft.rfft(read[:, :rate]).abs().argmax(1).tolist() == hertz.tolist()


def test_more_channels_than_a_file_can_have_are_mixed(tmp_path):
    with VideoWriter(
        tmp_path / "a.mp4", fps=25, width=32, height=32, audio=(tone(0.4, 16_000, channels=12), 16_000)
    ) as video:
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


WRITE = """
import sys
import numpy as np
from emo_model.outputs.video import VideoWriter

width, height = 236, 100
still = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
with VideoWriter(sys.argv[1], fps=25, width=width, height=height) as video:
    for moved in range(30):
        video.write(np.roll(still, moved % 7, axis=0)[None])
"""


def test_a_file_does_not_depend_on_what_was_in_memory_before(tmp_path):
    """glibc fills memory that is not written yet with these bytes; x264's AVX-512 code read some of it."""
    files = []
    for filling in ("0", "85", "170"):
        files.append(tmp_path / f"{filling}.mp4")
        done = subprocess.run(
            [sys.executable, "-c", WRITE, str(files[-1])],
            cwd=Path(__file__).parents[3],
            env={**os.environ, "MALLOC_PERTURB_": filling},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
    assert len({file.read_bytes() for file in files}) == 1


def test_text_travels_in_the_videos_metadata(tmp_path):
    with VideoWriter(
        tmp_path / "a.mp4", fps=25, width=32, height=32, metadata={"workflow": '{"nodes": "äöü"}'}
    ) as video:
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
    assert video.partial != video.path and len(read_video(video.partial)[0]) == 5


def test_frames_of_another_size_are_refused_with_both_sizes(tmp_path):
    with (
        pytest.raises(ValueError, match="frames of 64x48 cannot be written to a video of 32x32"),
        VideoWriter(tmp_path / "a.mp4", fps=25, width=32, height=32) as video,
    ):
        video.write(moving(1, width=64, height=48))


def test_the_folder_of_a_video_is_made(tmp_path):
    with VideoWriter(tmp_path / "new" / "folder" / "a.mp4", fps=Fraction(25), width=32, height=32) as video:
        video.write(moving(2))
    assert (tmp_path / "new" / "folder" / "a.mp4").stat().st_size > 500


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

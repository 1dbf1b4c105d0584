"""What a video takes on the disk, and what happens where there is less."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from videos import moving, tone

from emo_model.outputs import disk
from emo_model.outputs.disk import check_disk, check_video, grain_of, video_bytes
from emo_model.outputs.video import VideoWriter, sound_bytes


def free(monkeypatch, count: int) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=count))


@pytest.mark.parametrize("noise", [0.0, 40.0])
@pytest.mark.parametrize("quality", [0, 17, 30, 45])
def test_a_video_takes_less_than_was_estimated_at_every_quality_and_grain(tmp_path, noise, quality):
    smooth = moving(12, width=160, height=120).astype(np.float32)
    still = np.random.RandomState(0).normal(0, 1, (120, 160, 3)) * noise
    frames = (smooth + still).clip(0, 255).astype(np.uint8)
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=160, height=120, crf=quality) as video:
        video.write(frames)
    most = video_bytes(12, fps=25, width=160, height=120, grain=grain_of(frames[0]), quality=quality, sound_bytes=0)
    headers = 4000
    assert 0.03 * most < (tmp_path / "a.mp4").stat().st_size < most + headers


@pytest.mark.parametrize(("rate", "channels", "codec"), [(16_000, 1, "aac"), (48_000, 2, "flac"), (192_000, 2, "aac")])
def test_sound_takes_less_than_was_estimated(tmp_path, rate, channels, codec):
    def written(name: str, **sound) -> int:
        with VideoWriter(tmp_path / name, fps=25, width=32, height=32, codec=codec, **sound) as video:
            video.write(np.zeros((50, 32, 32, 3), np.uint8))
        return (tmp_path / name).stat().st_size

    loud = torch.rand(channels, 2 * rate, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
    more = written("loud.mp4", audio=(loud, rate)) - written("mute.mp4")
    assert 0.3 * 2 * sound_bytes(rate, channels, codec) < more < 1.1 * 2 * sound_bytes(rate, channels, codec) + 4000


def test_a_frame_and_the_same_pixels_have_one_grain():
    frame = np.random.RandomState(0).randint(0, 255, (300, 40, 3)).astype(np.uint8)
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[None]
    assert grain_of(frame) == pytest.approx(grain_of(pixels), rel=1e-5) and grain_of(frame) > 50
    assert grain_of(frame[:, :1]) == grain_of(pixels[..., :1]) == 0.0


def test_the_writer_refuses_before_the_first_frame_and_leaves_nothing(tmp_path, monkeypatch):
    free(monkeypatch, 10_000)
    frames, sound = moving(4, width=64, height=64), (tone(1, 16_000), 16_000)
    with (
        pytest.raises(
            OSError,
            match=r"^The video needs about \d+ kB on the disk of .*, and 10 kB are free: 900 frames of 64x64 pixels. "
            "Make room, or take a smaller picture, a lower quality or a shorter sound.$",
        ),
        VideoWriter(tmp_path / "a.mp4", fps=25, width=64, height=64, audio=sound, expected=900) as video,
    ):
        video.write(frames)
    assert not list(tmp_path.iterdir())
    with VideoWriter(tmp_path / "a.mp4", fps=25, width=64, height=64, expected=4) as video:
        video.write(frames)  # these fit
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_lower_quality_and_a_smoother_picture_need_less_room(tmp_path, monkeypatch):
    free(monkeypatch, 20_000_000)
    large = {"fps": 25, "width": 2000, "height": 1500}
    check_video(tmp_path, 100, **large, grain=3.0)
    with pytest.raises(OSError, match="The video needs about 25.4 MB on the disk of .*: 100 frames of 2000x1500"):
        check_video(tmp_path, 100, **large, grain=8.0)
    check_video(tmp_path, 100, **large, grain=8.0, quality=23)


def test_what_goes_to_one_disk_is_added_and_folders_need_not_exist(tmp_path, monkeypatch):
    free(monkeypatch, 1000)
    how = {"what": "It", "details": "two files", "remedy": "Make room."}
    check_disk([(tmp_path / "not" / "yet", 500), (tmp_path, 500)], **how)
    with pytest.raises(OSError, match=r"^It needs about 1 kB on the disk of .*, and 1 kB are free: two files\. Make"):
        check_disk([(tmp_path / "not" / "yet", 500), (tmp_path, 501)], **how)

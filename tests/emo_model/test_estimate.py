"""What is said before the wait."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import replace

import pytest
import torch

from emo_model.cache.folder import ClipCache
from emo_model.cache.renderer import CachedRenderer
from emo_model.config import PRESETS, SamplingConfig
from emo_model.estimate import estimate, frames_at_once, minutes_and_seconds
from emo_model.outputs import disk
from emo_model.outputs.disk import grain_of
from emo_model.sampling.clips import ClipRenderer, generate_clips

FOUR = SamplingConfig(steps=4)


def test_clips_and_minutes_are_counted_without_what_is_finished(config):
    plan = estimate(config, FOUR, frames=101, fps=25, finished=20, seconds_per_step=1.5)
    assert (plan.frames, plan.clips, plan.finished) == (101, 26, 20)
    assert (
        plan.minutes == pytest.approx(6 * 4 * 1.5 / 60) and "about 36 s" in plan.says and "20 are finished" in plan.says
    )
    assert estimate(config, FOUR, frames=101, fps=25).minutes is None


def test_disk_grows_with_the_length_and_memory_does_not(config):
    short, long = (estimate(config, FOUR, frames=frames, fps=25, weights_bytes=10**6) for frames in (100, 10_000))
    assert long.clip_bytes == 100 * short.clip_bytes and long.video_bytes > 50 * short.video_bytes
    assert (long.device_bytes, long.ram_bytes) == (short.device_bytes, short.ram_bytes) and short.device_bytes > 10**6


def test_a_larger_picture_needs_more_memory_and_a_larger_file(config):
    square, large = (estimate(config, FOUR, frames=100, fps=25, picture=picture) for picture in (None, (1080, 1920)))
    assert large.video_bytes > 80 * square.video_bytes and large.ram_bytes > 100 * square.ram_bytes
    assert (large.clip_bytes, large.device_bytes) == (square.clip_bytes, square.device_bytes)
    assert square == estimate(config, FOUR, frames=100, fps=25, picture=(config.image_size, config.image_size))


def test_the_disk_takes_what_was_estimated_and_hardly_less(tmp_path, emo, config, conditions):
    spool = ClipCache(tmp_path)
    with spool.run() as keep:
        for _ in generate_clips(
            CachedRenderer(ClipRenderer(emo, conditions(config, frames=30), SamplingConfig(steps=1)), keep)
        ):
            pass
    plan = estimate(config, FOUR, frames=30, fps=25)
    assert plan.clip_bytes * 0.1 < spool.bytes <= plan.clip_bytes
    large = estimate(PRESETS["emo"], FOUR, frames=30, fps=25)
    assert large.clip_bytes < 1.02 * 36 * 4 * 64 * 64 * 4  # three clips of twelve frames


def test_the_video_is_estimated_from_the_size_and_the_grain_of_the_picture(config):
    smooth, noisy = torch.zeros(1, 3, 1500, 2000), torch.rand(1, 3, 1500, 2000) * 2 - 1
    assert grain_of(smooth) == 0 and grain_of(noisy) == pytest.approx(255 / 3, rel=0.02)
    small, large = (
        estimate(config, FOUR, frames=100, fps=25, picture=(1500, 2000), grain=grain_of(one)).video_bytes
        for one in (smooth, noisy)
    )
    assert 100 * 54_000 < small < 4 * 100 * 54_000 < large
    assert "6.2 MB for the video" in estimate(config, FOUR, frames=100, fps=25, picture=(1500, 2000), grain=0.0).says


def test_what_cannot_fit_is_refused_with_the_numbers(config, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**6))
    plan = estimate(config, FOUR, frames=90_000, fps=25)
    with pytest.raises(
        OSError, match=r"needs about [\d.]+ GB on the disk of .*, and 1.0 MB are free: 90000 frames.*Make room"
    ):
        plan.refuse_what_cannot_fit(tmp_path / "not" / "yet")
    estimate(config, FOUR, frames=8, fps=25).refuse_what_cannot_fit(tmp_path)


def test_clips_and_video_on_one_disk_must_fit_together(config, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    plan = replace(estimate(config, FOUR, frames=100, fps=25), clip_bytes=600, video_bytes=600)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    plan.refuse_what_cannot_fit(tmp_path)
    with pytest.raises(OSError, match="This run needs"):
        plan.refuse_what_cannot_fit(tmp_path, tmp_path / "videos")


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (0.2, "about 1 s"),
        (59.6, "about 60 s"),
        (100, "about 2 min"),
        (5_000, "about 83 min"),
        (12_000, "about 3 h 20 min"),
    ],
)
def test_times_are_said_in_few_words(seconds, says):
    assert minutes_and_seconds(seconds) == says


@pytest.mark.parametrize(
    ("audio", "reference", "times"), [(1, 1, 1), (2.5, 1, 1), (3.5, 3.5, 1), (2.5, 1.5, 1.5), (1, 1.5, 1.5)]
)
def test_a_third_evaluation_in_a_batch_takes_half_more(config, audio, reference, times):
    sampling = SamplingConfig(steps=1, audio_guidance=audio, reference_guidance=reference)
    assert frames_at_once(config, sampling) == times * (config.clip_frames + config.motion_frames)


def test_an_estimate_needs_no_model():
    with torch.device("meta"):
        assert estimate(PRESETS["hallo"], FOUR, frames=90_000, fps=25, compute_bytes=2).clip_bytes > 5e9

"""Clips are written on a background thread, in order, and no exception there is lost."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from emo_model.outputs.background_writer import PENDING, TOGETHER, BackgroundWriter
from emo_model.outputs.shared_work import SharedWork


class Video:
    """Remembers what it was given, and in which thread; `fails` at so many clips."""

    def __init__(self, fails: int = -1):
        self.given, self.threads, self.fails = [], set(), fails

    def write(self, frames: np.ndarray) -> None:
        if len(self.given) == self.fails:
            raise OSError("the disk is full")
        self.given.append(frames)
        self.threads.add(threading.current_thread())


def decode(latents: torch.Tensor) -> np.ndarray:
    """Frames whose every byte is the latents' first number."""
    return np.full((latents.shape[2], 6, 8, 3), int(latents[0, 0, 0, 0, 0]), dtype=np.uint8)


def clip(config, number: int) -> torch.Tensor:
    return torch.full((1, config.latent_channels, 2 + number, config.latent_size, config.latent_size), float(number))


def test_every_clip_is_decoded_some_frames_at_a_time_and_written_in_order_by_the_helper(config):
    video = Video()
    with SharedWork() as work, BackgroundWriter(work, decode, video.write, device="cpu") as writer:
        for number in range(4):
            writer.put(clip(config, number))
    expected = [
        (min(TOGETHER, 2 + number - start), number) for number in range(4) for start in range(0, 2 + number, TOGETHER)
    ]
    assert [(len(frames), int(frames[0, 0, 0, 0])) for frames in video.given] == expected
    assert len(expected) > 4 and video.threads == {work.helper}


def test_the_caller_decodes_where_it_would_wait(config):
    both = threading.Barrier(2)  # passed only if both threads decode at once

    def together(latents: torch.Tensor) -> np.ndarray:
        both.wait(10)
        return decode(latents)

    video, long = Video(), torch.zeros(1, config.latent_channels, 2 * TOGETHER, 2, 2)
    with SharedWork() as work, BackgroundWriter(work, together, video.write, device="cpu") as writer:
        writer.put(long)
        writer.put(long)
    assert sum(map(len, video.given)) == 4 * TOGETHER


def test_a_stopped_run_writes_what_was_put(config):
    video = Video()
    with (
        pytest.raises(KeyboardInterrupt),
        SharedWork() as work,
        BackgroundWriter(work, decode, video.write, device="cpu") as writer,
    ):
        writer.put(clip(config, 0))
        raise KeyboardInterrupt
    assert len(video.given) == 1


@pytest.mark.parametrize("fails", [0, 2])
def test_a_full_disk_stops_the_run(config, fails):
    with (
        pytest.raises(OSError, match="the disk is full"),
        SharedWork() as work,
        BackgroundWriter(work, decode, Video(fails).write, device="cpu") as writer,
    ):
        for number in range(3):
            writer.put(clip(config, number))


def test_the_sampler_waits_where_more_clips_than_are_allowed_would_pile_up(config):
    goes_on, started, put = threading.Event(), threading.Event(), []

    def slow(latents: torch.Tensor) -> np.ndarray:
        started.set()
        goes_on.wait(10)
        return decode(latents)

    def sample(work: SharedWork) -> None:
        with BackgroundWriter(work, slow, Video().write, device="cpu") as writer:
            for number in range(PENDING + 2):
                writer.put(clip(config, 0))
                put.append(number)

    with SharedWork() as work:
        sampler = threading.Thread(target=sample, args=(work,))
        sampler.start()
        assert started.wait(10)
        sampler.join(0.2)
        waiting = len(put)
        goes_on.set()
        sampler.join(10)
    assert waiting == PENDING and len(put) == PENDING + 2

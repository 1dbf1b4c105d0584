"""Clips are written on a background thread, in order, and no exception there is lost."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from emo_model.outputs.background_writer import BackgroundWriter, one_core_for_writing


class Video:
    """Remembers what it was given, and in which thread; `fails` at so many clips."""

    def __init__(self, fails: int = -1):
        self.given, self.threads, self.fails = [], set(), fails

    def write(self, frames: np.ndarray) -> None:
        if len(self.given) == self.fails:
            raise OSError("the disk is full")
        self.given.append(frames)
        self.threads.add(threading.current_thread())


def frames_of(latents: torch.Tensor):
    """Two frames at a time, whose every byte is the latents' first number."""
    for part in latents[0].transpose(0, 1).split(2):
        yield np.full((len(part), 6, 8, 3), int(part[0, 0, 0, 0]), dtype=np.uint8)


def clip(config, number: int) -> torch.Tensor:
    return torch.full((1, config.latent_channels, 2 + number, config.latent_size, config.latent_size), float(number))


def test_every_clip_is_decoded_and_written_block_by_block_in_its_order_and_in_a_thread_of_its_own(config):
    video, decoded_in = Video(), set()

    def decode(latents):
        decoded_in.add(threading.current_thread())
        yield from frames_of(latents)

    with BackgroundWriter(decode, video.write, device="cpu") as writer:
        for number in range(4):
            writer.put(clip(config, number))
    assert [(len(frames), int(frames[0, 0, 0, 0])) for frames in video.given] == [
        (2, 0),
        (2, 1),
        (1, 1),
        (2, 2),
        (2, 2),
        (2, 3),
        (2, 3),
        (1, 3),
    ]
    assert threading.main_thread() not in video.threads | decoded_in and video.threads == decoded_in


def test_the_thread_computes_on_one_core_and_leaves_the_others_to_the_sampler(config):
    before, inside = torch.get_num_threads(), []
    try:
        torch.set_num_threads(3)
        count = lambda latents: inside.append(torch.get_num_threads()) or ()  # noqa: E731
        with one_core_for_writing("cpu"), BackgroundWriter(count, Video().write, device="cpu") as writer:
            writer.put(clip(config, 0))
            assert torch.get_num_threads() == 2  # the others
        assert inside == [1] and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_stopped_run_writes_what_was_put(config):
    video = Video()
    with pytest.raises(KeyboardInterrupt), BackgroundWriter(frames_of, video.write, device="cpu") as writer:
        writer.put(clip(config, 0))
        raise KeyboardInterrupt
    assert len(video.given) == 1


@pytest.mark.parametrize("fails", [0, 2])
def test_a_full_disk_stops_the_run(config, fails):
    with (
        pytest.raises(OSError, match="the disk is full"),
        BackgroundWriter(frames_of, Video(fails).write, device="cpu") as writer,
    ):
        for number in range(3):
            writer.put(clip(config, number))

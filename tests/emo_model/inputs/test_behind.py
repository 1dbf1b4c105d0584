"""Clips are written behind the sampler's back, in their order, and nothing that goes wrong there is lost."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from emo_model.inputs.behind import Behind


class Video:
    """Remembers what it was given, and in which thread; `fails` at so many clips."""

    def __init__(self, fails: int = -1):
        self.given, self.threads, self.fails = [], set(), fails

    def write(self, frames: np.ndarray) -> None:
        if len(self.given) == self.fails:
            raise OSError("the disk is full")
        self.given.append(frames)
        self.threads.add(threading.current_thread())


def clip(config, number: int) -> torch.Tensor:
    return torch.full((1, config.latent_channels, 2 + number, config.latent_size, config.latent_size), float(number))


def test_every_clip_is_written_in_its_order_and_in_a_thread_of_its_own(bundle):
    video = Video()
    with Behind(bundle.autoencoder, video.write, bundle.config, device="cpu") as behind:
        for number in range(4):
            behind.put(clip(bundle.config, number))
    assert [frames.shape for frames in video.given] == [(2 + number, 32, 32, 3) for number in range(4)]
    assert all(frames.dtype == np.uint8 for frames in video.given) and threading.main_thread() not in video.threads


def test_a_stopped_run_writes_what_was_put(bundle):
    video = Video()
    with pytest.raises(KeyboardInterrupt), Behind(bundle.autoencoder, video.write, bundle.config, device="cpu") as behind:
        behind.put(clip(bundle.config, 0))
        raise KeyboardInterrupt
    assert len(video.given) == 1


@pytest.mark.parametrize("fails", [0, 2])
def test_a_full_disk_stops_the_run(bundle, fails):
    with pytest.raises(OSError, match="the disk is full"), Behind(
            bundle.autoencoder, Video(fails).write, bundle.config, device="cpu") as behind:
        for number in range(3):
            behind.put(clip(bundle.config, number))

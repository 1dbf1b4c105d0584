"""What the nodes ask for is what sampling needs, counted."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from emo_model.config import HALLO, PRESETS
from emo_model.estimate import activation_bytes

FILE = Path(__file__).parents[2] / "benchmarks" / "memory.py"


@pytest.fixture(scope="module")
def memory():
    spec = importlib.util.spec_from_file_location("memory_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_lives_is_counted_once_and_only_while_it_lives(memory):
    weight = torch.zeros(100, device="meta")
    with memory.LiveBytes(weight) as count:
        x = torch.zeros(1000, device="meta")
        y = x.view(10, 100) * weight
        del x
        z = y.t()
        assert count.live == 4000 and count.peak == 8000
        del y, z
        assert count.live == 0


def test_guidance_in_one_batch_needs_more_than_one_half_after_the_other(memory):
    apart, together = (memory.activations(PRESETS["test"], batch_branches=is_one) for is_one in (False, True))
    assert 0 < apart < together < 3 * apart


@pytest.mark.parametrize(
    "config", [PRESETS["builtin"], replace(HALLO, image_size=256, clip_frames=6)], ids=lambda one: one.name
)
def test_the_room_that_is_asked_for_is_enough_and_not_far_too_much(memory, config):
    needed = memory.activations(config)
    assert needed < activation_bytes(config, config.clip_frames + config.motion_frames, 2) < 3 * needed

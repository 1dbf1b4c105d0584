"""Compiling block by block: the same result, once for all clips; without a compiler a warning and the networks as they
were."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace

import pytest
import torch

from emo_model.acceleration.compile import compile_blocks, is_compiled, regions
from emo_model.config import SamplingConfig
from emo_model.sampling.clips import ClipRenderer, generate_clips

BACKEND = "aot_eager"  # traces as the real one does, and calls no C++ compiler


@pytest.fixture(autouse=True)
def forgetful():
    yield
    torch.compiler.reset()


def video(emo, whole) -> torch.Tensor:
    sampling = SamplingConfig(steps=2, audio_guidance=2.5)
    return torch.cat(list(generate_clips(ClipRenderer(emo, whole, sampling))), dim=2)


def test_every_block_of_the_backbone_is_compiled_once_for_all_clips_and_computes_the_same(emo, config, conditions):
    from torch._dynamo.utils import counters

    counters.clear()
    compiled = copy.deepcopy(emo)
    assert compile_blocks(compiled, backend=BACKEND)
    assert all(map(is_compiled, regions(compiled))) and not any(map(is_compiled, regions(emo)))
    whole = conditions(config, frames=3 * config.clip_frames)
    first = replace(whole, audio=replace(whole.audio, frames=whole.audio.frames[: config.clip_frames]))
    video(compiled, first)
    graphs = counters["stats"]["unique_graphs"]
    made = video(compiled, whole)
    assert 5 < graphs == counters["stats"]["unique_graphs"] and not counters["graph_break"]
    exact = video(emo, whole)
    assert (made - exact).abs().max() <= 1e-5 * exact.abs().max()


def test_weights_keep_their_names(emo):
    names = list(emo.state_dict())
    compile_blocks(emo, backend=BACKEND)
    assert list(emo.state_dict()) == names


def test_without_a_compiler_the_log_says_so_and_the_networks_run_as_they_are(emo, config, conditions, caplog):
    def broken(graph, inputs):
        raise RuntimeError("cl is not found")

    with caplog.at_level(logging.WARNING, logger="emo"):
        assert not compile_blocks(emo, backend=broken)
    assert "not compiled" in caplog.text and "cl is not found" in caplog.text
    assert not any(map(is_compiled, regions(emo)))
    assert video(emo, conditions(config, frames=3)).isfinite().all()

"""CUDA graphs: the same numbers, captured once per kind, anew where weights have moved, given up where that must be.

There may be no GPU in a test, so a stand-in captures: it calculates from the very buffers that a GPU would read.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch

from emo_model.acceleration.cuda_graphs import CudaGraphs, capture_steps
from emo_model.checkpoints.random_files import SMALL_HALLO
from emo_model.config import PRESETS, SamplingConfig
from emo_model.inputs.face import box_mask, voice_regions
from emo_model.models.emo import Emo
from emo_model.sampling.clips import ClipRenderer, generate_clips

HOWS = {
    "guided": SamplingConfig(steps=3, audio_guidance=2.5),
    "guided apart": SamplingConfig(steps=3, audio_guidance=2.5, reference_guidance=1.5),
    "guided at first": SamplingConfig(steps=4, audio_guidance=2.5, audio_guidance_end=0.5),
    "unguided": SamplingConfig(steps=2, audio_guidance=1.0),
}


class StandIn:
    """Captures as CUDA does: runs while it captures; a replay reads and writes the buffers of the capture."""

    def __init__(self):
        self.captured = self.replayed = 0

    def __call__(self, run):
        self.captured += 1
        owner, prediction = self, run()

        class Captured:
            def __init__(self):
                self.prediction = prediction

            def replay(self):
                owner.replayed += 1
                self.prediction.copy_(run())

        return Captured()


def video(emo, whole, how, **options) -> torch.Tensor:
    """emo: an Emo, or its graphs."""
    if isinstance(emo, CudaGraphs):
        emo, options = emo.emo, options | {"predict": emo}
    return torch.cat(list(generate_clips(ClipRenderer(emo, whole, how, **options))), dim=2)


@pytest.fixture(params=["test"])
def both(request, awake, conditions, seeded):
    """(a model, the graphs of its twin, what captures, conditions of two clips and a half)"""
    config = replace(SMALL_HALLO, clip_frames=4) if request.param == "hallo" else PRESETS["test"]
    plain, twin = (awake(Emo(config)) for _ in range(2))
    graphed = CudaGraphs(twin, StandIn())
    whole = conditions(config, frames=config.clip_frames * 5 // 2)
    if config.hallo:
        whole = replace(
            whole,
            portrait=replace(whole.portrait, identity=seeded(1, config.hallo.identity_width)),
            face_mask=voice_regions(box_mask(config.image_size, (0.2, 0.2, 0.8, 0.9))),
        )
    return plain, graphed, graphed.capture, whole


RUNS = [*(("test", how, together) for how in HOWS for together in (True, False)), ("hallo", "guided", True)]


@pytest.mark.parametrize(("both", "how", "together"), RUNS, indirect=["both"])
def test_captured_steps_compute_the_same_and_are_captured_once_per_kind_for_all_clips(both, how, together):
    plain, graphed, capture, whole = both
    exact, made = (video(emo, whole, HOWS[how], batch_branches=together) for emo in (plain, graphed))
    assert torch.equal(made, exact)
    kinds = {"guided": 1, "guided apart": 1, "guided at first": 2, "unguided": 1}[how]
    if not together:
        kinds = 1  # branches one by one are of the same shapes, and share a graph
    assert capture.captured == kinds
    assert capture.replayed >= 3 * HOWS[how].steps > capture.captured


def test_what_the_steps_of_a_clip_share_is_copied_once_per_clip(both, monkeypatch):
    _, graphed, capture, whole = both
    copies, copy = [], torch.Tensor.copy_

    def counted(self, *given, **more):
        copies.append(capture.replayed)
        return copy(self, *given, **more)

    monkeypatch.setattr(torch.Tensor, "copy_", counted)
    how = HOWS["guided"]
    video(graphed, whole, how)
    between = [copies.count(number) for number in range(3 * how.steps)]
    first, others = between[how.steps], between[how.steps + 1]
    assert others < 60 and first > 2 * others and between[2 * how.steps] > 2 * others


def test_an_answer_is_not_overwritten_by_the_next_step(both):
    plain, graphed, _, whole = both
    kept = []
    video(
        graphed, whole, HOWS["guided"], on_step=lambda report: kept.append((report.denoised, report.denoised.clone()))
    )
    assert all(torch.equal(now, then) for now, then in kept) and not torch.equal(kept[0][0], kept[1][0])


def test_weights_that_have_moved_are_found_where_they_are(both):
    plain, graphed, capture, whole = both
    how = HOWS["guided"]
    video(graphed, whole, how)
    before = capture.captured
    for emo in (plain, graphed.emo):
        weight = emo.backbone.conv_in.weight
        weight.data = 2 * weight.data
    assert torch.equal(video(graphed, whole, how), video(plain, whole, how)) and capture.captured == 2 * before
    video(graphed, whole, how)
    assert capture.captured == 2 * before


def test_weights_on_another_device_are_not_captured_and_the_log_says_so_once(both, caplog, monkeypatch):
    plain, graphed, capture, whole = both
    monkeypatch.setattr(Emo, "predict", lambda self, noisy, timestep, context: noisy)
    graphed.emo.backbone.conv_out.to("meta")  # as ComfyUI leaves some on the CPU
    with caplog.at_level(logging.WARNING, logger="emo"):
        video(graphed, whole, HOWS["guided"])
        graphed.forget()
        video(graphed, whole, HOWS["guided"])
    assert (
        capture.captured == 0
        and caplog.text.count("not captured as CUDA graphs") == 1
        and "on another device" in caplog.text
    )


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("operation not permitted when stream is capturing"),
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_what_cannot_be_captured_runs_as_it_is(both, caplog, error):
    plain, graphed, capture, whole = both

    def broken(run):
        run()
        raise error

    graphed.capture = broken
    with caplog.at_level(logging.WARNING, logger="emo"):
        made = video(graphed, whole, HOWS["guided"])
    assert torch.equal(made, video(plain, whole, HOWS["guided"]))
    assert caplog.text.count("not captured as CUDA graphs") == 1 and str(error) in caplog.text


def test_a_cancelled_run_is_not_taken_for_one_that_cannot_be_captured(both):
    _, graphed, _, whole = both

    class Cancelled(Exception):
        pass

    def cancelled(run):
        raise Cancelled

    graphed.capture = cancelled
    with pytest.raises(Cancelled):
        video(graphed, whole, HOWS["guided"])


def test_forgotten_graphs_leave_nothing_behind(both):
    _, graphed, capture, whole = both
    video(graphed, whole, HOWS["guided"])
    assert graphed.graphs
    graphed.forget()
    assert not graphed.graphs
    video(graphed, whole, HOWS["guided"])
    assert capture.captured == 2


def test_gradients_pass_as_if_nothing_were_captured(both):
    _, graphed, capture, whole = both
    emo, config = graphed.emo, graphed.emo.config
    reference = emo.encode_reference(whole.portrait.latents, whole.portrait.identity)
    clip = whole.clip(0, clip_frames=config.clip_frames, margin_frames=config.audio_margin_frames)
    context = emo.prepare(reference, None, clip)
    noisy = torch.randn(1, config.latent_channels, config.clip_frames, config.latent_size, config.latent_size)
    graphed(noisy, torch.tensor([500]), emo.cache(context)).sum().backward()
    assert emo.backbone.conv_in.weight.grad is not None and capture.captured == 0


def test_a_device_without_cuda_says_so_and_changes_nothing(emo, caplog):
    with caplog.at_level(logging.WARNING, logger="emo"):
        assert capture_steps(emo, device="cpu") is None
    assert "need a CUDA device" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("how", HOWS)
def test_a_gpu_replays_what_it_would_have_computed(both, how):
    plain, _, _, whole = both
    emo = plain.cuda().to(memory_format=torch.channels_last)
    exact = video(emo, whole, HOWS[how], device="cuda")
    graphs = capture_steps(emo, device="cuda")
    made = video(graphs, whole, HOWS[how], device="cuda")
    assert graphs.graphs and (made - exact).abs().max() <= 1e-4 * exact.abs().max()

from __future__ import annotations

import pytest
import torch

from emo_model.config import SamplingConfig
from emo_model.models.context import Context
from emo_model.sampling.samplers import guided
from emo_model.types import ReferenceFeatures

# what the fake model says with portrait and voice, without the voice, without either
BOTH, DEAF, NOBODY = (7.0, 3.0, 2.0)


class FakeEmo:
    """Sees in its context what was left out, and remembers the branches that it evaluated."""

    def __init__(self):
        self.asked, self.batches = [], 0

    def cache(self, context):
        return context

    def predict(self, noisy, timestep, context):
        self.batches += 1
        assert len(noisy) == len(timestep) == len(context.audio)
        made = {(True, True): BOTH, (True, False): DEAF, (False, False): NOBODY}
        rows = []
        for row, portrait in enumerate(context.reference.features["a"]):
            has = portrait.any().item(), context.audio[row].any().item()
            self.asked.append((*has, timestep[row : row + 1].tolist()))
            rows.append(torch.full_like(noisy[row], made[has]))
        return torch.stack(rows)


def context_of_ones() -> Context:
    portrait = ReferenceFeatures({"a": torch.ones(1, 3, 4)})
    return Context(portrait, motion=None, audio=torch.ones(1, 5, 5, 4), speed=None, face=torch.zeros(1, 4, 1, 2, 2))


def ask(audio: float, reference: float, *, together: bool = True):
    emo = FakeEmo()
    context = context_of_ones()
    sampling = SamplingConfig(audio_guidance=audio, reference_guidance=reference)
    said = guided(emo, context, sampling, batch_branches=together)(torch.zeros(1, 4, 5, 2, 2), 321)
    assert emo.batches == (1 if together else len(emo.asked))
    assert said.shape == (1, 4, 5, 2, 2) and said.unique().numel() == 1
    return said.flatten()[0].item(), emo.asked


@pytest.mark.parametrize(
    ("audio", "reference", "evaluations"), [(1.0, 1.0, 1), (1.5, 1.0, 2), (0.0, 1.0, 2), (1.0, 2.0, 3), (2.5, 1.5, 3)]
)
def test_guidance_adds_its_differences_with_as_few_evaluations_as_it_needs(audio, reference, evaluations):
    said, asked = ask(audio, reference)
    assert said == pytest.approx(NOBODY + reference * (DEAF - NOBODY) + audio * (BOTH - DEAF))
    assert len(asked) == evaluations and len(set(map(str, asked))) == evaluations
    assert ask(audio, reference, together=False) == (said, asked)


def test_scale_one_is_the_model_itself():
    assert ask(1.0, 1.0) == (BOTH, [(True, True, [321])])


def test_audio_guidance_never_asks_without_the_portrait():
    assert [asked[:2] for asked in ask(2.0, 1.0)[1]] == [(True, True), (True, False)]


def scales_asked(**settings) -> list[tuple[float, int]]:
    """(what is said, evaluations) in each of ten steps."""
    config, made = SamplingConfig(steps=10, **settings), []
    context = context_of_ones()
    emo, timesteps = FakeEmo(), list(range(999, 0, -100))
    predict = guided(emo, context, config, timesteps)
    for timestep in timesteps:
        before = len(emo.asked)
        said = predict(torch.zeros(1, 4, 5, 2, 2), timestep).flatten()[0].item()
        made.append((said, len(emo.asked) - before))
    return made


def test_guidance_acts_only_within_its_part_of_the_steps():
    guided_step, plain = (DEAF + 2 * (BOTH - DEAF), 2), (BOTH, 1)
    assert scales_asked(audio_guidance=2.0) == [guided_step] * 10
    middle = scales_asked(audio_guidance=2.0, audio_guidance_start=0.2, audio_guidance_end=0.5)
    assert middle == [plain] * 2 + [guided_step] * 3 + [plain] * 5
    assert scales_asked(audio_guidance=2.0, audio_guidance_start=0.5, audio_guidance_end=0.5) == [plain] * 10


def test_voice_and_portrait_have_intervals_of_their_own():
    audio = {"audio_guidance": 2.0, "audio_guidance_start": 0.0, "audio_guidance_end": 0.6}
    reference = {"reference_guidance": 1.5, "reference_guidance_start": 0.4, "reference_guidance_end": 1.0}
    asked = scales_asked(**audio, **reference)
    assert [evaluations for _, evaluations in asked] == [2] * 4 + [3] * 6
    assert asked[5][0] == pytest.approx(NOBODY + 1.5 * (DEAF - NOBODY) + 2.0 * (BOTH - DEAF))
    assert asked[9][0] == pytest.approx(BOTH + 0.5 * (DEAF - NOBODY))


@pytest.mark.parametrize("interval", [(-0.1, 1.0), (0.0, 1.1), (0.6, 0.5)])
def test_an_interval_that_is_none_is_refused(interval):
    with pytest.raises(ValueError, match="audio_guidance acts in a part of the steps"):
        SamplingConfig(audio_guidance_start=interval[0], audio_guidance_end=interval[1])

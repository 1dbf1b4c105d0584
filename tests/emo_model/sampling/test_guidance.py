from __future__ import annotations

import pytest
import torch

from emo_model.models.context import Context
from emo_model.models.seen import ZEROS
from emo_model.sampling.guidance import guided
from emo_model.types import ReferenceFeatures

BOTH, DEAF, NOBODY = 7.0, 3.0, 2.0  # what the fake model says with portrait and voice, without the voice, without either


class FakeEmo:
    """Tells from its context what was left out, and remembers whom it was asked about."""

    def __init__(self):
        self.asked, self.batches = [], 0

    def project(self, *contexts):
        return contexts

    def predict(self, noisy, timestep, contexts):
        self.batches += 1
        return torch.cat([self.answer(noisy, timestep, context) for context in contexts])

    def answer(self, noisy, timestep, context):
        has_voice, has_portrait = context.audio is not ZEROS, context.reference is not ZEROS
        self.asked.append((has_portrait, has_voice, timestep.tolist()))
        return torch.full_like(noisy, {(True, True): BOTH, (True, False): DEAF, (False, False): NOBODY}[has_portrait, has_voice])


def ask(audio: float, reference: float, *, together: bool = True):
    emo = FakeEmo()
    portrait = ReferenceFeatures({"a": torch.ones(1, 3, 4)})
    context = Context(portrait, motion=None, audio=torch.ones(1, 5, 5, 4), speed=None, face=torch.zeros(1, 4, 1, 2, 2))
    said = guided(emo, context, audio=audio, reference=reference, together=together)(torch.zeros(1, 4, 5, 2, 2), 321)
    assert emo.batches == (1 if together else len(emo.asked))
    assert said.shape == (1, 4, 5, 2, 2) and said.unique().numel() == 1
    return said.flatten()[0].item(), emo.asked


@pytest.mark.parametrize(("audio", "reference", "evaluations"), [
    (1.0, 1.0, 1), (1.5, 1.0, 2), (0.0, 1.0, 2), (1.0, 2.0, 3), (2.5, 1.5, 3)])
def test_guidance_adds_its_differences_with_as_few_evaluations_as_it_needs(audio, reference, evaluations):
    said, asked = ask(audio, reference)
    assert said == pytest.approx(NOBODY + reference * (DEAF - NOBODY) + audio * (BOTH - DEAF))
    assert len(asked) == evaluations and len(set(map(str, asked))) == evaluations
    assert ask(audio, reference, together=False) == (said, asked)


def test_scale_one_is_the_model_itself():
    assert ask(1.0, 1.0) == (BOTH, [(True, True, [321])])


def test_audio_guidance_never_asks_without_the_portrait():
    assert [asked[:2] for asked in ask(2.0, 1.0)[1]] == [(True, True), (True, False)]

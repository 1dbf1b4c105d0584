from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from emo_model.synthetic.revoicing import Person, revoice
from emo_model.synthetic.speech import RATE, Speech

from .test_singing import hum, pitch_of

pytest.importorskip("pyworld", reason="pip install pyworld 'setuptools<81'")

SAME = Person(pitch=120.0)
WOMAN = Person(pitch=230.0)


@pytest.fixture(scope="module")
def speech() -> Speech:
    return hum(120.0)


@pytest.fixture(scope="module")
def woman(speech) -> Speech:
    return revoice(speech, WOMAN, seed=0)


def vowel(speech: Speech, number: int) -> torch.Tensor:
    _, start, end = speech.phonemes[number]
    return speech.waveform[round((start + 0.02) * RATE) : round((end - 0.02) * RATE)]


def centre(sound: torch.Tensor) -> float:
    """Hz around which the power above 400 Hz lies."""
    power = torch.fft.rfft(sound * torch.hann_window(len(sound))).abs().square()
    hertz = torch.linspace(0, RATE / 2, len(power))
    return float((power * hertz)[hertz > 400].sum() / power[hertz > 400].sum())


def test_the_pitch_is_the_persons(woman):
    for number in (1, 3):
        assert pitch_of(vowel(woman, number), 230.0) == pytest.approx(230.0, rel=0.03)


def test_formants_rise_with_the_pitch_and_with_a_shorter_tract(speech, woman):
    own, higher = centre(vowel(speech, 3)), centre(vowel(woman, 3))
    assert higher / own == pytest.approx((230 / 120) ** 0.27, rel=0.05)
    shorter = revoice(speech, replace(SAME, tract=1.15), seed=0)
    assert centre(vowel(shorter, 3)) / own == pytest.approx(1.15, rel=0.05)


def test_times_stay_where_nothing_is_held(speech, woman):
    assert woman.seconds == pytest.approx(speech.seconds, abs=1e-3)
    for (ipa, start, end), (same, new_start, new_end) in zip(speech.phonemes, woman.phonemes, strict=True):
        assert (ipa, start, end) == (same, pytest.approx(new_start), pytest.approx(new_end))


def test_long_sounds_are_held_and_silences_are_not(speech):
    held = revoice(speech, replace(SAME, long=1.0), seed=3)
    for (_, start, end), (_, new_start, new_end) in zip(speech.phonemes, held.phonemes, strict=True):
        assert 1.6 <= (new_end - new_start) / (end - start) <= 2.4
    assert held.phonemes[0][1] == pytest.approx(0.3)
    assert held.seconds - held.phonemes[-1][2] == pytest.approx(0.3, abs=1e-3)
    loud = torch.nn.functional.avg_pool1d(held.waveform.square()[None], 160)[0].sqrt()  # 100 a second
    _, start, end = held.phonemes[1]
    assert loud[round(start * 100) + 3 : round(end * 100) - 3].min() > 0.3 * loud.max()
    assert loud[: round(held.phonemes[0][1] * 100) - 3].max() < 0.1 * loud.max()


def test_the_same_seed_says_the_same(speech):
    person = Person.draw(random.Random(5))
    one, two, other = (revoice(speech, person, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.waveform, two.waveform)
    assert one.phonemes == two.phonemes
    assert one.phonemes != other.phonemes


def test_persons_are_men_women_and_children():
    pitches = [Person.draw(random.Random(seed)).pitch for seed in range(200)]
    assert min(pitches) < 100 and max(pitches) > 300
    assert 0.3 < sum(pitch > 160 for pitch in pitches) / len(pitches) < 0.7

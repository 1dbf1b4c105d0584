from __future__ import annotations

import math
import random
import sys
from dataclasses import replace

import pytest
import torch

from emo_model.synthetic.singing import Melody, Style, compose, sing
from emo_model.synthetic.speech import RATE, Speech
from emo_model.synthetic.visemes import is_vowel

STYLE = Style(
    tonic=220.0, scale=(0, 2, 4, 5, 7, 9, 11), beat=0.5, vibrato=0.0, vibrato_hertz=5.5, drift=0.0, glide=0.02
)


def hum(hertz: float = 120.0) -> Speech:
    """'s', 'a', 's', 'i' and 0.3 s of silence at either end; the vowels are buzzes, 'a' louder at 700 Hz, 'i' at 2300
    Hz."""
    phonemes = (("s", 0.3, 0.4), ("a", 0.4, 0.55), ("s", 0.55, 0.65), ("iː", 0.65, 0.8))
    time = torch.arange(round(1.1 * RATE)) / RATE
    waveform = 1e-3 * torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    for ipa, start, end in phonemes:
        here = slice(round(start * RATE), round(end * RATE))
        if ipa == "s":
            waveform[here] += 0.05 * torch.randn(here.stop - here.start, generator=torch.Generator().manual_seed(1))
            continue
        formant = 700 if ipa == "a" else 2300
        for number in range(1, 30):
            size = 0.02 + 0.2 * math.exp(-(((number * hertz - formant) / 200) ** 2))
            waveform[here] += size * torch.sin(2 * torch.pi * number * hertz * time[here])
    return Speech(waveform, phonemes, "test", "test", "en")


def pitch_of(sound: torch.Tensor, near: float) -> float:
    """Hz of the strongest tone within a fourth of `near`."""
    spectrum = torch.fft.rfft(sound * torch.hann_window(len(sound)), 8 * RATE).abs()
    hertz = torch.arange(len(spectrum)) / 8
    return float(hertz[(spectrum * ((hertz > 0.75 * near) & (hertz < near / 0.75))).argmax()])


def test_vowels_are_held_two_to_eight_times_and_consonants_stay():
    speech = hum()
    for seed in range(20):
        melody = compose(speech, STYLE, random.Random(seed))
        for (ipa, start, end), (_, new_start, new_end) in zip(speech.phonemes, melody.phonemes, strict=True):
            stretch = (new_end - new_start) / (end - start)
            assert (1.99 < stretch < 8.01) if is_vowel(ipa) else (0.89 < stretch < 1.31)


def test_silences_stay_as_long_as_they_were():
    melody = compose(hum(), STYLE, random.Random(0))
    assert melody.phonemes[0][1] == pytest.approx(0.3)
    assert melody.seconds - melody.phonemes[-1][2] == pytest.approx(0.3)


def test_every_vowel_has_its_notes():
    melody = compose(hum(), STYLE, random.Random(3))
    for ipa, start, end in melody.phonemes:
        lengths = [stop - first for first, stop, _ in melody.notes if start - 1e-6 <= first < end - 1e-6]
        assert sum(lengths) == pytest.approx(end - start if is_vowel(ipa) else 0.0)


class TestSung:
    pytest.importorskip("pyworld", reason="pip install pyworld 'setuptools<81'")
    speech = hum()
    melody = Melody(
        (("s", 0.3, 0.4), ("a", 0.4, 1.0), ("s", 1.0, 1.1), ("iː", 1.1, 1.9)),
        ((0.4, 1.0, 220.0), (1.1, 1.5, 330.0), (1.5, 1.9, 165.0)),
        2.2,
    )

    def test_the_sound_is_as_long_as_the_melody(self):
        sung = sing(self.speech, self.melody, STYLE, seed=0)
        assert sung.seconds == pytest.approx(2.2)
        assert sung.phonemes == self.melody.phonemes
        assert sung.sung

    def test_the_pitch_is_that_of_the_notes(self):
        sung = sing(self.speech, self.melody, STYLE, seed=0)
        for start, end, hertz in self.melody.notes:
            middle = sung.waveform[round((start + 0.12) * RATE) : round((end - 0.12) * RATE)]
            assert pitch_of(middle, hertz) == pytest.approx(hertz, rel=0.03)

    def test_a_held_vowel_sounds_from_its_beginning_to_its_end(self):
        """The buzz is loud inside the vowels and nowhere else, to 30 ms; each vowel keeps its own resonance."""
        sung = sing(self.speech, self.melody, STYLE, seed=0).waveform
        loud = torch.nn.functional.avg_pool1d(sung.square()[None], 160)[0].sqrt()  # 100 steps per second
        inside = torch.zeros(len(loud), dtype=torch.bool)
        for ipa, start, end in self.melody.phonemes:
            if is_vowel(ipa):
                inside[round(start * 100) + 3 : round(end * 100) - 3] = True
                assert loud[round(start * 100) + 3 : round(end * 100) - 3].min() > 0.3 * loud[inside].median()
        assert loud[:27].max() < 0.1 * loud[inside].median()
        assert loud[-27:].max() < 0.1 * loud[inside].median()
        for (start, end), formant in (((0.5, 0.9), 700), ((1.6, 1.8), 2300)):
            spectrum = torch.fft.rfft(sung[round(start * RATE) : round(end * RATE)]).abs().square()
            hertz = torch.linspace(0, RATE / 2, len(spectrum))
            near = spectrum[(hertz > formant - 350) & (hertz < formant + 350)].sum()
            assert near > 0.6 * spectrum[hertz > 400].sum()

    def test_the_same_seed_sings_the_same(self):
        one, two, other = (
            sing(self.speech, self.melody, replace(STYLE, drift=0.2), seed=seed).waveform for seed in (0, 0, 1)
        )
        assert torch.equal(one, two)
        assert not torch.equal(one, other)


def test_without_the_vocoder_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyworld", None)
    with pytest.raises(ModuleNotFoundError, match="pip install pyworld"):
        sing(hum(), compose(hum(), STYLE, random.Random(0)), STYLE, seed=0)

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emo_model.synthetic.music import accompaniment, mix, noise_bed, without_voice
from emo_model.synthetic.speech import RATE, Speech
from emo_model.synthetic.visemes import mouth_tracks


def voice() -> Speech:
    """One second of silence, one of a tone as 'a', one of silence."""
    waveform = torch.zeros(3 * RATE)
    waveform[RATE : 2 * RATE] = 0.2 * torch.sin(torch.arange(RATE) * 0.3)
    return Speech(waveform, (("a", 1.0, 2.0),), "test", "test", "en")


@pytest.mark.parametrize("make", [accompaniment, noise_bed])
def test_beds_follow_from_their_seed(make):
    assert torch.equal(make(3, 2.0), make(3, 2.0))
    assert not torch.equal(make(3, 2.0), make(4, 2.0))


@pytest.mark.parametrize("make", [accompaniment, noise_bed])
def test_beds_are_as_long_and_loud_as_said(make):
    for seed in range(12):
        bed = make(seed, 1.5)
        assert bed.shape == (24_000,)
        assert bed.dtype == torch.float32
        assert float(bed.square().mean().sqrt()) == pytest.approx(0.1, rel=1e-3)


def test_accompaniment_has_tones_that_noise_has_not():
    """The strongest twentieth of the spectrum's bins holds most of the power of music with chords."""

    def share(sound: torch.Tensor) -> float:
        power = torch.fft.rfft(sound).abs().square().sort(descending=True).values
        return float(power[: len(power) // 20].sum() / power.sum())

    music = sorted(share(accompaniment(seed, 3.0)) for seed in range(9))
    assert music[4] > 0.8
    assert share(torch.randn(3 * RATE, generator=torch.Generator().manual_seed(0))) < 0.3


@pytest.mark.parametrize("decibels", [-2.0, 5.0, 15.0])
def test_the_voice_lies_so_many_decibels_above_the_bed(decibels):
    speech, bed = voice(), accompaniment(1, 3.0)
    mixed = mix(speech, bed, decibels)
    voice_scale = float(mixed.loudness.max() / mix(speech, bed * 0 + 1e-9, 200.0).loudness.max())
    under = mixed.waveform - voice_scale * speech.waveform
    spoken = (voice_scale * speech.waveform)[RATE : 2 * RATE].square().mean()
    assert float(10 * (spoken / under.square().mean()).log10()) == pytest.approx(decibels, abs=0.05)


def test_a_mix_never_exceeds_full_scale():
    loud = replace(voice(), waveform=voice().waveform * 4)
    assert mix(loud, accompaniment(2, 3.0), -2.0).waveform.abs().max() <= 0.951


def test_the_mouth_is_that_of_the_voice_alone():
    speech = voice()
    mixed = mouth_tracks(mix(speech, noise_bed(5, 3.0), 0.0))
    torch.testing.assert_close(mixed, mouth_tracks(speech), atol=0.03, rtol=0)


def test_where_nobody_speaks_the_mouth_is_shut():
    assert mouth_tracks(without_voice(accompaniment(0, 2.0))).abs().max() == 0


def test_a_bed_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="make a longer one"):
        mix(voice(), accompaniment(0, 2.0), 5.0)

from __future__ import annotations

import pytest
import torch

from emo_model.synthetic.speech import RATE, Speech
from emo_model.synthetic.visemes import mouth_tracks, visemes, voiced_energy

OPENING, WIDTH, CLOSURE, TUCK = range(4)


def say(*sounds: tuple[str, float], loudness: float = 0.2) -> Speech:
    """Steady noise for sounds given as (IPA, seconds); '' is silence."""
    now, phonemes, pieces = 0.0, [], []
    generator = torch.Generator().manual_seed(0)
    for ipa, seconds in sounds:
        noise = torch.randn(round(seconds * RATE), generator=generator)
        pieces.append(noise * (loudness if ipa else 0.0))
        if ipa:
            phonemes.append((ipa, now, now + seconds))
        now += seconds
    return Speech(torch.cat(pieces), tuple(phonemes), "test", "test", "en")


@pytest.mark.parametrize("consonant", ["p", "b", "m"])
@pytest.mark.parametrize("shift", [0.0, 0.01, 0.02, 0.03])
def test_lips_close_within_a_frame_even_for_short_sounds(consonant, shift):
    tracks = mouth_tracks(say(("", 0.4 + shift), ("a", 0.2), (consonant, 0.05), ("a", 0.2), ("", 0.4)))
    frame = int((0.6 + shift + 0.025) * 25)
    assert tracks[frame - 1 : frame + 2, CLOSURE].max() > 0.98
    assert tracks[frame - 1 : frame + 2, OPENING].min() < 0.03


def test_a_vowel_between_two_closures_opens_the_mouth():
    tracks = mouth_tracks(say(("m", 0.08), ("a", 0.16), ("m", 0.08), ("a", 0.16), ("", 0.2)))
    assert tracks[2:5, OPENING].max() > 0.5


def test_silence_is_a_closed_mouth_at_rest():
    tracks = mouth_tracks(say(("", 1.0), ("a", 0.3), ("i", 0.3), ("", 1.0)))
    assert tracks[:20].abs().max() < 1e-3
    assert tracks[-18:].abs().max() < 0.01


def test_f_and_v_tuck_the_lower_lip():
    for ipa in "fv":
        tracks = mouth_tracks(say(("", 0.2), ("a", 0.2), (ipa, 0.09), ("a", 0.2), ("", 0.2)))
        assert tracks[:, TUCK].max() > 0.95
        assert tracks[:, CLOSURE].max() == 0


def test_ee_is_spread_and_oo_is_rounded():
    assert mouth_tracks(say(("iː", 0.4)))[:, WIDTH].max() > 0.7
    assert mouth_tracks(say(("uː", 0.4)))[:, WIDTH].min() < -0.7


def test_ah_is_wider_open_than_ee_and_oo():
    ah, ee, oo = (mouth_tracks(say((ipa, 0.4)))[5, OPENING] for ipa in ("ɑː", "iː", "uː"))
    assert ah > 0.8
    assert max(ee, oo) < 0.5


def test_louder_is_wider():
    speech = say(("a", 0.5), ("a", 0.5))
    speech.waveform[: RATE // 2] *= 0.2
    tracks = mouth_tracks(speech)
    assert tracks[6, OPENING] < 0.8 * tracks[18, OPENING]


def test_a_diphthong_passes_through_both_vowels():
    assert visemes("aɪ") == (*visemes("a"), *visemes("ɪ"))
    tracks = mouth_tracks(say(("aɪ", 0.4)))
    assert tracks[1, OPENING] > tracks[8, OPENING] + 0.2


@pytest.mark.parametrize(("fps", "frames"), [(25.0, 30), (24.0, 29), (30.0, 36), (60.0, 72), (0.1, 1)])
def test_as_many_frames_as_the_seconds_hold(fps, frames):
    speech = say(("a", 1.2))
    assert mouth_tracks(speech, fps=fps).shape == (frames, 4)
    assert voiced_energy(speech, fps=fps).shape == (frames,)


def test_the_same_movement_at_any_frame_rate():
    speech = say(("", 0.3), ("a", 0.3), ("m", 0.1), ("u", 0.3), ("", 0.2))
    torch.testing.assert_close(mouth_tracks(speech, fps=75.0)[1::3], mouth_tracks(speech, fps=25.0), rtol=0, atol=1e-5)


def test_tracks_stay_in_their_range():
    tracks = mouth_tracks(
        say(("a", 0.3), ("p", 0.1), ("i", 0.2), ("u", 0.2), ("f", 0.1), ("?", 0.1), loudness=0.9), fps=100.0
    )
    assert tracks[:, [OPENING, CLOSURE, TUCK]].min() >= 0
    assert tracks.abs().max() <= 1


def test_voiced_energy_is_high_in_speech_and_nothing_in_silence():
    energy = voiced_energy(say(("", 1.0), ("a", 1.0), ("", 1.0)))
    assert energy[30:45].min() > 0.6
    assert energy[:20].max() < 0.01
    assert energy[56:].max() < 0.01

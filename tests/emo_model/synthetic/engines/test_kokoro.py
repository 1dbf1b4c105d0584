"""Kokoro's voices: phonemes from its symbols and durations, and, where the engine is installed, that it speaks."""

import pytest
import torch

from emo_model.synthetic import speech, voices
from emo_model.synthetic.engines import kokoro


def _phonemes(symbols, lengths):
    ends = torch.tensor([0.0, *lengths]).cumsum(0).tolist()
    return kokoro._phonemes(list(symbols), list(zip(ends[:-1], ends[1:], strict=True)))


def test_stress_and_length_belong_to_the_vowel():
    assert _phonemes("bˈiːt", (0.1, 0.05, 0.1, 0.05, 0.1)) == [
        ("b", 0.0, pytest.approx(0.1)),
        ("iː", pytest.approx(0.1), pytest.approx(0.3)),
        ("t", pytest.approx(0.3), pytest.approx(0.4)),
    ]


def test_a_space_is_shared_and_punctuation_is_silent():
    marks = _phonemes("m m, m", (0.1, 0.1, 0.1, 0.2, 0.1, 0.1))
    assert [label for label, _, _ in marks] == ["m", "m", "m"]
    assert marks[0][2] == marks[1][1] == pytest.approx(0.15)  # half of the space each
    assert marks[2][1] - marks[1][2] == pytest.approx(0.25)  # the comma, and the half of the space next to it


def test_diphthongs_come_back_in_ipa():
    assert [label for label, _, _ in _phonemes("AIʤ", (0.1, 0.1, 0.1))] == ["eɪ", "aɪ", "dʒ"]


def test_without_its_files_it_is_not_offered(monkeypatch):
    monkeypatch.delenv("EMO_KOKORO", raising=False)
    assert kokoro.speakers() == () and "kokoro" not in speech.available_engines()
    with pytest.raises(RuntimeError, match="needs kokoro"):
        speech.synthesize("Hello.", "kokoro:en-us+af_heart")
    with pytest.raises(RuntimeError, match="vocab.json"):
        kokoro.speak_ipa("həlˈoʊ", "af_heart")


def test_held_out_voices_take_part_in_no_blend():
    names = [voice for _, group in voices.TRAINING_VOICES for voice in group if voice.startswith("kokoro:")]
    used = {part for name in names for part in name.partition("+")[2].split("~")}
    assert not any(voices.is_held_out(name) for name in names)
    assert not used & {"af_bella", "bm_george", "ff_siwis", "am_puck"} and len(used) > 40


@pytest.mark.skipif(kokoro.folder() is None, reason="EMO_KOKORO names no folder with Kokoro's files")
def test_it_speaks_between_two_voices():
    said = speech.synthesize("My baby, maybe.", f"kokoro:en-us+{'~'.join(kokoro.speakers()[:2])}")
    assert said.engine == "kokoro" and said.language == "en" and 0.5 < said.seconds < 5
    assert [ipa for ipa, _, _ in said.phonemes if ipa[0] in "bm"] == ["m", "b", "b", "m", "b"]
    loud = said.waveform.abs()
    start, end = (round(at * speech.RATE) for at in (said.phonemes[0][1], said.phonemes[-1][2]))
    assert loud[start:end].mean() > 5 * loud[end:].mean()

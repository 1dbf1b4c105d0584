"""RHVoice's voices: phonemes from the lines that its program prints, and that it is called as it wants to be."""

import pytest

from emo_model.synthetic import speech, voices
from emo_model.synthetic.engines import rhvoice


def test_sentences_follow_one_another():
    lines = "pau 0 240 24000\nm 240 240 24000\nay 480 720 24000\npau 0 2400 24000\nb 2400 1200 24000\n"
    marks = rhvoice.read_labels(lines, {"m": "m", "ay": "aɪ", "b": "b"})
    assert marks == [
        ("", 0.0, pytest.approx(0.01)),
        ("m", pytest.approx(0.01), pytest.approx(0.02)),
        ("aɪ", pytest.approx(0.02), pytest.approx(0.05)),
        ("", pytest.approx(0.05), pytest.approx(0.15)),
        ("b", pytest.approx(0.15), pytest.approx(0.20)),
    ]


def test_without_its_program_it_is_not_offered(monkeypatch):
    monkeypatch.delenv("EMO_RHVOICE", raising=False)
    assert "rhvoice" not in speech.available_engines()
    with pytest.raises(RuntimeError, match="needs rhvoice"):
        speech.synthesize("Hello.", "rhvoice:clb")


def test_no_voice_is_held_out():
    assert not any(voices.is_held_out(f"rhvoice:{name}") for name in rhvoice.LANGUAGES)
    assert voices.is_held_out("rhvoice:slt") and "slt" not in rhvoice.LANGUAGES


def test_an_unknown_label_is_told():
    with pytest.raises(ValueError, match="phoneme 'zz' has no name"):
        rhvoice.read_labels("pau 0 240 24000\nzz 240 240 24000\n", {"m": "m"})


def test_it_calls_the_program(speaks):
    speaks(
        "EMO_RHVOICE",
        "voice, rate, text = arguments\n"
        "if voice == 'magda': sys.exit('no such voice')\n"
        "print('pau 0 12000 24000\\nsi 12000 6000 24000\\non 18000', round(3000 * float(rate)), 24000)",
    )
    said = speech.synthesize("Się.", "rhvoice:natan", rate=2.0)
    assert (said.engine, said.language, said.seconds) == ("rhvoice", "pl", 1.0)
    assert said.phonemes == (("ɕ", 0.5, 0.75), ("ɔ", 0.75, 1.0))
    with pytest.raises(RuntimeError, match="failed: no such voice"):
        speech.synthesize("Się.", "rhvoice:magda")
    with pytest.raises(ValueError, match="'slt' is not used here; choose from clb"):
        speech.synthesize("No.", "rhvoice:slt")

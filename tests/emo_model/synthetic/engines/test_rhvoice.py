"""RHVoice's voices: phonemes from the lines that its program prints, and that it is called as it wants to be."""

import os
import sys

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


@pytest.mark.skipif(os.name == "nt", reason="the program of this test is a script with a first line that names Python")
def test_it_calls_the_program(monkeypatch, tmp_path):
    program = tmp_path / "rhvoice-labels"
    program.write_text(
        f"#!{sys.executable}\n"
        "import sys, wave\n"
        "voice, rate, text, file = sys.argv[1:]\n"
        "if voice == 'magda': sys.exit('no such voice')\n"
        "sound = wave.open(file, 'wb')\n"
        "sound.setnchannels(1), sound.setsampwidth(2), sound.setframerate(24000)\n"
        "sound.writeframes(bytes(2 * 24000)), sound.close()\n"
        "print('pau 0 12000 24000\\nsi 12000 6000 24000\\non 18000', round(3000 * float(rate)), 24000)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("EMO_RHVOICE", str(program))
    said = speech.synthesize("Się.", "rhvoice:natan", rate=2.0)
    assert (said.engine, said.language, said.seconds) == ("rhvoice", "pl", 1.0)
    assert said.phonemes == (("ɕ", 0.5, 0.75), ("ɔ", 0.75, 1.0))
    with pytest.raises(RuntimeError, match="rhvoice-labels failed: no such voice"):
        speech.synthesize("Się.", "rhvoice:magda")

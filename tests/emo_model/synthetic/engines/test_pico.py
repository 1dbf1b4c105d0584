"""Pico's voices: phonemes from the frames that its program prints, and that it is called as it wants to be."""

import pytest

from emo_model.synthetic import speech
from emo_model.synthetic.engines import pico
from emo_model.synthetic.visemes import visemes

TABLE = {"0": "", "1": "_", "2": "p", "3": "aː", "4": "m", "5": "tʃ"}


def _read(numbers: str) -> list[tuple[str, int, int]]:
    frames = pico.read_frames(numbers.split(), TABLE)
    return [(ipa, *(round((at - pico.LATE) / pico.FRAME) for at in span)) for ipa, *span in frames]


def test_a_closure_belongs_to_its_burst():
    assert _read("0 0 1 1 1 2 3 3 1 5 5 0") == [("", 0, 2), ("p", 2, 6), ("aː", 6, 8), ("tʃ", 8, 11), ("", 11, 12)]


def test_a_closure_without_a_burst_belongs_to_the_sound_before():
    assert _read("3 3 1 1 4") == [("aː", 0, 4), ("m", 4, 5)]


def test_an_unknown_number_is_told():
    with pytest.raises(ValueError, match="phoneme 9 at 0.01 s"):
        pico.read_frames("0 0 9".split(), TABLE)


def test_every_name_has_a_mouth():
    names = {ipa for table in pico.PHONEMES.values() for ipa in table.values()} - {"", "_"}
    assert len(names) > 60 and all(visemes(ipa) for ipa in names)


def test_without_its_program_it_is_not_offered(monkeypatch):
    monkeypatch.delenv("EMO_PICO", raising=False)
    assert "pico" not in speech.available_engines()
    with pytest.raises(RuntimeError, match="needs pico"):
        speech.synthesize("Hello.", "pico:en-GB")


def test_it_calls_the_program(speaks):
    speaks(
        "EMO_PICO",
        "language, text = arguments\n"
        "assert text == '<speed level=\"110\">b &amp; b</speed>', text\n"
        "if language == 'de-DE': sys.exit('no such language')\n"
        "print('87 ' * 100 + '89 ' * 10 + '56 ' * 5 + '65 ' * 40)",
    )
    said = speech.synthesize("b & b", "pico:en-US", rate=1.1)
    assert (said.engine, said.language, said.seconds) == ("pico", "en", 1.0)
    late = pico.LATE
    assert said.phonemes == (
        ("b", pytest.approx(0.40 + late), pytest.approx(0.46 + late)),
        ("iː", pytest.approx(0.46 + late), pytest.approx(0.62 + late)),
    )
    with pytest.raises(RuntimeError, match="failed: no such language"):
        speech.synthesize("b & b", "pico:de-DE", rate=1.1)
    with pytest.raises(ValueError, match="does not speak 'fi-FI'; choose from en-US"):
        speech.synthesize("b", "pico:fi-FI")

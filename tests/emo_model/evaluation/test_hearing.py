from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from emo_model.auxiliary.audio_encoder import AudioEncoder
from emo_model.checkpoints.native import write_tensors
from emo_model.config import AudioEncoderConfig
from emo_model.evaluation.hearing import CONDITIONS, conditioned, load_encoder, measure_hearing, table
from emo_model.synthetic.speech import RATE, Speech
from emo_model.synthetic.visemes import mouth_tracks

SMALL = AudioEncoderConfig(mel_bands=16, width=16, blocks=2, features=8)


def spoken(language: str = "en") -> Speech:
    """1.5 s of silence, then 'apa' with vowels of 0.3 s."""
    waveform = 1e-4 * torch.randn(round(3.0 * RATE), generator=torch.Generator().manual_seed(0))
    phonemes = (("a", 1.5, 1.8), ("p", 1.8, 1.9), ("a", 1.9, 2.2))
    for ipa, start, end in phonemes:
        if ipa == "a":
            here = slice(round(start * RATE), round(end * RATE))
            waveform[here] += 0.3 * torch.sin(0.2 * torch.arange(here.stop - here.start))
    return Speech(waveform, phonemes, "test", "test", language)


class Oracle:
    """Reads the truth, changed by `change`."""

    def __init__(self, speech: Speech, change=lambda tracks: tracks):
        self.tracks = change(mouth_tracks(speech, fps=50))

    def __call__(self, waveform):
        return self.tracks[None]

    def mouth(self, features):
        return features


def test_a_perfect_reading_has_full_marks():
    hearing = measure_hearing(Oracle(spoken()), [spoken()])
    assert [hearing.r[track] for track in ("opening", "closure")] == pytest.approx([1.0, 1.0])
    assert (hearing.gain, hearing.closures, hearing.shut) == pytest.approx((1.0, 1.0, 1.0))


def test_half_as_much_opening_is_a_gain_of_one_half():
    hearing = measure_hearing(Oracle(spoken(), lambda tracks: 0.5 * tracks), [spoken()])
    assert hearing.gain == pytest.approx(0.5)
    assert hearing.r["opening"] == pytest.approx(1.0)


def test_a_mouth_that_never_closes_misses_closures_and_pauses():
    hearing = measure_hearing(Oracle(spoken(), lambda tracks: tracks * torch.tensor([1.0, 1, 0, 1]) + 0.2), [spoken()])
    assert (hearing.closures, hearing.shut) == (0.0, 0.0)


def test_conditions_change_what_is_under_the_voice_and_not_its_mouth():
    clips = {name: conditioned(name, [spoken(), spoken("fi")], [spoken()]) for name in CONDITIONS}
    assert [len(clips[name]) for name in CONDITIONS] == [2, 1, 1, 2, 1, 2, 2, 1]
    clean, loud = clips["spoken"][0], clips["spoken, music 5 dB"][0]
    assert not torch.allclose(clean.waveform, loud.waveform, atol=0.01)
    torch.testing.assert_close(mouth_tracks(loud), mouth_tracks(clean), atol=0.03, rtol=0)
    assert mouth_tracks(clips["music alone"][0]).abs().max() == 0


def test_a_table_has_a_row_for_each_encoder_and_condition():
    hearing = measure_hearing(Oracle(spoken()), [spoken()])
    rows = table({"spoken": {"old": hearing, "new": hearing}, "sung": {"old": hearing, "new": hearing}}).splitlines()
    assert len(rows) == 2 + 4
    assert rows[2].startswith("| spoken | old | 1.000 |")


def test_an_encoder_in_a_file_of_its_own_is_read_with_its_config(tmp_path):
    encoder = AudioEncoder(SMALL).eval()
    write_tensors(
        tmp_path / "encoder.safetensors", encoder.state_dict(), {"encoder": json.dumps(dataclasses.asdict(SMALL))}
    )
    again = load_encoder(tmp_path / "encoder.safetensors")
    assert again.config == SMALL
    sound = spoken().waveform[None]
    assert torch.equal(again(sound), encoder(sound))

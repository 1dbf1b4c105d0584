"""Several voices: which face hears which sound, and the mix."""

from __future__ import annotations

import wave

import numpy as np
import pytest
import torch
from videos import tone

from emo_model.inputs.audio import SoundFile, encode_lazily
from emo_model.inputs.voice_schedule import VoiceSchedule
from emo_model.inputs.voices import MixedSound, Voice, assign, encode_voice, soundtrack

A, B = (tone(1.0, 16_000), 16_000), (tone(0.5, 44_100, channels=2), 44_100)


def test_each_face_hears_its_own_sound_and_the_faces_beyond_hear_nothing():
    first, second, third = assign("ABC", [A, B])
    assert first.sound is A and second.sound is B and third.sound is None
    assert second.begin == 0 and second.seconds == 0.5 and third.seconds == 0
    assert len(third.heard(0.3)) == 4800 and not third.heard(0.3).any()
    assert [voice.sound for voice in assign("AB", [None, A])] == [None, A]


def test_in_turn_each_sound_starts_where_the_one_before_ends():
    voices = assign("ABC", [A, None, B], in_turn=True)
    assert [(voice.begin, voice.seconds) for voice in voices] == [(0, 1), (0, 0), (1, 1.5)]
    heard = voices[2].heard(2.0)
    assert not heard[:16_000].any() and heard[16_100:23_900].std() > 0.3 and not heard[24_100:].any()


def test_one_sound_with_a_schedule_is_that_of_the_faces_named_in_their_intervals_only():
    voices = assign("ABC", [A], schedule=VoiceSchedule.parse("0-0.4 A; 0.3-0.8 C"))
    assert [voice.sound is A for voice in voices] == [True, False, True]
    one, other = voices[0].heard(1.0), voices[2].heard(1.0)
    whole = Voice(A).heard(1.0)
    assert not one[6400:].any() and not other[:4800].any() and not other[12_800:].any()
    assert torch.equal(one[1000:5900], whole[1000:5900]) and torch.equal(other[5400:12_000], whole[5400:12_000])


@pytest.mark.parametrize(
    ("voice", "silent"),
    [
        (Voice(), ((0, 3),)),
        (Voice(A), ((1, 3),)),
        (Voice(A, begin=1.5), ((0, 1.5), (2.5, 3))),
        (Voice(A, begin=2.5), ((0, 2.5),)),
        (Voice(A, spans=((0.2, 0.5), (0.7, float("inf")))), ((0, 0.2), (0.5, 0.7), (1, 3))),
        (Voice(A, spans=((2, 2.5),)), ((0, 3),)),
    ],
)
def test_a_voice_is_silent_outside_of_what_is_heard_of_it(voice, silent):
    assert voice.silent(3.0) == silent


@pytest.mark.parametrize(
    ("letters", "sounds", "how", "says"),
    [
        ("A", [A, B], {}, "there are 2 voices for 1 face: A; leave some out"),
        ("AB", [None, None], {}, "there is no voice"),
        ("AB", [A], {"schedule": "0-1 A; 1-2 D"}, "the schedule names D, but there are 2 faces: A, B"),
        ("AB", [A, B], {"schedule": "0-1 A"}, "face B has a voice, but the schedule never names B"),
        ("AB", [A, B], {"schedule": "0-1 A; 0-1 B", "in_turn": True}, "drop one of both"),
    ],
)
def test_a_voice_without_a_face_and_a_face_that_is_not_there_are_named(letters, sounds, how, says):
    if "schedule" in how:
        how = {**how, "schedule": VoiceSchedule.parse(how["schedule"])}
    with pytest.raises(ValueError, match=says):
        assign(letters, sounds, **how)


def test_one_sound_stays_as_it_is_and_several_are_summed_at_the_highest_rate(tmp_path):
    assert soundtrack(assign("AB", [A], schedule=VoiceSchedule.parse("0-1 A; 0-1 B"))) is A
    mixed = soundtrack(assign("AB", [A, B], in_turn=True))
    waveform, rate = mixed.waveform()
    assert (rate, mixed.channels, mixed.samples, waveform.shape) == (44_100, 2, 66_150, (2, 66_150))
    assert torch.equal(waveform[:, 44_100:], B[0])
    expected = 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(44_100) / 44_100)
    assert (waveform[:, 200:43_900] - expected[200:43_900]).abs().max() < 0.02  # resampled from 16 kHz
    both, _ = MixedSound([Voice(A), Voice((A[0], 16_000))]).waveform()
    assert both.max() == 1 and torch.allclose(both, (2 * A[0]).clamp(-1, 1), atol=1e-6)


def test_files_are_read_block_by_block_as_waveforms_are(tmp_path):
    path = tmp_path / "voice.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((A[0][0].numpy() * 32767).astype(np.int16).tobytes())
    file = SoundFile(path)
    spans = ((0.2, 0.5),)
    torch.testing.assert_close(Voice(file, spans=spans).heard(1.2), Voice(A, spans=spans).heard(1.2), atol=1e-4, rtol=0)
    mixed = MixedSound([Voice(file), Voice(B, begin=0.25)])
    assert mixed.samples == 44_100 and sum(block.shape[1] for block in mixed.blocks()) == 44_100


def test_a_voice_alone_and_throughout_has_the_features_of_the_single_face(bundle):
    alone = encode_lazily(bundle.audio_encoder, A, fps=25.0)
    voice = encode_voice(bundle.audio_encoder, Voice(A), fps=25.0, seconds=1.0)
    frames = torch.arange(25)
    assert len(voice.frames) == 25 and torch.equal(voice.frames[frames], alone.frames[frames])

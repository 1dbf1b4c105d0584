from __future__ import annotations

import random

import pytest
import torch

from emo_model.synthetic import speech as synthetic
from emo_model.synthetic.engines import festival
from emo_model.synthetic.sentences import LANGUAGES, sentence
from emo_model.synthetic.speech import (
    RATE,
    Speech,
    add_noise,
    change_speed,
    insert_silence,
    sample_speech,
    synthesize,
    tilt,
    warp_vocal_tract,
)
from emo_model.synthetic.voices import HELD_OUT_VOICES, TRAINING_VOICES, is_held_out, language_of

needs_espeak = pytest.mark.skipif("espeak" not in synthetic.available_engines(), reason="pip install espeakng-loader")


def needs(voice: str):
    return pytest.mark.skipif(voice not in synthetic.available_voices(), reason=f"the voice {voice} is not installed")


@pytest.fixture
def bursts() -> Speech:
    """Three buzzing sounds at known times in silence."""
    spans = ((0.5, 0.7), (1.0, 1.1), (1.5, 1.9))
    waveform = torch.zeros(2 * RATE)
    buzz = 0.3 * torch.sign(torch.sin(2 * torch.pi * 120 * torch.arange(2 * RATE) / RATE))
    for start, end in spans:
        waveform[round(start * RATE) : round(end * RATE)] = buzz[round(start * RATE) : round(end * RATE)]
    return Speech(waveform, tuple(("a", start, end) for start, end in spans), "test", "test", "en")


def heard_spans(speech: Speech) -> list[tuple[float, float]]:
    """Where it sounds: runs of 10 ms above a tenth of the loudest."""
    level = speech.waveform[: len(speech.waveform) // 160 * 160].unflatten(0, (-1, 160)).square().mean(1).sqrt()
    loud = (level > 0.1 * level.max()).int()
    edges = torch.diff(loud, prepend=torch.zeros(1), append=torch.zeros(1))
    starts, ends = ((edges == step).nonzero().flatten() / 100 for step in (1, -1))
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


@pytest.mark.parametrize(
    "change",
    [
        lambda speech: change_speed(speech, 1.25),
        lambda speech: change_speed(speech, 0.8),
        lambda speech: warp_vocal_tract(speech, 1.2),
        lambda speech: warp_vocal_tract(speech, 0.85),
        lambda speech: tilt(speech, 4.0),
        lambda speech: add_noise(speech, 30.0, seed=0, colour=-3.0),
        lambda speech: insert_silence(speech, 0.8, 0.33),
    ],
)
def test_what_is_done_to_speech_keeps_its_phonemes_in_place(bursts, change):
    changed = change(bursts)
    told = [(start, end) for _, start, end in changed.phonemes]
    heard = heard_spans(changed)
    assert len(heard) == 3
    torch.testing.assert_close(torch.tensor(heard), torch.tensor(told), rtol=0, atol=0.025)


def test_twice_as_fast_is_half_as_long(bursts):
    assert change_speed(bursts, 2.0).seconds == pytest.approx(1.0)


def test_a_shorter_vocal_tract_raises_the_formants_and_not_the_pitch():
    time = torch.arange(RATE) / RATE
    buzz = sum(
        torch.exp(torch.tensor(-(((harmonic * 120 - 1000) / 250) ** 2)))
        * torch.cos(2 * torch.pi * 120 * harmonic * time)
        for harmonic in range(1, 40)
    )  # a formant at 1000 Hz
    speech = Speech(0.1 * buzz, (), "test", "test", "en")
    strength = torch.fft.rfft(warp_vocal_tract(speech, 1.2).waveform).abs()
    assert int(strength.argmax()) % 120 == 0  # bins are 1 Hz: still harmonics of 120
    assert abs(int(strength.argmax()) - 1200) <= 120


def test_noise_has_the_asked_level(bursts):
    added = add_noise(bursts, 12.0, seed=0).waveform - bursts.waveform
    ratio = bursts.waveform.square().mean() / added.square().mean()
    assert float(10 * ratio.log10()) == pytest.approx(12.0, abs=0.1)


@needs_espeak
@pytest.mark.parametrize("voice", ["espeak:en-us+f2", "espeak:de+klatt", "espeak:pl"])
def test_espeak_tells_when_it_says_what(voice):
    check(synthesize("Mama, buy a pie.", voice))


@needs("flite:rms")
def test_flite_tells_when_it_says_what():
    check(synthesize("Mama, buy a pie.", "flite:rms"))


@needs("festival:cmu_us_slt_arctic_hts")
def test_festival_tells_when_it_says_what():
    check(synthesize("Mama, buy a pie.", "festival:cmu_us_slt_arctic_hts"))


def check(speech: Speech):
    said = "".join(ipa for ipa, _, _ in speech.phonemes)
    assert said.count("m") == 2
    assert speech.waveform.ndim == 1
    assert speech.waveform.dtype == torch.float32
    assert 0.8 < speech.seconds < 4
    ends = [0.0]
    for _, start, end in speech.phonemes:
        assert start >= ends[-1] - 1e-9
        assert end > start
        ends.append(end)
    assert ends[-1] <= speech.seconds
    spoken = torch.zeros(len(speech.waveform), dtype=torch.bool)
    for _, start, end in speech.phonemes:
        spoken[round(start * RATE) : round(end * RATE)] = True
    energy = speech.waveform.square()
    assert energy[spoken].sum() > 0.97 * energy.sum()  # sound is where phonemes are


def test_held_out_voices_and_training_voices_share_none():
    assert not any(is_held_out(voice) for _, group in TRAINING_VOICES for voice in group)
    assert all(is_held_out(voice) for _, group in HELD_OUT_VOICES for voice in group)
    assert is_held_out("piper:joe")


@needs_espeak
def test_training_never_hears_a_held_out_voice():
    voices = {sample_speech(seed, 0.5).voice for seed in range(25)}
    assert len(voices) > 10
    assert not any(is_held_out(voice) for voice in voices)


@needs_espeak
def test_measuring_hears_held_out_voices_only():
    assert all(is_held_out(sample_speech(seed, 0.5, held_out=True).voice) for seed in range(8))


@needs_espeak
def test_the_same_seed_says_the_same():
    one, two, other = (sample_speech(seed, 2.0) for seed in (5, 5, 6))
    assert one.voice == two.voice
    assert [ipa for ipa, _, _ in one.phonemes][:-1] == [ipa for ipa, _, _ in two.phonemes][: len(one.phonemes) - 1]
    assert [ipa for ipa, _, _ in one.phonemes] != [ipa for ipa, _, _ in other.phonemes]


@needs_espeak
def test_a_sample_is_as_long_as_asked_and_does_not_clip():
    speech = sample_speech(1, 3.0)
    assert len(speech.waveform) == 3 * RATE
    assert speech.waveform.abs().max() <= 1
    assert speech.phonemes[-1][2] <= 3.0


def test_without_an_engine_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(synthetic, "available_engines", lambda: ())
    monkeypatch.setattr(synthetic, "available_voices", lambda: frozenset())
    with pytest.raises(RuntimeError, match="pip install espeakng-loader"):
        sample_speech(0, 1.0)
    with pytest.raises(RuntimeError, match="pip install espeakng-loader"):
        synthesize("hello", "espeak:en-us")


def test_an_unknown_voice_is_refused():
    with pytest.raises(ValueError, match="telephone"):
        synthesize("hello", "telephone")


def test_every_language_of_a_voice_has_sentences():
    assert {language_of(voice) for _, group in TRAINING_VOICES + HELD_OUT_VOICES for voice in group} <= set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_vary(language):
    choose = random.Random(0)
    assert len({sentence(choose, language) for _ in range(50)}) > 35


@pytest.mark.parametrize(
    "language, labels, ipa",
    [
        ("ru", "m oo j b r aa t", "m o j b r a t"),
        ("ru", "ll uu bb ae t nn sch ur", "l u b ɪ t n ɕ u"),
        ("hi", "p aa n ch m iy T h eh", "p a n tʃ m i ʈ h e"),
        ("it", "tS i a o1", "tʃ i a o"),
        ("en", "ch iy", "tʃ iː"),
    ],
)
def test_labels_of_festivals_languages_become_ipa(language, labels, ipa):
    assert [festival.to_ipa(label, language) for label in labels.split()] == ipa.split()


def test_pauses_of_festival_are_no_sounds():
    assert {festival.to_ipa(label, language) for language in ("ru", "hi", "it", "en") for label in ("pau",)} == {""}


def test_recorded_voices_stand_for_more_speakers_than_made_ones():
    choose = random.Random(0)
    made, recorded = (
        torch.tensor([synthetic._another_speaker(choose, is_one_of_few=few) for _ in range(400)]).log()
        for few in (False, True)
    )
    assert recorded[:, 0].std() > 2 * made[:, 0].std()
    assert recorded.sum(1).std() < recorded[:, 0].std()  # pitch is moved further than formants
    assert recorded[:, 0].min() >= -0.401 and recorded[:, 0].max() <= 0.501

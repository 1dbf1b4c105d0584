from __future__ import annotations

import pytest
import torch

from emo_model.synthetic import speech as synthetic
from emo_model.synthetic.speech import RATE, sample_speech
from emo_model.synthetic.speech_library import Mixture, SpeechLibrary, cut, prepare_speech, sample_clip
from emo_model.synthetic.visemes import mouth_tracks
from emo_model.synthetic.voices import is_held_out

pytestmark = pytest.mark.skipif("espeak" not in synthetic.available_engines(), reason="pip install espeakng-loader")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return prepare_speech(tmp_path_factory.mktemp("speech"), minutes=0.2, seed=3, clip_seconds=4.0)


def test_prepared_speech_is_small(folder):
    # bytes for 12 seconds, and the names of the voices
    assert sum(file.stat().st_size for file in folder.iterdir()) < 12 * 9000 + 32_000


def test_prepared_sound_is_the_spoken_sound_in_its_place(folder):
    library = SpeechLibrary(folder)
    assert len(library) == 3
    assert library.seconds == pytest.approx(12.0)
    for index, speech in enumerate(library):
        spoken = sample_speech(3 * 1_000_003 + index, 4.0)
        assert speech.voice == spoken.voice
        assert [ipa for ipa, _, _ in speech.phonemes][:20] == [ipa for ipa, _, _ in spoken.phonemes][:20]
        outlines = [
            torch.nn.functional.avg_pool1d(sound.abs()[None], 160)[0] for sound in (spoken.waveform, speech.waveform)
        ]
        assert torch.corrcoef(torch.stack(outlines))[0, 1] > 0.9


def test_the_codec_delays_nothing(monkeypatch, tmp_path):
    spoken = sample_speech(0, 2.0)
    monkeypatch.setattr("emo_model.synthetic.speech_library.sample_speech", lambda *_, **__: spoken)
    prepared = SpeechLibrary(prepare_speech(tmp_path, minutes=0.1, clip_seconds=2.0))
    for speech in prepared:
        size = 2 * len(spoken.waveform)
        match = torch.fft.irfft(torch.fft.rfft(spoken.waveform, size).conj() * torch.fft.rfft(speech.waveform, size))
        assert int(match.argmax()) in (0, 1, size - 1)  # samples
        assert torch.corrcoef(torch.stack([spoken.waveform, speech.waveform]))[0, 1] > 0.8


def test_a_clip_is_the_same_for_the_same_seed_and_index(folder):
    library = SpeechLibrary(folder)
    one, two = library.clip(7, seconds=1.0, seed=1), library.clip(7, seconds=1.0, seed=1)
    assert torch.equal(one.waveform, two.waveform)
    assert torch.equal(one.tracks, two.tracks)
    assert not torch.equal(one.waveform, library.clip(8, seconds=1.0, seed=1).waveform)


def test_a_clip_has_a_row_of_tracks_for_each_frame(folder):
    clip = SpeechLibrary(folder).clip(0, seconds=1.5, fps=24.0)
    assert clip.waveform.shape == (24000,)
    assert clip.tracks.shape == (36, 4)
    assert clip.energy.shape == (36,)


def test_a_clip_carries_the_mouth_of_its_own_sound(folder):
    library = SpeechLibrary(folder)
    clip = library.clip(2, seconds=1.0)
    for speech in library:  # find where the piece was cut
        for start in range(0, len(speech.waveform) - RATE, RATE // 25):
            if torch.equal(speech.waveform[start : start + RATE], clip.waveform):
                first = start * 25 // RATE
                assert torch.equal(mouth_tracks(speech)[first : first + 25], clip.tracks)
                return
    pytest.fail("the clip's sound is in no prepared clip")


def test_prepared_training_speech_holds_no_held_out_voice(folder):
    assert not any(is_held_out(speech.voice) for speech in SpeechLibrary(folder))


def test_asking_for_more_than_there_is_names_the_lengths(folder):
    with pytest.raises(ValueError, match="9.0 s asked"):
        SpeechLibrary(folder).clip(0, seconds=9.0)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="No prepared speech.*`python -m emo_model.training prepare-speech --out"
    ):
        SpeechLibrary(tmp_path)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    pytest.importorskip("pyworld", reason="pip install pyworld 'setuptools<81'")
    mixture = Mixture(sung=0.5, accompanied=0.6, voiceless=0.25)
    return mixture, prepare_speech(
        tmp_path_factory.mktemp("mixed"), minutes=0.5, seed=4, clip_seconds=3.0, mixture=mixture
    )


def test_a_mixture_holds_songs_and_accompaniment_and_music_alone(mixed):
    clips = list(SpeechLibrary(mixed[1]))
    assert {clip.sung for clip in clips} == {False, True}
    assert {clip.loudness is None for clip in clips} == {False, True}
    assert any(not clip.phonemes for clip in clips)


def test_the_mouth_of_a_prepared_mix_is_that_of_the_voice_in_it(mixed):
    mixture, folder = mixed
    for index, clip in enumerate(SpeechLibrary(folder)):
        drawn = sample_clip(4 * 1_000_003 + index, 3.0, mixture=mixture)
        assert clip.voice == drawn.voice
        if clip.engine in ("flite", "festival", "music"):  # espeak speaks a few samples differently each time
            torch.testing.assert_close(mouth_tracks(clip), mouth_tracks(drawn), atol=0.02, rtol=0)
    assert all(mouth_tracks(clip).abs().max() == 0 for clip in SpeechLibrary(folder) if clip.voice == "none")


def test_prepared_speech_is_said_by_other_persons_without_an_engine(folder, tmp_path):
    pytest.importorskip("pyworld", reason="pip install pyworld 'setuptools<81'")
    source = SpeechLibrary(folder)
    made = SpeechLibrary(
        prepare_speech(tmp_path, minutes=0.05, clip_seconds=3.0, mixture=Mixture(revoiced=1.0), source=source)
    )
    assert len(made) == 1
    assert {clip.voice for clip in made} <= {clip.voice for clip in source}
    for clip in made:
        assert clip.seconds <= 3.0 and clip.phonemes
        assert all(0 <= start < end <= clip.seconds + 1e-4 for _, start, end in clip.phonemes)


def test_a_source_with_voices_that_training_never_hears_is_refused(folder, tmp_path):
    source = SpeechLibrary(folder)
    source.clips[0] = source.clips[0] | {"voice": "flite:slt"}
    with pytest.raises(ValueError, match="'flite:slt', a voice that training never hears"):
        prepare_speech(tmp_path / "new", minutes=0.1, source=source)
    assert not (tmp_path / "new").exists()


def test_a_cut_keeps_sound_and_phonemes_together(folder):
    speech = SpeechLibrary(folder)[0]
    piece = cut(speech, 1.0, 1.5)
    assert torch.equal(piece.waveform, speech.waveform[RATE : round(2.5 * RATE)])
    inside = [ipa for ipa, start, end in speech.phonemes if end > 1.0 and start < 2.5]
    assert [ipa for ipa, _, _ in piece.phonemes] == inside

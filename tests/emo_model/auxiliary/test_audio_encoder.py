from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from emo_model.auxiliary.audio_encoder import TRACK_MEAN, TRACK_STD, AudioEncoder, level_out, mel_filters
from emo_model.config import BUILTIN, TEST, AudioEncoderConfig


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(1, round(seconds * 16000), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def encoder() -> AudioEncoder:
    torch.manual_seed(0)
    return AudioEncoder(replace(AudioEncoderConfig(), width=16, features=8, blocks=3)).eval()


def test_mel_filters_are_those_of_librosa():
    librosa = pytest.importorskip("librosa")
    np.testing.assert_allclose(mel_filters(80).numpy(), librosa.filters.mel(sr=16000, n_fft=512, n_mels=80), atol=1e-7)


def test_mel_spectrogram_is_that_of_librosa(encoder):
    librosa = pytest.importorskip("librosa")
    sound = noise(0.5)
    there = librosa.feature.melspectrogram(
        y=np.pad(sound[0].numpy(), 176),
        sr=16000,
        n_fft=512,
        hop_length=160,
        win_length=400,
        window="hann",
        center=False,
        n_mels=80,
    )
    ours = encoder.mel(sound)[0].T.numpy()
    assert ours.shape == (80, 50)
    np.testing.assert_allclose(ours, there, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("samples", "steps"), [(320, 1), (639, 1), (640, 2), (16000, 50)])
def test_fifty_features_a_second(encoder, samples, steps):
    assert encoder(torch.zeros(2, samples)).shape == (2, steps, 1, 8)


def test_a_sound_shorter_than_one_feature_is_refused(encoder):
    with pytest.raises(ValueError, match="319 samples"):
        encoder(torch.zeros(1, 319))


def test_the_mouth_stands_in_the_last_features(encoder):
    features = encoder(noise(1))
    expected = features[:, :, 0, -4:] * torch.tensor(TRACK_STD) + torch.tensor(TRACK_MEAN)
    torch.testing.assert_close(encoder.mouth(features), expected)


def test_loudness_does_not_matter(encoder):
    with torch.no_grad():
        quiet, loud = encoder(0.1 * noise(2)), encoder(8 * noise(2))
    torch.testing.assert_close(quiet, loud, rtol=0, atol=1e-3)


def test_a_feature_hears_as_far_as_it_says_and_no_further(encoder):
    far = round(encoder.context_seconds * 16000)
    sound = 0.01 * noise(20)  # a pause, to which it matters how loud the speech is beyond it
    changed = sound.clone()
    changed[:, 64000 + far :] *= 100  # feature 199 is centred 160 samples before sample 64000
    with torch.no_grad():
        before, after = encoder(sound)[0], encoder(changed)[0]
    torch.testing.assert_close(before[:200], after[:200], rtol=0, atol=1e-5)
    assert (before[200:240] - after[200:240]).abs().max() > 1e-3


def test_speech_is_heard_the_same_to_the_bit_whatever_comes_3_s_later(encoder):
    sound = noise(20)
    changed = sound.clone()
    changed[:, 8 * 16000 :] *= 0.3
    shorter = sound[:, : 8 * 16000]
    with torch.no_grad():
        before, after, cut = encoder(sound)[0], encoder(changed)[0], encoder(shorter)[0]
    assert torch.equal(before[:250], after[:250]) and torch.equal(before[:250], cut[:250])
    assert not torch.equal(before[300:400], after[300:400])


@pytest.mark.parametrize("pause", [3, 8, 20])
def test_the_noise_of_a_room_stays_noise_in_pauses_of_any_length(pause):
    sound = noise(30 + pause)
    sound[:, 15 * 16000 : (15 + pause) * 16000] *= 0.01  # 40 dB below
    heard = level_out(AudioEncoder(AudioEncoderConfig()).mel(sound))[0]
    middle = 1500 + 50 * pause
    assert heard[300:1200].mean() > 0.8
    assert heard[middle - 50 : middle + 50].mean() < -0.4


def test_the_loudest_of_10_s_leaves_even_speech_as_it_was(monkeypatch):
    from emo_model.auxiliary import audio_encoder

    encoder = AudioEncoder(AudioEncoderConfig())
    generator = torch.Generator().manual_seed(3)
    words = (torch.rand(1, 200, generator=generator) > 0.4).float().repeat_interleave(1600, 1)  # of 0.1 s, over 20 s
    mel = encoder.mel(noise(20) * words)
    with_floor = level_out(mel)
    monkeypatch.setattr(audio_encoder, "_LOUDEST_SHARE", 0.0)
    assert torch.equal(with_floor, level_out(mel))


def test_a_click_shows_in_the_features_around_it(encoder):
    plain = noise(4)
    click = plain.clone()
    click[:, 32000:32080] += 0.5
    with torch.no_grad():
        change = (encoder(click) - encoder(plain)).abs().sum((-1, -2))[0]
    assert change[96:104].max() > 2 * change[:60].max()  # elsewhere only the level over 5 seconds has changed
    assert change[96:104].max() > 2 * change[140:].max()


def test_all_weights_lie_in_layers_that_comfyui_can_exchange(encoder):
    plain = (nn.Linear, nn.Conv1d, nn.LayerNorm)
    owners = [module for module in encoder.modules() if next(module.parameters(recurse=False), None) is not None]
    assert owners
    assert all(type(module) in plain for module in owners)


@pytest.mark.parametrize("config", [BUILTIN, TEST], ids=lambda config: config.name)
def test_features_are_as_wide_as_the_model_expects(config):
    encoder = AudioEncoder(config.audio_encoder)
    assert encoder(torch.zeros(1, 640)).shape[2:] == (config.audio_layers, config.audio_width)


def test_files_hold_weights_only_not_the_mel_filters(encoder):
    assert set(encoder.state_dict()) == {name for name, _ in encoder.named_parameters()}

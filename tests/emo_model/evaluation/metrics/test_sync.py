import math

import pytest
import torch

from emo_model.evaluation.metrics.sync import loudness, silent, sync

FPS = 25.0


def _talk(count, seed=0):
    """A smooth track that never repeats."""
    noise = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool1d(noise[None], 5, stride=1, padding=2)[0]


@pytest.mark.parametrize(("frames", "fps"), [(3, 25.0), (-3, 25.0), (6, 50.0), (0, 25.0)])
def test_a_planted_lag_is_found_to_within_a_frame(frames, fps):
    voice = _talk(160)
    found = sync(voice.roll(frames), voice, fps=fps)
    assert abs(found.delay - frames / fps) < 1 / fps
    assert found.r_best > 0.9


def test_a_mouth_that_follows_is_told_from_the_shifted_voice():
    voice = _talk(150)
    found = sync(voice + 0.2 * _talk(150, 1), voice, fps=FPS)
    assert found.r > 0.9 and abs(found.control) < 0.2 and found.chance < 0.02


def test_a_mouth_of_another_voice_has_no_delay_and_is_as_good_as_chance():
    found = sync(_talk(200, 5), _talk(200, 6), fps=FPS)
    assert abs(found.r) < 0.25 and found.chance > 0.05
    assert math.isnan(found.delay)


def test_what_is_too_short_has_a_correlation_and_no_control():
    voice = _talk(30)
    found = sync(voice, voice, fps=FPS)
    assert found.r == pytest.approx(1) and math.isnan(found.control) and math.isnan(found.delay)


def test_loudness_is_that_of_each_frames_own_time():
    waveform = torch.zeros(16000)
    waveform[640 * 5 : 640 * 6] = 0.5
    loud = loudness(waveform, 30, fps=FPS)
    assert loud[5] == pytest.approx(0.5, rel=1e-3) and loud[[4, 6]].max() < 1e-3 and len(loud) == 30


def test_silence_is_what_is_quiet_long_enough_without_its_ends():
    loud = torch.full((100,), 0.2)
    loud[20:40], loud[60:64], loud[90:] = 0.001, 0.001, 0.0
    quiet = silent(loud, fps=FPS)
    assert quiet.nonzero().flatten().tolist() == [*range(23, 37), *range(93, 100)]
    assert silent(torch.zeros(50), fps=FPS).all()

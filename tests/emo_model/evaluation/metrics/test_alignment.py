import numpy as np

from emo_model.evaluation.metrics.alignment import soft_alignment


def _walk(count, seed=0):
    return np.cumsum(np.random.default_rng(seed).normal(size=(count, 3)), 0)


def test_the_same_track_is_aligned_with_itself():
    track = _walk(40)
    assert soft_alignment(track, track, band=10).tolist() == list(range(40))


def test_a_pause_that_one_track_makes_is_found():
    track = _walk(40)
    held = np.concatenate([track[:20], np.repeat(track[20:21], 8, 0), track[20:]])
    found = soft_alignment(held, track, band=12)
    assert np.abs(found - np.concatenate([np.arange(20), np.full(8, 20), np.arange(20, 40)])).max() <= 1


def test_half_the_rate_meets_every_second_frame():
    track = _walk(41)
    found = soft_alignment(track[::2], track, band=10)
    assert np.abs(found - 2 * np.arange(21)).max() <= 1


def test_an_alignment_never_goes_back_and_stays_inside():
    found = soft_alignment(_walk(30, 1), _walk(50, 2), band=8)
    assert (np.diff(found) >= 0).all() and found[0] >= 0 and found[-1] <= 49

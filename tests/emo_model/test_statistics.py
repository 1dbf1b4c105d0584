import math

import pytest
import torch

from emo_model.statistics import bootstrap, bootstrap_mean, correlation, crossed_mean, lag_frames, mean, slope


def smooth_noise(frames, seed):
    track = torch.randn(frames + 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool1d(track[None], 9, stride=1)[0]


def test_a_track_correlates_fully_with_itself_and_its_mirror():
    track = smooth_noise(80, 0)
    assert correlation(track, track) == pytest.approx(1, abs=1e-6)
    assert correlation(0.5 - 3 * track, track) == pytest.approx(-1, abs=1e-6)


def test_correlation_of_known_numbers():
    assert correlation(torch.tensor([1.0, 2, 3, 4]), torch.tensor([1.0, 3, 2, 4])) == pytest.approx(0.8)


def test_a_reading_that_never_moves_follows_nothing_and_a_still_truth_cannot_be_followed():
    track = smooth_noise(80, 0)
    assert correlation(torch.full((80,), 0.3), track) == 0
    assert math.isnan(correlation(track, torch.full((80,), 0.3)))


@pytest.mark.parametrize("shift", [-3, 0, 2])
def test_a_late_track_has_its_delay_as_lag(shift):
    track = smooth_noise(120, 2)
    assert lag_frames(track.roll(shift), track) == pytest.approx(shift, abs=0.25)


def test_half_a_frame_late_is_between_frames():
    fine = smooth_noise(400, 3)[::2]
    early, late = fine[1:200].double(), (0.5 * (fine[:-1] + fine[1:]))[:199].double()
    assert lag_frames(late, early) == pytest.approx(0.5, abs=0.2)


def test_a_lag_needs_enough_frames():
    with pytest.raises(ValueError, match="at least 20 frames, got 10"):
        lag_frames(torch.zeros(10), torch.zeros(10))


def test_the_interval_is_the_same_every_time_and_holds_the_mean():
    values = torch.randn(24, generator=torch.Generator().manual_seed(4)).tolist()
    one, two = bootstrap_mean(values), bootstrap_mean(values)
    assert one == two
    assert one.low < one.value < one.high and one.count == 24
    assert one.value == pytest.approx(sum(values) / 24)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    generator = torch.Generator().manual_seed(5)
    covered = 0
    for trial in range(200):
        values = (0.4 + 0.1 * torch.randn(20, generator=generator)).tolist()
        found = bootstrap(values, mean, draws=200, seed=trial)
        covered += found.low <= 0.4 <= found.high
    assert 0.86 <= covered / 200 <= 0.99  # 0.95 asked; percentile intervals of 20 clips are a little short


def test_clips_without_a_number_are_left_out():
    found = bootstrap_mean([0.2, math.nan, 0.4])
    assert found.value == pytest.approx(0.3) and found.count == 2


def test_no_clips_make_no_number():
    found = bootstrap_mean([])
    assert math.isnan(found.value) and math.isnan(found.low) and found.count == 0


def test_one_slope_is_fitted_through_runs_of_different_heights():
    runs = [[(time / 6, height + 3 * time / 6) for time in range(12)] for height in (0, 100)]
    found = slope(runs)
    assert (found.value, found.low, found.high) == pytest.approx((3, 3, 3)) and found.count == 24


def test_a_slope_of_noise_has_an_interval_around_nothing():
    generator = torch.Generator().manual_seed(1)
    runs = [[(float(time), torch.randn((), generator=generator).item()) for time in range(30)] for _ in range(3)]
    found = slope(runs)
    assert found.low < 0 < found.high and found.high - found.low < 0.1


def test_a_single_point_has_no_slope():
    assert math.isnan(slope([[(0.0, 1.0)]]).value)


def test_an_interval_over_models_and_videos_is_wider_where_models_differ():
    generator = torch.Generator().manual_seed(0)
    videos = torch.randn(1, 20, generator=generator)
    alike, different = videos.repeat(3, 1), videos + torch.tensor([[-1.0], [0.0], [1.0]])
    narrow, wide = crossed_mean(alike), crossed_mean(different)
    assert narrow.value == pytest.approx(videos.mean().item()) == wide.value and narrow.count == 60
    assert narrow.low == pytest.approx(bootstrap_mean(videos[0].tolist()).low, abs=0.06)
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)

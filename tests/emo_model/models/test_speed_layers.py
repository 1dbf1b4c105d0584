from __future__ import annotations

import math

import torch

from emo_model.models.speed_layers import SpeedLayers


def test_buckets_are_tanh_of_three_times_the_distance_in_radii(config):
    speeds = torch.tensor([0.0, 12.5, 31.0, 90.0])
    buckets = list(zip(config.speed_centres, config.speed_radii, strict=True))
    expected = [[math.tanh(3 * (speed - centre) / radius) for centre, radius in buckets] for speed in speeds.tolist()]
    torch.testing.assert_close(SpeedLayers(config).buckets(speeds), torch.tensor(expected))


def test_speed_features_depend_on_the_order_of_the_window(awake, config):
    layers = awake(SpeedLayers(config))
    rising = torch.tensor([0.0, 10.0, 20.0, 30.0, 40.0]).view(1, 1, 5)
    up, down = layers(rising, dtype=torch.float32), layers(rising.flip(-1), dtype=torch.float32)
    assert up.shape == (1, 1, config.speed_width) and not torch.allclose(up, down, atol=1e-2)


def test_the_features_of_a_frame_come_from_its_own_window(awake, config, seeded):
    layers, speed = awake(SpeedLayers(config)), 20 + 10 * seeded(2, 4, 5)
    other = speed.clone()
    other[1, 2, 0] += 15
    apart = (layers(speed, dtype=torch.float32) - layers(other, dtype=torch.float32)).abs().amax(-1)
    assert apart.nonzero().tolist() == [[1, 2]]

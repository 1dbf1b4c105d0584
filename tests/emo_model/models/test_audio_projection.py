from __future__ import annotations

import pytest
import torch

from emo_model.models.audio_projection import AudioProjection


@pytest.fixture
def windows(config, seeded):
    return seeded(2, 4, 5, config.audio_layers, config.audio_width)


def test_a_token_comes_from_its_own_step_of_its_own_frame(awake, config, windows):
    projection, other = awake(AudioProjection(config)), windows.clone()
    other[1, 2, 3] += 1
    before, after = projection(windows), projection(other)
    assert before.shape == (2, 4, 5, config.audio_context_width)
    assert (before != after).any(-1).nonzero().tolist() == [[1, 2, 3]]


def test_tokens_know_their_place_in_the_window(awake, config, windows):
    projection = awake(AudioProjection(config))
    tokens = projection(windows[:, :, :1].expand_as(windows))  # the same sound at every step
    apart = torch.cdist(tokens[0, 0], tokens[0, 0]) + 10 * torch.eye(5)
    assert apart.min() > 0.1


def test_every_layer_and_feature_of_the_encoder_is_heard(awake, config, windows):
    windows = windows.clone().requires_grad_()
    (
        awake(AudioProjection(config))(windows) ** 3
    ).sum().backward()  # cubed: the sum over a layer norm alone would be constant
    assert windows.grad.abs().amin() > 0


def test_a_window_of_another_width_is_refused_with_both_numbers(config, windows):
    with pytest.raises(ValueError, match="audio windows have 3 steps, this model was built for 5"):
        AudioProjection(config)(windows[:, :, :3])

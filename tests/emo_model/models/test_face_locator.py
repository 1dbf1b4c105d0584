from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emo_model.models.face_locator import FaceLocator


def test_a_fresh_face_locator_adds_nothing(config):
    features = FaceLocator(config)(torch.ones(2, 1, 64, 64))
    assert features.shape == (2, config.latent_channels, 4, 4) and not features.any()


def test_a_cell_is_steered_by_the_mask_near_it(awake, config):
    locator = awake(FaceLocator(config))
    corner, empty = torch.zeros(2, 1, 256, 256).split(1)
    corner[:, :, :32, :32] = 1
    apart = (locator(corner) - locator(empty)).abs().amax(1)[0]  # (16, 16)
    assert (apart[:2, :2] > 1e-3).all() and not apart[6:].any() and not apart[:, 6:].any()


def test_locators_that_do_not_end_at_the_latents_size_are_refused(config):
    with pytest.raises(
        ValueError, match="3 face_locator_channels halve the mask 2 times, but a latent cell is 16 pixels wide"
    ):
        FaceLocator(replace(config, face_locator_channels=(4, 4, 4)))

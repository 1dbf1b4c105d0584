from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from emo_model.config import PRESETS, AutoencoderConfig
from emo_model.models.autoencoder import Autoencoder, cosine_table


@pytest.mark.parametrize("name", ["test", "default-cpu", "default"])
def test_pixels_become_latents_of_the_models_size_and_pixels_again(name):
    config = PRESETS[name]
    with torch.device("meta"):
        autoencoder, pixels = Autoencoder(config), torch.zeros(1, 3, config.image_size, config.image_size)
    latents = autoencoder.encode(pixels)
    assert latents.shape == (1, config.latent_channels, config.latent_size, config.latent_size)
    assert autoencoder.decode(latents).shape == pixels.shape


def test_pictures_need_not_be_square(config, awake, seeded):
    autoencoder = awake(Autoencoder(config))
    latents = autoencoder.encode(seeded(2, 3, 24, 40))
    assert latents.shape == (2, config.latent_channels, 3, 5) and autoencoder.decode(latents).shape == (2, 3, 24, 40)


def test_a_fresh_autoencoder_already_gives_back_a_blurred_picture(config):
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    pixels = torch.stack([(2 * rows).sin(), (2 * columns).cos(), rows * columns])[None] * 0.7
    autoencoder = Autoencoder(replace(config, latent_channels=8))
    error = (autoencoder.decode(autoencoder.encode(pixels)) - pixels).square().mean().sqrt()
    assert error < 0.08 and pixels.std() > 0.3


def test_waves_and_the_way_back_are_inverse_on_the_latents():
    forth, back = cosine_table(16, 8)
    torch.testing.assert_close(forth @ back, torch.eye(16), rtol=0, atol=1e-5)


def test_no_convolution_with_a_view_of_its_neighbours_runs_at_full_resolution(config):
    autoencoder, sizes = Autoencoder(config), []
    for module in autoencoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, inputs, output: sizes.append(max(inputs[0].shape[-1], output.shape[-1])))
    autoencoder.decode(autoencoder.encode(torch.zeros(1, 3, 32, 32)))
    assert len(sizes) > 8 and max(sizes) <= 32 / config.autoencoder.patch


def test_a_model_without_one_is_told_which_vae_it_needs():
    with pytest.raises(ValueError, match="'emo' has no autoencoder of its own; it needs the VAE of Stable Diffusion 1.5"):
        Autoencoder(PRESETS["emo"])


def test_ends_that_do_not_make_the_models_factor_are_refused(config):
    with pytest.raises(ValueError, match="patch 2 and 1 halvings do not make vae_factor 8"):
        Autoencoder(replace(config, autoencoder=AutoencoderConfig(patch=2)))

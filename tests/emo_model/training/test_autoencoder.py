"""Training of the built-in autoencoder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from emo_model.models.autoencoder import Autoencoder
from emo_model.training import autoencoder as training
from emo_model.training.autoencoder import AutoencoderTask, latent_statistics
from emo_model.training.loop import Plan, train


@pytest.fixture
def task(config):
    def make(seed: int = 0, **options) -> AutoencoderTask:
        torch.manual_seed(0)
        return AutoencoderTask(Autoencoder(config), config, batch=4, seed=seed, pool_pictures=12, **options)

    return make


def test_batches_are_the_same_for_the_same_seed_and_step_and_no_other(task):
    one, same, other, elsewhere = task().batch(5), task().batch(5), task().batch(6), task(seed=1).batch(5)
    assert torch.equal(one.pixels, same.pixels) and torch.equal(one.noise, same.noise)
    assert one.pixels.shape == (4, 3, 32, 32) and one.weight.shape == (4, 1, 32, 32) and one.noise.shape == (4, 4, 4, 4)
    assert not torch.equal(one.noise, other.noise) and not torch.equal(one.pixels, elsewhere.pixels)


def test_new_heads_are_drawn_after_so_many_steps_and_far_from_those_of_clips(task, monkeypatch):
    drawn = []
    monkeypatch.setattr(training, "draw_stills", lambda seeds, **options: drawn.append(seeds) or (
        torch.zeros(len(seeds), 3, 32, 32).half(), torch.ones(len(seeds), 1, 32, 32).half()))
    some = task(pool_steps=3)
    for step in range(7):
        some.batch(step)
    assert len(drawn) == 3 and len({seed for seeds in drawn for seed in seeds}) == 3 * 12
    assert min(seed for seeds in drawn for seed in seeds) >= 10_000_000


def test_training_lowers_the_error(task, tmp_path):
    pytest.importorskip("accelerate")
    some = task()
    held_out = task(seed=1).batch(0)
    before = some(held_out)[0].item()
    some.load_state_dict(train(some, Plan("autoencoder", steps=60, learning_rate=1e-2, warmup_steps=5), tmp_path))
    assert some.eval()(held_out)[0].item() < 0.97 * before


def test_a_perfect_autoencoder_has_no_error_but_for_the_spread_of_its_latents(task):
    class Perfect(nn.Module):
        def encode(self, pixels):
            return pixels

        def decode(self, latents):
            return latents

    some = task()
    some.autoencoder = Perfect()
    batch = some.batch(0)
    loss, values = some(replace(batch, noise=torch.zeros_like(batch.pixels)))
    spread = (batch.pixels.square().mean() - 1).square() + batch.pixels.mean((0, 2, 3)).square().mean()
    torch.testing.assert_close(loss, 0.01 * spread)
    assert values["psnr"] > 100


def test_each_latent_gets_noise_of_a_strength_of_its_own(task):
    spreads = torch.cat([task(latent_noise=0.5).batch(step).noise.flatten(1).std(1) for step in range(8)])
    assert spreads.max() < 0.75 and spreads.min() < 0.15 and spreads.max() > 0.3
    assert not task(latent_noise=0.0).batch(0).noise.any()


def test_only_the_decoder_learns_where_only_it_should(task):
    some = task(only_decoder=True)
    some(some.batch(0))[0].backward()
    learned = {name for name, value in some.autoencoder.named_parameters() if value.grad is not None}
    assert learned == {name for name, _ in some.autoencoder.named_parameters() if name.startswith(("decoder.", "linear_out."))}
    assert all(value.requires_grad for value in task().parameters())


def test_statistics_bring_latents_to_unit_variance_and_map_them_to_colours(seeded):
    class Shrinker(nn.Module):
        """Latents are a tenth of the mean colour of each cell, and a channel of noise."""

        def encode(self, pixels):
            cells = torch.nn.functional.avg_pool2d(pixels, 8) / 10
            return torch.cat([cells, 0.1 * seeded(len(pixels), 1, *cells.shape[-2:], seed=5)], dim=1)

    pixels = seeded(16, 3, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)  # plain cells of unit variance
    scale, table = latent_statistics(Shrinker(), pixels)
    assert scale == pytest.approx(10, rel=0.05) and len(table) == 4 + 1
    expected = torch.tensor([[5.0, 0, 0], [0, 5, 0], [0, 0, 5], [0, 0, 0], [0.5, 0.5, 0.5]])  # colours in 0..1
    torch.testing.assert_close(torch.tensor(table), expected, rtol=0, atol=1e-3)

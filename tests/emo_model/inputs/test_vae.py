from __future__ import annotations

from dataclasses import replace

import torch

from emo_model.inputs import vae


class Doubler:
    """A VAE that any eye can follow."""

    def encode(self, pixels):
        return pixels * 2

    def decode(self, latents):
        return latents / 2


def test_scaled_latents_become_raw_ones_and_scaled_again(config, seeded):
    sd15, scaled = replace(config, latent_scale=0.18215), seeded(2, 4, 3, 3)
    raw = vae.to_raw(scaled, sd15)
    torch.testing.assert_close(raw, scaled / 0.18215)
    torch.testing.assert_close(vae.to_scaled(raw, sd15), scaled)


def test_pixels_come_back_through_scaled_latents(config, seeded):
    sd15, pixels = replace(config, latent_scale=0.18215), seeded(2, 3, 8, 8).clamp(-1, 1)
    latents = vae.encode(Doubler(), pixels, sd15)
    torch.testing.assert_close(latents, 0.3643 * pixels)
    torch.testing.assert_close(vae.decode(Doubler(), latents, sd15), pixels)


def test_decoded_pixels_are_clamped(config, seeded):
    decoded = vae.decode(Doubler(), 10 * seeded(1, 3, 8, 8), config)
    assert decoded.min() == -1 and decoded.max() == 1


def test_frames_that_were_decoded_are_traced_back_to_their_latents(seeded):
    latents = seeded(3, 4, 5, 5)

    def lossy(pictures):  # not quite the inverse: a third is lost, and something is added
        return 0.66 * pictures + 0.1

    def errors(rounds: int) -> float:
        return (vae.encode_again(lossy, lambda found: found, latents, rounds=rounds) - latents).abs().max().item()

    assert errors(0) > 0.5 and errors(4) < 0.1 and errors(20) < 1e-6


def test_a_vae_that_cannot_be_traced_back_gives_what_it_encodes(seeded):
    pictures = seeded(3, 4, 5, 5)
    assert torch.equal(vae.encode_again(lambda x: 2.5 * x, lambda found: found, pictures), 2.5 * pictures)

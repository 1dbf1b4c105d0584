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
    decoded = vae.decode(Doubler(), 10 * seeded(1, 3, 8, 8), replace(config, latent_scale=1.0))
    assert decoded.min() == -1 and decoded.max() == 1


def test_each_channel_may_have_its_own_factor(config, seeded):
    own, raw = replace(config, latent_scale=tuple(float(number) for number in range(1, 9))), seeded(2, 8, 3, 3)
    scaled = vae.to_scaled(raw, own)
    torch.testing.assert_close(scaled[:, 4], 5 * raw[:, 4])
    torch.testing.assert_close(vae.to_raw(scaled, own), raw)
    clips = raw[:, :, None].expand(-1, -1, 4, -1, -1)  # (B, C, F, h, w)
    torch.testing.assert_close(vae.to_scaled(clips, own)[:, :, 2], scaled)

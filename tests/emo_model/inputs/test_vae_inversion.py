from __future__ import annotations

import torch

from emo_model.inputs.vae_inversion import invert_decoder


class Blurred:
    """Of each frame, another part is lost on the way back, and something is added."""

    kept = torch.tensor([0.66, 0.9, 0.5])[:, None, None, None]

    def encode(self, pictures):
        return self.kept * pictures + 0.1

    def decode(self, latents):
        return latents.clone()


def errors(found, latents):
    return (found - latents).square().mean((1, 2, 3)).sqrt()


def test_frames_that_were_decoded_are_traced_back_to_their_latents(seeded):
    latents, coder = seeded(3, 4, 5, 5), Blurred()
    once, few, many = (
        errors(invert_decoder(coder.encode, coder.decode, latents, rounds=rounds), latents) for rounds in (0, 4, 40)
    )
    assert (few < 0.2 * once).all() and (many < 1e-6).all()


def test_a_vae_that_cannot_be_traced_back_gives_what_it_encodes(seeded):
    pictures = seeded(3, 4, 5, 5)
    assert torch.equal(invert_decoder(lambda x: 2.5 * x, lambda found: found, pictures), 2.5 * pictures)


def test_each_frame_goes_as_far_as_it_gets_nearer(seeded):
    pictures = seeded(2, 4, 5, 5)
    factor = torch.tensor([0.66, 2.5])[:, None, None, None]  # the second cannot be traced back
    found = invert_decoder(lambda x: factor * x, lambda x: x, pictures, rounds=40)
    torch.testing.assert_close(found[0], pictures[0], atol=1e-5, rtol=0)
    assert torch.equal(found[1], 2.5 * pictures[1])


def test_frames_that_came_through_a_codec_are_not_asked_for_ever(seeded):
    calls = []

    def encode(pictures):
        calls.append(1)
        return 0.9 * pictures

    invert_decoder(encode, lambda found: found.round(decimals=0), seeded(2, 4, 5, 5), rounds=50)
    assert len(calls) < 10

from __future__ import annotations

import pytest
import torch

from emo_model.__main__ import EXAMPLES
from emo_model.checkpoints import native
from emo_model.inputs import face, media
from emo_model.inputs.decoded import encode_again, trace_back


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
    once, few, many = (errors(encode_again(coder.encode, coder.decode, latents, rounds=rounds), latents)
                       for rounds in (0, 4, 40))
    assert (few < 0.2 * once).all() and (many < 1e-6).all()


def test_a_vae_that_cannot_be_traced_back_gives_what_it_encodes(seeded):
    pictures = seeded(3, 4, 5, 5)
    assert torch.equal(encode_again(lambda x: 2.5 * x, lambda found: found, pictures), 2.5 * pictures)


def test_each_frame_goes_as_far_as_it_gets_nearer(seeded):
    pictures = seeded(2, 4, 5, 5)
    factor = torch.tensor([0.66, 2.5])[:, None, None, None]  # the second cannot be traced back
    found = encode_again(lambda x: factor * x, lambda x: x, pictures, rounds=40)
    torch.testing.assert_close(found[0], pictures[0], atol=1e-5, rtol=0)
    assert torch.equal(found[1], 2.5 * pictures[1])


def test_frames_that_came_through_a_codec_are_not_asked_for_ever(seeded):
    calls = []

    def encode(pictures):
        calls.append(1)
        return 0.9 * pictures

    encode_again(encode, lambda found: found.round(decimals=0), seeded(2, 4, 5, 5), rounds=50)
    assert len(calls) < 10


@pytest.fixture(scope="module")
def shipped():
    bundle = native.load(dtype=torch.float32)
    portrait, _ = face.fit_picture(media.read_picture(EXAMPLES / "emo_portrait.png"), bundle.config.image_size, "crop")
    with torch.no_grad():
        latents = bundle.autoencoder.encode(torch.cat([portrait, portrait.flip(3), 0.5 * portrait]))
        latents = latents + 0.2 * torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))  # as sampled ones have
        return bundle.autoencoder, latents, bundle.autoencoder.decode(latents).clamp(-1, 1)


def distance(autoencoder, latents, pictures):
    with torch.no_grad():
        return errors(autoencoder.decode(latents).clamp(-1, 1), pictures)


def test_the_built_in_autoencoder_is_traced_back_through_8_bits(shipped):
    autoencoder, latents, pictures = shipped
    given = (pictures * 127.5).round() / 127.5
    with torch.no_grad():
        once = autoencoder.encode(given)
        again = encode_again(autoencoder.encode, autoencoder.decode, given)
    found = trace_back(autoencoder, given)
    assert (errors(again, latents) < 0.8 * errors(once, latents)).all()
    assert (errors(found, latents) < 0.8 * errors(again, latents)).all()
    assert (distance(autoencoder, found, given) < 0.7 * distance(autoencoder, again, given)).all()


def test_frames_that_a_codec_blurred_are_traced_back_no_farther_off_than_they_are_encoded(shipped):
    autoencoder, latents, pictures = shipped
    noise = 0.03 * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(1))
    given = (pictures + noise).clamp(-1, 1)
    with torch.no_grad():
        once = autoencoder.encode(given)
    found = trace_back(autoencoder, given)
    assert (errors(found, latents) < errors(once, latents)).all()
    assert (distance(autoencoder, found, given) < distance(autoencoder, once, given)).all()


def test_pictures_that_no_latents_make_come_out_no_farther_off_than_they_are_encoded(shipped, seeded):
    autoencoder, given = shipped[0], seeded(2, 3, 64, 64).clamp(-1, 1)
    with torch.no_grad():
        once = autoencoder.encode(given)
    for found in (trace_back(autoencoder, given), encode_again(autoencoder.encode, autoencoder.decode, given)):
        assert (distance(autoencoder, found, given) <= distance(autoencoder, once, given)).all()


def test_it_is_traced_back_in_inference_mode_too(shipped):
    autoencoder, latents, pictures = shipped
    expected = trace_back(autoencoder, pictures[:1], rounds=1, turns=2)
    with torch.inference_mode():
        found = trace_back(autoencoder, pictures[:1].clone(), rounds=1, turns=2)
    torch.testing.assert_close(found, expected)

"""bfloat16 for the products of the motion decoder: only where the CPU has it, and too little to be seen."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from emo_model.auxiliary.motion_decoder import skull_coordinates
from emo_model.checkpoints import native
from emo_model.inputs.portrait import read_portrait
from emo_model.outputs import bfloat16
from emo_model.outputs.bfloat16 import bfloat16_products
from emo_model.outputs.portrait_decoder import PortraitDecoder


@pytest.fixture(scope="module")
def decoder(shipped, photograph) -> PortraitDecoder:
    bundle = native.load(shipped, dtype=torch.float32)
    portrait = read_portrait(photograph.picture, photograph.mesh, bundle.config)
    return PortraitDecoder(bundle.motion_decoder, bundle.config, photograph.picture, portrait)


@pytest.mark.parametrize(("has_it", "dtype", "made"), [(True, "float32", "bfloat16"), (False, "float32", "float32")])
def test_products_are_in_bfloat16_where_the_cpu_multiplies_it(monkeypatch, seeded, has_it, dtype, made):
    monkeypatch.setattr(bfloat16, "multiplies_bfloat16", lambda: has_it)
    with bfloat16_products("cpu", getattr(torch, dtype)):
        assert (seeded(2, 3) @ seeded(3, 2)).dtype == getattr(torch, made)


def test_networks_in_half_precision_and_on_gpus_stay_as_they_are(monkeypatch, seeded):
    monkeypatch.setattr(bfloat16, "multiplies_bfloat16", lambda: True)
    for device, dtype in (("cuda", torch.float32), ("cpu", torch.float16)):
        with bfloat16_products(device, dtype):
            assert (seeded(2, 3) @ seeded(3, 2)).dtype == torch.float32


def test_a_cpu_of_which_torch_says_nothing_has_none(monkeypatch):
    for check in bfloat16.CHECKS:
        monkeypatch.delattr(torch.cpu, check, raising=False)
    assert bfloat16.multiplies_bfloat16() is False


def test_the_frames_of_the_built_in_decoder_are_the_same_to_two_levels(monkeypatch, decoder, seeded):
    latents = decoder.latents + 0.3 * F.interpolate(seeded(2, 8, 4, 4), size=(16, 16))
    frames, flows = [], []
    for has_it in (False, True):
        monkeypatch.setattr(bfloat16, "multiplies_bfloat16", lambda has_it=has_it: has_it)
        frames.append(decoder.decode(latents).astype(int))
        flows.append(decoder.flow(latents).flow)
    off = abs(frames[0] - frames[1])
    assert off.max() > 0 and off.mean() < 0.1 and (off > 2).mean() < 1e-3
    assert 4 * (flows[0] - flows[1]).abs().max() < 0.1  # pixels of 256


def test_places_are_never_counted_in_bfloat16(decoder, seeded):
    flow = decoder.flow(decoder.latents).flow + 0.1 * seeded(1, 2, 64, 64)
    around = seeded(1, 6, 6, 2).clamp(-1, 1)
    exact = skull_coordinates(around, flow, decoder._portrait)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(skull_coordinates(around, flow, decoder._portrait), exact)

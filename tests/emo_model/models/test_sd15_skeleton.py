"""The SD 1.5 skeleton and its blocks equal diffusers' UNet: the same names, the same numbers, on tiny weights."""

from __future__ import annotations

import pytest
import torch

from emo_model.models.context import Context

diffusers = pytest.importorskip("diffusers", reason="diffusers' UNet is the judge")


@pytest.fixture(scope="module")
def theirs(tiny_hallo):
    config = tiny_hallo.config
    net = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=config.channels,
        layers_per_block=config.layers_per_block,
        cross_attention_dim=config.hallo.identity_context_width,
        attention_head_dim=config.attention_heads,
        norm_num_groups=config.norm_groups,
    )
    return net.eval()


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(shape, generator=generator)


def skeleton(net) -> dict[str, torch.Tensor]:
    ours_alone = ("motion_modules", "audio_modules")
    return {name: value for name, value in net.state_dict().items() if not any(part in name for part in ours_alone)}


def test_parameters_have_diffusers_names_and_shapes(theirs, tiny_hallo):
    ours = {name: tuple(value.shape) for name, value in skeleton(tiny_hallo.emo.backbone).items()}
    assert ours == {name: tuple(value.shape) for name, value in theirs.state_dict().items()}


@pytest.mark.parametrize("size", [(8, 8), (6, 10)])
def test_the_prediction_is_diffusers(theirs, tiny_hallo, draw, size):
    backbone = tiny_hallo.emo.backbone
    theirs.load_state_dict(skeleton(backbone))
    noisy, words, time = (
        draw(2, 4, *size),
        draw(2, 5, tiny_hallo.config.hallo.identity_context_width),
        torch.tensor([7, 601]),
    )
    with torch.no_grad():
        context = Context(None, None, None, None, None, identity=torch.stack([words, words], dim=1))
        said = backbone(noisy[:, :, None], time, backbone.cache(context))
        torch.testing.assert_close(said[:, :, 0], theirs(noisy, time, words).sample, atol=2e-5, rtol=1e-4)
    assert said.std() > 0.1


def test_features_are_what_diffusers_self_attentions_read(theirs, tiny_hallo, draw):
    net = tiny_hallo.emo.reference_net
    theirs.load_state_dict(skeleton(net), strict=False)  # the rest lies behind the last feature
    read = {}
    for name, module in theirs.named_modules():
        if name.endswith("transformer_blocks.0.norm1"):
            name = name.removesuffix(".transformer_blocks.0.norm1")
            module.register_forward_hook(lambda _, __, output, name=name: read.__setitem__(name, output))
    latents, words = draw(2, 4, 8, 8), draw(2, 5, tiny_hallo.config.hallo.identity_context_width)
    with torch.no_grad():
        theirs(latents, torch.zeros(2, dtype=torch.long), words)
        features = net(latents, words)
    assert features.keys() == read.keys() and len(features) == 16
    for name, feature in features.items():
        torch.testing.assert_close(feature, read[name], atol=2e-5, rtol=1e-4)

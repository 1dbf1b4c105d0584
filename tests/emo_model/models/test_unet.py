"""Names, shapes and numbers of the skeleton against diffusers' UNet of Stable Diffusion 1.5."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emo_model.config import PRESETS
from emo_model.models.context import Context
from emo_model.models.emo import Emo
from emo_model.models.unet import Backbone, ReferenceNet
from emo_model.types import ReferenceFeatures

OURS_ALONE = ("motion_modules", "attn_audio", "norm_audio")  # what EMO adds to the skeleton


@pytest.fixture(scope="module")
def sd15() -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of SD 1.5's UNet, from diffusers' defaults; nothing is allocated."""
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(cross_attention_dim=768)
    shapes = {name: tuple(value.shape) for name, value in unet.named_parameters()}
    assert len(shapes) == 686 and sum(value.numel() for value in unet.parameters()) == 859_520_964
    return shapes


@pytest.fixture(scope="module")
def emo() -> Emo:
    with torch.device("meta"):
        return Emo(PRESETS["emo"])


def test_every_parameter_of_the_reference_net_is_sd15s_by_name_and_shape(sd15, emo):
    ours = {name: tuple(value.shape) for name, value in emo.reference_net.named_parameters()}
    assert len(ours) > 500 and ours.items() <= sd15.items()


def test_the_reference_net_leaves_out_only_text_and_what_nothing_reads(sd15, emo):
    left = sd15.keys() - dict(emo.reference_net.named_parameters()).keys()
    text = {name for name in left if ".attn2." in name or ".norm2." in name and "transformer_blocks" in name}
    unread = {name for name in left if name.startswith(("conv_norm_out.", "conv_out.", "up_blocks.3.attentions.2."))}
    assert left == text | unread and len(text) == 16 * 7


def test_every_shared_parameter_of_the_backbone_is_sd15s_by_name(sd15, emo):
    ours = {name for name, _ in emo.backbone.named_parameters() if not any(part in name for part in OURS_ALONE)}
    assert ours == sd15.keys()


def test_the_backbones_shapes_are_sd15s_but_for_keys_and_values_of_the_portrait(sd15, emo):
    ours = dict(emo.backbone.named_parameters())
    odd = {name for name, shape in sd15.items() if tuple(ours[name].shape) != shape}
    # 768: SD's text
    assert odd == {name for name in sd15 if name.endswith((".attn2.to_k.weight", ".attn2.to_v.weight"))}


@pytest.fixture
def tiny(config):
    """A config whose last level has no attention, as SD 1.5's, and diffusers' UNet of that shape, ignoring its text."""
    diffusers = pytest.importorskip("diffusers")
    config = replace(
        config,
        attention_levels=(True, False),
        layers_per_block=2,
        feed_forward_multiplier=4,
        reference_positions=False,
        reference_addition=False,
    )
    unet = diffusers.UNet2DConditionModel(
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        block_out_channels=config.channels,
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=config.attention_heads,
        norm_num_groups=config.norm_groups,
    ).eval()
    for name, parameter in unet.named_parameters():
        if ".attn2.to_out." in name:
            torch.nn.init.zeros_(parameter)
    return config, unet


def lend(module, unet) -> set[str]:
    """Give the UNet our weights where it has them; returns the names that it does not have."""
    ours = {name: value for name, value in module.state_dict().items() if ".attn2." not in name}
    _, unexpected = unet.load_state_dict(ours, strict=False)
    return set(unexpected)


def test_reference_features_are_what_diffusers_self_attentions_read(tiny, awake, seeded):
    config, unet = tiny
    net = awake(ReferenceNet(config))
    assert not lend(net, unet)
    latents, theirs = seeded(2, config.latent_channels, 8, 8), {}
    with torch.no_grad():
        features = net(latents)
        for name in features:
            part = unet.get_submodule(f"{name}.transformer_blocks.0.norm1" if "attentions" in name else name)
            part.register_forward_hook(
                lambda _, __, output, name=name: theirs.__setitem__(
                    name, output if "attentions" in name else output.flatten(2).transpose(1, 2)
                )
            )
        unet(latents, 0, encoder_hidden_states=torch.zeros(2, 1, 8))
    assert sum("attentions" in name for name in features) == 6 and sum("resnets" in name for name in features) == 5
    for name, feature in features.items():
        torch.testing.assert_close(
            feature, theirs[name], rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_the_backbone_without_emos_additions_is_diffusers_unet(tiny, awake, seeded):
    config, unet = tiny
    backbone = awake(Backbone(config))
    for name, parameter in backbone.named_parameters():
        if ".attn2.to_out." in name:
            torch.nn.init.zeros_(parameter)  # the portrait, where SD has its text
    assert all(any(part in name for part in OURS_ALONE) for name in lend(backbone, unet))
    net = ReferenceNet(config)
    noisy, timestep = seeded(2, config.latent_channels, 8, 8), torch.tensor([3, 700])
    with torch.no_grad():
        context = Context(ReferenceFeatures(net(noisy)), None, None, None, None)
        ours = backbone(noisy[:, :, None], timestep, backbone.cache(context))
        theirs = unet(noisy, timestep, encoder_hidden_states=torch.zeros(2, 1, 8)).sample
    assert ours.std() > 0.1
    torch.testing.assert_close(ours[:, :, 0], theirs, rtol=1e-4, atol=1e-4)

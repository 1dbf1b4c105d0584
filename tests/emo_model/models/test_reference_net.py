from __future__ import annotations

from dataclasses import replace

import torch

from emo_model.models.unet import Backbone, ReferenceNet


def test_there_is_a_feature_for_every_place_where_the_backbone_looks(config):
    for levels in ((True, True), (True, False), (False, True)):
        shaped = replace(config, attention_levels=levels)
        with torch.device("meta"):
            features = ReferenceNet(shaped)(torch.zeros(1, 8, 4, 4))
            places: dict[str, tuple[int, ...]] = {}

            def note(name, beside, x, places=places):
                places[name] = (1, x.shape[2] * x.shape[3], x.shape[1])
                return x

            backbone, latents = Backbone(shaped), torch.zeros(1, 8, 4, 4)
            backbone.run(latents, backbone.embed_timesteps(torch.zeros(1), latents), note)
        assert {name: tuple(value.shape) for name, value in features.items()} == places
        assert len(places) == 2 + 1 + 4


def test_every_weight_of_the_reference_net_can_learn(config, awake, seeded):
    net = awake(ReferenceNet(config))
    loss = sum((feature.float() ** 3).mean() for feature in net(seeded(2, 8, 4, 4)).values())
    loss.backward()
    assert [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_pictures_of_a_batch_do_not_see_each_other(config, awake, seeded):
    net, latents = awake(ReferenceNet(config)), seeded(3, 8, 4, 4)
    together, alone = net(latents), net(latents[1:2])
    for name, feature in together.items():
        torch.testing.assert_close(feature[1:2], alone[name], rtol=1e-4, atol=1e-5)

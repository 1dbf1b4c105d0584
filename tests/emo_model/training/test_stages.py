"""What the paper's three stages train, by the names of the parameters."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from emo_model.config import PRESETS
from emo_model.models.emo import Emo
from emo_model.training.stages import IMAGE, PAPER, RECIPES, SPEED, VIDEO

TEMPORAL, SPEED_READING = ".motion_modules.", (".attn_speed.", ".norm_speed.")
VOICE = (".attn_audio.", ".norm_audio.")


@pytest.fixture(scope="module")
def names() -> set[str]:
    with torch.device("meta"):
        return {name for name, _ in Emo(PRESETS["emo"]).named_parameters()}


def trained(names, stage) -> set[str]:
    return {name for name in names if stage.trains_parameter(name)}


def test_the_image_stage_trains_reference_net_backbone_and_face_locator_without_time_and_voice(names):
    expected = {
        name
        for name in names
        if name.startswith(("reference_net.", "backbone.", "face_locator."))
        and not any(part in name for part in (TEMPORAL, *VOICE))
    }
    assert trained(names, IMAGE) == expected and len(expected) > 1_000


def test_the_video_stage_trains_all_but_what_reads_the_speed(names):
    left = names - trained(names, VIDEO)
    assert left == {
        name for name in names if name.startswith("speed_layers.") or any(part in name for part in SPEED_READING)
    }
    assert any("attn_speed" in name for name in left)


def test_the_speed_stage_trains_only_temporal_modules_and_speed_layers(names):
    assert trained(names, SPEED) == {name for name in names if TEMPORAL in name or name.startswith("speed_layers.")}
    assert all(any(part in name for name in trained(names, SPEED)) for part in SPEED_READING)


def test_all_stages_together_train_everything(names):
    assert trained(names, IMAGE) | trained(names, VIDEO) | trained(names, SPEED) == names


def test_every_recipe_trains_the_papers_parts_in_the_papers_order():
    for recipe in RECIPES.values():
        for stage, paper in zip(recipe, PAPER, strict=True):
            for field in fields(stage):
                if field.name in ("name", "trains", "frozen", "is_video", "has_speed"):
                    assert getattr(stage, field.name) == getattr(paper, field.name)

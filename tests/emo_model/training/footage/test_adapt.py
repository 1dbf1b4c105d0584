"""One person from a short video: what trains, what stays, and the model that comes out."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from emo_model import talk
from emo_model.checkpoints import native
from emo_model.training import adapt as adapting
from emo_model.training.footage.settings import Limits, Settings

from .conftest import write


@pytest.fixture(scope="module")
def adapted(talking, tmp_path_factory):
    """The model file and the measurements of a run on four seconds, two steps, one step of sampling."""
    folder = tmp_path_factory.mktemp("adapted")
    model = native.load(dtype=torch.float32)
    one_step = {**vars(model.sampling), "steps": 1, "audio_guidance": 1.0}
    native.save(folder / "base.safetensors", replace(model, card=model.card | {"sampling": one_step}))
    first, other = talking(0), talking(2)
    video = write(
        folder / "anna.mp4", np.concatenate([first.frames, other.frames]), torch.cat([first.sound, other.sound])
    )
    how = {
        "settings": Settings(limits=Limits(longest=2.1, face_height=60)),
        "model": folder / "base.safetensors",
        "scale": 2 / adapting.STAGE.steps,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapting, "LEAST_SECONDS", 3.0)
        patch.setattr(adapting, "STAGE", replace(adapting.STAGE, batch=1))
        (folder / "anna.adapt").mkdir()
        (folder / "anna.adapt" / "log.jsonl").touch()
        with pytest.raises(FileExistsError, match="add --resume"):
            adapting.adapt(video, folder / "anna.safetensors", **how)
        return folder / "anna.safetensors", adapting.adapt(video, folder / "anna.safetensors", resume=True, **how)


def test_only_the_layers_of_audio_and_time_change(adapted):
    path, _ = adapted
    before, after = native.load(dtype=torch.float32), talk.load(path)
    changed = {
        f"{part}.{name}"
        for part, module in before.parts.items()
        for name, value in module.named_parameters()
        if (value - after.parts[part].get_parameter(name)).abs().max() > 1e-7
    }
    kinds = {"attn_audio", "norm_audio", "motion_modules", "audio_projection"}
    assert all(any(kind in name for kind in kinds) for name in changed)
    assert any("attn_audio" in name for name in changed) and any("motion_modules" in name for name in changed)
    assert not any("attn_speed" in name for name in changed)


def test_the_card_tells_the_video_the_measurements_and_that_permission_is_needed(adapted):
    path, measured = adapted
    card = talk.load(path).card
    assert card["adapted"]["after"] == measured["after"] and len(card["adapted"]["video_sha256"]) == 64
    assert {"opening_r", "opening_size"} == measured["before"].keys() and "agreed" in card["permission"]
    assert json.loads((path.parent / "anna.adapt" / "data" / "report.json").read_text())["clips"] == 2


def test_too_little_of_use_is_refused_with_where_the_reasons_are(talking, tmp_path):
    with pytest.raises(ValueError, match=r"talking-0.mp4 has 0.0 s of use in 0 clips, .*report.html says"):
        adapting.adapt(
            talking(0).path, tmp_path / "x.safetensors", settings=replace(Settings(), limits=Limits(face_height=500))
        )


def test_a_mouth_that_hardly_moves_or_follows_the_voice_less_than_before_is_told():
    before = {"opening_r": 0.65, "opening_size": 4.5}
    assert "moving 4.5 times less" in adapting.doubts(before) and not adapting.doubts(before | {"opening_size": 1.5})
    assert not adapting.doubts(before, {"opening_r": 0.64, "opening_size": 0.9})
    sentence = adapting.doubts(before, {"opening_r": 0.60, "opening_size": 0.9})
    assert "correlation 0.60, before 0.65" in sentence and "--scale" in sentence

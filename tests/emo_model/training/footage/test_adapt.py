"""One person from a short video: what trains, what stays, and the model that comes out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from emo_model import talk
from emo_model.checkpoints import native
from emo_model.inputs.vae import to_raw
from emo_model.training import adapt as adapting
from emo_model.training.footage.settings import Limits, Settings
from emo_model.training.held_out import Mouth, fitted_size, mouth_of

SHORT = Settings(limits=Limits(shortest=0.65, longest=0.75, clip_agreement=-1.0, face_height=60))


@pytest.fixture(scope="module")
def adapted(talking, tmp_path_factory):
    """The model file and the measurements of a run on two seconds, one step, one step of sampling."""
    folder = tmp_path_factory.mktemp("adapted")
    model = native.load(dtype=torch.float32)
    one_step = {**vars(model.sampling), "steps": 1, "audio_guidance": 1.0}
    native.save(folder / "base.safetensors", replace(model, card=model.card | {"sampling": one_step}))
    video = talking(0).path
    how = {"settings": SHORT, "model": folder / "base.safetensors", "scale": 0.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapting, "LEAST_SECONDS", 2.0)
        patch.setattr(adapting, "CHECK_EVERY", 1)
        patch.setattr(adapting, "STAGE", replace(adapting.STAGE, batch=1))
        patch.setattr(adapting.painter, "PLAN", replace(adapting.painter.PLAN, check_every=1))
        patch.setattr(adapting.painter, "MOST_FRAMES", 4)
        (folder / "anna.adapt").mkdir()
        (folder / "anna.adapt" / "log.jsonl").touch()
        with pytest.raises(FileExistsError, match="add --resume"):
            adapting.adapt(video, folder / "anna.safetensors", **how)
        return folder / "anna.safetensors", adapting.adapt(video, folder / "anna.safetensors", resume=True, **how)


def test_only_the_layers_that_hear_and_move_and_the_mouths_colours_change(adapted):
    path, _ = adapted
    before, after = native.load(dtype=torch.float32), talk.load(path)
    changed = {
        f"{part}.{name}"
        for part, module in before.parts.items()
        for name, value in module.named_parameters()
        if (value - after.parts[part].get_parameter(name)).abs().max() > 1e-7
    }
    kinds = {"attn_audio", "norm_audio", "motion_modules", "audio_projection", "motion_decoder.mouth_out"}
    assert all(any(kind in name for kind in kinds) for name in changed)
    assert not any("attn_speed" in name for name in changed)
    kept = after.card["adapted"]
    assert (kept["steps"] > 0) == any("attn_audio" in name for name in changed)
    assert (kept["painter_steps"] > 0) == any("mouth_out" in name for name in changed)
    drawn = before.config.heard_mouth * (kept["steps"] == 0 and kept["size"] == 1)
    assert after.config == replace(adapting.with_sizes(before.config, kept["size"]), heard_mouth=drawn)


def test_the_card_tells_the_video_the_measurements_and_that_permission_is_needed(adapted):
    path, measured = adapted
    card = talk.load(path).card
    assert card["adapted"]["after"] == measured["after"] and len(card["adapted"]["video_sha256"]) == 64
    assert {"opening_r", "frames_opening_size", "mouth_psnr"} < measured["before"].keys()
    assert "agreed" in card["permission"]
    work = path.parent / "anna.adapt"
    assert (work / "finished.jsonl").exists() and not [*work.glob("*.safetensors"), *work.glob("*.json")]


@pytest.mark.parametrize("count", [3, 4, 7, 14, 100])
def test_every_clip_is_in_one_part_and_the_parts_follow_each_other(count):
    parts = adapting.Parts.of(list(range(count)))
    assert [*parts.training, *parts.choosing, *parts.judging] == list(range(count))
    assert all(len(part) >= max(1, count // 6) for part in (parts.training, parts.choosing, parts.judging))


def test_too_little_of_use_is_refused_with_where_the_reasons_are(talking, tmp_path):
    with pytest.raises(ValueError, match=r"talking-0.mp4 has 0.0 s of use in 0 clips, .*report.html says"):
        adapting.adapt(
            talking(0).path, tmp_path / "x.safetensors", settings=replace(SHORT, limits=Limits(face_height=500))
        )


def mouth(r: float, size: float) -> Mouth:
    """Tracks with this correlation and spread, of opening and width."""
    axes = torch.linalg.qr(torch.randn(400, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    seen, other = ((axis - axis.mean()) / axis.std() for axis in axes.T[:2])
    other = other - (other @ seen) / (seen @ seen) * seen
    made = size * (r * seen + math.sqrt(1 - r * r) * other / other.std())
    return Mouth((made, made), (seen, seen))


def test_the_shortfall_prefers_a_mouth_that_follows_to_one_that_mumbles_at_the_right_size():
    """Of a real speaker: as it came, after 44 steps, after 300."""
    start, few, many = mouth(0.65, 4.53), mouth(0.67, 1.97), mouth(0.60, 0.88)
    assert few.shortfall() < many.shortfall() < start.shortfall()
    assert many.error < few.error  # which the squared error does not see
    assert mouth(0.65, 1.0).shortfall() < few.shortfall()


def test_a_mouth_of_another_size_moves_so_many_times_as_far():
    config = native.load(dtype=torch.float32).config
    latents = torch.rand(5, config.latent_channels, 16, 16, generator=torch.Generator().manual_seed(1))
    smaller = adapting.with_sizes(config, 0.25, 2.0)
    for before, after, size in zip(mouth_of(latents, config), mouth_of(latents, smaller), (0.25, 2.0), strict=True):
        assert torch.allclose(after, size * before, rtol=1e-5)
    others = [0, 1, 4, 5, 6, 7]
    assert torch.equal(to_raw(latents, smaller)[:, others], to_raw(latents, config)[:, others])


@pytest.mark.parametrize("power", [0.8, 1.0, 1.3])
@pytest.mark.parametrize("at_one", [0.5, 1.0, 2.6])
def test_the_size_is_found_at_which_finished_frames_open_as_far_as_the_video(power, at_one):
    asked = []

    def read(size: float) -> float:  # as the mesh reads: small openings smaller than they are
        asked.append(size)
        return at_one * size**power

    assert read(fitted_size(read)) == pytest.approx(1.0, abs=0.02) and len(asked) <= 3


def test_training_aims_at_the_spread_that_the_model_had():
    """Its size is set in finished frames, so on the way only a change of the spread counts."""
    assert mouth(0.65, 4.53).shortfall((4.53, 4.53)) == pytest.approx(0.35, abs=1e-3)
    assert mouth(0.65, 0.9).shortfall((4.53, 4.53)) > mouth(0.6, 4.0).shortfall((4.53, 4.53))


def test_what_was_not_better_is_told():
    before = {"frames_opening_error": 0.6, "frames_opening_r": 0.5, "frames_opening_size": 3.0}
    assert adapting.doubts(before, dict(before)).startswith("The model is the one it started from")
    assert adapting.doubts(before, before | {"frames_opening_error": 0.5}) == ""
    sentence = adapting.doubts(before, before | {"frames_opening_error": 0.65, "frames_opening_r": 0.4})
    assert "0.50 before, 0.40 after" in sentence

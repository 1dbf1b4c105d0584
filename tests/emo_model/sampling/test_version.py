"""Cached clips are found again by `SAMPLING_VERSION`, so it must rise when the same conditions become other clips.

The record holds the noise that clips begin with, and what becomes of just that noise in small models whose weights are
a pure function of their names, in float64: so differences of rounding between processors do not count. Their norms have
eight groups: 32 leave two values in a group at a level of one cell, where a norm is a sign, and rounding grew a
thousandfold. `PYTHONPATH=.:tests python tests/emo_model/sampling/test_version.py` writes the record.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import small_models
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from emo_model.checkpoints.random_files import SMALL_HALLO
from emo_model.config import PRESETS, SamplingConfig
from emo_model.inputs.face import box_mask, voice_regions
from emo_model.inputs.face_geometry import mean_face
from emo_model.models.emo import Emo
from emo_model.sampling.clips import SAMPLING_VERSION, ClipRenderer, generate_clips
from emo_model.types import AudioFeatures, Conditions, FaceMask, FaceMasks, Fit, Portrait, Speed

RECORD = Path(__file__).parents[2] / "data" / "sampling_version.safetensors"
HOWS = {
    "builtin": (PRESETS["test"], SamplingConfig(steps=3, audio_guidance=1.3)),
    "builtin, both guidances in part of the steps": (
        PRESETS["test"],
        SamplingConfig(
            steps=4,
            audio_guidance=2.0,
            audio_guidance_end=0.75,
            reference_guidance=1.5,
            reference_guidance_start=0.5,
            noise_scale=0.9,
            blinks=2.0,
            seed=3,
        ),
    ),
    "builtin, dpmpp_2m": (PRESETS["test"], SamplingConfig(steps=5, sampler="dpmpp_2m", audio_guidance=1.0)),
    "emo": (replace(small_models.EMO, norm_groups=8), SamplingConfig(steps=2, reference_guidance=1.2)),
    "hallo": (
        replace(SMALL_HALLO, clip_frames=4, norm_groups=8),
        SamplingConfig(steps=3, audio_guidance=3.5, reference_guidance=3.5),
    ),
}
ROUNDING = 1e-6  # of the largest value
WHAT_TO_DO = (
    "the sampler makes other clips than version {} did. If that is intended, raise SAMPLING_VERSION in "
    "emo_model/sampling/clips.py, so that users' cached clips of before are not mixed with new ones, and "
    "write the record anew: PYTHONPATH=.:tests python tests/emo_model/sampling/test_version.py"
)


def normal(name: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(zlib.crc32(name.encode())).randn(*shape))


def filled(emo: Emo) -> Emo:
    state = {}
    for name, value in emo.state_dict().items():
        draw = normal(name, *value.shape)
        is_scale = "norm" in name and "weight" in name
        state[name] = draw / np.prod(value.shape[1:]) ** 0.5 if value.ndim > 1 else 0.1 * draw + is_scale
    emo.load_state_dict(state)
    return emo.double().eval()


def rendered(name: str, noise: torch.Tensor | None = None, **changes) -> dict[str, torch.Tensor]:
    """The noise (clips, C, F, h, w) of two clips and a half, the face elsewhere in the second, and the video of that,
    or of the given noise. changes: of the sampling."""
    config, sampling = HOWS[name]
    size, cells, frames = config.image_size, config.latent_size, config.clip_frames * 5 // 2
    portrait = Portrait(
        normal("portrait", 1, config.latent_channels, cells, cells).float(),
        torch.zeros(1, 3, size, size),
        Fit(size, size, 0, 0, size, size),
        normal("identity", 1, config.hallo.identity_width).float() if config.hallo else None,
        mean_face() * (0.3 * size) + 0.5 * size if config.audio_encoder else None,
    )
    masks = [box_mask(size, box) for box in ((0.2, 0.2, 0.8, 0.9), (0.3, 0.1, 0.9, 0.7))]
    masks = [voice_regions(mask) if config.hallo else FaceMask(mask.mask) for mask in masks]
    features = normal("audio", frames, config.audio_layers, config.audio_width).float()
    audio = AudioFeatures(features, config.fps, frames / config.fps)
    where = FaceMasks.of(masks[0]).then(config.clip_frames * 1.25 / config.fps, masks[1])
    conditions = Conditions(portrait, where, audio, Speed((0.0, 0.2), (5.0, 50.0)))
    render = ClipRenderer(filled(Emo(config)), conditions, replace(sampling, **changes), dtype=torch.float64)
    drawn = torch.cat([drawn for _, drawn in islice(render.noises, render.video.clips)])
    render.noises = enumerate((drawn if noise is None else noise).split(1))
    return {f"{name}, noise": drawn, name: torch.cat(list(generate_clips(render)), dim=2)}


def read() -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    with safe_open(RECORD, "pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}


@pytest.mark.parametrize("name", HOWS)
def test_clips_of_the_same_version_are_the_same(name):
    metadata, recorded = read()
    for key, made in rendered(name, recorded[f"{name}, noise"]).items():
        record = recorded[key]
        assert record.std() > 0.3 and made.shape == record.shape
        assert (made - record).abs().max() <= ROUNDING * record.abs().max(), WHAT_TO_DO.format(metadata["version"])


def test_a_guidance_that_is_larger_by_a_hundred_thousandth_counts_as_a_change():
    name, (_, recorded) = "builtin", read()
    changed = rendered(name, recorded[f"{name}, noise"], audio_guidance=HOWS[name][1].audio_guidance * 1.00001)[name]
    assert (changed - recorded[name]).abs().max() > 2 * ROUNDING * recorded[name].abs().max()


def test_the_record_is_of_the_current_version():
    metadata, recorded = read()
    assert int(metadata["version"]) == SAMPLING_VERSION and recorded.keys() >= HOWS.keys(), (
        f"the record is of version {metadata['version']}: write it anew with PYTHONPATH=.:tests python "
        f"tests/emo_model/sampling/{Path(__file__).name}"
    )


if __name__ == "__main__":
    record = {key: value for name in HOWS for key, value in rendered(name).items()}
    save_file(record, RECORD, {"version": str(SAMPLING_VERSION)})

"""Footage for models that denoise a VAE's latents: from an mp4 to a training step, with a small VAE of SD's layout."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from emo_model.config import BUILTIN, TEST
from emo_model.models.emo import Emo
from emo_model.training.footage import shards
from emo_model.training.footage.networks import Networks, load_vae
from emo_model.training.footage.preparing import VAE_STILLS, Preparer, read_mp4
from emo_model.training.footage.settings import Limits, Settings
from emo_model.training.footage.store import ShardStore
from emo_model.training.loop import Plan, train
from emo_model.training.loss import EmoTask
from emo_model.training.stages import RECIPES

from .conftest import FPS, write

FRAMES, SIZE, WIDTH = 22, 64, 12
CONFIG = replace(
    TEST,
    vae_factor=8,
    latent_channels=4,
    latent_scale=0.18215,
    noise_shapes=0,
    noise_frames=(),
    noise_scale=1.0,
    motion_smoothness=(),
    face_locator_channels=(4, 4, 4, 4),
    audio_width=WIDTH,
    motion_decoder=None,
    audio_encoder=None,
)
"""The structure of preset `emo` at 64x64, with four latent channels of 8x8 cells."""


def features(sound: torch.Tensor, fps: float) -> torch.Tensor:
    """Loudness in place of wav2vec 2.0: (T,) at 16 kHz -> (F, 1, D)."""
    frames = round(len(sound) / 16000 * fps)
    loud = torch.nn.functional.adaptive_avg_pool1d(sound.abs()[None], frames)[0]
    return loud[:, None, None] * torch.arange(1.0, WIDTH + 1)


@pytest.fixture(scope="module")
def vae_file(tmp_path_factory):
    """Four levels, as SD 1.5's, a sixteenth as wide, random weights."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    network = diffusers.AutoencoderKL(
        block_out_channels=(8, 16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=8,
    )
    path = tmp_path_factory.mktemp("vae") / "vae.safetensors"
    save_file(network.state_dict(), path)
    return path


class Kept:
    """A VAE that keeps what it was given."""

    def __init__(self, vae):
        self.vae, self.pixels = vae, []

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        self.pixels.append(pixels)
        return self.vae.encode(pixels)


@pytest.fixture(scope="module")
def clip(talking, networks, vae_file, tmp_path_factory):
    """The one clip of a video of 22 frames, the folder, and the VAE."""
    folder, video = tmp_path_factory.mktemp("pixels"), talking(0)
    path = write(folder / "talking.mp4", video.frames[:FRAMES], video.sound[: round(FRAMES / FPS * 16000)])
    limits = Limits(shortest=0.8, face_height=60, agreement=-2.0, clip_agreement=-2.0)
    vae = Kept(load_vae(vae_file))
    own = Networks(CONFIG, networks.finder, networks.encoder, vae, features)
    row = Preparer(own, Settings(preset="test", crop=SIZE, limits=limits), folder / "data")(path)
    assert (row["status"], row["clips"]) == ("prepared", 1), row["message"]
    shards.write_index(folder / "data")
    return shards.read_index(folder / "data")[0], folder / "data", vae


def test_latents_are_the_vaes_means_of_the_crops_scaled_as_the_model_has_them(clip):
    sample, _, vae = clip
    latents = sample.array("latents.npy").astype(np.float32)
    assert latents.shape == (FRAMES, 4, 8, 8)
    given = torch.cat(vae.pixels)
    crops = torch.from_numpy(read_mp4(sample.read("mp4"))).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert given.shape == (FRAMES, 3, SIZE, SIZE) and (given - crops).abs().mean() < 0.05  # lost by the mp4
    distribution = vae.vae.network.encode(given).latent_dist
    assert np.allclose(latents, 0.18215 * distribution.mean.numpy(), rtol=2e-3, atol=2e-4)  # kept as halves
    assert (distribution.std > 1e-3).all(), "the mean must differ from what is drawn"
    stills = sample.array("stills.npy")
    assert len(stills) == VAE_STILLS
    assert all(any(np.array_equal(still, frame.astype(still.dtype)) for frame in latents) for still in stills)


def test_their_audio_features_are_those_that_were_asked_for(clip):
    sample, *_ = clip
    audio = sample.array("audio.npy").astype(np.float32)
    assert audio.shape == (FRAMES, 1, WIDTH)
    assert np.allclose(audio[..., 1], 2 * audio[..., 0], rtol=2e-3) and audio.std() > 0


def test_they_train_a_model_of_such_latents_and_no_other(clip, tmp_path):
    pytest.importorskip("accelerate")
    _, data, _ = clip
    store = ShardStore(data, CONFIG, frames=6, held_out=None)
    torch.manual_seed(0)
    emo = Emo(CONFIG)
    before = {name: value.detach().clone() for name, value in emo.named_parameters()}
    for stage in (stage for stage in RECIPES["test"] if stage.name in ("image", "video")):
        train(EmoTask(emo, stage, store, seed=0), Plan(stage.name, 1, 1e-3, warmup_steps=1), tmp_path)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 2 and all(0 < loss < 10 for loss in losses)
    assert any(not torch.equal(value, before[name]) for name, value in emo.named_parameters())
    with pytest.raises(ValueError, match=r"holds latents of \(4, 8, 8\), model 'builtin' needs \(8, 16, 16\)"):
        ShardStore(data, BUILTIN, frames=16)

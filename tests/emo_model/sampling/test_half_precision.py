"""The built-in models in the types in which GPUs calculate: graphics cards are given float16 or bfloat16 by ComfyUI."""

from __future__ import annotations

import pytest
import torch

from emo_model.checkpoints import native
from emo_model.inputs import media, vae
from emo_model.inputs.audio import encode_long, features_per_frame, read_audio, resample
from emo_model.inputs.face import fit_picture, whole_mask
from emo_model.sampling.clips import generate_clips
from emo_model.types import Conditions, Portrait, Speed

EXAMPLES = native.DEFAULT_WEIGHTS.parents[2] / "workflows" / "inputs"
SECONDS = 0.96  # two clips, so that motion frames are read, too


@pytest.mark.parametrize(("dtype", "apart"), [(torch.float16, 0.1), (torch.bfloat16, 1.0)])  # of 255; an eye sees about 1
@pytest.mark.parametrize("weights", [native.DEFAULT_WEIGHTS, native.FAST_WEIGHTS], ids=lambda path: path.stem)
def test_half_precision_draws_the_same_pictures(weights, dtype, apart):
    bundle = native.load(weights, dtype=torch.float32)
    config = bundle.config
    pixels, fit = fit_picture(media.read_picture(EXAMPLES / "emo_portrait.png"), config.image_size)
    heard = encode_long(bundle.audio_encoder, resample(*read_audio(EXAMPLES / "emo_voice.wav"))[:round(SECONDS * 16_000)])
    whole = Conditions(Portrait(vae.encode(bundle.autoencoder, pixels, config), pixels, fit), whole_mask(config.image_size),
                       features_per_frame(heard, fps=config.fps, seconds=SECONDS), Speed.constant(bundle.sampling.head_speed))

    def draw(kind: torch.dtype):
        clips = generate_clips(bundle.emo.to(kind), whole, config=bundle.sampling, dtype=kind)
        return torch.cat([vae.decode(bundle.autoencoder, clip[0].transpose(0, 1), config) for clip in clips])

    plain, half = draw(torch.float32), draw(dtype)
    assert len(plain) == 24 and (plain - half).abs().mean() * 127.5 < apart

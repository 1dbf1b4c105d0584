"""The built-in models in the types in which GPUs calculate: graphics cards are given float16 or bfloat16 by ComfyUI."""

from __future__ import annotations

import pytest
import torch

from emo_model import talk
from emo_model.checkpoints import native
from emo_model.inputs.audio import read_audio
from emo_model.sampling.clips import ClipRenderer, generate_clips

EXAMPLES = native.DEFAULT_WEIGHTS.parents[2] / "workflows" / "inputs"
SECONDS = 0.96  # two clips, so that motion frames are read, too


@pytest.mark.parametrize(
    ("dtype", "apart"), [(torch.float16, 0.1), (torch.bfloat16, 1.0)]
)  # of 255; an eye sees about 1
@pytest.mark.parametrize("weights", [native.DEFAULT_WEIGHTS, native.FAST_WEIGHTS], ids=lambda path: path.stem)
def test_half_precision_draws_the_same_pictures(shipped, weights, dtype, apart):
    bundle = talk.load(weights)
    waveform, rate = read_audio(EXAMPLES / "emo_voice.wav")
    scene = talk.prepare(bundle, EXAMPLES / "emo_portrait.jpg", (waveform[:, : round(SECONDS * rate)], rate))

    def draw(kind: torch.dtype):
        clips = generate_clips(ClipRenderer(bundle.emo.to(kind), scene.conditions, bundle.sampling, dtype=kind))
        return torch.cat([torch.from_numpy(scene.decoder.decode(clip[0].transpose(0, 1))).float() for clip in clips])

    plain, half = draw(torch.float32), draw(dtype)
    assert len(plain) == 24 and (plain - half).abs().mean() < apart

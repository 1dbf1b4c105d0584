from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from emo_model.synthetic import adpcm


def test_decoded_sound_is_the_sound_to_20_decibels():
    seconds = np.arange(16_000) / 16_000
    sound = np.stack([np.sin(2 * np.pi * pitch * seconds) * 12_000 for pitch in (110, 440, 1_300)]).astype(np.int16)
    error = adpcm.decode(adpcm.encode(sound)).astype(float) - sound
    assert (10 * np.log10((sound.astype(float) ** 2).mean(1) / (error**2).mean(1)) > 20).all()
    assert adpcm.encode(sound).shape == (3, 8_000)


def test_a_clip_is_packed_alike_alone_and_among_others():
    sound = np.random.default_rng(0).normal(0, 3_000, (4, 800)).astype(np.int16)
    assert np.array_equal(adpcm.encode(sound)[2:3], adpcm.encode(sound[2:3]))


def test_the_loudest_sound_does_not_wrap_around():
    sound = np.where(np.arange(400) % 80 < 40, 32_767, -32_768).astype(np.int16)[None]
    decoded = adpcm.decode(adpcm.encode(sound))
    assert (np.sign(decoded[0, 20:40].astype(int)) > 0).all() and (np.sign(decoded[0, 60:80].astype(int)) < 0).all()


def test_training_needs_no_package_that_only_evaluation_and_speech_engines_need():
    blocked = (
        "import sys\nfor name in ('librosa', 'diffusers', 'tqdm', 'scipy', 'pyworld'): sys.modules[name] = "
        "None\nimport emo_model.training.builtin"
    )
    subprocess.run([sys.executable, "-c", blocked], check=True, cwd=Path(__file__).parents[3])

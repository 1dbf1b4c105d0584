import numpy as np
import pytest
from PIL import Image

from emo_model.evaluation.show import write_strip, write_webp


def _frames(count=6, size=48):
    y, x = np.mgrid[:size, :size]
    return np.stack([np.stack([(x + 9 * k) % 256, y, 0 * x + 99], -1).astype(np.uint8) for k in range(count)])


def test_a_webp_is_animated_and_small_enough(tmp_path):
    write_webp(_frames(), tmp_path / "hero.webp", fps=25, side=32, megabytes=1)
    with Image.open(tmp_path / "hero.webp") as picture:
        assert picture.n_frames == 6 and picture.size == (32, 32)


def test_a_webp_that_cannot_be_small_enough_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="do not fit"):
        write_webp(_frames(), tmp_path / "hero.webp", fps=25, side=48, megabytes=1e-5)


def test_a_strip_has_the_portrait_and_the_frames(tmp_path):
    frames = _frames()
    write_strip(frames[0], frames, tmp_path / "strip.png", count=3, height=24)
    with Image.open(tmp_path / "strip.png") as picture:
        assert picture.height == 24 and picture.width == 4 * 24 + 5 * 4
    with pytest.raises(ValueError, match="ask for fewer"):
        write_strip(frames[0], frames[:2], tmp_path / "strip.png", count=3, height=24)

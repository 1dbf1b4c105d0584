from dataclasses import replace

import pytest
import torch

from emo_model.config import PRESETS, SamplingConfig
from emo_model.sampling.finish import BLINK_SECONDS, blinks, finish_clip

CONFIG = replace(PRESETS["builtin"], motion_smoothness=(8.0, 8.0, 0.0, 0.0, 0.0, 0.0, 8.0, 8.0))
STILL = SamplingConfig(blinks=0.0)


def clip(frames=12, seed=0):
    return torch.randn(1, 8, frames, 2, 2, generator=torch.Generator().manual_seed(seed))


def finished(latents, motion=None, sampling=STILL, config=CONFIG, first_frame=0):
    return finish_clip(latents, motion, config, sampling, first_frame=first_frame, fps=25.0)


def test_models_without_smoothness_keep_what_was_sampled():
    latents = clip()
    assert finished(latents, config=replace(CONFIG, motion_smoothness=())) is latents


def test_a_tremble_goes_and_a_steady_turn_stays():
    turn = torch.linspace(-1, 1, 12).view(1, 1, 12, 1, 1).expand(1, 8, 12, 2, 2)
    tremble = 0.3 * torch.tensor([1.0, -1.0] * 6).view(1, 1, 12, 1, 1)
    smooth = finished(turn + tremble)[:, 0]
    torch.testing.assert_close(finished(turn.clone())[:, 0], turn[:, 0])
    assert (smooth - turn[:, 0]).abs().max() < 0.15 and (smooth - turn[:, 0]).abs()[:, 2:-2].max() < 0.03


def test_channels_of_smoothness_0_stay_as_they_are():
    latents = clip()
    torch.testing.assert_close(finished(latents)[:, 2:6], latents[:, 2:6])


def test_a_clip_goes_on_where_its_motion_frames_end():
    motion, latents = torch.zeros(1, 8, 4, 2, 2), 1 + 0 * clip()
    joined = finished(latents, motion)[0, 0, :, 0, 0]
    assert abs(joined[0]) < 0.1 and joined.diff().abs().max() < 0.16 and joined[-1] > 0.9  # one twelfth is the least
    torch.testing.assert_close(finished(latents, motion)[:, 3], latents[:, 3])


def test_a_head_that_turns_keeps_its_pace_across_the_join():
    motion = torch.linspace(-0.4, -0.1, 4).view(1, 1, 4, 1, 1).expand(1, 8, 4, 2, 2).contiguous()  # 0.1 a frame
    joined = torch.cat([motion[0, 0, :, 0, 0], finished(0.6 + 0 * clip(), motion)[0, 0, :, 0, 0]])
    assert 0.05 < joined.diff()[3] < 0.13


def test_eyes_blink_about_as_often_as_they_are_asked_to():
    long = blinks(0, 25 * 360, 25.0, seed=3)
    shut = (long > 0.7).int().diff().clamp(min=0).sum().item()
    assert shut == pytest.approx(360 / BLINK_SECONDS, abs=2)
    often = blinks(0, 25 * 360, 25.0, seed=3, rate=2.0)
    assert (often > 0.7).int().diff().clamp(min=0).sum().item() == pytest.approx(2 * shut, abs=3)
    assert blinks(0, 1000, 25.0, seed=3, rate=0.0).max() == 0


def test_the_blinks_of_a_clip_are_those_of_the_whole_video():
    whole = blinks(0, 240, 25.0, seed=5)
    parts = torch.cat([blinks(first, 12, 25.0, seed=5) for first in range(0, 240, 12)])
    torch.testing.assert_close(parts, whole)
    assert not torch.equal(whole, blinks(0, 240, 25.0, seed=6)) and whole.max() > 0.9


def test_a_blink_shuts_the_lid_channel_only():
    latents, lids = 1 + 0 * clip(240), blinks(0, 240, 25.0, seed=0)
    made = finished(latents, sampling=SamplingConfig(seed=0))
    torch.testing.assert_close(made[0, 5, :, 0, 0], 1 - lids)
    torch.testing.assert_close(made[:, 2], latents[:, 2])
